package telemetry

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/front"
	"github.com/portner/portner/caddymodule/internal/route"
)

// scrape is what a Prometheus server would get.
func scrape(t *testing.T) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry() // as Caddy's
	for range 2 {
		if err := Register(registry); err != nil {
			t.Fatal(err)
		}
	}
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func lines(text, pattern string) int {
	return len(regexp.MustCompile("(?m)^"+pattern).FindAllString(text, -1))
}

func exchange(class, template, verdict string) front.Exchange {
	return front.Exchange{
		Known: front.Known{Class: class, Template: template}, Verdict: verdict,
		Upstream: "a:1", Wait: 20 * time.Millisecond, Service: 3 * time.Millisecond,
	}
}

func TestSeriesOfForgottenTemplatesAreDropped(t *testing.T) {
	var known []string
	q := admission.New()
	p := NewPool("forgetful", q.Stats, func() []string { return known }, nil, nil)
	defer p.Close()
	release := p.Use([]string{"GET /configured"})
	p.Read(nil, exchange("pages", "GET /configured", "ok"))
	p.Read(nil, exchange("pages", route.Other, "ok"))

	known = []string{"GET /kept"}
	p.Read(nil, exchange("pages", "GET /kept", "ok"))
	p.Read(nil, exchange("api", "GET /gone", "left"))
	got := scrape(t)
	for _, want := range []string{
		`portner_requests_total{class="pages",pool="forgetful",route="GET /configured",verdict="ok"} 1`,
		`portner_requests_total{class="pages",pool="forgetful",route="GET /kept",verdict="ok"} 1`,
		`portner_requests_total{class="pages",pool="forgetful",route="other",verdict="ok"} 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(scrape(t), "GET /gone") {
		t.Error("a template that nobody knows is still there")
	}

	release()
	release()
	if strings.Contains(scrape(t), "GET /configured") {
		t.Error("a route that no config has is still there")
	}
	p.Close()
	p.Read(nil, exchange("pages", "GET /kept", "ok"))
	if strings.Contains(scrape(t), "forgetful") {
		t.Error("a closed pool has left something")
	}
}

// TestSeriesAreBoundedWithoutAScrape: a scanner goes on for weeks, and nobody
// looks.
func TestSeriesAreBoundedWithoutAScrape(t *testing.T) {
	var known []string
	p := NewPool("scanned", admission.New().Stats, func() []string { return known }, nil, nil)
	defer p.Close()
	for i := range 10 * route.MaxTemplates {
		known = append(known, fmt.Sprint("GET /", i))
		known = known[max(0, len(known)-route.MaxTemplates):]
		p.Read(nil, exchange("robots", known[len(known)-1], "ok"))
		if len(p.series) > 2*route.MaxTemplates+1 {
			t.Fatalf("%d series after %d templates", len(p.series), i)
		}
	}
	if n := lines(scrape(t), `portner_requests_total{[^}]*pool="scanned"`); n > route.MaxTemplates {
		t.Errorf("%d series in the scrape, of %d templates", n, route.MaxTemplates)
	}
}

func TestStateIsThatOfTheMoment(t *testing.T) {
	q := admission.New()
	q.Apply(admission.Config{Limit: 2, Classes: []admission.Class{{Name: "pages", Weight: 8}}}, []admission.Target{{Key: "a:1"}})
	p := NewPool("moment", q.Stats, func() []string { return []string{"GET /"} }, nil, nil)
	defer p.Close()
	slot, err := q.Admit(t.Context(), admission.Ask{Class: "pages", Route: "GET /"})
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := q.Admit(t.Context(), admission.Ask{Class: "pages", Route: "GET /forgotten"})
	if err != nil {
		t.Fatal(err)
	}
	unknown.Release()
	got := scrape(t)
	for _, want := range []string{
		`portner_held{pool="moment"} 0`,
		`portner_waiting{pool="moment"} 0`,
		`portner_class_waiting{class="pages",pool="moment"} 0`,
		`portner_class_in_flight{class="pages",pool="moment"} 1`,
		`portner_route_waiting{pool="moment",route="GET /"} 0`,
		`portner_standing_queue{pool="moment"} 0`,
		`portner_in_flight{pool="moment",upstream="a:1"} 1`,
		`portner_limit{pool="moment",upstream="a:1"} 2`,
		`portner_upstream_ready{pool="moment",upstream="a:1"} 1`,
		`portner_route_in_flight{pool="moment",route="GET /"} 1`,
		`portner_granted_total{pool="moment"} 2`,
		`portner_refused_total{pool="moment",reason="client-excess"} 0`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(got, "GET /forgotten") {
		t.Error("a route that nobody knows is shown")
	}
	slot.Release()
	q.SetReady("a:1", false)
	if got := scrape(t); !strings.Contains(got, `portner_held{pool="moment"} 1`) || !strings.Contains(got, `portner_in_flight{pool="moment",upstream="a:1"} 0`) {
		t.Error("the state is an old one")
	}
}

func TestNamesInNoEncodingAreStillLabels(t *testing.T) {
	q := admission.New()
	q.Apply(admission.Config{}, []admission.Target{{Key: "a\xff:1"}})
	p := NewPool("p\xff", q.Stats, func() []string { return nil }, nil, nil)
	defer p.Close()
	defer p.Use([]string{"GET /\xff"})()
	p.Read(nil, exchange("c\xff", "GET /\xff", "ok"))
	if got := scrape(t); !strings.Contains(got, "portner_requests_total{class=\"c\uFFFD\",pool=\"p\uFFFD\",route=\"GET /\uFFFD\"") {
		t.Error("not there")
	}
}

func TestAnExchangeCostsNoAllocation(t *testing.T) {
	p := NewPool("cheap", admission.New().Stats, func() []string { return nil }, nil, nil)
	defer p.Close()
	x := exchange("pages", route.Other, "ok")
	if n := testing.AllocsPerRun(100, func() { p.Read(nil, x) }); n != 0 || len(p.series) != 1 {
		t.Errorf("%v allocations, %d series kept", n, len(p.series))
	}
}

// TestManyAtOnce is for the race detector: requests, scrapes, reloads and the end
// of pools at the same time.
func TestManyAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 20 {
				p := NewPool(fmt.Sprint("busy", i), admission.New().Stats, func() []string { return nil }, nil, nil)
				release := p.Use([]string{"GET /"})
				var inside sync.WaitGroup
				for range 3 {
					inside.Go(func() { p.Read(nil, exchange("pages", fmt.Sprint("GET /", n), "ok")) })
				}
				release()
				inside.Wait()
				p.Close()
			}
		})
		wg.Go(func() { scrape(t) })
	}
	wg.Wait()
	if strings.Contains(scrape(t), `pool="busy`) {
		t.Error("a closed pool has left something")
	}
}
