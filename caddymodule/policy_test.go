package caddymodule_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func TestBadRoutesAndClassesAreNamedWithTheirLine(t *testing.T) {
	for _, c := range []struct{ lines, want string }{
		{"class", "app_proxy: class: expected a name, at Caddyfile:3"},
		{"class robots", "app_proxy: class: expected a block { … } with wait, weight, at Caddyfile:3"},
		{"class robots 2", "app_proxy: class: expected a block { … }, got '2', at Caddyfile:3"},
		{"class robots {\n weight 0\n}", "app_proxy: class weight: expected a whole number of at least 1, got '0', at Caddyfile:4"},
		{"class robots {\n wait soon\n}", "app_proxy: class wait: expected a duration, such as 5s, got 'soon', at Caddyfile:4"},
		{"class robots {\n depth 3\n}", "app_proxy: class: unknown word 'depth'; expected wait, weight, at Caddyfile:4"},
		{"class robots {\n weight 2\n}\nclass robots {\n weight 3\n}", "app_proxy: class robots is said twice, at Caddyfile:6"},

		{"route", "app_proxy: route: expected a method, or *, and a pattern, such as: route GET /item/{id}, at Caddyfile:3"},
		{"route GET", "app_proxy: route: expected a method, or *, and a pattern"},
		{"route GET /a", "app_proxy: route: expected a block { … } with cache, class, cost, journal, respond_status, wait, at Caddyfile:3"},
		{"route GET /a {\n}", "app_proxy: route: expected a block { … } with cache, class, cost, journal, respond_status, wait, at Caddyfile:4"},
		{"route GET /a {\n cost 0\n}", "app_proxy: route cost: must be longer than 0, at Caddyfile:4"},
		{"route GET /a {\n class\n}", "app_proxy: route class: expected the name of a class, at Caddyfile:4"},
		{"route GET /a {\n class pages api\n}", "app_proxy: route class: unexpected 'api', at Caddyfile:4"},
		{"route GET /a {\n wait 1s\n wait 2s\n}", "app_proxy: route: wait is said twice, at Caddyfile:5"},
		{"route GET a {\n wait 1s\n}", "a path begins with a slash, at Caddyfile:3"},
		{"route get /a {\n wait 1s\n}", "at Caddyfile:3"},
		{"route GET /{id}/{id} {\n wait 1s\n}", "two wildcards are called id; choose another wildcard name, at Caddyfile:3"},
		{"route GET /item/{path} {\n wait 1s\n}", "{http.request.uri.path} is a placeholder of Caddy, perhaps written as a shorthand such as {path} or {uuid}; choose another wildcard name, at Caddyfile:3"},
		{"route GET /item/{uuid} {\n wait 1s\n}", "choose another wildcard name, at Caddyfile:3"},

		{"route GET /a {\n class nobles\n}", "app_proxy: route GET /a (Caddyfile:3): there is no class nobles; expected api, journal, pages, probe, robots, writes, or one with a block of its own"},
		{"route GET /a {\n wait 1s\n}\nroute GET /a {\n wait 2s\n}", "route: GET /a (Caddyfile:3) and GET /a (Caddyfile:6) match the same requests; keep one of them"},
		{"route GET /a/{x} {\n wait 1s\n}\nroute GET /{x}/b {\n wait 2s\n}", "route: GET /a/{x} (Caddyfile:3) and GET /{x}/b (Caddyfile:6) both match /a/b, and neither is more specific"},

		{"queue {\n fair_by\n}", "app_proxy: queue fair_by: expected a placeholder, such as {client_ip}, or off, at Caddyfile:4"},
		{"queue {\n fair_by off on\n}", "app_proxy: queue fair_by: unexpected 'on', at Caddyfile:4"},
		{"queue {\n fair_by of\n}", "app_proxy: queue fair_by: expected a placeholder, such as {client_ip}, or off, got 'of', at Caddyfile:4"},
		{"deadline_header", "app_proxy: deadline_header: expected the name of a header, at Caddyfile:3"},
		{"deadline_header \"a b\"", "app_proxy: deadline_header: expected the name of a header, at Caddyfile:3"},
		{"server_timing no", "app_proxy: server_timing: expected on or off, at Caddyfile:3"},
		{"server_timing", "app_proxy: server_timing: expected on or off, at Caddyfile:3"},
		{"server_timing on off", "app_proxy: server_timing: unexpected 'off', at Caddyfile:3"},
	} {
		_, _, err := adapt("Caddyfile", site(c.lines))
		switch {
		case err == nil:
			t.Errorf("%q is accepted", c.lines)
		case !strings.Contains(plain(err), c.want) || !strings.Contains(err.Error(), "Caddyfile:"):
			t.Errorf("%q:\n got %s\nwant %s", c.lines, plain(err), c.want)
		}
	}
}

// visit asks with headers, and reports the answer when there is one.
func (d *door) visit(path string, header ...string) <-chan *http.Response {
	answers := make(chan *http.Response, 1)
	go func() {
		req, err := http.NewRequestWithContext(d.t.Context(), "GET", d.url+path, nil)
		if err != nil {
			d.t.Error(err)
			return
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Add(header[i], header[i+1])
		}
		res, err := client.Do(req)
		switch {
		case d.t.Context().Err() != nil: // the test is over
		case err != nil:
			d.t.Error(err)
			answers <- &http.Response{Body: http.NoBody}
		default:
			d.t.Cleanup(func() { res.Body.Close() })
			answers <- res
		}
	}()
	return answers
}

// turnstile is an application that tells who has come in, and keeps him until it
// is told.
type turnstile struct {
	*app
	entered chan string
	leave   chan bool
}

func newTurnstile(t *testing.T) *turnstile {
	s := &turnstile{entered: make(chan string, 100), leave: make(chan bool)}
	s.app = newApp(t, func(w http.ResponseWriter, r *http.Request) {
		s.entered <- r.URL.Path
		select {
		case <-s.leave:
		case <-t.Context().Done():
		}
	})
	return s
}

// queued sends a visitor and waits until he is the nth in the queue.
func (d *door) queued(pool string, n int, path string, header ...string) <-chan *http.Response {
	d.t.Helper()
	answers := d.visit(path, header...)
	eventually(d.t, path+" waits", func() bool { return poolOf(d.t, pool).Waiting == n })
	return answers
}

func TestOneClientsExcessIs429AndCostsNobodyElse(t *testing.T) {
	a := newTurnstile(t)
	d := open(t, "app_proxy "+a.addr+` {
		name        crowded
		concurrency 1
		queue {
			depth   8
			wait    60s
			fair_by {header.X-Who}
		}
	}`)
	first := d.visit("/first", "X-Who", "somebody")
	<-a.entered
	var greedy []<-chan *http.Response
	for n := range 6 {
		greedy = append(greedy, d.queued("crowded", n+1, fmt.Sprint("/greedy/", n), "X-Who", "greedy"))
	}
	polite := []<-chan *http.Response{first,
		d.queued("crowded", 7, "/polite/1", "X-Who", "one"),
		d.queued("crowded", 8, "/polite/2", "X-Who", "two"),
	}
	// The queue is full. One more of the greedy one is refused, and for a polite
	// one who comes now the greedy one makes room.
	res := <-d.visit("/greedy/6", "X-Who", "greedy")
	if p := problem(t, res); p.Status != 429 || p.Reason != "client-excess" || p.RetryAfter < 1 {
		t.Errorf("one too many: %+v", p)
	}
	polite = append(polite, d.visit("/polite/3", "X-Who", "three"))
	if p := problem(t, <-greedy[5]); p.Status != 429 {
		t.Errorf("the greedy one's newest: %+v", p)
	}
	close(a.leave)
	for i, answers := range polite {
		if res := <-answers; res.StatusCode != 200 {
			t.Errorf("polite %d: %d", i, res.StatusCode)
		}
	}
}

func TestFairByOffIsFirstComeFirstServed(t *testing.T) {
	a := newTurnstile(t)
	for fairBy, want := range map[string]string{
		"off":             "[/a/1 /a/2 /a/3 /a/4 /a/5 /a/6 /a/7 /a/8 /b/1]",
		"{header.X-Who}":  "[/b/1 /a/1 /a/2 /a/3 /a/4 /a/5 /a/6 /a/7 /a/8]",
		"x-{http.nobody}": "[/a/1 /a/2 /a/3 /a/4 /a/5 /a/6 /a/7 /a/8 /b/1]", // all are the same
	} {
		d := open(t, "app_proxy "+a.addr+` {
			name        fair
			concurrency 1
			queue {
				fair_by `+fairBy+`
			}
			route * / {
				cost 10ms
			}
		}`)
		answers := []<-chan *http.Response{d.visit("/first", "X-Who", "c")}
		<-a.entered
		for i := range 8 {
			answers = append(answers, d.queued("fair", i+1, fmt.Sprint("/a/", i+1), "X-Who", "a"))
		}
		answers = append(answers, d.queued("fair", 9, "/b/1", "X-Who", "b"))
		var order []string
		for range 9 {
			a.leave <- true
			order = append(order, <-a.entered)
		}
		a.leave <- true
		for _, answer := range answers {
			<-answer
		}
		if got := fmt.Sprint(order); got != want {
			t.Errorf("fair_by %s: %s, want %s", fairBy, got, want)
		}
	}
}

func TestClassWithMoreWeightGoesFirst(t *testing.T) {
	a := newTurnstile(t)
	d := open(t, "app_proxy "+a.addr+` {
		name        classes
		concurrency 1
		class gold {
			weight 100
		}
		route GET /gold/{n} {
			class gold
		}
		route GET /robots/{n} {
			class robots
		}
	}`)
	answers := []<-chan *http.Response{d.visit("/first")}
	<-a.entered
	for n := range 3 {
		answers = append(answers, d.queued("classes", 2*n+1, fmt.Sprint("/robots/", n)))
		answers = append(answers, d.queued("classes", 2*n+2, fmt.Sprint("/gold/", n)))
	}
	var order []string
	for range 6 {
		a.leave <- true
		order = append(order, <-a.entered)
	}
	a.leave <- true
	for _, answer := range answers {
		<-answer
	}
	// Which of two classes that have had nothing yet is first is open; after that
	// a robot costs as much as a hundred of gold.
	robots := 0
	for _, path := range order[:4] {
		if strings.HasPrefix(path, "/robots") {
			robots++
		}
	}
	if robots > 1 || order[4][:7] != "/robots" || order[5][:7] != "/robots" {
		t.Errorf("order: %v", order)
	}
}

func TestRouteAndClassSayHowLongToWait(t *testing.T) {
	a := newTurnstile(t)
	d := open(t, "app_proxy "+a.addr+` {
		name        waits
		concurrency 1
		queue {
			wait 10m
		}
		deadline_header X-Deadline
		class hurried {
			wait 0
		}
		route GET /hurried {
			class hurried
		}
		route GET /patient {
			class hurried
			wait  60s
		}
		route GET /now {
			wait 0
		}
	}`)
	first := d.visit("/first")
	<-a.entered
	for _, c := range []struct {
		path   string
		header []string
	}{
		{"/hurried", nil},
		{"/now", nil},
		{"/other", []string{"Prefer", "wait=0"}},
		{"/other", []string{"X-Deadline", "1ms"}},
		{"/patient", []string{"X-Deadline", "0.001"}},
	} {
		if p := problem(t, <-d.visit(c.path, c.header...)); p.Status != 503 || p.Reason != "queue-wait" {
			t.Errorf("%s %v: %+v", c.path, c.header, p)
		}
	}
	patient := d.queued("waits", 1, "/patient")
	close(a.leave)
	for _, answers := range []<-chan *http.Response{first, patient} {
		if res := <-answers; res.StatusCode != 200 {
			t.Errorf("%d", res.StatusCode)
		}
	}
}

const browser = "text/html,application/xhtml+xml,*/*;q=0.8"

func TestBrowserThatComesBackKeepsItsPlace(t *testing.T) {
	a := newTurnstile(t)
	d := open(t, "app_proxy "+a.addr+` {
		name        places
		concurrency 1
		queue {
			wait 60s
		}
	}`)
	answers := []<-chan *http.Response{d.visit("/first", "Accept", browser)}
	<-a.entered
	refused := <-d.visit("/mine", "Accept", browser, "Prefer", "wait=0")
	cookies := refused.Cookies()
	if refused.StatusCode != 503 || !strings.HasPrefix(refused.Header.Get("Content-Type"), "text/html") || len(cookies) != 1 || refused.Header.Get("Retry-After") == "" {
		t.Fatalf("%d %v", refused.StatusCode, refused.Header)
	}
	for n := range 4 {
		answers = append(answers, d.queued("places", n+1, fmt.Sprint("/newcomer/", n), "Accept", browser))
	}
	mine := d.queued("places", 5, "/mine", "Accept", browser, "Cookie", cookies[0].String())
	var order []string
	for range 5 {
		a.leave <- true
		order = append(order, <-a.entered)
	}
	a.leave <- true
	for _, answer := range answers {
		if res := <-answer; len(res.Cookies()) != 0 {
			t.Errorf("a cookie for somebody who was never refused: %v", res.Cookies())
		}
	}
	// In its class the returning ones have every other turn.
	if order[0] != "/mine" && order[1] != "/mine" {
		t.Errorf("order: %v", order)
	}
	if res := <-mine; res.StatusCode != 200 || len(res.Cookies()) != 1 || res.Cookies()[0].MaxAge >= 0 {
		t.Errorf("the place is not taken back: %d %v", res.StatusCode, res.Cookies())
	}
}

func TestApplicationStopsAndResumesTheFlow(t *testing.T) {
	for _, word := range []string{"drain", "maint"} {
		t.Run(word, func(t *testing.T) {
			entered := make(chan string, 10)
			leave := make(chan bool)
			a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/stop":
					w.Header().Set("Portner-Load", word)
				case "/long":
					entered <- r.URL.Path
					<-leave
					w.Header().Set("Portner-Load", "ready")
				default:
					entered <- r.URL.Path
				}
			})
			d := open(t, "app_proxy "+a.addr+` {
				name        `+word+`
				concurrency 2
			}`)
			long := d.visit("/long")
			<-entered
			if res := <-d.visit("/stop"); res.StatusCode != 200 || res.Header.Get("Portner-Load") != "" {
				t.Fatalf("%d %v", res.StatusCode, res.Header)
			}
			eventually(t, "the pool is held", func() bool { return poolOf(t, word).Held })
			next := d.queued(word, 1, "/next")
			select {
			case path := <-entered:
				t.Fatalf("%s was sent to an application that wants none", path)
			default:
			}
			leave <- true
			for _, answers := range []<-chan *http.Response{long, next} {
				if res := <-answers; res.StatusCode != 200 {
					t.Errorf("%d", res.StatusCode)
				}
			}
		})
	}
}

func TestApplicationSaysItsLimit(t *testing.T) {
	say := make(chan [2]string, 1)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		said := <-say
		w.Header().Set(said[0], said[1])
	})
	for _, c := range []struct {
		concurrency, name, words string
		want                     int
	}{
		{"auto", "Portner-Load", "maxconn:7", 7},
		{"8", "Portner-Load", "maxconn:3", 3},
		{"8", "Portner-Load", "maxconn:30", 8}, // never raised
		{"8", "Portner-Load", "50%", 4},
		{"8", "Portner-Load", "nonsense", 8},
		{"auto", "Endpoint-Load-Metrics", "TEXT application_utilization=2", 1},
		{"auto", "Endpoint-Load-Metrics", `JSON {"cpu_utilization": 2}`, 1},
		{"8", "Endpoint-Load-Metrics", "TEXT application_utilization=2", 8},
	} {
		name := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, "limit-"+c.concurrency+c.words)
		d := open(t, "app_proxy "+a.addr+" {\n name "+name+"\n concurrency "+c.concurrency+"\n}")
		say <- [2]string{c.name, c.words}
		res := <-d.visit("/")
		if res.StatusCode != 200 || res.Header.Get(c.name) != "" {
			t.Errorf("%+v: %d %v", c, res.StatusCode, res.Header)
		}
		if got := poolOf(t, name).Limits[0]; got != c.want {
			t.Errorf("concurrency %s, %s: %s: limit %d, want %d", c.concurrency, c.name, c.words, got, c.want)
		}
	}
}

func TestServerTimingCanBeSwitchedOff(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Server-Timing", "db;dur=5") })
	for word, want := range map[string]int{"on": 2, "off": 1} {
		d := open(t, "app_proxy "+a.addr+" {\n server_timing "+word+"\n}")
		got := (<-d.visit("/")).Header["Server-Timing"]
		if len(got) != want || got[0] != "db;dur=5" || want == 2 && !strings.HasPrefix(got[1], "queue;dur=0.0, app;dur=") {
			t.Errorf("server_timing %s: %q", word, got)
		}
	}
}

// TestSlowRouteLeavesASlotToTheOthers: of two slots one is in a slow request, and
// the other is kept for those that are not slow, although a slow one came first.
func TestSlowRouteLeavesASlotToTheOthers(t *testing.T) {
	entered, leave := make(chan string, 10), make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- r.URL.Path
		if r.URL.Path == "/slow" {
			<-leave
		}
	})
	d := open(t, "app_proxy "+a.addr+` {
		name        isolated
		concurrency 2
		queue {
			wait 60s
		}
		route GET /slow {
			cost 3s
		}
	}`)
	pages := func() {
		t.Helper()
		for range 5 {
			if status, _ := d.get("/page"); status != 200 {
				t.Errorf("%d", status)
			}
			if path := <-entered; path != "/page" {
				t.Fatalf("%s took the slot of the others", path)
			}
		}
	}
	pages() // what is usual here
	slow := []<-chan *http.Response{d.visit("/slow")}
	if path := <-entered; path != "/slow" {
		t.Fatal(path)
	}
	slow = append(slow, d.queued("isolated", 1, "/slow"))
	pages()
	close(leave)
	for _, answers := range slow {
		if res := <-answers; res.StatusCode != 200 {
			t.Errorf("%d", res.StatusCode)
		}
	}
}

// TestAutoLooksForTheLimit: that the limit is looked for under load at all. What is
// found is examined in internal/admission, where the machine's noise is not.
func TestAutoLooksForTheLimit(t *testing.T) {
	one := make(chan bool, 1)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		one <- true
		time.Sleep(2 * time.Millisecond) // work
		<-one
	})
	d := open(t, "app_proxy "+a.addr+" {\n name learned\n concurrency auto\n queue {\n wait 60s\n }\n}")
	if got := poolOf(t, "learned").Limits[0]; got != 4 {
		t.Fatalf("it begins with %d", got)
	}
	stop := make(chan bool)
	defer close(stop)
	for range 40 { // always more than there are slots, or there is nothing to learn
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
					if res, err := d.do(t.Context(), "GET", "/", nil); err == nil {
						res.Body.Close()
					}
				}
			}
		}()
	}
	eventually(t, "another limit is tried", func() bool { return poolOf(t, "learned").Limits[0] != 4 })
}

func TestRefusalsAreInTheAccessLogAndNowhereElse(t *testing.T) {
	a := newTurnstile(t)
	dir := t.TempDir()
	d := openWith(t, "admin off\nlog {\n output file "+dir+"/error.log\n level ERROR\n}",
		"log {\n output file "+dir+"/access.log\n}\napp_proxy "+a.addr+` {
		name        logged
		concurrency 1
		route GET /item/{id} {
			class writes
		}
	}`)
	first := d.visit("/first")
	<-a.entered
	if p := problem(t, <-d.visit("/item/7", "Prefer", "wait=0")); p.Reason != "queue-wait" {
		t.Fatalf("%+v", p)
	}
	close(a.leave)
	<-first
	var lines string
	eventually(t, "both are in the log", func() bool {
		text, _ := os.ReadFile(dir + "/access.log")
		lines = string(text)
		return strings.Count(lines, "\n") == 2
	})
	refusal, served, _ := strings.Cut(lines, "\n")
	if strings.Contains(refusal, "/first") {
		refusal, served = served, refusal
	}
	for _, want := range []string{`"level":"info"`, `"verdict":"queue-wait"`, `"class":"writes"`, `"template":"GET /item/{id}"`, `"upstream":""`, `"queue_wait":`, `"status":503`} {
		if !strings.Contains(refusal, want) {
			t.Errorf("refusal without %s: %s", want, refusal)
		}
	}
	for _, want := range []string{`"verdict":"ok"`, `"template":"GET /first"`, `"upstream":"` + a.addr + `"`, `"service_time":0.`, `"queue_wait":`} {
		if !strings.Contains(served, want) {
			t.Errorf("answer without %s: %s", want, served)
		}
	}
	if text, _ := os.ReadFile(dir + "/error.log"); len(text) > 0 {
		t.Errorf("in the error log: %s", text)
	}
}
