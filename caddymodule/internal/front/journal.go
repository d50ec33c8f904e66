package front

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/portner/portner/caddymodule/internal/journal"
	"github.com/portner/portner/caddymodule/internal/route"
)

// Journaling is what the front knows of the pool's journal.
type Journaling struct {
	// Journal is the pool's, nil while it has none; nil: this handler keeps no
	// writes.
	Journal func() *journal.Journal
	// Life ends when the pool's journal is closed, and with it the attempts that
	// have not been sent.
	Life func() context.Context
	// Patience ends before that, and with it the attempts that wait to be sent, when
	// another journal waits for those that run.
	Patience func() context.Context
	// Find is what is known of an entry of any journal of this process: who knows its
	// id need not know its pool.
	Find func(id journal.ID) (journal.Status, error)
	// Routes whose writes are kept, by template.
	Routes map[string]*JournalRoute
	// Status routes, by template, are answered at the door: Alive, Update, Down.
	Status map[string]bool

	// Client is the address of who sent a request, for those that show no
	// credentials.
	Client func(r *http.Request) string
	// Prepare makes a request that nobody has sent fit for Send: client is the
	// address of who sent it once, and w takes its answer.
	Prepare func(r *http.Request, w http.ResponseWriter, client string) *http.Request
	// Send is as in Serve, for deliveries.
	Send Sender
}

// JournalRoute says how the writes of a route are kept.
type JournalRoute struct {
	// AnswerWithin is how long the client waits for the application, from the
	// head of its request on. Then it is told that the write was accepted.
	AnswerWithin time.Duration
	// Always tells it so as soon as the write is on disk.
	Always bool
	// Respond is the status of the accept answer, and Body its text. 202 without
	// a text says where the status is.
	Respond int
	Body    string
	// Lane names what keeps its order; nil: the route.
	Lane func(r *http.Request) string
	// MaxAge is when an entry becomes a dead letter; 0: never.
	MaxAge time.Duration
	// KeepAnswers is how long the application's answers are kept.
	KeepAnswers time.Duration
	// Omit are fields, in canonical form, that are not stored, and so do not
	// reach the application.
	Omit []string
	// MaxBytes is the longest body.
	MaxBytes int64
}

// get is the journal, nil where there is none.
func (c *Journaling) get() *journal.Journal {
	if c.Journal == nil {
		return nil
	}
	return c.Journal()
}

// journals is the policy by which a write is kept, nil where it is not. Safe
// methods write nothing (RFC 9110, section 9.2.1).
func (x *exchange) journals(r *http.Request) *JournalRoute {
	if x.route == nil || x.front.cfg.Journaling.Routes == nil {
		return nil
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodConnect:
		return nil
	}
	return x.front.cfg.Journaling.Routes[x.route.Policy.Template]
}

var (
	errNoJournal = errors.New("the journal is not open")
	errLongKey   = errors.New("the Idempotency-Key is too long")
)

// maxKey is how long a client's Idempotency-Key may be, in bytes.
const maxKey = 255

// journalled keeps a write, and then sends it. The client gets the application's
// answer when that is final and comes in time, else the accept answer, and what
// it was told is what happened: of Accept and End exactly one is true.
func (f *Front) journalled(w http.ResponseWriter, r *http.Request, x *exchange, p *JournalRoute) error {
	j := f.cfg.Journaling.get()
	if j == nil {
		return f.refuse(w, r, x, errNoJournal)
	}
	live, err := x.keep(r, p, j)
	if err != nil {
		return f.notKept(w, r, x, err)
	}
	defer live.Accept() // whatever happens now, it is delivered

	until, preferred := x.answerBy(r, p)
	w.Header()["Preference-Applied"] = preferred
	if !x.inTime(until) || !live.Begin() {
		live.Accept()
		return f.accepted(w, r, x, p, live.Entry())
	}
	a := f.tryNow(w, x, live)
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-a.decided:
	case <-timer.C:
	case <-r.Context().Done(): // which cancels nothing
	}
	if live.Accept() {
		return f.accepted(w, r, x, p, live.Entry())
	}
	<-a.decided // it is for the client: End was first
	return a.give(w, r, x)
}

// answerBy is when the client must have been answered, and which of its
// preferences (RFC 7240) made it so.
func (x *exchange) answerBy(r *http.Request, p *JournalRoute) (until time.Time, applied []string) {
	within := p.AnswerWithin
	own := patience(http.Header{"Prefer": r.Header["Prefer"]}, "")
	async := prefersAsync(r.Header["Prefer"])
	switch {
	case p.Always:
		return x.began, nil
	case own == 1:
		within, applied = 0, append(applied, "wait=0")
	case own > 0:
		within = min(own, maxAnswerWithin)
		applied = append(applied, "wait="+strconv.Itoa(int(within.Seconds())))
	case async:
		within = 0
	}
	if async {
		applied = append(applied, "respond-async")
	}
	if within > maxAnswerWithin {
		within = maxAnswerWithin
	}
	return x.began.Add(within), applied
}

// maxAnswerWithin bounds what a client may wish for.
const maxAnswerWithin = time.Minute

func prefersAsync(lines []string) bool {
	for preference := range items(lines) {
		name, _, _ := strings.Cut(preference, ";")
		if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
			return true
		}
	}
	return false
}

// inTime reports whether the application can be expected to be asked before a time.
func (x *exchange) inTime(until time.Time) bool {
	left := time.Until(until)
	if left <= 0 {
		return false
	}
	wait, ready := x.front.queue.Predict(x.ask)
	return ready && wait < left
}

// alive tells the journal of an application that answers others.
func (x *exchange) alive() {
	if x.Status == 0 || x.Status >= 500 || x.journal {
		return
	}
	if j := x.front.cfg.Journaling.get(); j != nil {
		j.Alive()
	}
}

// headWithin is how long the exchange waits for the head of an answer, <= 0: for ever,
// and what has passed then. After errFirstByte the exchange goes on without its client,
// so for an entry that is being worked on there is errWhole alone: no second attempt may
// run beside the first.
func (x *exchange) headWithin() (limit time.Duration, late error) {
	first, whole := x.front.cfg.FirstByte, x.front.cfg.Whole
	if x.journal || first <= 0 || whole > 0 && whole <= first {
		return whole, errWhole
	}
	return first, errFirstByte
}

// headWithinStill is headWithin when that has passed. An application may wait for the
// rest of a body that flows: its time begins with what came of it last.
func (x *exchange) headWithinStill(d *delivery) (limit time.Duration, late error) {
	limit, late = x.headWithin()
	if d.flow == nil || late == errWhole {
		return 0, late
	}
	limit -= time.Since(d.flow.since(d.began))
	if whole := x.front.cfg.Whole; whole > 0 && whole-time.Since(d.began) <= limit {
		return whole - time.Since(d.began), errWhole
	}
	return limit, late
}

// waiting is a context for the exchange while it waits to be sent.
func (x *exchange) waiting(ctx context.Context) (context.Context, func()) {
	if x.patience == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(x.patience, cancel)
	return ctx, func() { stop(); cancel() }
}

// Deliver sends an entry to the application, by way of the queue, in the class of
// the journal. It returns when the exchange has ended, or at the end of ctx.
func (f *Front) Deliver(ctx context.Context, e *journal.Entry, attempt int) journal.Outcome {
	rec := &recorder{header: make(http.Header)}
	x := f.attemptOf(e)
	x.Class, x.ask.Class, x.ask.Wait = route.Journal, route.Journal, deliveryWait
	x.again = 1 // the journal itself comes again, and pauses before it does
	return f.attempt(ctx, x, e, attempt, rec)
}

// deliveryWait is how long a delivery waits in the queue: nobody waits for it, but
// each attempt must end.
const deliveryWait = time.Minute
