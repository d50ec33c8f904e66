package front

import (
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// flow is the body of a conversation, which goes on while it comes. It remembers how it
// ended, because a round trip that fails with it is not the application's failure.
type flow struct {
	src       io.ReadCloser
	open      bool          // closing it does not close src
	ended     chan struct{} // closed when nothing more is read
	conversed func()        // ends what Config.Converse began; may be nil

	reading sync.Mutex // held while src is read
	stopped bool       // reading

	mu      sync.Mutex
	awaited bool      // mu; somebody waits for more of it
	moved   time.Time // mu; when some of it came last
	err     error     // mu; of reading; nil: it goes on; io.EOF: it is whole
	at      time.Time // mu; when it ended, or nobody wanted more; zero: it goes on
}

// converse makes the body of a conversation a flow; nil: it has none. By HTTP/1 that is
// read and not closed: net/http would take what is unread of a closed body for the next
// request, since it does not know it behind that of Caddy.
func (f *Front) converse(r *http.Request) *flow {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	b := &flow{src: r.Body, open: r.ProtoMajor == 1, ended: make(chan struct{})}
	if f.cfg.Converse != nil {
		b.conversed = f.cfg.Converse(r.Context())
	}
	r.Body = b
	return b
}

func (b *flow) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if b.stopped {
		b.came(0, http.ErrBodyReadAfterClose)
		return 0, http.ErrBodyReadAfterClose
	}
	b.mu.Lock()
	b.awaited = true
	b.mu.Unlock()
	n, err := b.src.Read(p)
	b.came(n, err)
	return n, err
}

func (b *flow) came(n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.awaited = false
	if n > 0 {
		b.moved = time.Now()
	}
	if closed := !b.at.IsZero(); err != nil && (!closed || err == io.EOF) { // or it comes of that
		b.endLocked(err)
	}
}

func (b *flow) endLocked(err error) {
	if b.err != nil {
		return
	}
	b.err = err
	if b.at.IsZero() {
		b.at = time.Now()
	}
	close(b.ended)
}

// Close is the transport's, when it wants no more.
func (b *flow) Close() error {
	b.mu.Lock()
	if b.at.IsZero() {
		b.at = time.Now()
	}
	b.mu.Unlock()
	if b.open {
		return nil
	}
	return b.src.Close()
}

// stop is called when the request is served: the conversation has ended, and whoever
// goes on with the exchange must not read what is no longer its body. b may be nil.
func (b *flow) stop(w http.ResponseWriter) {
	if b == nil {
		return
	}
	if b.conversed != nil {
		b.conversed()
	}
	if !b.reading.TryLock() {
		if http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) != nil {
			return // it ends with the request
		}
		b.reading.Lock()
	}
	b.stopped = true
	b.reading.Unlock()
}

// giveUp ends a body that does not come, and reports false where that is not what is
// waited for. b may be nil.
func (b *flow) giveUp() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.awaited || !b.at.IsZero() {
		return false
	}
	b.endLocked(os.ErrDeadlineExceeded)
	return true
}

// goOn is called for a round trip: the one before may have wanted no more.
func (b *flow) goOn() *flow {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.at = time.Time{}
	}
	return b
}

// since is when it ended, or moved last, in an exchange that began then.
func (b *flow) since(began time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.at.IsZero():
		return b.at
	case b.moved.After(began):
		return b.moved
	}
	return began
}

// over reports whether it was read to its end. b may be nil: it is none.
func (b *flow) over() bool { return b != nil && b.ending() == io.EOF }

// broken is what went wrong on the client's side; nil: nothing. b may be nil.
func (b *flow) broken() error {
	if b == nil {
		return nil
	}
	if err := b.ending(); err != nil && err != io.EOF {
		return bodyFault(err)
	}
	return nil
}

func (b *flow) ending() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// settled is broken for a request whose context has ended: net/http ends that before
// the read returns that has failed.
func (b *flow) settled() error {
	if b == nil {
		return nil
	}
	t := time.NewTimer(quick)
	defer t.Stop()
	select {
	case <-b.ended:
	case <-t.C:
	}
	return b.broken()
}
