package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"
	"golang.org/x/net/html"

	"github.com/portner/portner/webapp/internal/api"
	"github.com/portner/portner/webapp/internal/store"
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

// Every page, form and call while the file of the database is elsewhere, and
// when it is back: nothing has to be done but to bring it.
func TestSiteServesAgainWhenItsFileIsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "news.db")
	st, err := store.Open(context.Background(), path, zap.NewNop())
	must(t, err)
	defer st.Close()
	srv, err := New(st, zap.NewNop(), "")
	must(t, err)
	ann := &visitor{t: t, handler: srv.Handler()}
	ann.register("ann")
	story := ann.submit("Mine", "", "x")
	token := attr(ann.open("/").find(func(n *html.Node) bool { return attr(n, "name") == "csrf" }), "value")
	tried := 0
	each := func(check func(method, path string, status int, h http.Header)) {
		for _, r := range srv.Handler().(*echo.Echo).Routes() {
			path := strings.NewReplacer(":id", story, ":name", "ann", ":list", "newest", ":file", "style.css").Replace(r.Path)
			switch {
			case r.Method != "GET" && r.Method != "POST", api.Owns(path) && r.Method == "POST", strings.Contains(path, "*"), strings.HasSuffix(path, "/kill"), strings.HasSuffix(path, "/delete"):
				continue
			case path == "/logout", path == "/login", path == "/register", path == "/settings/password": // another session
				continue
			}
			ann.send(r.Method, path, url.Values{"csrf": {token}, "title": {"Mine"}, "text": {"x"}, "value": {"0"}})
			tried++
			check(r.Method, path, ann.status, ann.header)
		}
	}
	must(t, os.Rename(path, path+".elsewhere"))
	each(func(method, path string, status int, h http.Header) {
		known := path == "/up" || path == "/robots.txt" || path == "/favicon.ico" || strings.HasPrefix(path, "/static/") || path == "/api/v1/openapi.json"
		switch {
		case status >= 500 && (status != 503 || path != "/status" && path != "/ready" && h.Get("Retry-After") == ""):
			t.Errorf("away: %s %s: %d %v", method, path, status, h)
		case status == 200 && !known && path != "/login" && path != "/register":
			t.Errorf("away: %s %s: %d", method, path, status)
		}
	})
	must(t, os.Rename(path+".elsewhere", path))
	each(func(method, path string, status int, h http.Header) {
		if status >= 500 {
			t.Errorf("back: %s %s: %d", method, path, status)
		}
	})
	if ann.open("/item/"+story).sees("Mine", "ann"); tried < 100 {
		t.Errorf("only %d tries", tried)
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
