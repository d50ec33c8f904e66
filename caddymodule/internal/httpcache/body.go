package httpcache

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// ErrIncomplete: the application broke off in the middle of an answer that
// others were following.
var ErrIncomplete = errors.New("httpcache: the answer broke off")

// ErrTooSlow: a follower held up an answer that is too long to keep.
var ErrTooSlow = errors.New("httpcache: the follower is too slow for an answer that is too long to keep")

// stall is how long a follower may hold up an answer that is too long to keep
// before it is left behind.
const stall = 10 * time.Second

// body is the bytes of an answer, while they come and afterwards. Any number of
// readers see them as they come. Objects share bodies: a 304 makes a new object
// with the same one.
//
// Up to limit bytes are kept. A body that outgrows it is not stored; from then
// on only a window of limit bytes is kept for those who read already, and the
// writer waits for the slowest of them, for stall at most if there are several.
type body struct {
	limit int64
	final atomic.Pointer[final] // once it is whole: readers of a hit take no lock

	mu      sync.Mutex
	data    []byte          // mu; bytes base.. ; never changed in place
	base    int64           // mu; > 0 only after it has outgrown limit
	grown   bool            // mu; it has outgrown limit
	ended   bool            // mu; no more bytes come
	err     error           // mu; why it ended too early; nil: it is whole
	trailer Header          // mu; set with ended
	readers map[*reader]any // mu; who reads now
	news    chan struct{}   // mu; closed at the next change; nil: nobody waits

	encoded encodings
}

// final is a whole body. It does not change.
type final struct {
	data    []byte
	trailer Header
}

func wholeBody(data []byte, trailer Header) *body {
	b := &body{data: data, ended: true, trailer: trailer, limit: int64(len(data))}
	b.final.Store(&final{data, trailer})
	return b
}

// whole is all bytes, once they are there; before, those that are.
func (b *body) whole() ([]byte, bool) {
	if f := b.final.Load(); f != nil {
		return f.data, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data, false
}

// trailers are there once the body has ended.
func (b *body) trailers() Header {
	if f := b.final.Load(); f != nil {
		return f.trailer
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trailer
}

func (b *body) changedLocked() {
	if b.news != nil {
		close(b.news)
		b.news = nil
	}
}

func (b *body) waitLocked() <-chan struct{} {
	if b.news == nil {
		b.news = make(chan struct{})
	}
	return b.news
}

// write appends. It waits for readers only when the body has outgrown its limit.
func (b *body) write(p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	for len(p) > 0 {
		room := b.limit - int64(len(b.data))
		if room <= 0 {
			b.grown = true
			if room = b.slideLocked(); room == 0 {
				b.standLocked()
				continue
			}
		}
		n := min(room, int64(len(p)))
		b.data = append(b.data, p[:n]...)
		p = p[n:]
		b.changedLocked()
	}
}

// slideLocked drops what all readers have had and returns how much room that
// made.
func (b *body) slideLocked() int64 {
	slowest := b.base + int64(len(b.data))
	for r := range b.readers {
		slowest = min(slowest, r.at)
	}
	b.data = b.data[slowest-b.base:]
	b.base = slowest
	return b.limit - int64(len(b.data))
}

// standLocked waits until a reader has moved. Those who did not move for stall
// are left behind, where there are others.
func (b *body) standLocked() {
	timer := time.NewTimer(stall)
	defer timer.Stop()
	moved := b.waitLocked()
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-moved:
	case <-timer.C:
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.readers) < 2 {
			return // he holds up nobody
		}
		for r := range b.readers {
			if r.at == b.base {
				delete(b.readers, r)
			}
		}
	}
}

// end is called once, when no more bytes come.
func (b *body) end(trailer Header, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.ended, b.err, b.trailer = true, err, trailer
	if n := len(b.data); !b.grown && cap(b.data)-n > n/4 { // it stays for long
		b.data = append(make([]byte, 0, n), b.data...)
	}
	if err == nil && !b.grown {
		b.final.Store(&final{b.data, trailer})
	}
	b.changedLocked()
}

// reader reads a body from its beginning.
type reader struct {
	b  *body
	at int64 // b.mu
}

// follow joins the readers; nil when the beginning is no longer there.
func (b *body) follow() *reader {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.base > 0 {
		return nil
	}
	r := &reader{b: b}
	if !b.ended {
		if b.readers == nil {
			b.readers = make(map[*reader]any)
		}
		b.readers[r] = nil
	}
	return r
}

// step is how many bytes a reader takes at once: few enough that a slow one is seen
// to move within stall.
const step = 64 << 10

// next returns bytes that are there beyond those that were passed on. Without any
// it waits, and calls idle before; io.EOF ends it.
func (r *reader) next(ctx context.Context, idle func()) ([]byte, error) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if _, reading := b.readers[r]; !reading && r.at < b.base {
			return nil, ErrTooSlow
		}
		if p := b.data[r.at-b.base:]; len(p) > 0 {
			return p[:min(len(p), step)], nil
		}
		if b.ended {
			if b.err != nil {
				return nil, b.err
			}
			return nil, io.EOF
		}
		changed := b.waitLocked()
		b.mu.Unlock()
		if idle != nil {
			idle()
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
		b.mu.Lock()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// read notes that n bytes have been passed on.
func (r *reader) read(n int) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.at += int64(n)
	if r.b.grown {
		r.b.changedLocked()
	}
}

func (r *reader) leave() {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	delete(r.b.readers, r)
	r.b.changedLocked()
}

// joined is the object for one client, who counts as a reader from now on: a body
// that outgrows its limit keeps its beginning for him until he comes to read. nil:
// the beginning has gone.
func (o *Object) joined() *Object {
	if o.body.final.Load() != nil {
		return o
	}
	r := o.body.follow()
	if r == nil {
		return nil
	}
	own := *o
	own.ahead = r
	return &own
}

// copyTo passes all bytes on as they come. flush is called, when not nil, before
// it waits for more.
func (b *body) copyTo(ctx context.Context, w io.Writer, flush func()) (int64, error) {
	r := b.follow()
	if r == nil {
		return 0, ErrTooSlow
	}
	defer r.leave()
	return r.copyTo(ctx, w, flush)
}

func (r *reader) copyTo(ctx context.Context, w io.Writer, flush func()) (int64, error) {
	var sent int64
	idle := func() {
		if flush != nil {
			flush()
		}
	}
	for {
		p, err := r.next(ctx, idle)
		if err == io.EOF {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
		n, err := w.Write(p)
		sent += int64(n)
		r.read(n)
		if err != nil {
			return sent, err
		}
	}
}
