package upstream

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Ready is the connections to the applications of a pool for which there is no
// request yet. While somebody waits for an application that ends its connections
// itself, the next one is made during the exchange before it: an application with a
// single thread finds it as soon as it looks, and is not idle while one is made.
//
// Always: they are used in the order in which they were made, which is that in which
// an application takes them; it would wait for a request on the wrong one. All who
// send to the same applications share a Ready, for the same reason, and by it close
// what the others keep (see Keeper).
//
// The zero value is ready for use. Safe for concurrent use.
type Ready struct {
	ahead   atomic.Int64 // how many there are; changed under mu
	keeping atomic.Int64 // len(keepers)

	mu      sync.Mutex
	conns   map[string][]*readyConn // mu; by address, the oldest first
	keepers []*Keeper               // mu; a new one at each change
	kinds   map[string]*kept        // mu; by DirectConfig.Kind
}

// readyConn is a connection, or becomes one.
type readyConn struct {
	expiry *time.Timer
	made   chan struct{} // closed when the dial has ended
	conn   net.Conn      // before made; nil: it could not be made
	since  time.Time     // before made
}

const (
	// readyWithin bounds a dial for which nobody waits.
	readyWithin = time.Second
	// readyFor bounds how long a connection is kept for its request: a worker that
	// waits on it does nothing else.
	readyFor = 2 * time.Second
)

// prepare dials, unless there are as many connections as exchanges. Its errors are told
// to nobody: whoever needs a connection dials again.
func (r *Ready) prepare(address string, exchanges int, dial func(context.Context, string) (net.Conn, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.conns[address]) >= exchanges {
		return
	}
	if r.conns == nil {
		r.conns = make(map[string][]*readyConn)
	}
	c := &readyConn{made: make(chan struct{})}
	c.expiry = time.AfterFunc(readyFor, func() { r.Drop(address) })
	r.conns[address] = append(r.conns[address], c)
	r.ahead.Add(1)
	go func() { // ends with the dial, after readyWithin at the latest
		defer close(c.made)
		ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
		defer cancel()
		if conn, err := dial(ctx, address); err == nil {
			c.conn, c.since = conn, time.Now()
		}
	}()
}

// take hands the oldest connection out, and waits for it where it is being made:
// another that is made now would stand behind it. nil: there is none.
func (r *Ready) take(address string) *readyConn {
	if r.ahead.Load() == 0 {
		return nil
	}
	c := r.first(address)
	if c == nil {
		return nil
	}
	c.expiry.Stop()
	<-c.made
	if c.conn == nil {
		return nil
	}
	return c
}

func (r *Ready) first(address string) *readyConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.conns[address]
	if len(all) == 0 {
		return nil
	}
	c := all[0]
	if len(all) == 1 {
		delete(r.conns, address)
	} else {
		r.conns[address] = slices.Delete(all, 0, 1)
	}
	r.ahead.Add(-1)
	return c
}

// Drop closes the connections to an address. It must be called when nobody waits for
// one any more.
func (r *Ready) Drop(address string) {
	if r.ahead.Load() == 0 {
		return
	}
	for c := r.first(address); c != nil; c = r.first(address) {
		c.expiry.Stop()
		select {
		case <-c.made:
			c.close()
		default:
			go func() { // ends with the dial
				<-c.made
				c.close()
			}()
		}
	}
}

func (c *readyConn) close() {
	if c.conn != nil {
		c.conn.Close()
	}
}
