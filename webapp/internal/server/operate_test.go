package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestUpLivesWithoutADatabaseAndReadyDoesNot(t *testing.T) {
	s := start(t)
	if a, b := s.get(t, "/up"), s.get(t, "/ready"); a.status != 200 || b.status != 200 || b.body != "ready\n" {
		t.Errorf("%d, %d %q", a.status, b.status, b.body)
	}
	s.store.Close()
	if a, b := s.get(t, "/up"), s.get(t, "/ready"); a.status != 200 || b.status != 503 {
		t.Errorf("without a database: %d, %d", a.status, b.status)
	}
}

func TestDrainingIsNotReadyAndStillAnswers(t *testing.T) {
	s := start(t)
	s.srv.Drain()
	if a, b, c := s.get(t, "/ready"), s.get(t, "/status"), s.get(t, "/"); a.status != 503 || b.body != "Update" || c.status != 200 {
		t.Errorf("ready %d, status %q, front %d", a.status, b.body, c.status)
	}
	if got := s.post(t, item(1, "story", -1, "x", "")); got.status != 200 {
		t.Errorf("a post: %d", got.status)
	}
}

func TestDatabaseThatIsAwayIs503WithRetryAfterEverywhere(t *testing.T) {
	s := start(t)
	ann := s.token(t, "ann")
	s.store.Close()
	for _, path := range []string{"/", "/newest", "/item/1", "/latest", "/api/v1/items/1", "/api/v1/lists/front", "/api/v1/search?q=x", "/v0/item/1.json", "/v0/topstories.json"} {
		if got := s.get(t, path); got.status != 503 || got.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	if got := s.send(t, ann, "GET", "/me", ""); got.status != 503 {
		t.Errorf("with a token: %d, which says that it is wrong", got.status)
	}
	if got := s.post(t, item(1, "story", -1, "x", "")); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("a post: %d", got.status)
	}
}

// private asks the private port.
func (s site) private(t *testing.T, path string) (status int, body string) {
	t.Helper()
	rec := httptest.NewRecorder()
	s.srv.Private().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
	return rec.Code, rec.Body.String()
}

func TestMetricsCountByRouteAndNotByAddress(t *testing.T) {
	s := start(t)
	for id := range 3 {
		s.post(t, item(id+1, "story", -1, "x", ""))
		s.get(t, fmt.Sprintf("/item/%d", id+1))
		s.get(t, fmt.Sprintf("/made/up/%d", id))
	}
	s.do(t, "BREW", "/", nil)
	status, body := s.private(t, "/metrics")
	for _, line := range []string{
		`webapp_requests_total{method="GET",route="/item/:id",status="200"} 3`,
		`webapp_requests_total{method="POST",route="/post",status="200"} 3`,
		`webapp_requests_total{method="GET",route="other",status="404"} 3`,
		`webapp_store_changes_total 3`, `webapp_store_commits_total 3`, `webapp_requests_in_flight 0`, `go_goroutines `, `webapp_request_seconds_count{route="/post"} 3`,
	} {
		if status != 200 || !strings.Contains(body, "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(body, "/made/up") || strings.Contains(body, "BREW") {
		t.Error("labels that clients make up")
	}
	if t.Failed() {
		t.Log(regexp.MustCompile(`(?m)^webapp_.*$`).FindAllString(body, -1))
	}
}

func TestInsideIsForThePrivatePort(t *testing.T) {
	s := start(t)
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap"} {
		if got := s.get(t, path); got.status != http.StatusNotFound {
			t.Errorf("%s in public: %d", path, got.status)
		}
		if status, _ := s.private(t, path); status != 200 {
			t.Errorf("%s in private: %d", path, status)
		}
	}
	if status, body := s.private(t, "/ready"); status != 200 || body != "ready\n" {
		t.Errorf("%d %q", status, body)
	}
}

func TestEveryAnswerSaysHowLongItTookAndHowBusyWeAre(t *testing.T) {
	s := start(t)
	for _, path := range []string{"/", "/latest", "/nothing", "/v0/topstories.json"} {
		h := s.get(t, path).header
		if !regexp.MustCompile(`^app;dur=\d+\.\d{3}, db;dur=\d+\.\d{3}$`).MatchString(h.Get("Server-Timing")) {
			t.Errorf("%s: Server-Timing %q", path, h.Get("Server-Timing"))
		}
		if !strings.HasPrefix(h.Get("Endpoint-Load-Metrics"), "TEXT cpu_utilization=") {
			t.Errorf("%s: %q", path, h.Get("Endpoint-Load-Metrics"))
		}
	}
}

func TestLoadIsOfTheLastSecond(t *testing.T) {
	l := &load{processors: 2}
	now := time.Now()
	l.report(now)
	for range 50 {
		l.count(200)
	}
	for range 10 {
		l.count(503)
	}
	if got := l.report(now.Add(999 * time.Millisecond)); strings.Contains(got, "rps") {
		t.Errorf("early: %s", got)
	}
	if got := l.report(now.Add(2 * time.Second)); !strings.Contains(got, "rps_fractional=30.0, eps=5.0") {
		t.Errorf("got %s", got)
	}
}
