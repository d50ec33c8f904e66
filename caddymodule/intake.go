package caddymodule

import (
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// intake keeps the process from taking in more connections than it can look at.
//
// Where requests come faster than they can even be refused, every goroutine waits
// behind hundreds of others, and the runtime asks for network events every ten
// milliseconds only, for it always has something else to do. Then the few
// exchanges that matter stand still: an application of 3 ms a request was given
// one in 40 ms. So accepting waits a moment while too many goroutines are at
// work; the kernel keeps who is at the door, which costs nothing.
//
// A connection is at work while its server's goroutine is neither idle nor
// waiting in the queue nor for the application. Who sends slowly is counted too,
// so the wait is bounded, and slow senders cannot stop the others.
type intake struct {
	mu     sync.Mutex
	atWork map[net.Conn]bool // mu; accepted, by whether it counts as at work
	n      int               // mu; how many are at work
	freed  chan struct{}     // somebody stopped being at work
}

// intakePerCPU connections may be at work for each processor before accepting
// waits, and then for intakeWait at the most.
const (
	intakePerCPU = 4
	intakeWait   = 2 * time.Millisecond
)

// door is this process's intake: its goroutines share the processors.
var door = &intake{atWork: make(map[net.Conn]bool), freed: make(chan struct{}, 1)}

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
	switch state {
	case http.StateNew:
		d.await()
		d.set(c, true)
	case http.StateActive:
		d.set(c, true)
	case http.StateIdle:
		d.set(c, false)
	case http.StateClosed, http.StateHijacked:
		d.mu.Lock()
		if d.atWork[c] {
			d.lessLocked()
		}
		delete(d.atWork, c)
		d.mu.Unlock()
	}
}

func (d *intake) set(c net.Conn, atWork bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.atWork[c] == atWork {
		return
	}
	d.atWork[c] = atWork
	if atWork {
		d.n++
	} else {
		d.lessLocked()
	}
}

func (d *intake) lessLocked() {
	d.n--
	select {
	case d.freed <- struct{}{}:
	default:
	}
}

// resting stands around every wait of a request.
func (d *intake) resting(begins bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if begins {
		d.lessLocked()
	} else {
		d.n++
	}
}

// await waits while too many are at work.
func (d *intake) await() {
	most := intakePerCPU * runtime.GOMAXPROCS(0)
	var timer *time.Timer
	for {
		d.mu.Lock()
		n := d.n
		d.mu.Unlock()
		if n < most {
			return
		}
		if timer == nil {
			timer = time.NewTimer(intakeWait)
			defer timer.Stop()
		}
		select {
		case <-d.freed:
		case <-timer.C:
			return
		}
	}
}
