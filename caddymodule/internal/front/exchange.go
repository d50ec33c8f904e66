package front

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/route"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// Exchange is one request, its answer, and what happened between, for readers:
// the access log, the histograms, the dashboard.
type Exchange struct {
	Known
	Verdict  string        // how it ended: ok, hit, collapsed, stale, failed, left, or the reason of a refusal
	Upstream string        // who had it last; empty: nobody
	Wait     time.Duration // in the queue
	Service  time.Duration // at the application; 0: not known
	Status   int           // of the application's answer; 0: there was none, or it is not known
	Cache    string        // hit, collapsed, stale, revalidated, miss, pass, refresh; empty: not its business
}

// Shed reports whether admission had no room for the request.
func (x *Exchange) Shed() bool {
	switch x.Verdict {
	case "queue-full", "queue-wait", "queue-shed", "client-excess":
		return true
	}
	return false
}

// exchange belongs to the goroutine that serves the request; a round trip that
// outlives the client takes what it needs with it (see delivery).
type exchange struct {
	Exchange
	front *Front
	began time.Time
	ask   admission.Ask
	route *route.Route    // nil: none
	slot  *admission.Slot // claimed for the next round trip; nil once that took it
	body  *body           // nil: the body streams
	last  io.Closer       // the last answer, where it is not at its end; may be nil

	target  string // path and query as they go on; targetOf has it
	onward  onward // fields of the request as the application sees them
	request upstream.Request

	kept    *keeper // takes the answer in for the cache; nil: it goes by
	effects effects // of the answer on the cache

	patience  context.Context // of an attempt that waits; nil: the request's alone
	journal   bool            // an attempt of the journal's, or a write that it keeps
	probe     bool            // ours, not a client's: its outcome is the caller's to judge
	trusted   bool            // what the client says of who is behind it counts
	unreached bool            // the last round trip made no connection
	forgone   bool            // what is unread of the body, and so the connection
	unheard   bool            // the last round trip brought not one byte of an answer
	failure   error           // of the last round trip
	again     int             // how often it was sent again although it may have arrived
	refused   error           // admission's answer to a try within Send
	flow      *flow           // the body of a conversation; nil: it has none
}

// exchangeKey finds the exchange in a request's context.
type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

func (f *Front) begin(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{front: f, began: time.Now()}
	x.Known, x.ask, x.route = f.know(w, r, x.began)
	return x
}

// finish gives back what no round trip has taken over, and tells the readers.
func (f *Front) finish(r *http.Request, x *exchange) {
	x.end()
	f.retries.give(x.again)
	x.Verdict = cmp.Or(x.Verdict, "failed") // an answer that breaks off is a panic
	if (x.Verdict == "ok" || x.Verdict == "failed") && r.Context().Err() != nil {
		x.Verdict = "left"
	}
	x.alive()
	for _, read := range f.cfg.Readers {
		read(r, x.Exchange)
	}
	if f.cfg.Ended != nil {
		f.cfg.Ended(r, x.began)
	}
}

// end also closes an answer that Send has left open: a handler of the answer may
// have panicked.
func (x *exchange) end() {
	if x.slot != nil {
		x.slot.Release()
	}
	if x.last != nil {
		x.last.Close()
	}
	x.body.release()
}

// came is when the client came first, as far as it can prove it.
func (x *exchange) came() time.Time {
	if !x.ask.Since.IsZero() {
		return x.ask.Since
	}
	return x.began
}

// prepare finds out which fields of the request the application is to see.
func (x *exchange) prepare(r *http.Request) {
	x.trusted = x.front.trusts(r)
	x.onward.prepare(r, x.began, x.trusted)
	if r.Header["Cookie"] != nil {
		x.front.cfg.Places.hide(r.Header)
	}
}

// targetOf is the request's target, made once: with a query it allocates.
func (x *exchange) targetOf(r *http.Request) string {
	if x.target == "" {
		x.target = r.URL.RequestURI()
	}
	return x.target
}

// trusts reports whether to believe what the client says of who is behind it.
func (f *Front) trusts(r *http.Request) bool { return f.cfg.Trusted != nil && f.cfg.Trusted(r) }

// letIn makes the request ready to be sent, and ends the place of one who was
// refused before and is not now.
func (x *exchange) letIn(w http.ResponseWriter, r *http.Request) {
	if x.onward.made == nil {
		x.prepare(r)
	}
	if x.front.cfg.Claimed != nil {
		x.front.cfg.Claimed(r, &x.Exchange)
	}
	if !x.ask.Since.IsZero() {
		if x.kept != nil {
			w = x.kept.w // between this browser and the door
		}
		x.front.cfg.Places.take(w.Header(), r.TLS != nil)
	}
}

// audience is the context of those for whom a stream is, where ctx is that of the
// request that was sent: nobody else waits for its end, as for that of an answer that
// is kept.
func (x *exchange) audience(ctx context.Context) context.Context {
	switch {
	case x.kept == nil:
		return ctx
	case x.kept.background:
		return nobody
	}
	return x.kept.r.Context()
}

// nobody is the context of a client that has left.
var nobody = func() context.Context {
	ctx, leave := context.WithCancel(context.Background())
	leave()
	return ctx
}()

// admit waits for a slot. After a first attempt the request keeps its place.
func (x *exchange) admit(ctx context.Context) error {
	arrived := time.Now()
	slot, err := x.front.queue.Admit(ctx, x.ask)
	if err != nil {
		x.Wait += time.Since(arrived)
		return err
	}
	x.slot, x.unreached, x.unheard, x.failure = slot, false, false, nil
	x.Wait, x.Upstream = slot.Waited(), slot.Upstream()
	if !x.probe {
		x.ask.Again = slot
	}
	return nil
}

// Probe waits for a slot of one upstream, ready or not and ahead of the queue,
// and calls do with a context in which Claim finds it. The timeout starts with
// the slot: waiting for one means that the application is busy, not that it is
// down. Like every request, a probe that is given up keeps its slot until the
// application has answered it.
func (f *Front) Probe(ctx context.Context, key string, timeout time.Duration, do func(context.Context) error) error {
	x := &exchange{front: f, began: time.Now(), probe: true, ask: admission.Ask{Upstream: key}}
	defer x.end()
	if err := x.admit(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, exchangeKey{}, x), timeout)
	defer cancel()
	return do(ctx)
}

// Claim names the upstream that the request in ctx goes to now. It is called
// for every attempt that Send makes: the first finds the slot that Serve waited
// for, others wait for a new one. It reports false when there is none; the
// client is then refused.
func Claim(ctx context.Context) (key string, ok bool) {
	x := exchangeOf(ctx)
	if x == nil || x.refused != nil {
		return "", false
	}
	if x.slot == nil {
		if x.refused = x.admit(ctx); x.refused != nil {
			return "", false
		}
	}
	return x.slot.Upstream(), true
}

// readBody takes the request's body in. Requests whose body is a conversation
// are left alone.
func (x *exchange) readBody(w http.ResponseWriter, r *http.Request) error {
	x.journal = x.journals(r) != nil
	if converses(r) && !x.journal {
		x.flow = x.front.converse(r)
		return nil
	}
	var err error
	x.body, err = x.front.readBody(w, r)
	return err
}

// converses reports whether the application must see the body while it comes:
// websockets over HTTP/2 and 3, gRPC, and what says so itself (draft-ietf-httpbis-
// incremental). An upgrade of HTTP/1.1 begins after its body.
func converses(r *http.Request) bool {
	return r.Method == http.MethodConnect ||
		field(r.Header, "Incremental") == "?1" ||
		strings.HasPrefix(field(r.Header, "Content-Type"), "application/grpc")
}

// tunnels reports whether the client wants a connection to anywhere (RFC 9110
// 9.3.6). CONNECT with a protocol is another thing: a websocket over HTTP/2 or 3,
// which Go shows as a header and as the request's protocol.
func tunnels(r *http.Request) bool {
	return r.Method == http.MethodConnect && strings.HasPrefix(r.Proto, "HTTP/") && r.Header.Get(":protocol") == ""
}

// forwarded is the request as it goes on by a round tripper: with the whole body,
// whose length is known now, and without the headers that are ours alone.
func (x *exchange) forwarded(r *http.Request) *http.Request {
	dropOurs(r.Header)
	dropOurs(r.Trailer)
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	r.Header = r.Header.Clone()
	x.onward.apply(r)
	if x.body != nil {
		r.Body = x.body.open()
		r.ContentLength = x.body.size
		r.TransferEncoding = nil
	}
	return r
}
