package front

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/portner/portner/caddymodule/internal/upstream"
)

// quick is how long the direct way waits, for the head of an answer and again
// for the end of its body, before it makes arrangements for a long wait: somebody
// who watches whether the client leaves, and a buffer that fills while the client
// reads. Most answers of a small application never need them.
const quick = 50 * time.Millisecond

// goesDirect reports whether the request can go the direct way: the operator has
// asked for nothing that it does not know, and the request's body has an end.
func (x *exchange) goesDirect(r *http.Request) bool {
	return x.front.cfg.Direct != nil && x.body != nil && r.Header["Upgrade"] == nil
}

// direct sends the request and copies the answer, on this goroutine. An error
// means that nothing was written.
func (x *exchange) direct(w http.ResponseWriter, r *http.Request) error {
	f := x.front
	x.compose(r)
	d := x.deliver()
	x.last = unended{d} // until it has ended, or somebody else goes on with it
	a, err := f.cfg.Direct.Send(context.Background(), d.slot.Upstream(), &x.request)
	if err == nil {
		d.connected(a)
		if f.queue.Crowded() {
			f.cfg.Direct.Ready(d.slot.Upstream())
		}
		var handed bool
		if handed, err = x.head(w, r, d, a); handed {
			x.last, x.failure = nil, err
			return err
		}
	}
	if err != nil {
		x.failure = err
		x.unheard = isStale(err) || errors.Is(err, upstream.ErrSilent)
		x.unreached = d.failed(err)
		return err
	}
	return x.copyAnswer(w, r, d, a)
}

// compose makes the request as the application sees it.
func (x *exchange) compose(r *http.Request) {
	out := &x.request
	*out = upstream.Request{
		Method: r.Method, Target: x.targetOf(r), Host: r.Host,
		Header: r.Header, Drop: &x.onward, Extra: x.onward.made,
		Length: x.body.size, Fresh: !repeatable(r),
	}
	if x.front.cfg.Amend != nil {
		x.amend(r)
	}
	if out.Host, _, _ = strings.Cut(out.Host, "/"); out.Host == "" { // a socket's path is no host
		out.Host = "localhost" // nor has HTTP/1.0 one; something must stand there
	}
	if x.body.size > 0 {
		out.Body = x.body.open()
	}
	if len(r.Trailer) > 0 {
		dropOurs(r.Trailer)
		out.Length, out.Trailer = -1, r.Trailer
		if out.Body == nil {
			out.Body = http.NoBody
		}
	}
}

// amend lets the operator's own rules for fields have the last word.
func (x *exchange) amend(r *http.Request) {
	copied := new(http.Request)
	*copied = *r
	copied.Header = make(http.Header, len(r.Header)+len(x.onward.made))
	for name, values := range r.Header {
		if !x.onward.Drops(name) {
			copied.Header[name] = slices.Clone(values) // a replacement writes into it
		}
	}
	for _, f := range x.onward.made {
		copied.Header[f.Name] = append(copied.Header[f.Name][:len(copied.Header[f.Name]):len(copied.Header[f.Name])], f.Value)
	}
	x.front.cfg.Amend(copied, x.Upstream)
	x.request.Host = copied.Host
	x.request.Header, x.request.Drop, x.request.Extra = copied.Header, nil, nil
}

// head reads the answer's head, and passes interim ones on. When the application
// is too late for the client, the exchange is handed to somebody else, who waits for
// it; when it is too late at all, nobody does.
func (x *exchange) head(w http.ResponseWriter, r *http.Request, d *delivery, a *upstream.Answer) (handed bool, err error) {
	limit, late := x.headWithin()
	watched := limit > 0 && limit <= quick
	if watched {
		a.SetDeadline(d.began.Add(limit))
	} else {
		a.Within(quick, d.began)
	}
	for a.Status < 200 {
		switch err := a.Head(); {
		case err == nil && a.Status > 100 && a.Status < 200: // 100 was for us
			inform(w, r, a)
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return false, err
		case watched && r.Context().Err() == nil && late == errWhole:
			d.abandon(tooLong)
			return false, late
		case watched:
			d.listen(false)
			go d.outliveDirect(a)
			return true, cmp.Or(r.Context().Err(), late)
		default:
			watched = true
			a.SetDeadline(later(d.began, limit)) // before interrupt
			d.listen(true)
			defer d.listen(false)
			defer context.AfterFunc(r.Context(), d.interrupt)()
		}
	}
	return false, nil
}

// later is the time d after t; never, where there is no d.
func later(t time.Time, d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return t.Add(d)
}

// inform passes an interim answer on, but not to a client of HTTP/1.0, who would take
// it for the answer (RFC 9110, section 15.2). net/http writes the fields that are set,
// so they are set for it alone.
func inform(w http.ResponseWriter, r *http.Request, a *upstream.Answer) {
	if !r.ProtoAtLeast(1, 1) {
		return
	}
	h := w.Header()
	own := maps.Clone(h)
	listed := readNotes(a.Fields).listed
	for _, f := range a.Fields {
		if passes(f.Name, listed) {
			h[f.Name] = append(h[f.Name][:len(h[f.Name]):len(h[f.Name])], f.Value)
		}
	}
	w.WriteHeader(a.Status)
	clear(h)
	maps.Copy(h, own)
}

// outliveDirect goes on with a delivery whose client has been answered, until the
// application has ended its answer or Abandon has passed.
func (d *delivery) outliveDirect(a *upstream.Answer) {
	d.leave()
	a.SetDeadline(time.Time{})
	for a.Status < 200 {
		if err := a.Head(); err != nil {
			d.failed(err)
			return
		}
	}
	if d.heardDirect(a).stream {
		d.hangUp()
	}
	d.exhaust(a)
}

// finishUnread ends a delivery whose answer's body nobody wants.
func (d *delivery) finishUnread(a *upstream.Answer) {
	if a.Ended() {
		d.end(0)
		return
	}
	d.leave()
	go d.exhaust(a) // ends with the answer, or after Abandon
}

// exhaust reads an answer that nobody wants to its end.
func (d *delivery) exhaust(a *upstream.Answer) {
	a.SetDeadline(time.Time{})
	scratch := d.front.cfg.Memory.buffer(0)
	defer d.front.cfg.Memory.release(scratch)
	for {
		if _, err := a.Read(*scratch); err != nil {
			d.broken(err)
			return
		}
	}
}
