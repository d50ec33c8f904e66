package front

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/portner/portner/caddymodule/internal/route"
)

func TestPatienceIsWhatTheClientSays(t *testing.T) {
	for _, c := range []struct {
		prefer   []string
		deadline string
		want     time.Duration
	}{
		{nil, "", 0},
		{[]string{"wait=3"}, "", 3 * time.Second},
		{[]string{"wait=0"}, "", 1}, // not at all, which is not the same as not said
		{[]string{"Wait = 3"}, "", 3 * time.Second},
		{[]string{`wait="3"`}, "", 3 * time.Second},
		{[]string{"respond-async, wait=3; foo=bar, handling=lenient"}, "", 3 * time.Second},
		{[]string{"respond-async", "wait=3"}, "", 3 * time.Second},
		{[]string{"wait=3, wait=9"}, "", 3 * time.Second}, // RFC 7240, 2: the first counts
		{[]string{"wait=", "wait", "=3", "wait=x", "wait=-1", "wait=3.5", "wait=3s", "wait=99999999999999999999"}, "", 0},
		{[]string{"await=3"}, "", 0},

		{nil, "2", 2 * time.Second},
		{nil, "0.25", 250 * time.Millisecond},
		{nil, "250ms", 250 * time.Millisecond},
		{nil, "1m", time.Minute},
		{nil, "0", 1},
		{nil, "-1", 0},
		{nil, "-1s", 0},
		{nil, "soon", 0},
		{nil, "1e3", 0},
		{nil, "NaN", 0},
		{nil, "99999999999999999999", 0},

		{[]string{"wait=3"}, "2", 2 * time.Second}, // the shorter one
		{[]string{"wait=3"}, "4", 3 * time.Second},
		{[]string{"wait=3"}, "broken", 3 * time.Second},
		{[]string{"wait=x"}, "4", 4 * time.Second},
	} {
		h := http.Header{"Prefer": c.prefer}
		if c.deadline != "" {
			h.Set("X-Deadline", c.deadline)
		}
		if got := patience(h, "x-deadline"); got != c.want {
			t.Errorf("Prefer %q, X-Deadline %q: %v, want %v", c.prefer, c.deadline, got, c.want)
		}
		if got := patience(h, ""); c.prefer == nil && got != 0 {
			t.Errorf("X-Deadline %q counts although nobody has named it: %v", c.deadline, got)
		}
	}
}

func FuzzPatienceIsNeverNegative(f *testing.F) {
	f.Add("wait=3", "2s")
	f.Add(`respond-async, wait="3";x`, "-0.5")
	f.Fuzz(func(t *testing.T, prefer, deadline string) {
		h := http.Header{"Prefer": {prefer}, "X-Deadline": {deadline}}
		if d := patience(h, "X-Deadline"); d < 0 {
			t.Errorf("%v", d)
		}
	})
}

func TestRouteSaysWhatARequestIs(t *testing.T) {
	pattern, err := route.ParsePattern("GET", "/item/{id}")
	if err != nil {
		t.Fatal(err)
	}
	table, err := route.NewTable([]route.Route{{Pattern: pattern, Policy: route.Policy{Class: "writes", Wait: -1, Cost: time.Second}}})
	if err != nil {
		t.Fatal(err)
	}
	f := New(nil, nil, Config{
		Routes: table, Templates: new(route.Templates), Weights: route.BuiltIn(),
		Client: func(r *http.Request) string { return r.RemoteAddr },
	}, nil)
	for _, c := range []struct {
		method, path, priority string
		class, template        string
		wait, cost             time.Duration
	}{
		{"GET", "/item/7", "", "writes", "GET /item/{id}", -1, time.Second},
		{"HEAD", "/item/7", "", "writes", "GET /item/{id}", -1, time.Second},
		{"GET", "/item/7", "u=7", "robots", "GET /item/{id}", -1, time.Second},
		{"GET", "/item/7", "u=0", "writes", "GET /item/{id}", -1, time.Second},
		{"POST", "/item/7", "", "writes", "POST /item/{id}", 0, 0},
		{"GET", "/list/7", "", "api", "GET /list/{id}", 0, 0},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Header.Set("Priority", c.priority)
		known, ask, _ := f.know(nil, r, time.Now())
		if known.Class != c.class || known.Template != c.template || ask.Wait != c.wait || ask.Cost != c.cost {
			t.Errorf("%s %s: %+v, wait %v, cost %v; want %+v", c.method, c.path, known, ask.Wait, ask.Cost, c)
		}
		if ask.Class != known.Class || ask.Route != known.Template || ask.Client != r.RemoteAddr || !ask.Since.IsZero() {
			t.Errorf("%s %s asks for %+v", c.method, c.path, ask)
		}
	}
}
