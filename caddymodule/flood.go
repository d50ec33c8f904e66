package caddymodule

import (
	"bytes"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/portner/portner/caddymodule/internal/front"
)

// floods knows the addresses whose requests are refused by the dozen, so that more
// of the same can be refused before anybody has spent a tenth of a millisecond on
// it. Fairness is not its business: from each address so many are let in that
// admission still has more than twice as many to choose from as it takes.
//
// It knows those of plain HTTP/1.1 alone, and counts for all together besides. Safe for
// concurrent use.
type floods struct {
	known    atomic.Int32 // len(of), for those who look without the lock
	clearing atomic.Bool  // those at the door are turned away, whoever they are

	mu   sync.Mutex
	tick time.Time             // mu; the counts of now began then
	came arrivals              // mu; while there is a flood
	last arrivals              // mu; in the window before
	all  share                 // mu; counted while it is needed
	of   map[netip.Addr]*flood // mu; at most maxFloods
}

// flood counts what came of the requests of one address, in this window and in the
// one before.
type flood struct {
	refused, lastRefused int
	share
}

// share is how many were let in, and how many were served.
type share struct {
	passed, served, lastServed int
}

// arrivals are connections in a window, and those of them whose address has had
// nothing refused.
type arrivals struct{ all, strangers int }

const (
	// floodWindow is long enough for a ratio and short enough to be over soon.
	floodWindow = 250 * time.Millisecond
	// floodRefused in a window is what nobody sends who heeds Retry-After, and what a
	// slow machine still sees of each of fifty who flood it.
	floodRefused = 4
	// choice is how many times more are let in than are served, and at least so many
	// in a window.
	choice, choiceAtLeast = 2, 1
	// someStrangers among so many is what a flood of addresses has by chance.
	someStrangers = 16
	// maxFloods bounds the memory. A crowd of more addresses than that is no flood
	// that one could tell by its addresses.
	maxFloods = 4096
)

// heard notes what became of a request.
func (f *floods) heard(r *http.Request, x front.Exchange) {
	shed := x.Shed()
	if !shed && (x.Verdict == "left" || f.known.Load() == 0 && !f.clearing.Load()) {
		return
	}
	f.count(floodAddr(r), shed, time.Now())
}

// floodAddr is the address that a request may be a flood's of; not valid: of none.
func floodAddr(r *http.Request) netip.Addr {
	if r.TLS != nil || r.ProtoMajor != 1 {
		return netip.Addr{} // nothing else can be answered cheaply
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		return netip.Addr{} // it speaks for many
	}
	at, _ := netip.ParseAddrPort(r.RemoteAddr)
	return at.Addr()
}

// count counts for all, and for an address that is valid.
func (f *floods) count(addr netip.Addr, shed bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turnLocked(now)
	if !shed {
		f.all.served++
	}
	known := f.of[addr]
	if known == nil {
		if !shed || !addr.IsValid() || len(f.of) >= maxFloods {
			return
		}
		if f.of == nil {
			f.of = make(map[netip.Addr]*flood)
		}
		known = new(flood)
		f.of[addr] = known
		f.known.Store(int32(len(f.of)))
	}
	if shed {
		known.refused++
	} else {
		known.served++
	}
}

// turnLocked begins a new window when the old one is over, and forgets those of
// whom nothing was refused in it.
func (f *floods) turnLocked(now time.Time) {
	late := now.Sub(f.tick)
	if late < floodWindow {
		return
	}
	f.tick = now
	f.all.turn(late)
	f.came, f.last = arrivals{}, f.came
	if late > 2*floodWindow {
		f.last = arrivals{}
	}
	for addr, k := range f.of {
		if k.refused == 0 || late > 2*floodWindow {
			delete(f.of, addr)
			continue
		}
		k.lastRefused, k.refused = k.refused, 0
		k.turn(late)
	}
	f.known.Store(int32(len(f.of)))
}

// turnsAway decides about a connection that an address has opened.
func (f *floods) turnsAway(addr netip.Addr, now time.Time) bool {
	if f.known.Load() == 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turnLocked(now)
	k := f.cameLocked(addr)
	if k == nil || !k.is() || k.letsIn() {
		return false
	}
	k.refused++ // as it would have been inside
	return true
}

// passes counts a connection that is let in, whoever has opened it.
func (f *floods) passes(addr netip.Addr, now time.Time) {
	if f.known.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turnLocked(now)
	f.cameLocked(addr)
}

// cameLocked counts a connection of an address; nil: that is a stranger's.
func (f *floods) cameLocked(addr netip.Addr) *flood {
	k := f.of[addr]
	f.came.all++
	if k == nil {
		f.came.strangers++
	}
	return k
}

// alone reports whether hardly anybody comes but those who are refused: nobody else has
// to wait for what is good for all of them.
func (f *floods) alone(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turnLocked(now)
	all, strangers := f.came.all+f.last.all, f.came.strangers+f.last.strangers
	return all > someStrangers*strangers
}

// letsIn reports whether one is of use although those at the door are turned away: an
// application that has nothing to do meanwhile is no help to those who come later.
func (f *floods) letsIn(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turnLocked(now)
	return f.all.letsIn()
}

// is reports whether it is one: as soon as so many were refused, and a window longer.
func (k *flood) is() bool {
	return k.refused >= max(floodRefused, 3*k.served) || k.lastRefused >= max(floodRefused, 3*k.lastServed)
}

// letsIn lets in so many that there is a choice. Those that have been served already
// count as well as those of the window before: what was in vain must not stay so.
func (s *share) letsIn() bool {
	if s.passed >= choiceAtLeast+choice*max(s.served, s.lastServed) {
		return false
	}
	s.passed++
	return true
}

// turn begins a new window, so long after the last one began.
func (s *share) turn(late time.Duration) {
	if late > 2*floodWindow {
		s.served = 0
	}
	*s = share{lastServed: s.served}
}

// addrOf is the address of a connection's other end.
func addrOf(c net.Conn) (netip.Addr, bool) {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(tcp.IP)
	return addr.Unmap(), ok
}

// isNoPerson reports whether a request is a program's that reads and nothing else:
// it is here whole, looks for no page, and has no place in the queue. People are
// told properly, and what is to be written is seen by those who know its class.
func isNoPerson(head []byte) bool {
	end := bytes.Index(head, []byte("\r\n\r\n"))
	return end > 0 && (bytes.HasPrefix(head, []byte("GET ")) || bytes.HasPrefix(head, []byte("HEAD "))) &&
		!bytes.Contains(head[:end], []byte("text/html")) && !bytes.Contains(head[:end], []byte("portner_place="))
}
