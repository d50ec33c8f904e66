package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/admission"
)

// RoundTripper returns a round tripper that uses up the slot of the request's
// exchange and sends by next. The exchange with the application runs on a
// context of its own: a client that leaves ends its own side only, the answer
// is read to its end and thrown away, and then the slot comes back.
func (f *Front) RoundTripper(next http.RoundTripper) http.RoundTripper {
	return &roundTripper{front: f, next: next}
}

type roundTripper struct {
	front *Front
	next  http.RoundTripper
}

var errNoSlot = errors.New("front: a round trip needs a slot, and this request has none")

// errFirstByte is a net.Error, so that the client gets 504.
type errFirstByte struct{}

func (errFirstByte) Error() string   { return "the application sent no answer in time" }
func (errFirstByte) Timeout() bool   { return true }
func (errFirstByte) Temporary() bool { return false }

func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	x := exchangeOf(req.Context())
	if x == nil || x.slot == nil {
		return nil, errNoSlot
	}
	if err := req.Context().Err(); err != nil {
		return nil, err // the client left; Serve gives the slot back
	}
	d := &delivery{front: t.front, x: x, probe: x.probe, slot: x.slot, body: x.body, began: time.Now()}
	x.slot = nil
	d.body.retain()

	ctx, cancel := context.WithCancel(t.front.cfg.Detach(context.WithoutCancel(req.Context())))
	d.cancel = cancel
	out := req.WithContext(ctx)
	address := *req.URL
	out.URL = &address // reverseproxy writes to its own when it tries again
	if req.Body != nil && x.body != nil {
		out.Body = x.body.open()
		out.GetBody = func() (io.ReadCloser, error) { return x.body.open(), nil }
	}
	answers := make(chan answer, 1)
	go func() { // ends with the round trip, which ends at cancel at the latest
		defer func() {
			// Nobody above would catch it here, and all of Caddy would end.
			if p := recover(); p != nil {
				answers <- answer{nil, fmt.Errorf("front: the transport panics: %v\n%s", p, debug.Stack())}
			}
		}()
		res, err := t.next.RoundTrip(out)
		answers <- answer{res, err}
	}()

	var late <-chan time.Time
	if t.front.cfg.FirstByte > 0 {
		timer := time.NewTimer(t.front.cfg.FirstByte)
		defer timer.Stop()
		late = timer.C
	}
	t.front.cfg.rest()
	defer t.front.cfg.resume()
	select {
	case a := <-answers:
		if a.err == nil && !asked(req, a.res) {
			a.res.Body.Close()
			a.err = errUnasked
		}
		if a.err != nil {
			x.unreached = d.failed(a.err)
			return nil, a.err
		}
		x.last = d.answered(req.Context(), a.res)
		return a.res, nil
	case <-req.Context().Done():
		go d.outlive(answers)
		return nil, req.Context().Err()
	case <-late:
		go d.outlive(answers)
		return nil, errFirstByte{}
	}
}

// errUnasked: the application speaks another protocol from now on, and the client
// would not know what to do with it.
var errUnasked = errors.New("front: the application switches to a protocol that nobody has asked for")

func asked(req *http.Request, res *http.Response) bool {
	if res.StatusCode != http.StatusSwitchingProtocols {
		return true
	}
	protocol := req.Header.Get("Upgrade")
	return protocol != "" && strings.EqualFold(protocol, res.Header.Get("Upgrade"))
}

type answer struct {
	res *http.Response
	err error
}

// delivery is the application's side of an exchange. It owns the slot from the
// moment of sending, and ends exactly once.
type delivery struct {
	front  *Front
	x      *exchange // only while the client's side goes on
	probe  bool      // nobody draws conclusions here
	slot   *admission.Slot
	body   *body
	began  time.Time
	cancel context.CancelFunc // closes the connection, unless the answer was read to its end

	mu        sync.Mutex
	ended     bool        // mu
	answer    bool        // mu; the application has begun to answer
	leaving   *time.Timer // mu; runs since the client left
	abandoned bool        // mu; leaving has run out, and the connection was closed
}

// abandonQuarantine is how long the slot of an abandoned exchange stays away.
// The connection is closed by then; most applications notice within seconds.
const abandonQuarantine = 5 * time.Second

// leave notes that nobody waits for the answer any more. The application has
// Abandon to end it.
func (d *delivery) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || d.leaving != nil {
		return
	}
	d.leaving = time.AfterFunc(d.front.cfg.Abandon, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.ended {
			d.abandoned = true
			d.cancel()
			d.front.log.Warn("exchange abandoned: the application did not end its answer in time",
				zap.String("upstream", d.slot.Upstream()), zap.Duration("after", time.Since(d.began)))
		}
	})
}

// end gives the slot back. An exchange of which nobody knows whether the
// application has ended it keeps its slot a while longer.
func (d *delivery) end(quarantine time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	d.ended = true
	if d.leaving != nil {
		d.leaving.Stop()
	}
	if d.abandoned {
		quarantine = abandonQuarantine
	}
	d.cancel()
	d.body.release()
	switch {
	case quarantine > 0:
		d.slot.Quarantine(quarantine)
	case d.answer && !d.probe:
		d.slot.Served()
	default:
		d.slot.Release()
	}
}

// failed ends a delivery without an answer and reports whether the application
// was not even reached. Health comes before the slot: the next request must not
// get the slot of an upstream that cannot be reached.
func (d *delivery) failed(err error) (unreached bool) {
	if d.front.cfg.Unreached(err) {
		if !d.probe {
			d.front.health.DialFailed(d.slot.Upstream(), err)
		}
		d.end(0)
		return true
	}
	if !d.probe {
		d.front.health.Failed(d.slot.Upstream())
	}
	d.broken(err)
	return false
}

// broken ends a delivery that an error of the connection has cut off.
func (d *delivery) broken(err error) {
	var ours net.Error
	if errors.As(err, &ours) && ours.Timeout() {
		// The transport has given up, the application perhaps not.
		d.end(d.front.cfg.Abandon)
	} else {
		d.end(0)
	}
}

// heard takes note of the head of an answer, and of what the application says of
// itself in it.
func (d *delivery) heard(res *http.Response) {
	report := takeReport(res.Header)
	dropOurs(res.Header)
	dropOurs(res.Trailer)
	d.slot.Report(report)
	if d.probe {
		return
	}
	d.front.health.Answered(d.slot.Upstream(), res.StatusCode, time.Since(d.began))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = !isStream(res.Header) // how long a stream takes is no cost
}

// timing tells the client where the time went (W3C Server Timing).
func timing(h http.Header, queue, app time.Duration) {
	ms := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64) }
	h.Add("Server-Timing", "queue;dur="+ms(queue)+", app;dur="+ms(app))
}

// answered makes the application's answer fit for the client, whose context ctx
// is. It returns the body, which must be closed, unless the exchange has ended.
func (d *delivery) answered(ctx context.Context, res *http.Response) *answerBody {
	d.heard(res)
	if !d.probe {
		d.x.Service = time.Since(d.began)
		if !d.front.cfg.HideTiming {
			timing(res.Header, d.x.Wait, d.x.Service)
		}
	}
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		// From now on it is a connection, not an exchange. Its body must stay
		// what it is: a ReadWriteCloser.
		d.slot.Release()
		d.body.release()
	case res.Body == http.NoBody:
		d.end(0)
	default:
		// Who copies the answer is stuck in a read while the application
		// thinks, and does not see that the client has left.
		left := d.leave
		if isStream(res.Header) {
			left = d.cancel // it has no end to wait for
		}
		unwatch := context.AfterFunc(ctx, left)
		b := &answerBody{ReadCloser: res.Body, res: res, d: d, left: left, unwatch: unwatch}
		res.Body = b
		return b
	}
	return nil
}

// isStream reports whether an answer has no foreseeable end.
func isStream(h http.Header) bool {
	return strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") ||
		strings.EqualFold(h.Get("X-Accel-Buffering"), "no")
}

// outlive goes on with a delivery whose client has left, until the application
// has ended its answer or Abandon has passed.
func (d *delivery) outlive(answers <-chan answer) {
	d.leave()
	a := <-answers
	switch {
	case a.err != nil:
		d.failed(a.err)
	case a.res.StatusCode == http.StatusSwitchingProtocols:
		a.res.Body.Close()
		d.end(0)
	default:
		d.heard(a.res)
		if isStream(a.res.Header) {
			d.cancel()
		}
		d.drain(a.res.Body)
	}
}

// drain reads an answer that nobody wants to its end.
func (d *delivery) drain(body io.ReadCloser) {
	io.Copy(io.Discard, body)
	body.Close()
	d.end(0)
}

// answerBody gives the slot back when the application's answer has been read to
// its end.
type answerBody struct {
	io.ReadCloser
	res     *http.Response
	d       *delivery
	left    func()      // the client has left
	unwatch func() bool // nobody has to watch the client any more

	mu    sync.Mutex
	ended bool // mu; EOF or error was seen, or Close was called
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.finish() {
		dropOurs(b.res.Trailer) // they are complete now
		b.ReadCloser.Close()
		b.d.broken(err)
	}
	return n, err
}

// Close before the end means that the client has left.
func (b *answerBody) Close() error {
	if b.finish() {
		b.left()
		go b.d.drain(b.ReadCloser) // ends when the application does, or after Abandon
	}
	return nil
}

func (b *answerBody) finish() (first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first = !b.ended
	b.ended = true
	b.unwatch()
	return first
}
