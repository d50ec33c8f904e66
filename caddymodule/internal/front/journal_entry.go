package front

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/portner/portner/caddymodule/internal/journal"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// remoteField is where an entry has the address of its client. Fields that begin
// so come from no client and reach no application.
const remoteField = "Portner-Remote"

// smallBody needs no turn to be kept: that many bytes a client gets anyway.
const smallBody = DefaultBodyMemory

// memoryForKeeping is what longer bodies may take together on their way to the
// disk, each of them twice to four times as much: they are read back from a file,
// made a record, and gathered. A dozen of the longest; a disk is busy with one.
const memoryForKeeping = 64 << 20

// keep appends the write. A long body waits for its turn in memory, and is there
// no longer than it takes; whoever sends it reads it where the client has put it.
func (x *exchange) keep(r *http.Request, p *JournalRoute, j *journal.Journal) (*journal.Live, error) {
	if p.MaxBytes > 0 && x.body.size > p.MaxBytes {
		return nil, journal.ErrFull
	}
	if err := j.Room(x.body.size); err != nil {
		return nil, err
	}
	var released func()
	if x.body.size > smallBody {
		turns := &x.front.cfg.Memory.keeping
		if err := turns.take(r.Context(), x.body.size); err != nil {
			return nil, err
		}
		released = func() { turns.give(x.body.size) }
	}
	write, err := x.writeOf(r, p)
	if err != nil {
		if released != nil {
			released()
		}
		return nil, err
	}
	write.Released = released
	live, err := j.Append(r.Context(), write)
	if err == nil && x.body.file != nil {
		live.Unload()
	}
	return live, err
}

// writeOf is the request as it is kept: with the fields that the application will
// see, those that are made at the door among them, and the whole body.
func (x *exchange) writeOf(r *http.Request, p *JournalRoute) (journal.Write, error) {
	key := r.Header.Get("Idempotency-Key")
	if len(key) > maxKey {
		return journal.Write{}, errLongKey
	}
	x.prepare(r) // the door's own cookie is no part of the client
	if err := x.sendable(r); err != nil {
		return journal.Write{}, err
	}
	body := x.body.mem
	if x.body.file != nil {
		body = make([]byte, x.body.size)
		if _, err := io.ReadFull(x.body.open(), body); err != nil {
			return journal.Write{}, fmt.Errorf("front: journal: %w", err)
		}
	}
	client := x.front.cfg.Journaling.Client(r)
	write := journal.Write{
		Route: x.Template, Lane: x.Template, Client: identity(r.Header, client),
		Method: r.Method, URI: x.targetOf(r), Header: x.fieldsToKeep(r, p, client), Body: body,
		Key: key, MaxAge: p.MaxAge, KeepAnswer: p.KeepAnswers,
	}
	if p.Lane != nil {
		write.Lane = cmp.Or(p.Lane(r), write.Lane)
	}
	return write, nil
}

// sendable finds out whether a request can be sent at all, and be made of its entry.
// Kept without that it would never be delivered, nor would its lane behind it.
func (x *exchange) sendable(r *http.Request) error {
	if _, err := parseTarget(x.targetOf(r)); err != nil {
		return err
	}
	x.compose(r)
	return x.request.Check()
}

// parseTarget reads a target that was kept.
func parseTarget(target string) (*url.URL, error) {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, fmt.Errorf("front: journal: %w: %w", upstream.ErrRequest, err)
	}
	return u, nil
}

// identity is whom a key belongs to, and whose share the bytes count to.
func identity(h http.Header, client string) string {
	sum, shown := sha256.New(), false
	for _, name := range []string{"Authorization", "Cookie"} {
		for _, value := range h[name] {
			if value != "" {
				shown = true
				fmt.Fprintf(sum, "%s %d %s\n", name, len(value), value)
			}
		}
	}
	if !shown {
		return "address " + client
	}
	return "credentials " + hex.EncodeToString(sum.Sum(nil))
}

func (x *exchange) fieldsToKeep(r *http.Request, p *JournalRoute, client string) http.Header {
	kept := http.Header{"Host": {r.Host}, remoteField: {client}}
	for name, values := range r.Header {
		if !x.onward.Drops(name) && name != "Idempotency-Key" && name != "Prefer" && !slices.Contains(p.Omit, name) {
			kept[name] = slices.Clone(values)
		}
	}
	for _, f := range x.onward.made {
		if f.Name != "Te" && f.Name != "Early-Data" {
			kept[f.Name] = append(kept[f.Name], f.Value)
		}
	}
	return kept
}

// attemptOf is the exchange of an entry that is about to be sent.
func (f *Front) attemptOf(e *journal.Entry) *exchange {
	x := &exchange{front: f, journal: true, patience: f.cfg.Journaling.Patience()}
	x.body = noBody
	if len(e.Body) > 0 {
		x.body = &body{mem: e.Body, size: int64(len(e.Body))}
		x.body.refs.Store(1)
	}
	x.Template, x.ask.Route = e.Route, e.Route
	return x
}

// requestOf is the request that an entry was, for its nth attempt. What the door
// had made of the client then is made of it now.
func (f *Front) requestOf(ctx context.Context, x *exchange, e *journal.Entry, attempt int, w http.ResponseWriter) (*http.Request, error) {
	target, err := parseTarget(e.URI)
	if err != nil {
		return nil, err
	}
	h := http.Header(e.Header).Clone()
	if h == nil { // an import's, who may have written it himself
		h = make(http.Header)
	}
	r := &http.Request{
		Method: e.Method, URL: target, RequestURI: e.URI, Host: h.Get("Host"),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: http.NoBody, RemoteAddr: "@", // who sent it is in the fields
	}
	client := h.Get(remoteField)
	h.Del("Host")
	h.Del(remoteField)
	h.Set("Idempotency-Key", cmp.Or(e.Key, e.ID.String()))
	x.onward.made = append(x.onward.room[:0], upstream.Field{Name: attemptField, Value: fmt.Sprint(attempt)})
	for _, name := range madeFields {
		if v := h.Get(name); v != "" {
			x.onward.make(name, v)
		}
	}
	h.Del("Via") // reverseproxy adds its own
	x.trusted = true
	return f.cfg.Journaling.Prepare(r.WithContext(ctx), w, client), nil
}

// attemptField says how often an entry was sent, from 1 on.
const attemptField = "Portner-Attempt"

// madeFields are those of onward.prepare that are kept with an entry.
var madeFields = []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Request-Start", "X-Request-Id", "Via"}
