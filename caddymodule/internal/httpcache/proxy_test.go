package httpcache

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// proxy is a small honest model of front: it does with a request what the cache
// says, over real HTTP.
type proxy struct {
	cache  *Cache
	policy Policy
	origin string // URL
	client http.RoundTripper
}

func newProxy(t testing.TB, cfg Config, origin http.Handler) (*proxy, *httptest.Server) {
	t.Helper()
	app := httptest.NewServer(origin)
	t.Cleanup(app.Close)
	p := &proxy{cache: mustNew(t, cfg), origin: app.URL, client: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, server
}

func mustNew(t testing.TB, cfg Config) *Cache {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := Request{Key: NewKey("http", r.Host, r.URL.RequestURI()), Method: r.Method, Header: r.Header, Body: r.ContentLength != 0}
	found := p.cache.Lookup(&req, p.policy)
	found, err := p.cache.Follow(r.Context(), &req, p.policy, found)
	if err != nil {
		return
	}
	switch found.Verdict {
	case Hit:
		p.give(w, r, &req, found.Object, found.Note)
	case Stale:
		if found.Flight != nil {
			header := r.Header.Clone()
			go p.fetch(found.Flight, r, header, nil)
		}
		p.give(w, r, &req, found.Object, found.Note)
	case Refuse:
		found.Note.AddTo(w.Header())
		w.WriteHeader(http.StatusGatewayTimeout)
	case Pass:
		p.pass(w, r, &req, found)
	case Fetch:
		p.lead(w, r, &req, found)
	}
}

func (p *proxy) send(r *http.Request, method string, h http.Header, body io.Reader) (*http.Response, error) {
	target, err := url.Parse(p.origin + r.URL.RequestURI())
	if err != nil {
		return nil, err
	}
	out := (&http.Request{Method: method, URL: target, Host: r.Host, Header: h, ContentLength: r.ContentLength}).WithContext(context.WithoutCancel(r.Context()))
	if body != nil {
		out.Body = io.NopCloser(body)
	}
	h.Del("Connection")
	return p.client.RoundTrip(out)
}

func (p *proxy) pass(w http.ResponseWriter, r *http.Request, req *Request, found Found) {
	res, err := p.send(r, r.Method, r.Header.Clone(), r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer res.Body.Close()
	p.cache.Answered(req, res.StatusCode, res.Header)
	p.cache.Invalidate(req.Key, ParseInvalidations(res.Header["Portner-Invalidate"])...)
	p.raw(w, res, found.Note)
}

func (p *proxy) raw(w http.ResponseWriter, res *http.Response, note Note) {
	copyHeader(w.Header(), storedHeader(res.Header, Control{}), 0)
	if age, ok := res.Header["Age"]; ok {
		w.Header()["Age"] = age
	}
	note.AddTo(w.Header())
	w.WriteHeader(res.StatusCode)
	io.Copy(flushing{w}, res.Body)
}

type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	http.NewResponseController(f.w).Flush()
	return n, err
}

func (p *proxy) give(w http.ResponseWriter, r *http.Request, req *Request, o *Object, note Note) {
	a := p.cache.Answer(req, o)
	a.CopyHeader(w.Header(), time.Now())
	note.AddTo(w.Header())
	w.WriteHeader(a.Status)
	if _, err := a.CopyBody(r.Context(), w, func() { http.NewResponseController(w).Flush() }); err != nil {
		panic(http.ErrAbortHandler)
	}
	for name, v := range a.Trailer() {
		w.Header()[http.TrailerPrefix+name] = v
	}
}

// lead fetches on a goroutine of its own; the client is a follower like others.
func (p *proxy) lead(w http.ResponseWriter, r *http.Request, req *Request, found Found) {
	header := r.Header.Clone()
	heads := make(chan head, 1)
	if found.Flight.alone || r.Method == "HEAD" {
		p.fetch(found.Flight, r, header, heads)
	} else {
		go p.fetch(found.Flight, r, header, heads)
	}
	h := <-heads
	switch {
	case h.err != nil && h.got.Object == nil:
		w.WriteHeader(http.StatusBadGateway)
	case h.got.Use == Forward:
		defer h.res.Body.Close()
		p.raw(w, h.res, h.got.Note)
	default:
		p.give(w, r, req, h.got.Object, h.got.Note)
	}
}

type head struct {
	res *http.Response
	got Received
	err error
}

// fetch carries a flight out. It tells of the answer's head, and leaves a body
// that is to be forwarded to whoever asked.
func (p *proxy) fetch(f *Flight, r *http.Request, h http.Header, heads chan<- head) {
	defer f.Done()
	for {
		f.Prepare(h)
		f.Sent()
		res, err := p.send(r, f.Method(), h, nil)
		if err != nil {
			o, note, _ := f.Instead(Unreachable)
			tell(heads, head{nil, Received{Use: Replace, Object: o, Note: note}, err})
			return
		}
		got := f.Receive(res.StatusCode, res.Header)
		if got.Use == Again {
			res.Body.Close()
			continue
		}
		tell(heads, head{res, got, nil})
		if got.Use == Keep {
			if _, err := io.Copy(f, res.Body); err == nil {
				f.End(res.Trailer)
			}
		}
		if got.Use != Forward || heads == nil {
			res.Body.Close()
		}
		return
	}
}

func tell(heads chan<- head, h head) {
	if heads != nil {
		heads <- h
	}
}
