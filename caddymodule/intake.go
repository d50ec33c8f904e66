package caddymodule

import (
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"sync"
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
// So between new connections in quick succession there is a look at the network,
// and who has stood at the door for too long is turned away for a tenth of what a
// refusal costs inside, until those are gone. (The second is what CoDel does with
// a standing queue, RFC 8289: drop from the front.)
type intake struct {
	bell bell

	mu       sync.Mutex
	last     time.Time // mu; when a connection came last
	row      int       // mu; connections in quick succession since the bell rang
	clearing bool      // mu; those at the door are being turned away
	warned   time.Time // mu
}

const (
	// quickly one after another are connections that come faster than one a
	// millisecond: no small site's visitors, and less than any machine can take.
	quickly = time.Millisecond
	// rowLength connections are accepted before the network is looked at. A refusal
	// takes 0.1 ms, so an answer waits half a millisecond for that at the most.
	rowLength = 4

	// tooLong at the door is half of the patience of an impatient client; clearing
	// goes on down to fresh, or the next ones would be too late again.
	tooLong, fresh = 500 * time.Millisecond, 50 * time.Millisecond
	// With TLS there is no way to say anything cheaply, so it must be worse.
	tooLongTLS, freshTLS = 2 * time.Second, 500 * time.Millisecond
)

// door is this process's intake: its goroutines share the processors.
var door = new(intake)

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
	}
}

// changed is an http.Server's ConnState. For a new connection it is called by the
// goroutine that accepts.
func (d *intake) changed(c net.Conn, state http.ConnState) {
	if state != http.StateNew {
		return
	}
	if d.rush(time.Now()) {
		d.bell.ring()
	}
	plain, overTLS := inner(c)
	if plain == nil {
		return
	}
	if age, ok := standing(plain); ok && d.turnsAway(age, overTLS) {
		turnAway(c, plain, overTLS)
	}
}

// rush counts connections in quick succession, and reports when it is time to
// look at the network.
func (d *intake) rush(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.last) > quickly {
		d.row = 0
	}
	d.last = now
	d.row++
	if d.row < rowLength {
		return false
	}
	d.row = 0
	return true
}

// turnsAway decides about a connection that has stood at the door so long.
func (d *intake) turnsAway(age time.Duration, overTLS bool) bool {
	most, down := tooLong, fresh
	if overTLS {
		most, down = tooLongTLS, freshTLS
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case age > most:
		d.clearing = true
	case age <= down:
		d.clearing = false
	}
	if !d.clearing || age <= down {
		return false
	}
	telemetry.TurnedAway()
	if now := time.Now(); now.Sub(d.warned) > time.Minute {
		d.warned = now
		caddy.Log().Named("app_proxy").Warn("more connections come than can be looked at; those that waited too long at the door are turned away",
			zap.Duration("waited", age))
	}
	return true
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
