package front

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/httpcache"
	"github.com/portner/portner/caddymodule/internal/route"
)

// Caching is what the front knows of the pool's cache.
type Caching struct {
	// Cache is the pool's, nil while it has none. Every write asks for it, in
	// whatever handler: it may change what another one keeps.
	Cache func() *httpcache.Cache
	// All keeps answers of all routes, as their headers say; otherwise those of
	// the routes alone that have a time for it.
	All bool
	// Stale is how long beyond its lifetime an object may stand in for an error.
	Stale time.Duration
	// Way names what the handler changes on the way to the application and back, where
	// others of the pool may change other things: their pages are not each other's.
	Way string
	// Made reports whether the application sees a field of its request in another
	// form than the client has sent it, beside those that front makes itself; nil: none.
	Made func(name string) bool
	// Background makes a request that outlives r, for the same application: it
	// shares nothing with r that anybody changes.
	Background func(w http.ResponseWriter, r *http.Request) *http.Request
}

// errOnlyIfCached: the client wants it from the cache or not at all (RFC 9111
// 5.2.1.7).
var errOnlyIfCached = errors.New("the client wants nothing that is not in the cache")

// lookUp is the cache's part of a request. Either it answers, or it returns the
// writer and the request to go on with: those of a flight where this one leads.
func (x *exchange) lookUp(w http.ResponseWriter, r *http.Request, send Sender) (_ http.ResponseWriter, _ *http.Request, done bool, err error) {
	cache, policy, aside := x.keeps(r)
	if cache == nil {
		return w, r, false, nil
	}
	if aside != "" {
		httpcache.Note{Forward: aside}.AddTo(w.Header())
		return w, r, false, nil
	}
	if r.Header["Cookie"] != nil {
		x.front.cfg.Places.hide(r.Header) // it is between the browser and the door
	}
	req := x.cacheRequest(r)
	found, err := x.follow(r, cache, &req, policy, cache.Lookup(&req, policy))
	if err != nil {
		return w, r, true, x.front.refuse(w, r, x, err)
	}
	return x.use(w, r, cache, req, found, send)
}

// use does what the cache has found to be right for a request.
func (x *exchange) use(w http.ResponseWriter, r *http.Request, cache *httpcache.Cache, req httpcache.Request, found httpcache.Found, send Sender) (_ http.ResponseWriter, _ *http.Request, done bool, err error) {
	switch found.Verdict {
	case httpcache.Hit:
		x.Verdict, x.Cache = "hit", "hit"
		if found.Note.Collapsed {
			x.Verdict, x.Cache = "collapsed", "collapsed"
		}
		return w, r, true, x.give(r.Context(), w, cache.Answer(&req, found.Object), found.Note)
	case httpcache.Stale:
		x.Verdict, x.Cache = "stale", "stale"
		if found.Flight != nil {
			x.refresh(r, cache, found.Flight, send)
		}
		return w, r, true, x.give(r.Context(), w, cache.Answer(&req, found.Object), found.Note)
	case httpcache.Refuse:
		found.Note.AddTo(w.Header())
		return w, r, true, x.front.refuse(w, r, x, errOnlyIfCached)
	case httpcache.Fetch:
		x.Cache = "miss"
		x.kept = newKeeper(x, w, r, cache, req, found)
		x.kept.send = send
		return x.kept, x.kept.prepared(r), false, nil
	}
	x.Cache = "pass"
	found.Note.AddTo(w.Header())
	return w, r, false, nil
}

// keeps is the pool's cache, nil where there is none, and what the route permits.
// aside says in a word of RFC 9211 why the request is not its business; empty: it
// is. What a route permits is for its own paths: an answer under //item/1 is not kept
// as that of /item/{id}.
func (x *exchange) keeps(r *http.Request) (_ *httpcache.Cache, _ httpcache.Policy, aside string) {
	c := &x.front.cfg.Caching
	policy, cache, rt := httpcache.Policy{Stale: c.Stale}, c.get(), x.route
	switch {
	case cache == nil:
		return nil, policy, ""
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return cache, policy, "method"
	case rt == nil || rt.Policy.Cache == 0:
		if !c.All {
			return cache, policy, "bypass"
		}
	case rt.Policy.Cache < 0:
		return cache, policy, "bypass"
	default:
		policy.TTL = rt.Policy.Cache
	}
	if rt != x.front.cfg.Routes.AsSent(r.Method, r.URL.EscapedPath()) {
		return cache, policy, "bypass"
	}
	return cache, policy, ""
}

func (c *Caching) get() *httpcache.Cache {
	if c.Cache == nil {
		return nil
	}
	return c.Cache()
}

// cacheRequest is the request as the cache sees it.
func (x *exchange) cacheRequest(r *http.Request) httpcache.Request {
	x.trusted = x.front.trusts(r)
	return httpcache.Request{
		Key: x.key(r), Method: r.Method, Header: r.Header, Body: x.body != noBody,
		Trusted: x.trusted, Overwrites: true,
	}
}

// key names what the application is asked for, by all that tells it the host and
// the scheme. What a trusted proxy says of the host is what browsers know, and what
// invalidations name; what the request itself says is part of the way, because the
// application may look at either.
func (x *exchange) key(r *http.Request) httpcache.Key {
	scheme, host, way := "http", r.Host, x.front.cfg.Caching.Way
	if r.TLS != nil {
		scheme = "https"
	}
	if x.trusted {
		if s := last(r.Header["X-Forwarded-Proto"], true); s != "" {
			scheme = strings.ToLower(s)
		}
		if h := last(r.Header["X-Forwarded-Host"], true); h != "" && h != host {
			host, way = h, way+" "+host
		}
	}
	key := httpcache.NewKey(scheme, host, x.targetOf(r))
	key.Way = way
	return key
}

// follow waits for another's answer where the cache says so, as long as the client
// itself would wait.
func (x *exchange) follow(r *http.Request, cache *httpcache.Cache, req *httpcache.Request, policy httpcache.Policy, found httpcache.Found) (httpcache.Found, error) {
	if found.Verdict != httpcache.Wait {
		return found, nil
	}
	ctx := r.Context()
	if x.ask.Own > 0 {
		limited, cancel := context.WithTimeout(ctx, x.ask.Own)
		defer cancel()
		ctx = limited
	}
	found, err := cache.Follow(ctx, req, policy, found)
	if errors.Is(err, context.DeadlineExceeded) && r.Context().Err() == nil {
		err = admission.ErrWait
	}
	return found, err
}

// give answers from an object.
func (x *exchange) give(ctx context.Context, w http.ResponseWriter, a httpcache.Answer, note httpcache.Note) error {
	h := w.Header()
	delete(h, "Server")
	a.CopyHeader(h, time.Now())
	note.AddTo(h)
	w.WriteHeader(a.Status)
	flush := func() { http.NewResponseController(w).Flush() }
	_, err := a.CopyBody(ctx, w, flush)
	switch {
	case errors.Is(err, httpcache.ErrIncomplete), errors.Is(err, httpcache.ErrTooSlow):
		flush()
		panic(http.ErrAbortHandler) // it must not look like a whole one
	case err != nil:
		x.Verdict = "left"
		return nil
	}
	if trailer := a.Trailer(); len(trailer) > 0 {
		flush()
		for name, values := range trailer {
			h[http.TrailerPrefix+name] = values
		}
	}
	return nil
}

// refresh carries a flight out for nobody who waits: by way of the queue, in the
// class of robots, whether the client stays or not.
func (x *exchange) refresh(r *http.Request, cache *httpcache.Cache, flight *httpcache.Flight, send Sender) {
	f := x.front
	nobody := nowhere{make(http.Header)}
	out := f.cfg.Caching.Background(nobody, r)
	waiting, cancel := context.WithTimeout(out.Context(), refreshWait)
	out.Body, out.ContentLength = http.NoBody, 0
	b := &exchange{front: f, began: time.Now(), body: noBody, trusted: x.trusted}
	b.Known, b.ask, b.route = f.know(nobody, out, b.began)
	b.Class, b.ask.Class, b.ask.Since, b.ask.Own = route.Robots, route.Robots, time.Time{}, 0
	b.Cache = "refresh"
	b.kept = newKeeper(b, nobody, out, cache, x.cacheRequest(out), httpcache.Found{Flight: flight})
	b.kept.background = true
	go func() { // ends when the queue refuses it, or with its answer
		defer cancel()
		defer f.finish(out, b)
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler { // nobody above would catch it
				f.log.Error("refreshing in the background", zap.Any("panic", p))
			}
		}()
		f.forward(b.kept, b.kept.prepared(out.WithContext(waiting)), b, send)
	}()
}

// refreshWait is how long a refresh waits for its slot. Whoever asks next begins
// another.
const refreshWait = 5 * time.Second

// nowhere is the writer of a request whose client is nobody.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) WriteHeader(int)             {}
func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }
