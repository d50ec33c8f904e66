package caddymodule

import (
	"net"
	"sync"
	"time"
)

// backlog keeps the kernel's queue of those who wait to be accepted short while it
// does not drain. The kernel knows a length alone, by default thousands, and it is
// first come first served: in a flood everybody stands there until he has given up.
// Who finds it full is not answered, and his system tries again after a second.
//
// So the length is a time: what is taken in while one may stand there. The zero value
// is ready for use. Safe for concurrent use.
type backlog struct {
	mu    sync.Mutex
	speed speed       // mu; of accepting
	stood time.Time   // mu; when the last one came in who had stood there for too long
	short map[int]cut // mu; by port; nil: none
}

// cut is how many the kernel keeps at a port, and since when.
type cut struct {
	most  int
	since time.Time
}

const (
	// shortest is room for what one page makes a browser ask for, many times over.
	shortest = 128
	// shortFor is how long nobody has stood there when all is as it was.
	shortFor = 5 * time.Second
	// cutEvery is how often the length is set anew, after the last one has shown what
	// it does.
	cutEvery = time.Second
)

// taken notes that a connection was accepted.
func (b *backlog) taken(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.speed.count(now)
}

// apart is how long it is from one connection to the next.
func (b *backlog) apart() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Duration(float64(time.Second) / max(b.speed.perSecond, 1))
}

// late notes that a connection to addr has stood there for longer than it should have.
func (b *backlog) late(addr net.Addr, should time.Duration, now time.Time) {
	at, ok := addr.(*net.TCPAddr)
	if !ok {
		return
	}
	if most, changed := b.cut(at.Port, should, now); changed {
		setBacklog(at.Port, most)
	}
}

func (b *backlog) cut(port int, should time.Duration, now time.Time) (most int, changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stood = now
	most = max(shortest, int(b.speed.perSecond*should.Seconds()))
	was, already := b.short[port]
	age := now.Sub(was.since)
	alike := most > was.most/2 && most < 2*was.most
	if already && (age < cutEvery || alike && age < deferEvery) { // a reload makes new sockets
		return was.most, false
	}
	if b.short == nil {
		b.short = make(map[int]cut)
		time.AfterFunc(shortFor, b.relax)
	}
	b.short[port] = cut{most, now}
	return most, true
}

// relax gives the kernel its length back, as soon as nobody stands there any more.
func (b *backlog) relax() {
	for port := range b.quiet(time.Now()) {
		setBacklog(port, longest)
	}
}

// quiet returns the ports of which nothing has to be short any more, or comes again.
func (b *backlog) quiet(now time.Time) map[int]cut {
	b.mu.Lock()
	defer b.mu.Unlock()
	if left := shortFor - now.Sub(b.stood); left > 0 {
		time.AfterFunc(left, b.relax)
		return nil
	}
	ports := b.short
	b.short = nil
	return ports
}

// speed is how often something happens, as of the last tenth of a second in which it
// did, or longer.
type speed struct {
	perSecond float64
	since     time.Time
	n         int
}

func (s *speed) count(now time.Time) {
	if since := now.Sub(s.since); since >= 100*time.Millisecond {
		*s = speed{perSecond: float64(s.n) / since.Seconds(), since: now}
	}
	s.n++
}
