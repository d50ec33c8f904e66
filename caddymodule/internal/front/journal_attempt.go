package front

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/journal"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// attempt sends an entry once, and says what came of it. The exchange is over
// when it returns, or ctx is.
func (f *Front) attempt(ctx context.Context, x *exchange, e *journal.Entry, n int, rec *recorder) (o journal.Outcome) {
	x.began, rec.x = time.Now(), x
	spent := x.again
	defer func() {
		f.retries.give(x.again - spent)
		x.end()
	}()
	err := rec.run(func() error {
		r, err := f.requestOf(ctx, x, e, n, rec)
		if err != nil {
			x.failure = err
			return err
		}
		if f.cfg.Choose != nil {
			x.ask.Choose, x.ask.Sticky = f.cfg.Choose(rec, r), f.cfg.Sticky
		}
		return f.forward(rec, r, x, f.cfg.Journaling.Send)
	})
	if err != nil {
		f.log.Info("attempt without an answer", zap.Stringer("entry", e.ID), zap.Int("attempt", n), zap.Error(err))
	}
	switch {
	case x.unsendable():
		return journal.Outcome{Kind: journal.Unsendable}
	case err != nil:
		return journal.Outcome{}
	}
	return rec.outcome()
}

// unsendable reports whether the attempt failed on the request itself, and the next
// one would again. A body is another matter: the journal has a copy of its own.
func (x *exchange) unsendable() bool {
	return x.Status == 0 && errors.Is(x.failure, upstream.ErrRequest) && !errors.Is(x.failure, upstream.ErrBody)
}

// recorder takes the answer to an entry in: what is kept of it, and, while its
// client waits and it is longer than that, for the client.
type recorder struct {
	x      *exchange
	header http.Header
	status int
	body   []byte
	cut    bool

	take func(journal.Outcome) http.ResponseWriter // asks for the client, once; nil: there is none
	to   http.ResponseWriter                       // the client; nil: not yet, or not
}

func (rec *recorder) Header() http.Header { return rec.header }

func (rec *recorder) WriteHeader(status int) {
	if status >= 200 && rec.status == 0 { // interim ones have nobody who reads them
		rec.status = status
	}
}

func (rec *recorder) Write(p []byte) (int, error) {
	rec.WriteHeader(http.StatusOK)
	switch {
	case rec.to != nil:
		return rec.to.Write(p)
	case rec.cut:
		return len(p), nil
	case len(rec.body)+len(p) <= journal.MaxAnswer:
		rec.body = append(rec.body, p...)
		return len(p), nil
	}
	return rec.overflow(p)
}

// overflow is reached by an answer that is too long to be kept. Its head has said
// already what it means, so the client can have it as it comes.
func (rec *recorder) overflow(p []byte) (int, error) {
	rec.cut = true
	if o := rec.outcome(); rec.take != nil && o.Kind.Final() {
		rec.to = rec.take(o)
	}
	begun := rec.body
	rec.body = nil
	if rec.to == nil {
		return len(p), nil
	}
	copyFields(rec.to.Header(), rec.header)
	rec.to.WriteHeader(rec.status)
	if _, err := rec.to.Write(begun); err != nil {
		return 0, err
	}
	return rec.to.Write(p)
}

// FlushError implements what http.ResponseController asks for.
func (rec *recorder) FlushError() error {
	if rec.to == nil {
		return nil
	}
	return http.NewResponseController(rec.to).Flush()
}

// run calls f, and makes an error of the panic by which an answer breaks off.
func (rec *recorder) run(f func() error) (err error) {
	defer func() {
		switch p := recover(); {
		case p == nil:
		case p == http.ErrAbortHandler:
			err = http.ErrAbortHandler
		default: // nobody above would catch it here, and all of Caddy would end
			err = fmt.Errorf("front: journal: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// outcome is what the answer means. It is judged by what the application said;
// what the door made up itself is none.
func (rec *recorder) outcome() journal.Outcome {
	o := journal.Outcome{Kind: journal.Judge(rec.x.Status)}
	if rec.x.Status == 0 {
		return o
	}
	if !o.Kind.Final() {
		if n, err := strconv.Atoi(rec.header.Get("Retry-After")); err == nil && n > 0 && n < 1e6 {
			o.After = time.Duration(n) * time.Second
		}
	}
	o.Answer = &journal.Answer{Status: rec.status, Header: make(map[string][]string), Body: rec.body, Cut: rec.cut}
	copyFields(o.Answer.Header, rec.header)
	return o
}

func copyFields(to, from http.Header) {
	for name, values := range from {
		if !strings.HasPrefix(name, http.TrailerPrefix) && name != "Trailer" {
			to[name] = values
		}
	}
}

// tryout is the attempt of an entry's own request.
type tryout struct {
	x       *exchange
	rec     *recorder
	decided chan struct{} // closed when mine is known
	done    chan struct{} // closed at the end of the answer
	mine    bool          // the answer is the client's
	err     error         // how an answer that is passed on ended
}

// tryNow sends an entry for the client that waits for it. It goes on when that
// leaves, and ends with the exchange.
func (f *Front) tryNow(w http.ResponseWriter, x *exchange, live *journal.Live) *tryout {
	b := f.attemptOf(live.Entry())
	if x.body.file != nil {
		x.body.retain() // until b.end
		b.body = x.body
	}
	b.Class, b.ask = x.Class, x.ask
	b.ask.Own, b.ask.Since = 0, time.Time{} // it goes on without the client,
	b.ask.Choose, b.ask.Sticky = nil, false // whose writer is not for others
	a := &tryout{x: b, decided: make(chan struct{}), done: make(chan struct{}), rec: &recorder{header: make(http.Header)}}
	over := false
	end := func(o journal.Outcome) {
		if over {
			return
		}
		over = true
		a.mine = live.End(o)
		close(a.decided)
	}
	a.rec.take = func(o journal.Outcome) http.ResponseWriter {
		if end(o); a.mine {
			return w
		}
		return nil
	}
	go func() { // ends with the exchange, which Whole and Abandon bound, or with the journal
		defer close(a.done)
		ctx, cancel := context.WithCancel(f.cfg.Journaling.Life())
		defer cancel()
		live.OnDrop(cancel)
		o := f.attempt(ctx, b, live.Entry(), 1, a.rec)
		if over && o.Answer == nil {
			a.err = http.ErrAbortHandler
		}
		end(o)
	}()
	return a
}

// give gives the application's answer to the client, or says why there is none.
func (a *tryout) give(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if a.rec.cut {
		<-a.done // it is written meanwhile
	}
	x.Upstream, x.Wait, x.Service, x.Status, x.Verdict = a.x.Upstream, a.x.Wait, a.x.Service, a.x.Status, "ok"
	if a.err != nil {
		x.Verdict = "failed"
		panic(a.err)
	}
	if a.x.unsendable() {
		return x.front.fail(w, r, x, a.x.failure)
	}
	if a.rec.cut {
		return nil
	}
	delete(w.Header(), "Server")
	copyFields(w.Header(), a.rec.header)
	w.WriteHeader(a.rec.status)
	w.Write(a.rec.body)
	return nil
}
