package caddymodule_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/portner/portner/caddymodule"
)

func TestMain(m *testing.M) {
	// Caddy keeps certificates and its last config below these folders.
	dir, err := os.MkdirTemp("", "portner-test-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv("XDG_DATA_HOME", dir)
	os.Setenv("XDG_CONFIG_HOME", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// door is a running Caddy in this process with one site.
type door struct {
	t    *testing.T
	addr string
	url  string

	options string // global ones, for the configs to come
}

// open starts Caddy with a site that has the given directives. There is one
// Caddy a process, so tests that open a door cannot be parallel.
func open(t *testing.T, directives string) *door {
	t.Helper()
	d := &door{t: t, addr: freeAddr(t)}
	d.url = "http://" + d.addr
	d.load(directives)
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping Caddy: %v", err)
		}
	})
	return d
}

// load replaces the config, as `caddy reload` does.
func (d *door) load(directives string) {
	d.t.Helper()
	if err := caddy.Load(d.config(directives), true); err != nil {
		d.t.Fatalf("loading config: %v", err)
	}
}

func (d *door) config(directives string) []byte {
	d.t.Helper()
	text := fmt.Sprintf(`{
	admin off
	persist_config off
	grace_period 50ms
	log {
		level ERROR
	}
	%s
}
http://%s {
	%s
}
`, d.options, d.addr, directives)
	cfg, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		d.t.Fatalf("adapting: %v\n%s", err, text)
	}
	return cfg
}

// get asks for a path on a connection of its own.
func (d *door) get(path string) (status int, body string) {
	d.t.Helper()
	res, err := d.do(d.t.Context(), http.MethodGet, path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func (d *door) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, body)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// client makes a connection for every request and follows nothing.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// given are the addresses that freeAddr has given.
var given sync.Map

// freeAddr is a loopback address on which nobody listens, and another one each time:
// of two servers of this process at one address either would get requests of both.
func freeAddr(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		if _, before := given.LoadOrStore(addr, true); !before {
			return addr
		}
	}
}

// app is an application that counts by itself how many requests it has.
type app struct {
	*httptest.Server
	addr     string
	inFlight atomic.Int32
	most     atomic.Int32
	served   atomic.Int32
}

// newApp starts an application. Health checks and the like count as requests.
func newApp(t *testing.T, h http.HandlerFunc) *app {
	a := &app{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := a.inFlight.Add(1)
		for {
			most := a.most.Load()
			if n <= most || a.most.CompareAndSwap(most, n) {
				break
			}
		}
		defer a.inFlight.Add(-1)
		a.served.Add(1)
		h(w, r)
	}))
	a.addr = a.Listener.Addr().String()
	t.Cleanup(func() {
		a.CloseClientConnections()
		a.Close()
	})
	return a
}

// overH2C speaks HTTP/2 without TLS.
func overH2C(t *testing.T) *http.Transport {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// eventually waits for a condition that another goroutine brings about, and
// fails after a time that no machine needs.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// problem reads an RFC 9457 body.
func problem(t *testing.T, res *http.Response) (p struct {
	Status     int
	Reason     string
	RetryAfter int `json:"retry_after"`
}) {
	t.Helper()
	defer res.Body.Close()
	if ct := res.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("status %d with content type %q", res.StatusCode, ct)
	}
	if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	if p.Status != res.StatusCode {
		t.Errorf("the body says %d, the head %d", p.Status, res.StatusCode)
	}
	return p
}

func TestPlainLineIsAGoodFrontDoor(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s for %s via %s", r.Method, r.URL, r.Header.Get("X-Forwarded-For"), r.Header.Get("Via"))
	})
	d := open(t, "app_proxy "+a.addr)
	if status, body := d.get("/x?y=z"); status != 200 || body != "GET /x?y=z for 127.0.0.1 via 1.1 Caddy" {
		t.Fatalf("%d %q", status, body)
	}
}

func TestOverTheBoundIs503WithRetryAfter(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		<-leave
	})
	d := open(t, "app_proxy "+a.addr+` {
		concurrency 1
		queue {
			wait  0
			depth 1
		}
	}`)
	done := make(chan int)
	go func() {
		status, _ := d.get("/")
		done <- status
	}()
	<-entered
	res, err := d.do(t.Context(), "GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	p := problem(t, res)
	if p.Status != 503 || p.Reason != "queue-wait" || p.RetryAfter < 1 {
		t.Errorf("refusal %+v", p)
	}
	if ra := res.Header.Get("Retry-After"); ra != fmt.Sprint(p.RetryAfter) {
		t.Errorf("Retry-After %q, body says %d", ra, p.RetryAfter)
	}
	if cc := res.Header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control %q", cc)
	}
	close(leave)
	if status := <-done; status != 200 {
		t.Errorf("the first request: %d", status)
	}
}

func TestUnreachableApplicationIs503AfterHold(t *testing.T) {
	d := open(t, "app_proxy "+freeAddr(t)+` {
		hold 300ms
	}`)
	res, err := d.do(t.Context(), "GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := problem(t, res); p.Status != 503 || p.Reason != "held" {
		t.Fatalf("%+v, want 503 held and never 502", p)
	}
}

func TestRequestWaitsForAnApplicationThatStarts(t *testing.T) {
	addr := freeAddr(t)
	d := open(t, "app_proxy "+addr+` {
		name late
	}`)
	done := make(chan int)
	go func() {
		status, _ := d.get("/")
		done <- status
	}()
	eventually(t, "the pool is held and the request waits", func() bool {
		p := poolOf(t, "late")
		return p.Held && p.Waiting == 1
	})
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.NotFoundHandler()}
	go srv.Serve(l)
	defer srv.Close()
	if status := <-done; status != 404 {
		t.Fatalf("got %d, want the application's own 404", status)
	}
}

func TestSlotIsKeptWhenTheClientLeavesAndUntilTheAnswerEnds(t *testing.T) {
	entered, leave := make(chan string, 10), make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- r.URL.Path
		switch r.URL.Path {
		case "/head":
			<-leave
		case "/body":
			w.Write([]byte(strings.Repeat("begun ", 1000)))
			http.NewResponseController(w).Flush()
			<-leave
		}
	})
	for _, after := range []string{"head", "body"} {
		t.Run("left before the "+after, func(t *testing.T) {
			d := open(t, "app_proxy "+a.addr+` {
				name        exact
				concurrency 1
			}`)
			ctx, cancel := context.WithCancel(t.Context())
			left := make(chan error)
			go func() {
				res, err := d.do(ctx, "POST", "/"+after, strings.NewReader("x"))
				if err == nil && after == "body" {
					cancel()
					_, err = io.ReadAll(res.Body)
				}
				left <- err
			}()
			<-entered
			if after == "head" {
				cancel()
			}
			if err := <-left; err == nil {
				t.Fatal("the client did not leave")
			}
			next := make(chan int)
			go func() {
				status, _ := d.get("/next")
				next <- status
			}()
			eventually(t, "the next request waits", func() bool { return poolOf(t, "exact").Waiting == 1 })
			select {
			case path := <-entered:
				t.Fatalf("%s was sent beside an exchange that had not ended", path)
			default:
			}
			leave <- true
			if status := <-next; status != 200 {
				t.Fatalf("next: %d", status)
			}
			if path := <-entered; path != "/next" {
				t.Fatalf("got %s", path)
			}
		})
	}
	if most := a.most.Load(); most != 1 {
		t.Errorf("%d requests at once", most)
	}
}

func TestWhoLeavesWhileWaitingIsNeverSent(t *testing.T) {
	entered, leave := make(chan string, 10), make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- r.URL.Path
		<-leave
	})
	d := open(t, "app_proxy "+a.addr+` {
		name        dropped
		concurrency 1
	}`)
	first := make(chan int)
	go func() {
		status, _ := d.get("/first")
		first <- status
	}()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := d.do(ctx, "POST", "/left", strings.NewReader("x"))
		left <- err
	}()
	eventually(t, "it waits", func() bool { return poolOf(t, "dropped").Waiting == 1 })
	cancel()
	<-left
	eventually(t, "it is dropped", func() bool { return poolOf(t, "dropped").Waiting == 0 })
	close(leave)
	<-first
	d.get("/last")
	if path := <-entered; path != "/last" || a.served.Load() != 2 {
		t.Fatalf("%s was served, %d in all", path, a.served.Load())
	}
}

func TestAbandonedExchangeGivesItsSlotBackInTheEnd(t *testing.T) {
	entered, leave := make(chan bool, 10), make(chan bool)
	defer close(leave)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		if r.URL.Path == "/hangs" {
			<-leave
		}
	})
	d := open(t, "app_proxy "+a.addr+` {
		name        hanging
		concurrency 1
		queue {
			wait 30s
		}
		timeouts {
			abandon 50ms
		}
	}`)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	if _, err := d.do(ctx, "GET", "/hangs", nil); err == nil {
		t.Fatal("the client did not leave")
	}
	if status, _ := d.get("/next"); status != 200 {
		t.Fatalf("next: %d", status)
	}
}

func TestResponseHeaderTimeoutAnswersTheClientAndKeepsTheSlot(t *testing.T) {
	entered, leave := make(chan string, 10), make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- r.URL.Path
		if r.URL.Path == "/slow" {
			<-leave
		}
	})
	d := open(t, "app_proxy "+a.addr+` {
		name        impatient
		concurrency 1
		transport http {
			response_header_timeout 50ms
		}
	}`)
	if status, _ := d.get("/slow"); status != 504 {
		t.Fatalf("got %d, want 504", status)
	}
	<-entered
	next := make(chan int)
	go func() {
		status, _ := d.get("/next")
		next <- status
	}()
	eventually(t, "the next waits", func() bool { return poolOf(t, "impatient").Waiting == 1 })
	leave <- true
	if status := <-next; status != 200 || a.most.Load() != 1 {
		t.Fatalf("next: %d, at most %d at once", status, a.most.Load())
	}
}

func TestOurHeadersStayBetweenUsAndTheApplication(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Portner-Load", "75%")
		w.Header().Set("X-Mine", "stays")
		fmt.Fprint(w, r.Header["Portner-Attempt"])
	})
	d := open(t, "app_proxy "+a.addr)
	req, _ := http.NewRequestWithContext(t.Context(), "GET", d.url, nil)
	req.Header.Set("Portner-Attempt", "99")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if string(text) != "[]" || res.Header.Get("Portner-Load") != "" || res.Header.Get("X-Mine") != "stays" {
		t.Fatalf("the application saw %s, the client %v", text, res.Header)
	}
}

// seen is the part of a pool's status that tests look at.
type seen struct {
	Held              bool
	Waiting, InFlight int
	Ready             []string
	Limits            []int
}

func poolOf(t *testing.T, name string) seen {
	t.Helper()
	status, ok := caddymodule.PoolStatus(name)
	if !ok {
		t.Fatalf("no pool %s", name)
	}
	s := seen{Held: status.Held, Waiting: status.Waiting, InFlight: status.InFlight}
	for _, u := range status.Upstreams {
		s.Limits = append(s.Limits, u.Limit)
		if u.Ready {
			s.Ready = append(s.Ready, u.Address)
		}
	}
	return s
}
