package front

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// delivery is the application's side of an exchange. It owns the slot from the
// moment of sending, and ends exactly once.
type delivery struct {
	front *Front
	probe bool // nobody draws conclusions here
	slot  *admission.Slot
	body  *body
	flow  *flow // nil: no body flows
	began time.Time

	service time.Duration // until the answer's head; of the goroutine that reads it

	effects effects

	mu        sync.Mutex
	line      line        // mu; nil: there is no connection
	ended     bool        // mu
	answer    bool        // mu; the application has begun to answer
	heading   bool        // mu; the client waits for the head, and may interrupt who reads it
	leaving   *time.Timer // mu; runs since the client left
	abandoned bool        // mu; leaving has run out, and the connection was closed
}

// line is the connection of one exchange.
type line interface {
	Abort()                 // ends it, from any goroutine
	Part() (rest io.Closer) // gives it back, but for what can be closed later; called once
}

// deliver takes the slot of the exchange over for a round trip that begins now.
func (x *exchange) deliver() *delivery {
	d := &delivery{front: x.front, probe: x.probe, slot: x.slot, body: x.body, began: time.Now(), effects: x.effects}
	x.slot = nil
	d.body.retain()
	d.front.retries.inFlight.Add(1)
	return d
}

// interrupt makes whoever reads the answer's head for a client that has left look
// up.
func (d *delivery) interrupt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a, ok := d.line.(*upstream.Answer); ok && d.heading && !d.ended {
		a.SetDeadline(time.Unix(1, 0))
	}
}

// listen says whether the head is being read for the client. interrupt may run
// after the function that has set it up was told to stop: then it must do nothing.
func (d *delivery) listen(heading bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heading = heading
}

// connected names the connection that the exchange runs on.
func (d *delivery) connected(l line) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.line = l
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
	d.leaving = time.AfterFunc(d.front.cfg.Abandon, func() { d.abandon("its client has left") })
}

// abandon ends an exchange that the application does not end.
func (d *delivery) abandon(why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || d.abandoned {
		return
	}
	d.abandoned = true
	if d.line != nil {
		d.line.Abort()
	}
	d.front.log.Warn("exchange abandoned: the application did not end its answer in time",
		zap.String("upstream", d.slot.Upstream()), zap.Duration("after", time.Since(d.began)), zap.String("reason", why))
}

// hangUp ends an exchange that has no end of its own.
func (d *delivery) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended && d.line != nil {
		d.line.Abort()
	}
}

// end gives the connection and then the slot back: the next request must find the
// one with the other, or an application with a single thread would serve an idle
// connection. An exchange of which nobody knows whether the application has ended
// it keeps its slot a while longer.
func (d *delivery) end(quarantine time.Duration) {
	if rest := d.part(quarantine); rest != nil {
		rest.Close()
	}
}

// part is end, but what can be closed later is left to the caller.
func (d *delivery) part(quarantine time.Duration) (rest io.Closer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return nil
	}
	d.ended = true
	d.front.retries.inFlight.Add(-1)
	if d.leaving != nil {
		d.leaving.Stop()
	}
	if d.abandoned {
		quarantine = abandonQuarantine
	}
	if d.line != nil {
		rest = d.line.Part()
	}
	d.body.release()
	switch {
	case quarantine > 0:
		d.slot.Quarantine(quarantine)
	case d.answer && !d.probe:
		d.slot.Served()
	default:
		d.slot.Release()
	}
	if !d.front.queue.Crowded() {
		d.front.cfg.Ready.Drop(d.slot.Upstream())
	}
	return rest
}

// handOn ends a delivery, and lets who gets its slot begin before this goroutine closes
// the connection and writes to its own client: the application is idle until then.
func (d *delivery) handOn() {
	rest := d.part(0)
	if d.front.queue.Crowded() {
		runtime.Gosched()
	}
	if rest != nil {
		rest.Close()
	}
}

// unended is a delivery of a goroutine that may panic. Whether the application has
// ended it, nobody knows then.
type unended struct{ *delivery }

// Close implements io.Closer. After the end it does nothing.
func (u unended) Close() error {
	u.hangUp()
	u.end(abandonQuarantine)
	return nil
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
	if d.flow.broken() != nil { // the client's fault; an application that waits for more sees the end
		d.end(0)
		return false
	}
	if !d.probe && !isStale(err) && !errors.Is(err, upstream.ErrRequest) {
		d.front.health.Failed(d.slot.Upstream())
	}
	d.broken(err)
	return false
}

// broken ends a delivery that an error of the connection has cut off.
func (d *delivery) broken(err error) {
	if isTimeout(err) && d.flow.broken() == nil {
		d.end(d.front.cfg.Abandon) // we have given up, the application perhaps not
	} else {
		d.end(0)
	}
}

func isTimeout(err error) bool {
	var ours net.Error
	return errors.As(err, &ours) && ours.Timeout()
}

// heard takes note of the head of an answer, and of what the application says of
// itself in it. How long a stream takes is no cost.
func (d *delivery) heard(status int, report admission.Report, stream bool) {
	d.slot.Report(report)
	if d.probe {
		return
	}
	d.service = time.Since(d.began)
	d.front.health.Answered(d.slot.Upstream(), status, d.service)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = !stream
}

// drain reads an answer that nobody wants to its end.
func (d *delivery) drain(body io.ReadCloser) {
	io.Copy(io.Discard, body)
	body.Close()
	d.end(0)
}

// isStream reports whether an answer has no foreseeable end, or must be seen while
// it comes.
func isStream(contentType, buffering, incremental string) bool {
	return strings.HasPrefix(contentType, "text/event-stream") ||
		strings.EqualFold(buffering, "no") || incremental == "?1"
}

func streams(h http.Header) bool {
	return isStream(h.Get("Content-Type"), h.Get("X-Accel-Buffering"), h.Get("Incremental"))
}

// trip is the line of a round trip: it ends with a context, and is aborted with the
// one above that.
type trip struct{ abort, end context.CancelFunc }

func (t trip) Abort() { t.abort() }

func (t trip) Part() io.Closer {
	t.end()
	return nil
}
