package caddymodule

import (
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/telemetry"
)

// intake keeps a storm of new connections from standing between the application
// and those who have their turn.
//
// Two things go wrong where connections come faster than they can even be refused.
// The runtime always has something to run, so it asks for network events every
// ten milliseconds only, and the answer of an application that needs three lies
// there for that long. And the kernel keeps thousands of connections at the door,
// first come first served, so that everybody who is let in has given up already.
//
// So between new connections in quick succession there is a look at the network;
// who has stood at the door for too long is turned away for a fraction of what a
// refusal costs inside, until those are gone (which is what CoDel does with a
// standing queue, RFC 8289: drop from the front), and so are the programs of an
// address of which dozens of requests are refused anyway; but for as many as the
// applications have use for. And while people stand at the door there are rests, and
// the kernel keeps few there: who cannot be looked at in time had better come again.
type intake struct {
	bell    bell
	floods  floods
	backlog backlog
	sent    chan struct{} // whoever gathers is told of a request that goes to an application; may be nil
	crowded atomic.Bool   // others waited for the application when the last one went

	mu       sync.Mutex
	done     time.Time // mu; when the last connection was seen to
	row      int       // mu; connections in quick succession since the bell rang
	away     int       // mu; turned away since the last rest
	deferred time.Time // mu; when listening sockets were looked for
	warned   time.Time // mu
}

const (
	// quickly one after another are connections that come faster than one a
	// millisecond: no small site's visitors, and less than any machine can take.
	quickly = time.Millisecond
	// caughtUp: nobody was at the door when the last connection was done with, unless
	// this one has stood there and it was us who were late. In a flood it is better then
	// to let some gather than to get up for each of them.
	caughtUp, gathering = 50 * time.Microsecond, time.Millisecond
	// gatherMost bounds how long they gather until a request goes to an application on
	// which others wait: then that is busy for a while, and we may be. What it has
	// answered would stand behind those who have gathered. gatherFew is how many more
	// may come until then.
	gatherMost, gatherFew = 10 * time.Millisecond, 8
	// rowLength connections are accepted before the network is looked at. A refusal
	// takes 0.1 ms, so an answer waits half a millisecond for that at the most.
	rowLength = 4

	// tooLong at the door is half of the patience of an impatient client; clearing
	// goes on down to fresh, or the next ones would be too late again.
	tooLong, fresh = 500 * time.Millisecond, 50 * time.Millisecond
	// With TLS there is no way to say anything cheaply, so it must be worse.
	tooLongTLS, freshTLS = 2 * time.Second, 500 * time.Millisecond

	// Where people stand at the door, there is a rest after so many that were turned
	// away. It leaves five thousand a second, and the processor to those who are served:
	// whoever never sleeps is made to wait by the system's scheduler, for milliseconds,
	// and the application with him.
	restAfter, resting = 8, time.Millisecond
)

// door is this process's intake: its goroutines share the processors.
var door = &intake{sent: make(chan struct{})}

// guard makes the server of the handler that is being provisioned ask door.
func (a *App) guard(ctx caddy.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.guarded == nil {
		a.guarded = make(map[*caddyhttp.Server]bool)
	}
	if !a.guarded[server] {
		a.guarded[server] = true
		server.RegisterConnState(door.changed)
		server.RegisterConnContext(withConn)
	}
}

// changed is an http.Server's ConnState. For a new connection it is called by the
// goroutine that accepts.
func (d *intake) changed(c net.Conn, state http.ConnState) {
	if state != http.StateNew {
		return
	}
	now := time.Now()
	d.backlog.taken(now)
	pace := d.pace(now)
	defer d.seenTo()
	if pace.look {
		d.bell.ring()
		d.deferAccept(c, now)
	}
	if !pace.rush {
		return
	}
	plain, overTLS := inner(c)
	if plain == nil {
		return
	}
	age, ok := standing(plain)
	if pace.gather && age < fresh {
		d.gather()
	}
	_, down := limits(overTLS)
	late := ok && age > down
	if late {
		d.backlog.late(c.LocalAddr(), down, time.Now())
	}
	if ok && d.turnsAway(age, overTLS) && !d.floods.letsIn(time.Now()) || d.isFlood(c, plain, overTLS) {
		telemetry.TurnedAway()
		d.warn(age)
		turnAway(c, plain, overTLS)
		if late {
			d.rest()
		}
	}
}

// isFlood reports whether a connection is one too many of its address, and nobody
// is hurt by saying so at once. With TLS nobody can tell what it wants.
func (d *intake) isFlood(c net.Conn, plain syscall.Conn, overTLS bool) bool {
	addr, ok := addrOf(c)
	if ok && overTLS {
		d.floods.passes(addr, time.Now())
		return false
	}
	if !ok || !d.floods.turnsAway(addr, time.Now()) {
		return false
	}
	var buf [2 << 10]byte
	return isNoPerson(buf[:peek(plain, buf[:])])
}

// pace is how connections come.
type pace struct {
	rush   bool // in quick succession
	look   bool // it is time to look at the network
	gather bool // of a flood nobody else is at the door
}

func (d *intake) pace(now time.Time) (p pace) {
	d.mu.Lock()
	defer d.mu.Unlock()
	since := now.Sub(d.done)
	if p.rush = since <= quickly; !p.rush {
		d.row = 0
		d.floods.clearing.Store(false) // nobody was at the door
	}
	p.gather = p.rush && since > caughtUp && d.floods.known.Load() > 0
	if d.row++; d.row == rowLength {
		p.look, d.row = true, 0
	}
	return p
}

// gather lets some gather at the door, but not many: where they come faster than two
// in a millisecond there is no time for more. Nor is it for long where others come who
// are served as they come.
func (d *intake) gather() {
	time.Sleep(gathering)
	apart := d.backlog.apart()
	if 2*apart < gathering || !d.crowded.Load() || !d.floods.alone(time.Now()) {
		return
	}
	most := time.NewTimer(min(gatherFew*apart, gatherMost) - gathering)
	defer most.Stop()
	select {
	case <-d.sent:
	case <-most.C:
	}
}

// sends notes that the goroutine that calls it is about to send a request to an
// application, and whether others wait for that.
func (d *intake) sends(crowded bool) {
	d.crowded.Store(crowded)
	select {
	case d.sent <- struct{}{}:
	default:
	}
}

// rest is called for each one that was turned away while people stand at the door.
func (d *intake) rest() {
	d.mu.Lock()
	d.away++
	due := d.away >= restAfter
	if due {
		d.away = 0
	}
	d.mu.Unlock()
	if due {
		time.Sleep(resting)
	}
}

// seenTo notes that a connection is done with.
func (d *intake) seenTo() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = time.Now()
}

// deferEvery is how often sockets are looked for that listen; a reload makes new
// ones.
const deferEvery = 30 * time.Second

// deferAccept makes the kernel keep connections to c's port until something has
// come on them: who is let in before that costs two looks instead of one, and
// cannot be judged by what he wants.
func (d *intake) deferAccept(c net.Conn, now time.Time) {
	d.mu.Lock()
	due := now.Sub(d.deferred) >= deferEvery
	if due {
		d.deferred = now
	}
	d.mu.Unlock()
	if at, ok := c.LocalAddr().(*net.TCPAddr); ok && due {
		deferAccept(at.Port)
	}
}

// turnsAway decides about a connection that has stood at the door so long.
func (d *intake) turnsAway(age time.Duration, overTLS bool) bool {
	most, down := limits(overTLS)
	switch {
	case age > most:
		d.floods.clearing.Store(true)
	case age <= down:
		d.floods.clearing.Store(false)
	}
	return age > down && d.floods.clearing.Load()
}

// limits are how long somebody may stand at the door at most, and down to what
// those are turned away who come behind.
func limits(overTLS bool) (most, down time.Duration) {
	if overTLS {
		return tooLongTLS, freshTLS
	}
	return tooLong, fresh
}

// warn says so once a minute.
func (d *intake) warn(age time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.warned) > time.Minute {
		d.warned = now
		caddy.Log().Named("app_proxy").Warn("more connections come than can be looked at; some are turned away at the door",
			zap.Duration("waited", age))
	}
}

// inner is the connection of the kernel's beneath, and whether TLS is spoken on it.
func inner(c net.Conn) (plain syscall.Conn, overTLS bool) {
	for range 8 { // layers; there are one or two
		if _, ok := c.(*tls.Conn); ok {
			overTLS = true
		}
		if s, ok := c.(syscall.Conn); ok {
			return s, overTLS
		}
		below, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil, false
		}
		c = below.NetConn()
	}
	return nil, false
}

// away is what who is turned away is told: that it is our fault, and to come
// again.
const away = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nCache-Control: no-store\r\n" +
	"Content-Type: application/problem+json\r\nContent-Length: 120\r\nConnection: close\r\n\r\n" +
	`{"type":"about:blank","title":"Service Unavailable","status":503,"reason":"door","detail":"More come than can be seen."}`

// turnAway answers without a look at the request, and without waiting for
// anything. What has come must be read, or the kernel resets the connection and
// nobody reads the answer.
func turnAway(c net.Conn, plain syscall.Conn, overTLS bool) {
	if raw, err := plain.SyscallConn(); err == nil && !overTLS {
		raw.Control(func(fd uintptr) { hangUp(fd, away) })
	}
	if t, ok := c.(*tls.Conn); ok {
		t.NetConn().Close() // no farewell: it would be written first
	}
	c.Close()
}

// bell makes the runtime look at the network: whoever rings waits for an event
// that only such a look can bring.
type bell struct {
	once sync.Once
	r, w *os.File // nil: there is no pipe
	rung chan struct{}
}

// ring returns when everybody who was ready to run has run, and the network was
// looked at.
func (b *bell) ring() {
	b.once.Do(b.hang)
	if b.w == nil {
		return
	}
	if _, err := b.w.Write([]byte{0}); err == nil {
		<-b.rung
	}
}

// hang makes the pipe, and starts the goroutine that listens at its end as long as
// the process runs.
func (b *bell) hang() {
	r, w, err := os.Pipe()
	if err != nil {
		return // then without
	}
	b.r, b.w, b.rung = r, w, make(chan struct{})
	go func() { // ends with the process
		buf := make([]byte, 1)
		for {
			if _, err := b.r.Read(buf); err != nil {
				return
			}
			b.rung <- struct{}{}
		}
	}()
}
