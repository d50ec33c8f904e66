package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// openWithAdmin starts Caddy with an admin endpoint, and returns its URL too.
func openWithAdmin(t *testing.T, directives string) (d *door, admin string) {
	t.Helper()
	admin = freeAddr(t)
	return openWith(t, "admin "+admin+"\nlog {\n level ERROR\n}", directives), "http://" + admin
}

// openWith starts Caddy with global options of its own.
func openWith(t *testing.T, options, directives string) *door {
	t.Helper()
	d := &door{t: t, addr: freeAddr(t)}
	d.url = "http://" + d.addr
	text := fmt.Sprintf("{\n%s\npersist_config off\ngrace_period 50ms\n}\nhttp://%s {\n%s\n}\n", options, d.addr, directives)
	cfg, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(cfg, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.load("respond gone") // without an admin endpoint, which outlives Stop
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// ask gets a URL and its whole body.
func ask(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

func TestMetricsShowWhatHappens(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/item/7" {
			entered <- true
			<-leave
		}
		if r.URL.Path == "/broken" {
			w.Header().Set("Content-Length", "1000000")
			fmt.Fprint(w, strings.Repeat("half", 100_000))
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	d, admin := openWithAdmin(t, "app_proxy "+a.addr+` {
		name        measured
		concurrency 1
		queue {
			wait 0
		}
		route GET /item/{id} {
			class writes
		}
	}`)
	d.get("/page?secret=1")
	if res, err := d.do(t.Context(), "GET", "/broken", nil); err == nil {
		if _, err = io.ReadAll(res.Body); err == nil {
			t.Error("an answer that broke off looks whole")
		}
		res.Body.Close()
	}
	done := make(chan int)
	go func() {
		status, _ := d.get("/item/7")
		done <- status
	}()
	<-entered
	if res, _ := ask(t, d.url+"/item/8"); res.StatusCode != 503 {
		t.Errorf("a second one: %d", res.StatusCode)
	}

	expect := func(text string, want ...string) {
		t.Helper()
		for _, line := range want {
			if !regexp.MustCompile("(?m)^" + line + "$").MatchString(text) {
				t.Errorf("missing: %s", line)
			}
		}
	}
	_, text := ask(t, admin+"/metrics")
	expect(text,
		`portner_requests_total{class="api",pool="measured",route="GET /page",verdict="ok"} 1`,
		`portner_requests_total{class="api",pool="measured",route="GET /broken",verdict="failed"} 1`,
		`portner_requests_total{class="writes",pool="measured",route="GET /item/{id}",verdict="queue-wait"} 1`,
		`portner_queue_wait_seconds_count{class="api",pool="measured",route="GET /page"} 1`,
		`portner_queue_wait_seconds_count{class="writes",pool="measured",route="GET /item/{id}"} 0`,
		`portner_service_time_seconds_bucket{class="api",pool="measured",route="GET /page",le="30"} 1`,
		`portner_refused_total{pool="measured",reason="queue-wait"} 1`,
		`portner_in_flight{pool="measured",upstream="`+a.addr+`"} 1`,
		`portner_limit{pool="measured",upstream="`+a.addr+`"} 1`,
		`portner_route_in_flight{pool="measured",route="GET /item/{id}"} 1`,
		`portner_route_waiting{pool="measured",route="GET /item/{id}"} 0`,
		`portner_class_in_flight{class="writes",pool="measured"} 1`,
		`portner_class_waiting{class="writes",pool="measured"} 0`,
		`portner_route_cost_seconds{pool="measured",route="GET /item/{id}"} [0-9.e-]+`,
		`portner_held{pool="measured"} 0`,
	)
	if strings.Contains(text, "secret") || strings.Contains(text, "/item/7") {
		t.Error("a label shows what somebody asked for")
	}

	res, text := ask(t, admin+"/app_proxy/pools")
	var pools []struct {
		Name      string
		Standing  *bool
		Upstreams []struct{ Learned *bool }
		Classes   []struct {
			Name     string
			Weight   int
			Waiting  *int
			InFlight int `json:"in_flight"`
		}
		Routes []struct {
			Template string
			Cost     float64
			Slow     *bool
			InFlight int `json:"in_flight"`
			Waiting  *int
		}
		Refused map[string]int `json:"refused_total"`
	}
	if err := json.Unmarshal([]byte(text), &pools); err != nil || len(pools) != 1 || res.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%v: %s", err, text)
	}
	p := pools[0]
	if p.Name != "measured" || p.Standing == nil || len(p.Upstreams) != 1 || p.Upstreams[0].Learned == nil || *p.Upstreams[0].Learned {
		t.Errorf("%s", text)
	}
	if len(p.Classes) != 6 || p.Classes[0].Name != "pages" || p.Classes[0].Weight != 8 || p.Classes[0].Waiting == nil {
		t.Errorf("classes %+v", p.Classes)
	}
	for _, c := range p.Classes {
		if (c.InFlight == 1) != (c.Name == "writes") {
			t.Errorf("class %+v", c)
		}
	}
	if fmt.Sprint(p.Refused) != "map[client_excess:0 held:0 queue_full:0 queue_shed:0 queue_wait:1]" {
		t.Errorf("refused %v", p.Refused)
	}
	found := false
	for _, r := range p.Routes {
		found = found || r.Template == "GET /item/{id}" && r.InFlight == 1 && r.Cost > 0 && r.Slow != nil && r.Waiting != nil
	}
	if !found {
		t.Errorf("routes %+v", p.Routes)
	}
	close(leave)
	if status := <-done; status != 200 {
		t.Errorf("the first: %d", status)
	}

	// Numbers go on over a reload; what is no longer configured is no longer shown.
	d.load("app_proxy " + a.addr + " {\n name other\n}")
	d.load("app_proxy " + a.addr + " {\n name measured\n concurrency auto\n}")
	status, _ := d.get("/page")
	if got := poolOf(t, "measured"); status != 200 || got.Limits[0] != 4 {
		t.Errorf("%d %+v", status, got)
	}
}

func TestAdminEndpointTakesNoOtherMethod(t *testing.T) {
	_, admin := openWithAdmin(t, "app_proxy 127.0.0.1:1")
	req, _ := http.NewRequestWithContext(t.Context(), "POST", admin+"/app_proxy/pools", nil)
	req.Header.Set("Origin", admin)
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 405 || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("%d, Allow %q", res.StatusCode, res.Header.Get("Allow"))
	}
}
