package upstream

import (
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
	cfg    DirectConfig
	*kept  // shared by all of one kind
	finish func()
}

// stock is what there is to one address. kept.mu guards it.
type stock struct {
	idle   []*conn // the last used last
	busy   int     // exchanges
	closes bool    // the connection of the last exchange ended with it
	drains bool    // and the application waited for our end of it: see head.drains
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
	// Ready of the pool. Default: one of its own.
	Ready *Ready
	// Kind says what the connections are like: those who share a Ready and have the
	// same here, and the same IdleTimeout and MaxHead, use each other's.
	Kind string
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
	if cfg.Ready == nil {
		cfg.Ready = new(Ready)
	}
	d := &Direct{cfg: cfg, kept: cfg.Ready.share(cfg.Kind)}
	d.finish = sync.OnceFunc(func() {
		if cfg.Ready.unshare(cfg.Kind, d.kept) {
			d.end()
		}
	})
	return d
}

// Send sends r to an address and returns its answer, of which nothing has been
// read. ctx bounds the dial alone. The errors are those of Dial, and ErrRequest.
// A short request is sent by the first Head. Trouble in sending is told there, because
// the application may have answered before it.
func (d *Direct) Send(ctx context.Context, address string, r *Request) (*Answer, error) {
	text, err := r.appendHead(newText(), d.cfg.IdleTimeout < 0)
	if err != nil {
		return nil, err
	}
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

// texts are buffers for requests on their way.
var texts = sync.Pool{New: func() any { return new(text) }}

type text [4 << 10]byte

func newText() []byte { return texts.Get().(*text)[:0] }

// dropText gives a buffer back, if it is still the one that newText gave.
func dropText(b []byte) {
	if cap(b) == len(text{}) {
		texts.Put((*text)(b[:cap(b)]))
	}
}

// write sends the head and the body. A short body goes with the head, and both when
// the answer is waited for; what is long goes by itself, while the answer may come: an
// application that does not read must not keep whoever would notice. r is the caller's
// again, and head is not.
func (c *conn) write(a *Answer, r *Request, head []byte) {
	switch {
	case len(head) > inlineBody, r.Body != nil && (r.Length < 0 || r.Length > inlineBody):
		c.upload(a, r, head)
		return
	case r.Body != nil && r.Length > 0:
		w := appender{head}
		err := r.writeBody(&w)
		if head = w.b; err != nil {
			dropText(head)
			c.Conn.Close()
			a.upload = ended(fmt.Errorf("upstream: %w: %w", ErrBody, err))
			return
		}
	}
	if c.ours && !c.last {
		c.turn.begin(head)
		return
	}
	if _, err := c.Write(head); err != nil {
		a.upload = ended(err)
	}
	dropText(head)
	if c.last {
		c.endSending()
	}
}

func (c *conn) upload(a *Answer, r *Request, head []byte) {
	u := &upload{done: make(chan struct{})}
	a.upload = u
	own := *r
	go func() { // ends with the body, or with the connection, which Close closes
		u.err = c.stream(head, &own)
		dropText(head)
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
		return fmt.Errorf("upstream: %w: %w", ErrBody, err)
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

// Ready makes a connection for the exchange after one that is running, if it would
// have to make one itself. The caller knows that somebody waits, and calls
// Ready.Drop when nobody does any more.
func (d *Direct) Ready(address string) {
	d.mu.Lock()
	s := d.stocks[address]
	wanted := 0
	if s != nil && s.closes && !d.closed {
		wanted = s.busy - len(s.idle)
	}
	d.mu.Unlock()
	if wanted > 0 {
		d.cfg.Ready.prepare(address, wanted, d.cfg.Dial)
	}
}

// take finds a connection to the address, or makes one. The exchange is busy from
// then on.
func (d *Direct) take(ctx context.Context, address string, fresh bool) (*conn, error) {
	d.cfg.Ready.clearOthers(address, &d.keeper)
	for c := d.find(address, 1); c != nil; c = d.find(address, 0) {
		if !(fresh && time.Since(c.since) > freshFor) && c.alive() {
			return c, nil
		}
		c.Conn.Close()
	}
	plain, err := d.cfg.Dial(ctx, address)
	if err != nil {
		d.give(address, nil)
		return nil, err
	}
	return newConn(d, address, plain), nil
}

// find hands out a connection that is there, for so many new exchanges; nil: there is
// none. Where one is kept the application may be waiting on it and see no other: those
// that were made ready while it still ended its connections are of no use then.
func (d *Direct) find(address string, exchanges int) *conn {
	c, drains := d.idle(address, exchanges)
	if c != nil {
		d.cfg.Ready.Drop(address)
		return c
	}
	r := d.cfg.Ready.take(address)
	if r == nil {
		return nil
	}
	c = newConn(d, address, r.conn)
	c.ahead, c.since, c.last = true, r.since, drains
	return c
}

// idle takes the connection that was kept last, for so many new exchanges; nil: there
// is none. drains is how the application ends them.
func (d *Direct) idle(address string, exchanges int) (c *conn, drains bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stocks[address]
	if s == nil {
		s = new(stock)
		d.stocks[address] = s
	}
	s.busy += exchanges
	n := len(s.idle)
	if n == 0 {
		return nil, s.drains
	}
	c = s.idle[n-1]
	s.idle[n-1] = nil
	s.idle = s.idle[:n-1]
	return c, s.drains
}

// learn notes how an application ends its connections.
func (d *Direct) learn(address string, drains bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stocks[address].drains = drains
}

// give ends an exchange, and keeps its connection for the next one; nil: it is
// closed.
func (d *Direct) give(address string, c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stocks[address]
	s.busy--
	s.closes = c == nil
	switch {
	case c == nil:
	case d.closed || d.cfg.IdleTimeout < 0:
		c.Conn.Close()
	default:
		c.since = time.Now()
		s.idle = append(s.idle, c)
		if d.reaper == nil {
			d.reaper = time.AfterFunc(d.cfg.IdleTimeout, d.reap)
		}
	}
	d.forget(address, s)
}

// maxStocks bounds the addresses of which only their manners are known.
const maxStocks = 1000

// forget drops a stock that has nothing. k.mu is held.
func (k *kept) forget(address string, s *stock) {
	if len(s.idle)+s.busy == 0 && (!s.closes || k.closed || len(k.stocks) > maxStocks) {
		delete(k.stocks, address)
	}
}

// reap closes what has been idle for too long.
func (d *Direct) reap() {
	d.mu.Lock()
	defer d.mu.Unlock()
	var oldest time.Time
	for address, s := range d.stocks {
		n := 0
		for n < len(s.idle) && time.Since(s.idle[n].since) >= d.cfg.IdleTimeout {
			s.idle[n].Conn.Close()
			n++
		}
		s.idle = append([]*conn(nil), s.idle[n:]...)
		if len(s.idle) > 0 && (oldest.IsZero() || s.idle[0].since.Before(oldest)) {
			oldest = s.idle[0].since
		}
		d.forget(address, s)
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
	for _, s := range d.stocks {
		n += len(s.idle)
	}
	return n
}

// Close closes the idle connections, and the others as soon as their exchange has
// ended. Those that are shared go when the last of all who share them is closed.
func (d *Direct) Close() { d.finish() }

func (k *kept) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for address, s := range k.stocks {
		for _, c := range s.idle {
			c.Conn.Close()
		}
		s.idle = nil
		k.forget(address, s)
	}
	if k.reaper != nil {
		k.reaper.Stop()
		k.reaper = nil
	}
}
