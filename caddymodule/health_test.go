package caddymodule_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

func TestProbeAsksAsItIsTold(t *testing.T) {
	for _, c := range []struct {
		lines string
		well  func(w http.ResponseWriter, r *http.Request) bool // answers; false: the probe is not as told
	}{
		{"health_uri /health?deep=1", func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == "GET" && r.URL.String() == "/health?deep=1"
		}},
		{"health_path /health", func(w http.ResponseWriter, r *http.Request) bool { return r.URL.Path == "/health" }},
		{"health_uri /health\nhealth_method POST\nhealth_request_body ping", func(w http.ResponseWriter, r *http.Request) bool {
			text, _ := io.ReadAll(r.Body)
			return r.Method == "POST" && string(text) == "ping"
		}},
		{"health_uri /health\nhealth_method HEAD", func(w http.ResponseWriter, r *http.Request) bool { return r.Method == "HEAD" }},
		{"health_uri /health\nhealth_headers {\n Host app.internal\n X-Check one two\n X-Target {http.reverse_proxy.active.target_upstream}\n}", func(w http.ResponseWriter, r *http.Request) bool {
			return r.Host == "app.internal" && slices.Equal(r.Header["X-Check"], []string{"one", "two"}) &&
				strings.HasPrefix(r.Header.Get("X-Target"), "127.0.0.1:")
		}},
		{"health_uri /health\nhealth_status 418", func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(418)
			return true
		}},
		{"health_uri /health\nhealth_status 4xx", func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(404)
			return true
		}},
		{"health_uri /health\nhealth_body ^ready$", func(w http.ResponseWriter, r *http.Request) bool {
			io.WriteString(w, "ready")
			return true
		}},
		{"health_uri /health\nhealth_follow_redirects", func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/health" {
				http.Redirect(w, r, "/there", http.StatusFound)
			}
			return true
		}},
	} {
		var wrong atomic.Value
		passed := make(chan bool)
		once := sync.OnceFunc(func() { close(passed) })
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Client") != "" {
				return
			}
			if !c.well(w, r) {
				wrong.Store(fmt.Sprint(r.Method, " ", r.Host, r.URL, " ", r.Header))
				w.WriteHeader(500)
			}
			once()
		})
		d := open(t, "app_proxy "+a.addr+" {\n name told\n concurrency 1\n health_interval 1ms\n"+c.lines+"\n}")
		<-passed
		n := a.served.Load()
		eventually(t, c.lines+": several probes", func() bool { return a.served.Load() > n+4 })
		if text := wrong.Load(); text != nil {
			t.Errorf("%s: asked with %s", c.lines, text)
		}
		if p := poolOf(t, "told"); p.Held {
			t.Errorf("%s: it is taken for sick", c.lines)
		}
		if res, _ := d.ask("X-Client: yes"); res.StatusCode != 200 {
			t.Errorf("%s: %d", c.lines, res.StatusCode)
		}
	}
}

func TestProbeNoticesWhatItIsToldToNotice(t *testing.T) {
	for _, c := range []struct {
		lines  string
		answer http.HandlerFunc
	}{
		{"health_uri /health", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }},
		{"health_uri /health", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }},
		{"health_uri /health", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/health" {
				http.Redirect(w, r, "/there", http.StatusFound)
			}
		}},
		{"health_uri /health", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }},
		{"health_uri /health\nhealth_status 204", func(w http.ResponseWriter, r *http.Request) {}},
		{"health_uri /health\nhealth_body ready", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "starting") }},
		{"health_uri /health\nhealth_timeout 20ms", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{"health_uri /health\nhealth_follow_redirects", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/health" {
				w.WriteHeader(500)
				return
			}
			http.Redirect(w, r, "/there", http.StatusFound)
		}},
	} {
		a := newApp(t, c.answer)
		open(t, "app_proxy "+a.addr+" {\n name notice\n concurrency 1\n health_interval 1ms\n timeouts {\n abandon 10ms\n }\n"+c.lines+"\n}")
		eventually(t, c.lines+": it is held", func() bool { return poolOf(t, "notice").Held })
		if a.most.Load() > 1 {
			t.Errorf("%s: %d at once", c.lines, a.most.Load())
		}
	}
}

func TestProbeMayGoToAnotherPortAndAddress(t *testing.T) {
	asked := make(chan string, 100)
	doctor := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.Host:
		default:
		}
	})
	_, port, _ := net.SplitHostPort(doctor.addr)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			t.Error("the application was probed")
		}
	})
	for _, line := range []string{"health_port " + port, "health_upstream " + doctor.addr} {
		d := open(t, "app_proxy "+a.addr+" {\n health_uri /health\n health_interval 1ms\n "+line+"\n}")
		if host := <-asked; host != doctor.addr {
			t.Errorf("%s: asked %s", line, host)
		}
		if status, _ := d.get("/"); status != 200 {
			t.Errorf("%s: %d", line, status)
		}
	}
}

func TestPassesAndFailsAreCounted(t *testing.T) {
	var sick atomic.Bool
	answers := make(chan bool, 1000)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if sick.Load() {
			w.WriteHeader(500)
		}
		answers <- !sick.Load()
	})
	open(t, "app_proxy "+a.addr+" {\n name counted\n health_uri /health\n health_interval 1ms\n health_fails 5\n health_passes 4\n}")
	<-answers
	for _, c := range []struct {
		sick  bool
		after int
	}{{true, 5}, {false, 4}} {
		sick.Store(c.sick)
		count := 0
		eventually(t, "its state changes", func() bool {
			for {
				select {
				case well := <-answers:
					if well != c.sick {
						count++
					}
				default:
					return poolOf(t, "counted").Held == c.sick
				}
			}
		})
		if count < c.after {
			t.Errorf("sick %v after %d probes, want %d", c.sick, count, c.after)
		}
	}
}

func TestPassiveHealthTakesAFailingUpstreamAway(t *testing.T) {
	for _, c := range []struct {
		lines string
		fail  http.HandlerFunc
	}{
		{"fail_duration 1m", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }},
		{"fail_duration 1m\nunhealthy_status 5xx", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }},
		{"fail_duration 1m\nunhealthy_status 418 429", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(429) }},
		{"fail_duration 1m\nmax_fails 3\nunhealthy_status 5xx", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }},
		{"fail_duration 1m\nunhealthy_latency 1ms", func(w http.ResponseWriter, r *http.Request) { time.Sleep(2 * time.Millisecond) }},
	} {
		bad := newApp(t, c.fail)
		good := newApp(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "good") })
		d := open(t, "app_proxy "+bad.addr+" "+good.addr+" {\n name passive\n lb_policy first\n"+c.lines+"\n}")
		tries := int32(1)
		if strings.Contains(c.lines, "max_fails 3") {
			tries = 3
		}
		for n := range 10 {
			res, err := d.do(t.Context(), "POST", "/", nil) // which nobody sends again
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if want := int32(n) >= tries; (string(body) == "good") != want {
				t.Errorf("%s: request %d was answered by good: %v", c.lines, n, !want)
			}
		}
		if got := bad.served.Load(); got != tries {
			t.Errorf("%s: the failing one was asked %d times, want %d", c.lines, got, tries)
		}
	}
}

func TestFailuresAreForgotten(t *testing.T) {
	var bad atomic.Bool
	bad.Store(true)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if bad.Load() {
			w.WriteHeader(500)
		}
		fmt.Fprint(w, "a")
	})
	b := newApp(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "b") })
	d := open(t, "app_proxy "+a.addr+" "+b.addr+" {\n name forgotten\n lb_policy first\n fail_duration 50ms\n unhealthy_status 500\n}")
	d.get("/")
	bad.Store(false)
	eventually(t, "it is asked again", func() bool { _, body := d.get("/"); return body == "a" })
}

func TestLastUpstreamIsNotTakenAwayByFailures(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
	d := open(t, "app_proxy "+a.addr+" {\n fail_duration 1m\n unhealthy_status 5xx\n}")
	for range 3 {
		if status, _ := d.get("/"); status != 500 {
			t.Fatalf("status %d, want the application's own 500", status)
		}
	}
}

// told is an event handler that hands events to the test.
type told struct{}

var toldOf = make(chan string, 100)

// toldWaits, when it is not nil, keeps every event handler waiting.
var toldWaits atomic.Pointer[chan bool]

func init() { caddy.RegisterModule(told{}) }

func (told) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.told", New: func() caddy.Module { return new(told) }}
}

func (told) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return nil }

func (told) Handle(_ context.Context, e caddy.Event) error {
	toldOf <- fmt.Sprint(e.Name(), " ", e.Data["host"])
	if wait := toldWaits.Load(); wait != nil {
		<-*wait
	}
	return nil
}

var _ caddyevents.Handler = told{}

func TestEventsTellOfHealthAndHoldNobodyUp(t *testing.T) {
	var sick atomic.Bool
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" && sick.Load() {
			w.WriteHeader(500)
		}
	})
	b := newApp(t, func(w http.ResponseWriter, r *http.Request) {})
	wait := make(chan bool)
	defer toldWaits.Store(nil)
	free := sync.OnceFunc(func() { close(wait) })
	defer free()
	d := open(t, "respond 404")
	d.options = "events {\n on unhealthy told\n on healthy told\n}"
	d.load("app_proxy " + a.addr + " " + b.addr + " {\n name events\n health_uri /health\n health_interval 20ms\n queue {\n wait 60s\n }\n}")
	toldWaits.Store(&wait)
	sick.Store(true)
	if got := <-toldOf; got != "unhealthy "+a.addr {
		t.Error(got)
	}
	// The handler of the event is still at it. Nobody waits for it.
	answered := make(chan int, 1)
	go func() {
		status, _ := d.get("/")
		answered <- status
	}()
	select {
	case status := <-answered:
		if status != 200 {
			t.Errorf("status %d", status)
		}
	case <-time.After(20 * time.Second):
		t.Error("a handler of an event holds up the requests")
	}
	sick.Store(false)
	free()
	if got := <-toldOf; got != "healthy "+a.addr {
		t.Error(got)
	}
	if p := poolOf(t, "events"); len(p.Ready) != 2 {
		t.Errorf("ready are %v", p.Ready)
	}
}

func TestNewUpstreamIsNotProbedInTheOldWay(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {})
	config := "app_proxy %s {\n name probed\n health_uri %s\n health_interval 1ms\n}"
	d := open(t, fmt.Sprintf(config, a.addr, "/way-0"))
	for n := range 4 {
		asked := make(chan string, 1000)
		b := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, "/way-") {
				return // of another test, whose application had this port
			}
			select {
			case asked <- r.URL.Path:
			default:
			}
		})
		want := fmt.Sprint("/way-", n+1)
		d.load(fmt.Sprintf(config, b.addr, want))
		for range 3 {
			if path := <-asked; path != want {
				t.Fatalf("it was asked for %s, of the config before", path)
			}
		}
	}
}
