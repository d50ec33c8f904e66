package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Direct sends requests to applications that speak HTTP/1.1 over plain
// connections, on the goroutine that asks, and keeps connections for the next
// request. It holds no more connections than there were exchanges at once: their
// number is admission's matter.
//
// Always: a connection has one exchange at a time; it is used again only when the
// answer was framed beyond doubt, was read to its end, nothing came behind it, and
// the request was sent whole; nothing is sent twice.
//
// Safe for concurrent use. It does not decide what may be sent again, which
// fields are whose business, or how long anything may take.
type Direct struct {
	cfg DirectConfig

	mu     sync.Mutex
	idle   map[string][]*conn // mu; by address, the last used last
	reaper *time.Timer        // mu; nil: nothing is idle
	closed bool               // mu
}

// DirectConfig is what Direct needs to know.
type DirectConfig struct {
	// Dial connects to an address. Its errors are passed on as they are.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// IdleTimeout is how long a connection is kept for the next request. Default
	// 2 minutes; negative: not at all.
	IdleTimeout time.Duration
	// MaxHead is the longest head of an answer in bytes. Default 256 KiB: what
	// the browsers take.
	MaxHead int
}

// freshFor is how long a connection may have been idle for a request that must
// not be sent twice: servers close idle connections after a second or later, and
// the request would be lost on the way.
const freshFor = time.Second

// inlineBody is how long a body may be to be sent before the answer is waited
// for: it fits in the buffers between us and an application that does not read.
const inlineBody = 64 << 10

// NewDirect makes a Direct without connections.
func NewDirect(cfg DirectConfig) *Direct {
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = 2 * time.Minute
	}
	if cfg.MaxHead == 0 {
		cfg.MaxHead = 256 << 10
	}
	return &Direct{cfg: cfg, idle: make(map[string][]*conn)}
}

// Send sends r to an address and returns its answer, of which nothing has been
// read. ctx bounds the dial alone. The errors are those of Dial, and ErrRequest.
// Trouble in sending is told by Head, because the application may have answered
// before it.
func (d *Direct) Send(ctx context.Context, address string, r *Request) (*Answer, error) {
	buf := headBuffers.Get().(*[]byte)
	defer headBuffers.Put(buf)
	text, err := r.appendHead((*buf)[:0], d.cfg.IdleTimeout < 0)
	if err != nil {
		return nil, err
	}
	*buf = text
	c, err := d.take(ctx, address, r.Fresh)
	if err != nil {
		return nil, err
	}
	a := &c.answer
	*a = Answer{conn: c, toHEAD: r.Method == "HEAD"}
	c.begin()
	c.write(a, r, text)
	return a, nil
}

var headBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// write sends the head and the body. A short body goes with the head; what is long
// goes by itself, while the answer may come: an application that does not read must
// not keep whoever would notice. r is the caller's again.
func (c *conn) write(a *Answer, r *Request, head []byte) {
	switch {
	case len(head) > inlineBody:
		c.upload(a, r, head)
	case r.Body == nil || r.Length == 0:
		if _, err := c.Write(head); err != nil {
			a.upload = ended(err)
		}
	case r.Length > 0 && r.Length <= inlineBody:
		w := appender{append(make([]byte, 0, len(head)+int(r.Length)), head...)}
		if err := r.writeBody(&w); err != nil {
			c.Conn.Close()
			a.upload = ended(fmt.Errorf("upstream: %w: %w", ErrRequest, err))
		} else if _, err = c.Write(w.b); err != nil {
			a.upload = ended(err)
		}
	default:
		c.upload(a, r, head)
	}
}

func (c *conn) upload(a *Answer, r *Request, head []byte) {
	u := &upload{done: make(chan struct{})}
	a.upload = u
	head = bytes.Clone(head)
	own := *r
	go func() { // ends with the body, or with the connection, which Close closes
		u.err = c.stream(head, &own)
		close(u.done)
		if errors.Is(u.err, ErrRequest) {
			c.Conn.Close() // there is no other way to tell the application
		}
	}()
}

// stream sends a request whose body is too long to be sent at once.
func (c *conn) stream(head []byte, r *Request) error {
	if _, err := c.Conn.Write(head); err != nil {
		return err
	}
	w := &failing{w: c.Conn}
	err := r.writeBody(w)
	if err != nil && w.err == nil {
		return fmt.Errorf("upstream: %w: %w", ErrRequest, err)
	}
	return err
}

// failing remembers that it was the connection that failed.
type failing struct {
	w   io.Writer
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	f.err = err
	return n, err
}

func ended(err error) *upload {
	u := &upload{done: make(chan struct{}), err: err}
	close(u.done)
	return u
}

// take finds an idle connection to the address, or makes one.
func (d *Direct) take(ctx context.Context, address string, fresh bool) (*conn, error) {
	for {
		d.mu.Lock()
		stack := d.idle[address]
		if len(stack) == 0 {
			d.mu.Unlock()
			break
		}
		c := stack[len(stack)-1]
		stack[len(stack)-1] = nil
		d.idle[address] = stack[:len(stack)-1]
		d.mu.Unlock()
		if fresh && time.Since(c.since) > freshFor || !c.alive() {
			c.Conn.Close()
			continue
		}
		return c, nil
	}
	plain, err := d.cfg.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	return newConn(d, address, plain), nil
}

// give keeps a connection for the next request.
func (d *Direct) give(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.cfg.IdleTimeout < 0 {
		c.Conn.Close()
		return
	}
	c.since = time.Now()
	d.idle[c.address] = append(d.idle[c.address], c)
	if d.reaper == nil {
		d.reaper = time.AfterFunc(d.cfg.IdleTimeout, d.reap)
	}
}

// reap closes what has been idle for too long.
func (d *Direct) reap() {
	d.mu.Lock()
	defer d.mu.Unlock()
	var oldest time.Time
	for address, stack := range d.idle {
		n := 0
		for n < len(stack) && time.Since(stack[n].since) >= d.cfg.IdleTimeout {
			stack[n].Conn.Close()
			n++
		}
		kept := append([]*conn(nil), stack[n:]...)
		if len(kept) == 0 {
			delete(d.idle, address)
			continue
		}
		d.idle[address] = kept
		if oldest.IsZero() || kept[0].since.Before(oldest) {
			oldest = kept[0].since
		}
	}
	if d.reaper = nil; !oldest.IsZero() && !d.closed {
		d.reaper = time.AfterFunc(d.cfg.IdleTimeout-time.Since(oldest), d.reap)
	}
}

// Idle is the number of connections that are kept.
func (d *Direct) Idle() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, stack := range d.idle {
		n += len(stack)
	}
	return n
}

// Close closes the idle connections, and the others as soon as their exchange has
// ended.
func (d *Direct) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, stack := range d.idle {
		for _, c := range stack {
			c.Conn.Close()
		}
	}
	clear(d.idle)
	if d.reaper != nil {
		d.reaper.Stop()
		d.reaper = nil
	}
}
