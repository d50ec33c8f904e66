package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// journalRound is one pass over the items, with one fault.
type journalRound struct {
	number int
	fault  fault
	items  []Item
	dir    string
	b      binaries

	site       *site
	gate       *gate
	doing      chan error // what meanwhile does; nil: nothing
	proxy      string     // address
	appAddress string
	caddyfile  string
	took       []time.Duration // of each try
	backlog    []float64       // after each try
	accepted   int
	late       int
	drained    time.Duration // until all were delivered, after the last post
	disorder   int
	found      Findings
}

// journalSite is the repository's site without TLS: what is measured is the
// journal.
const journalSite = `{
	admin unix/%s
	persist_config off
	grace_period 2s
}
http://%s {
	app_proxy %s {
		name news
		concurrency 32
		route POST /post {
			journal {
				answer_within 50ms
				respond 200
				per_client off
			}
		}
		route GET /status {
			respond_status
		}
	}
}
`

func (r *journalRound) run(ctx context.Context, show *progress) (err error) {
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return err
	}
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	r.proxy, r.appAddress = "127.0.0.1:"+ports[0], "127.0.0.1:"+ports[2]
	r.gate = &gate{address: "127.0.0.1:" + ports[1], to: "http://" + r.appAddress}
	r.site = &site{url: "http://" + r.proxy}
	r.caddyfile = filepath.Join(r.dir, "Caddyfile")
	text := fmt.Sprintf(journalSite, filepath.Join(r.dir, "admin.sock"), r.proxy, r.gate.address)
	if err := os.WriteFile(r.caddyfile, []byte(text), 0o600); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, r.settled())
		r.gate.close()
		err = errors.Join(err, r.site.stop())
	}()
	if err := errors.Join(r.startAppFor(ctx), r.startProxy(ctx)); err != nil {
		return err
	}
	if err := r.postAll(ctx, show); err != nil {
		return err
	}
	return r.look(ctx, show)
}

// postAll posts each item until it is accepted: a client that was told nothing
// comes again.
func (r *journalRound) postAll(ctx context.Context, show *progress) error {
	client := newCourseClient(r.site, patience)
	for i, item := range r.items {
		switch i {
		case len(r.items) / 5:
			r.meanwhile(ctx, r.fault.begin)
		case len(r.items) * 3 / 5:
			if err := r.settled(); err != nil {
				return err
			}
			r.meanwhile(ctx, r.fault.end)
		}
		for deadline := time.Now().Add(30 * time.Second); ; {
			o := client.post(ctx, item)
			r.took = append(r.took, o.took)
			if o.late {
				r.late++
			}
			if o.taken() {
				r.accepted++
			}
			r.backlog = append(r.backlog, float64(r.accepted-r.gate.delivered()))
			if o.taken() {
				break
			}
			if time.Now().After(deadline) || ctx.Err() != nil {
				return fmt.Errorf("item %d is not accepted: %+v", item.ID, o)
			}
			time.Sleep(5 * time.Millisecond)
		}
		show.say("round %d, %s: posted %d of %d", r.number, r.fault.name, i+1, len(r.items))
	}
	return r.settled()
}

// meanwhile does something while items are posted, some milliseconds from now, so
// that it meets a post anywhere on its way.
func (r *journalRound) meanwhile(ctx context.Context, do func(*journalRound, context.Context) error) {
	r.doing = make(chan error, 1)
	go func() { // settled waits for it
		time.Sleep(rand.N(10 * time.Millisecond))
		r.doing <- do(r, ctx)
	}()
}

func (r *journalRound) settled() error {
	if r.doing == nil {
		return nil
	}
	defer func() { r.doing = nil }()
	return <-r.doing
}

// look waits for the deliveries, and then looks for each item. What went through
// the gate in which order is the application's own view of it.
func (r *journalRound) look(ctx context.Context, show *progress) error {
	start := time.Now()
	for r.gate.delivered() < len(r.items) && time.Since(start) < 60*time.Second && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	r.drained = time.Since(start)
	got := r.gate.order()
	for i, item := range r.items {
		if i >= len(got) || got[i] != item.ID {
			r.disorder++
		}
	}
	client := r.site.client(10 * time.Second)
	defer client.CloseIdleConnections()
	var err error
	looked := 0
	r.found, err = inspect(ctx, client, r.site.url, r.items, func() {
		looked++
		show.say("round %d, %s: looked at %d of %d", r.number, r.fault.name, looked, len(r.items))
	})
	return err
}

func (r *journalRound) startAppFor(ctx context.Context) (err error) {
	r.site.webapp, err = startProcess(r.dir, "webapp", nil, r.b.webapp, "-listen", r.appAddress, "-db", filepath.Join(r.dir, "news.db"))
	if err != nil {
		return err
	}
	if err := r.site.webapp.await(ctx, func() error { return alive(&http.Client{}, "http://"+r.appAddress) }); err != nil {
		return err
	}
	return r.gate.open()
}

func (r *journalRound) stopAppFor(context.Context) error {
	r.gate.close()
	err := r.site.webapp.stop()
	r.site.webapp = nil
	return err
}

func (r *journalRound) killAppFor(context.Context) error {
	r.gate.close()
	err := r.site.webapp.kill()
	r.site.webapp = nil
	return err
}

func (r *journalRound) startProxy(ctx context.Context) (err error) {
	r.site.caddy, err = startProcess(r.dir, "caddy", []string{"XDG_DATA_HOME=" + r.dir, "XDG_CONFIG_HOME=" + r.dir},
		r.b.caddy, "run", "--config", r.caddyfile, "--adapter", "caddyfile")
	if err != nil {
		return err
	}
	return r.site.caddy.await(ctx, func() error {
		client := r.site.client(2 * time.Second)
		defer client.CloseIdleConnections()
		status, text, err := get(client, r.site.url+"/status")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/status says %d %s", status, text)
		}
		return err
	})
}

// restartProxy kills Caddy, and starts it again at once.
func (r *journalRound) restartProxy(ctx context.Context) error {
	if err := r.site.caddy.kill(); err != nil {
		return err
	}
	return r.startProxy(ctx)
}

func (r *journalRound) killBoth(ctx context.Context) error {
	return errors.Join(r.killAppFor(ctx), r.restartProxy(ctx))
}

// gateMode is what stands before the application.
type gateMode int

const (
	gateOpen   gateMode = iota
	gateSlow            // each write takes gateDelay longer
	gateBroken          // each write is answered 500 and does not arrive
)

const gateDelay = 150 * time.Millisecond

// gate passes requests on to the application, which can be made slow or broken by
// it, and notes which items that has taken.
type gate struct {
	address, to string

	mu     sync.Mutex
	mode   gateMode
	server *http.Server
	ids    []int // taken, in order, each once
}

func (g *gate) set(m gateMode) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mode = m
}

func (g *gate) open() error {
	l, err := net.Listen("tcp", g.address)
	if err != nil {
		return err
	}
	to, err := url.Parse(g.to)
	if err != nil {
		return err
	}
	pass := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to); p.Out.Host = p.In.Host },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // as an application that was killed looks
		},
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, pass) })}
	g.mu.Lock()
	g.server = server
	g.mu.Unlock()
	go server.Serve(l) // ends at close
	return nil
}

// close ends all connections, and nobody can make one.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.server != nil {
		g.server.Close()
		g.server = nil
	}
}

func (g *gate) serve(w http.ResponseWriter, r *http.Request, pass http.Handler) {
	if r.Method != http.MethodPost {
		pass.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var item struct {
		ID int `json:"hanesst_id"`
	}
	json.Unmarshal(body, &item)
	g.mu.Lock()
	m := g.mode
	g.mu.Unlock()
	switch m {
	case gateBroken:
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	case gateSlow:
		time.Sleep(gateDelay)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	seen := &statusOf{ResponseWriter: w}
	pass.ServeHTTP(seen, r)
	if seen.status/100 == 2 {
		g.took(item.ID)
	}
}

func (g *gate) took(id int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Contains(g.ids, id) {
		g.ids = append(g.ids, id)
	}
}

func (g *gate) delivered() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.ids)
}

func (g *gate) order() []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.ids)
}

// statusOf remembers the status of an answer.
type statusOf struct {
	http.ResponseWriter
	status int
}

func (s *statusOf) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}
