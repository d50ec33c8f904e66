package front

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// paced is a request's body that must come with some speed. Who sends a byte now
// and then has no slot, but memory and a connection, for as long as he likes and
// as often as he likes; so he is given up (Apache's mod_reqtimeout has the same
// rule). A body that is here with its head costs no more than a timer that is
// started and stopped.
type paced struct {
	src  io.Reader
	w    http.ResponseWriter
	need int64         // bytes in each span
	span time.Duration // 0: nobody watches

	got atomic.Int64 // bytes in this span

	mu    sync.Mutex
	timer *time.Timer // mu; nil: nobody watches, or no longer
	late  bool        // mu; it was given up
}

// pace watches a body until stop is called, which must be.
func (f *Front) pace(w http.ResponseWriter, src io.Reader) *paced {
	p := &paced{src: src, w: w, span: f.cfg.MinRateOver}
	p.need = int64(float64(f.cfg.MinRate) * p.span.Seconds())
	if p.need > 0 {
		p.mu.Lock() // look may come at once
		defer p.mu.Unlock()
		p.timer = time.AfterFunc(p.span, p.look)
	}
	return p
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.src.Read(b)
	p.got.Add(int64(n))
	return n, err
}

// look ends the reading at the end of a span in which too little has come.
func (p *paced) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.timer == nil:
	case p.got.Swap(0) >= p.need:
		p.timer.Reset(p.span)
	default:
		p.late = http.NewResponseController(p.w).SetReadDeadline(time.Unix(1, 0)) == nil
	}
}

// stop ends the watch, and reports whether the body was given up.
func (p *paced) stop() (late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	return p.late
}
