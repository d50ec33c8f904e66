package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// gateMode is what stands before the application.
type gateMode int

const (
	gateOpen   gateMode = iota
	gateSlow            // each write takes gateDelay longer
	gateBroken          // each write is answered 500 and does not arrive
	gatePart            // every fifth item is answered 500, the others arrive
	gatePoison          // one item is answered 500
)

const gateDelay = 150 * time.Millisecond

// A gate passes requests on to the application, which can be made slow or broken
// by it. It counts the items that the application has taken.
type gate struct {
	address, to string
	poison      int // id

	mu     sync.Mutex
	mode   gateMode
	server *http.Server
	ids    map[int]bool // taken
	again  int          // taken before
}

func newGate(address, to string) *gate {
	return &gate{address: address, to: "http://" + to, ids: make(map[int]bool)}
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
	if g.refuses(item.ID) {
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	seen := &statusOf{ResponseWriter: w}
	pass.ServeHTTP(seen, r)
	if seen.status/100 == 2 {
		g.took(item.ID)
	}
}

// refuses reports whether an item is answered 500, and holds it up where all are
// slow.
func (g *gate) refuses(id int) bool {
	g.mu.Lock()
	mode := g.mode
	g.mu.Unlock()
	if mode == gateSlow {
		time.Sleep(gateDelay)
	}
	return mode == gateBroken || mode == gatePart && id%5 == 0 || mode == gatePoison && id == g.poison
}

func (g *gate) took(id int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ids[id] {
		g.again++
	}
	g.ids[id] = true
}

func (g *gate) delivered() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.ids)
}

// repeated is how often the application was given an item that it had.
func (g *gate) repeated() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.again
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
