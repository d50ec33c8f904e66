package front

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/upstream"
)

// send makes one attempt, by the direct way where it can.
func (x *exchange) send(w http.ResponseWriter, r *http.Request, send Sender) error {
	x.effects = x.effectsOf(r)
	if x.kept != nil {
		// Others may wait for the answer: it is read to its end without its client.
		r = r.WithContext(context.WithoutCancel(r.Context()))
		x.kept.sent()
	}
	var err error
	if x.goesDirect(r) {
		err = x.direct(w, r)
	} else {
		err = send(informing{w, x, r}, x.forwarded(r))
	}
	if err == nil {
		err = x.kept.landed()
	}
	return err
}

// informing keeps our fields out of interim answers, which reverseproxy passes on
// as they come, and the answers from clients of HTTP/1.0, who do not know them. The
// final answer may have come before the end of the body.
type informing struct {
	http.ResponseWriter
	x *exchange
	r *http.Request
}

func (i informing) WriteHeader(status int) {
	switch {
	case status >= http.StatusOK:
		i.x.forgo(i.ResponseWriter, i.r, false)
	case !i.r.ProtoAtLeast(1, 1) && status != http.StatusSwitchingProtocols:
		return
	default:
		dropOurs(i.Header())
	}
	i.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (i informing) Unwrap() http.ResponseWriter { return i.ResponseWriter }

// maySendAgain reports whether an attempt that failed may be made once more: it
// has brought not one byte of an answer, to do it twice does no harm, and few do
// so at the moment. In an overload it would be more of what is too much already.
func (x *exchange) maySendAgain(r *http.Request) bool {
	return x.unheard && x.again == 0 && repeatable(r) &&
		!x.front.queue.Overloaded() && x.front.retries.take(&x.again)
}

// repeatable reports whether a request may arrive twice: RFC 9110, section 9.2.2,
// or the client has said how to tell (draft-ietf-httpapi-idempotency-key-header).
func repeatable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return r.Header["Idempotency-Key"] != nil || r.Header["X-Idempotency-Key"] != nil
}

// retryBudget bounds how many requests are sent a second time at once: a fifth of those
// that the application has, or three. More than that is no accident, and would keep alive what it
// comes from (Bronson et al., Metastable Failures in Distributed Systems, 2021).
type retryBudget struct {
	inFlight atomic.Int64 // sent, and not ended by the application
	running  atomic.Int64 // sent a second time
}

func (b *retryBudget) take(again *int) bool {
	if b.running.Add(1) > max(3, b.inFlight.Load()/5) {
		b.running.Add(-1)
		return false
	}
	*again = 1
	return true
}

func (b *retryBudget) give(again int) { b.running.Add(-int64(again)) }

// isStale: the connection was closed while nobody used it, which says nothing of
// the application's health.
func isStale(err error) bool { return errors.Is(err, upstream.ErrStale) }

// fail answers for an application that did not, or hands the error to those who
// answer for errors here.
func (f *Front) fail(w http.ResponseWriter, r *http.Request, x *exchange, err error) error {
	if r.Context().Err() != nil || isBodyFault(err) {
		return f.refuse(w, r, x, err)
	}
	status, word, level := http.StatusBadGateway, errBadAnswer, zap.ErrorLevel
	switch {
	case errors.Is(err, upstream.ErrRequest): // the client's fault, or that of a header_up
		status, word, level = http.StatusBadRequest, upstream.ErrRequest, zap.WarnLevel
	case x.kept.standIn(err):
		return nil
	case isTimeout(err):
		status, word = http.StatusGatewayTimeout, errNoAnswer
	}
	if f.cfg.Error != nil {
		return f.cfg.Error(status, err)
	}
	f.log.Log(level, "exchange failed", zap.Int("status", status), zap.String("upstream", x.Upstream),
		zap.String("method", r.Method), zap.String("template", x.Template), zap.Error(err))
	return f.refuse(w, r, x, word)
}

var (
	errBadAnswer = errors.New("the application gave no answer that can be passed on")
	errNoAnswer  = errors.New("the application gave no answer in time")
)

// timeoutError is a net.Error, so that whoever makes a status of it makes 504.
type timeoutError string

func (e timeoutError) Error() string { return string(e) }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return false }

const (
	errFirstByte = timeoutError("the application sent no answer in time")
	errWhole     = timeoutError("the application did not end its answer in time")
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

func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	x := exchangeOf(req.Context())
	if x == nil || x.slot == nil {
		return nil, errNoSlot
	}
	if err := upstream.CheckFields(req.Header, req.Trailer); err != nil {
		x.failure = err
		return nil, err // nothing was sent; Serve gives the slot back
	}
	if err := req.Context().Err(); err != nil {
		return nil, err // the client left; Serve gives the slot back
	}
	d := x.deliver()
	t.front.cfg.Ready.Clear(d.slot.Upstream(), t.front.cfg.Keeper)
	aborted, abort := context.WithCancel(t.front.cfg.Detach(context.WithoutCancel(req.Context())))
	ctx, end := context.WithCancel(aborted)
	d.line = trip{abort, end}
	out := req.WithContext(ctx)
	address := *req.URL
	out.URL = &address // reverseproxy writes to its own when it tries again
	if req.Body != nil && x.body != nil {
		out.Body = x.body.open()
		out.GetBody = func() (io.ReadCloser, error) { return x.body.open(), nil }
	}
	d.flow = x.flow.goOn()
	answers := make(chan answer, 1)
	go func() { // ends with the round trip, which ends with ctx at the latest, or with the application
		defer func() {
			// Nobody above would catch it here, and all of Caddy would end.
			if p := recover(); p != nil {
				answers <- answer{nil, fmt.Errorf("front: the transport panics: %v\n%s", p, debug.Stack())}
			}
		}()
		res, err := t.next.RoundTrip(out)
		if err == nil { // some transports, as FastCGI's, look at ctx while they dial and not again
			body := res.Body
			context.AfterFunc(aborted, func() { body.Close() })
		}
		answers <- answer{res, err}
	}()

	var late <-chan time.Time
	var timer *time.Timer
	if limit, _ := x.headWithin(); limit > 0 {
		timer = time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	for {
		select {
		case a := <-answers:
			if a.err == nil && !asked(req, a.res) {
				a.res.Body.Close()
				a.err = upstream.ErrUnasked
			}
			if a.err != nil {
				x.unreached, x.failure = d.failed(a.err), cmp.Or(d.flow.broken(), a.err)
				return nil, x.failure
			}
			a.res, x.last, x.failure = x.answered(req.Context(), d, a.res)
			return a.res, x.failure
		case <-req.Context().Done():
			x.failure = d.flow.settled()
			go d.outlive(answers, aborted.Done())
			return nil, cmp.Or(x.failure, req.Context().Err())
		case <-late:
			more, why := x.headWithinStill(d)
			if more > 0 {
				timer.Reset(more)
				continue
			}
			switch {
			case d.flow.giveUp():
				d.hangUp()
				why = d.flow.broken()
			case why == errWhole:
				d.abandon(tooLong)
			}
			go d.outlive(answers, aborted.Done())
			x.failure = why
			return nil, why
		}
	}
}

// asked reports whether the client wanted the protocol that an answer switches to.
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

// timing tells the client where the time went (W3C Server Timing).
func timing(queue, app time.Duration) string {
	b := appendMillis(append(make([]byte, 0, 48), "queue;dur="...), queue)
	return string(appendMillis(append(b, ", app;dur="...), app))
}

// appendMillis writes d in milliseconds with one digit behind the point.
func appendMillis(b []byte, d time.Duration) []byte {
	tenths := int64((max(d, 0) + 50*time.Microsecond) / (100 * time.Microsecond))
	b = strconv.AppendInt(b, tenths/10, 10)
	return append(b, '.', byte('0'+tenths%10))
}

// took notes that the head of the answer has come. It returns the value of
// Server-Timing; empty: there is to be none.
func (x *exchange) took(d *delivery) string {
	if x.probe {
		return ""
	}
	x.Service = d.service
	if x.front.cfg.HideTiming {
		return ""
	}
	text := timing(x.Wait, x.Service)
	if x.kept != nil { // it says nothing to those who get the answer later
		x.kept.timing, text = text, ""
	}
	return text
}

// heardIn is heard for an answer of a round tripper. It reports whether that is a
// stream.
func (d *delivery) heardIn(res *http.Response) (stream bool) {
	stream = streams(res.Header)
	d.effects.apply(res.StatusCode, res.Header)
	d.heard(res.StatusCode, takeReport(res.Header), stream)
	return stream
}

// answered makes the application's answer fit for the client, whose context ctx
// is. It returns what must be closed where the exchange has not ended, or the error
// of an answer that cannot be passed on.
func (x *exchange) answered(ctx context.Context, d *delivery, res *http.Response) (*http.Response, io.Closer, error) {
	stream := d.heardIn(res)
	dropOurs(res.Header)
	dropOurs(res.Trailer)
	x.Status = res.StatusCode
	if text := x.took(d); text != "" {
		res.Header["Server-Timing"] = append(res.Header["Server-Timing"], text)
	}
	handed, err := x.handOver(res, d)
	switch {
	case err != nil:
		return nil, nil, err
	case handed:
		return res, res.Body, nil
	case res.StatusCode == http.StatusSwitchingProtocols:
		// From now on it is a connection, not an exchange. Its body must stay
		// what it is: a ReadWriteCloser.
		d.slot.Release()
		d.body.release()
		d.front.retries.inFlight.Add(-1)
		return res, nil, nil
	case res.Body == http.NoBody:
		d.end(0)
		return res, nil, nil
	case stream || x.probe:
		left := d.leave
		if stream {
			left, ctx = d.hangUp, x.audience(ctx) // it has no end to wait for
		}
		b := &answerBody{ReadCloser: res.Body, res: res, d: d, left: left, unwatch: context.AfterFunc(ctx, left)}
		if stream && x.journal { // others wait for it to end
			limit, unwatch := x.front.wholeTimer(d), b.unwatch
			b.unwatch = func() bool {
				limit.Stop()
				return unwatch()
			}
		}
		res.Body = b
		return res, b, nil
	}
	s := x.front.newSpool(d)
	// The transport writes the trailer into its own answer while the reader of
	// ours looks at the head.
	ours := *res
	ours.Trailer = res.Trailer.Clone()
	ours.Body = &spooled{s, &ours, res}
	unwatch := context.AfterFunc(ctx, d.leave)
	go func() { // ends with the answer, or after Whole, or after Abandon
		limit := x.front.wholeTimer(d)
		err := s.fill(res.Body)
		limit.Stop()
		unwatch()
		res.Body.Close()
		d.broken(err)
		s.end(err)
	}()
	return &ours, s, nil
}

// spooled is the body of an answer that is taken in while it is read. At its end
// the trailer is there.
type spooled struct {
	*spool
	ours, theirs *http.Response
}

func (b *spooled) Read(p []byte) (int, error) {
	n, err := b.spool.Read(p)
	if err == io.EOF {
		dropOurs(b.theirs.Trailer)
		b.ours.Trailer = b.theirs.Trailer
	}
	return n, err
}

// handOver puts the file that an answer names in place of its body.
func (x *exchange) handOver(res *http.Response, d *delivery) (handed bool, err error) {
	file, info, err := x.front.cfg.Files.open(res.Header.Get("X-Sendfile"), res.Header.Get("X-Accel-Redirect"))
	if file == nil && err == nil {
		return false, nil
	}
	d.leave()
	go d.drain(res.Body) // ends with the answer, or after Abandon
	if err != nil {
		return false, err
	}
	for name := range res.Header {
		if handsOver(name) {
			delete(res.Header, name)
		}
	}
	res.Body, res.ContentLength, res.TransferEncoding = file, info.Size(), nil
	res.Header.Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	return true, nil
}

// tooLong is why an exchange is abandoned that takes longer than Whole.
const tooLong = "it takes too long"

// wholeTimer ends an exchange that takes too long.
func (f *Front) wholeTimer(d *delivery) *time.Timer {
	if f.cfg.Whole <= 0 {
		return time.NewTimer(0)
	}
	return time.AfterFunc(f.cfg.Whole-time.Since(d.began), func() { d.abandon(tooLong) })
}

// outlive goes on with a delivery whose client has left, until the application
// has ended its answer or Abandon has passed.
func (d *delivery) outlive(answers <-chan answer, aborted <-chan struct{}) {
	d.leave()
	var a answer
	select {
	case a = <-answers:
	case <-aborted:
		d.end(abandonQuarantine) // for some transports the application decides when it ends
		a = <-answers
	}
	switch {
	case a.err != nil:
		d.failed(a.err)
	case a.res.StatusCode == http.StatusSwitchingProtocols:
		a.res.Body.Close()
		d.end(0)
	default:
		if d.heardIn(a.res) {
			d.hangUp()
		}
		d.drain(a.res.Body)
	}
}

// answerBody is an answer that is passed on while it comes. It gives the slot back
// when it has been read to its end.
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
