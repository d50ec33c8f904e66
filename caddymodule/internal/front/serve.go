// Package front is the life of one request, from its head to the answer's end.
//
// It introduces the chapters to each other: admission says when and where a
// request may go, upstream learns what became of it. It knows net/http and not
// Caddy: what it needs of Caddy are functions in Config.
//
// Always: a slot is taken before anything is sent and given back when the
// application has ended its answer, whoever has left meanwhile; the client of a
// refused request is told when to come back; what may have reached the application
// is sent once more at the most, where not one byte came back, it may be repeated, and
// few others are (see maySendAgain).
//
// Safe for concurrent use.
package front

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/route"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// Config is one handler's part: what it knows of Caddy, and its numbers.
type Config struct {
	// Detach gives a context with the same values that shares nothing mutable
	// with the request's, for exchanges that outlive their client.
	Detach func(ctx context.Context) context.Context
	// Unreached reports whether an error of the round tripper means that no
	// connection was made, so that nothing can have reached the application.
	Unreached func(err error) bool
	// Caching is the pool's cache; the zero value: there is none.
	Caching Caching
	// Routes are the configured ones; nil: none. Templates, of the pool, name the
	// others.
	Routes    *route.Table
	Templates *route.Templates
	// Weights of all classes there are.
	Weights route.Weights
	// Client names whom the request is charged to; nil: all are one.
	Client func(r *http.Request) string
	// DeadlineHeader is a request header in which clients say how long they
	// wait; empty: none.
	DeadlineHeader string
	// Places of the pool, for browsers that were refused.
	Places *Places
	// HideTiming leaves Server-Timing out of answers.
	HideTiming bool
	// Readers are told of every exchange when its client's side has ended.
	Readers []func(r *http.Request, x Exchange)

	// Choose is the request's own choice among upstreams; nil: the least used.
	Choose func(w http.ResponseWriter, r *http.Request) func(candidates []string) string
	// Sticky: Choose chooses once, at arrival. See admission.Ask.
	Sticky bool

	// BodyMemory is the part of a request body that is kept in memory; what is
	// longer goes to a temporary file. Default 64 KiB: most forms and JSON.
	BodyMemory int64
	// BodyMax is the longest request body in bytes; a longer one gets 413.
	// Default 10 MiB.
	BodyMax int64
	// MinRate is how many bytes of a request's body must come in a second, taken
	// over each MinRateOver; whose body comes more slowly gets 408. Default 500 over
	// 20s; negative: as slowly as it likes.
	MinRate     int64
	MinRateOver time.Duration
	// AnswerMemory is how much of an answer is kept in memory while its client
	// takes it; what is more goes to a temporary file. Default 1 MiB.
	AnswerMemory int64
	// AnswerMax is how much of an answer is kept at all; then the application has
	// to wait for the client. Default 1 GiB; negative: unlimited.
	AnswerMax int64
	// Memory bounds the buffers of everybody who shares it: bodies of requests and
	// of answers. Default: one of its own.
	Memory *Budget

	// Journaling of this handler's writes.
	Journaling Journaling

	// Files are those that the application may hand over by name; nil: none.
	Files *Files

	// Direct sends plain requests; nil: all go by Send.
	Direct *upstream.Direct
	// Ready of the pool: connections for the requests that wait.
	Ready *upstream.Ready
	// Keeper is the round tripper as one who keeps connections; nil: it keeps none.
	Keeper *upstream.Keeper
	// Trusted reports whether to believe what a client says of who is behind it;
	// nil: never.
	Trusted func(r *http.Request) bool
	// Amend changes a copy of the request that goes to an upstream by the direct
	// way, and AmendAnswer the answer's fields; nil: nothing to change.
	Amend       func(r *http.Request, upstream string)
	AmendAnswer func(r *http.Request, h http.Header, status int)
	// Error makes an error that is answered by somebody above, for an application
	// that gave no answer; nil: the answer is ours.
	Error func(status int, err error) error
	// Converse is called with the context of a request whose body is a conversation,
	// and what it returns when that has ended: its client may be silent for as long as
	// it likes. Either may be nil: nobody watches it.
	Converse func(ctx context.Context) (end func())
	// Unwatch is called with the context of a request whose body is taken in, and what
	// it returns when that is here: MinRate alone says how slowly it may come. Either
	// may be nil: nobody else has a say.
	Unwatch func(ctx context.Context) (end func())
	// Beneath is a request's body without those that bound it, and its connection. It,
	// and either of them, may be nil: it is not known.
	Beneath func(ctx context.Context) (body io.Reader, conn net.Conn)
	// Ended is called when a request has ended, before what is left of its answer is
	// written; nil: nobody has to be told.
	Ended func(r *http.Request, began time.Time)
	// Claimed, when not nil, is called when a request has its slot. The exchange
	// is the request's: it may be read while that is served, by its goroutine.
	Claimed func(r *http.Request, x *Exchange)

	// FirstByte is how long a client waits for the head of the application's
	// answer before it gets 504. It begins with what came last of a body that flows;
	// where the application waits for more of that, it is 408. Default 60s; negative:
	// as long as it likes.
	FirstByte time.Duration
	// Whole is how long an exchange may take that is no stream. Then its
	// connection is closed. Default 10m; negative: for ever.
	Whole time.Duration
	// Hold is how long admission keeps requests while no upstream is ready, where
	// that is longer than tryFor.
	Hold time.Duration
	// Abandon is how long an exchange may go on after its client has left or
	// was answered. Then its connection is closed. Default 60s.
	Abandon time.Duration
}

// Defaults of Config, in one place for everybody who must know them.
const (
	DefaultBodyMemory = 64 << 10
	DefaultBodyMax    = 10 << 20
	DefaultMinRate    = 500 // what a modem has, and Apache's number
	DefaultRateOver   = 20 * time.Second
	DefaultAbandon    = 60 * time.Second
	DefaultFirstByte  = 60 * time.Second
	DefaultWhole      = 10 * time.Minute

	DefaultAnswerMemory = 1 << 20
	DefaultAnswerMax    = 1 << 30
)

// Front serves the requests of one handler.
type Front struct {
	queue  *admission.Queue
	health *upstream.Monitor
	cfg    Config
	log    *zap.Logger

	retries retryBudget
}

// New makes a front over a pool's queue and monitor.
func New(queue *admission.Queue, health *upstream.Monitor, cfg Config, log *zap.Logger) *Front {
	cfg.BodyMemory = cmp.Or(cfg.BodyMemory, DefaultBodyMemory)
	cfg.BodyMax = cmp.Or(cfg.BodyMax, DefaultBodyMax)
	cfg.MinRate = cmp.Or(cfg.MinRate, DefaultMinRate)
	cfg.MinRateOver = cmp.Or(cfg.MinRateOver, DefaultRateOver)
	cfg.AnswerMemory = cmp.Or(cfg.AnswerMemory, DefaultAnswerMemory)
	cfg.AnswerMax = cmp.Or(cfg.AnswerMax, DefaultAnswerMax)
	cfg.FirstByte = cmp.Or(cfg.FirstByte, DefaultFirstByte)
	cfg.Whole = cmp.Or(cfg.Whole, DefaultWhole)
	cfg.Abandon = cmp.Or(cfg.Abandon, DefaultAbandon)
	cfg.Memory = cmp.Or(cfg.Memory, new(Budget))
	cfg.Ready = cmp.Or(cfg.Ready, new(upstream.Ready))
	return &Front{queue: queue, health: health, cfg: cfg, log: log}
}

// Sender forwards a request to the upstream that Claim names, by a round
// tripper made by Front.RoundTripper, and writes the answer. An error means
// that nothing was written.
type Sender func(w http.ResponseWriter, r *http.Request) error

// Serve is the whole life of a request, in order. Every step either answers
// and returns, or takes something that the deferred call gives back. An error
// means that nothing was written yet.
func (f *Front) Serve(w http.ResponseWriter, r *http.Request, send Sender) error {
	x := f.begin(w, r)   // what happened, and how long each step took
	defer x.linger(w, r) // when all that others wait for is back
	defer f.finish(r, x)
	if err := guard(w, r); err != nil {
		return f.refuse(w, r, x, err)
	}

	// What the door says of itself, and of the writes that it keeps.
	if done, err := f.answersItself(w, r, x); done {
		return err
	}

	// 1 Body. It is read to its end before the request waits for anything: a
	// slow upload holds no slot, the request can be sent again, and only now
	// does net/http notice a client that leaves.
	if err := x.readBody(w, r); err != nil {
		return f.refuse(w, r, x, err)
	}

	// 2 Cache. A fresh object never waits for a slot. Of several requests that
	// miss on one key, one leads and goes on: its writer takes the answer in.
	// The others wait here for it, and go on by themselves when it brings nothing
	// that they may share.
	w, r, done, err := x.lookUp(w, r, send)
	if done {
		return err
	}

	// 3 Journal. A write is on disk before it waits for anything. If the answer is
	// late the client gets the accept answer, and delivery goes on without it.
	if p := x.journals(r); p != nil {
		return f.journalled(w, r, x, p)
	}
	return f.forward(w, r, x, send)
}

// forward gets the application's answer to a request, and answers with it.
func (f *Front) forward(w http.ResponseWriter, r *http.Request, x *exchange, send Sender) error {
	defer x.kept.close()
	for failing := (time.Time{}); ; {
		// 4 Admission. Wait for a slot, which names its upstream, or be refused.
		ctx, stop := x.waiting(r.Context())
		err := x.admit(ctx)
		stop()
		if err == nil && x.kept.behind() { // granted before it could leave the queue
			x.slot.Release()
			x.slot, err = nil, context.Canceled
		}
		if err != nil {
			return f.refuse(w, r, x, err)
		}

		// 5 Send and copy the answer. The round trip takes the slot over and
		// gives it back at the answer's end.
		x.letIn(w, r)
		err = x.send(w, r, send)
		if err == nil {
			x.Verdict = cmp.Or(x.Verdict, "ok")
			return nil
		}

		// 6 Nobody there? Then nothing was sent, and the request goes back to
		// its place in the queue, for another upstream or a better moment.
		switch {
		case x.refused != nil:
			return f.refuse(w, r, x, x.refused)
		case x.unreached && failing.IsZero():
			failing = time.Now()
		case x.unreached && time.Since(failing) >= max(tryFor, f.cfg.Hold):
			return f.refuse(w, r, x, admission.ErrHeld)
		case x.unreached, err == errAgain:
		case x.maySendAgain(r):
		case x.failure != nil:
			return f.fail(w, r, x, x.failure)
		default:
			return err
		}
	}
}

// tryFor bounds the attempts to reach an upstream where admission does not: a
// quarantine that ends by time alone lets a request through every so often.
const tryFor = time.Minute

// StatusClientClosedRequest is what the access log says of a client that left
// before it was answered; nobody receives it.
const StatusClientClosedRequest = 499
