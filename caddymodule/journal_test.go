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
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/portner/portner/caddymodule"
)

// taker is an application that takes writes, and can be away, broken or slow.
type taker struct {
	addr string

	mu      sync.Mutex
	taken   []string
	seen    []http.Header
	answer  func(n int, w http.ResponseWriter, body string) bool // false: it has not been taken
	count   int
	running *httptest.Server
}

func newTaker(t *testing.T) *taker {
	a := &taker{addr: freeAddr(t)}
	t.Cleanup(a.stop)
	return a
}

func (a *taker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Method == http.MethodGet {
		io.WriteString(w, "page")
		return
	}
	a.mu.Lock()
	a.count++
	n, answer := a.count, a.answer
	a.seen = append(a.seen, r.Header.Clone())
	a.mu.Unlock()
	if answer != nil && !answer(n, w, string(body)) {
		return
	}
	a.mu.Lock()
	a.taken = append(a.taken, string(body))
	a.mu.Unlock()
	if answer == nil {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "taken %s", body)
	}
}

func (a *taker) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	a.running = &httptest.Server{Listener: l, Config: &http.Server{Handler: a}}
	a.running.Start()
}

func (a *taker) stop() {
	if a.running != nil {
		a.running.CloseClientConnections()
		a.running.Close()
		a.running = nil
	}
}

func (a *taker) has() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.taken)
}

func (a *taker) attempts() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

func journalled(t *testing.T, a *taker, words string) string {
	return fmt.Sprintf("app_proxy %s {\n name %s\n concurrency 2\n journal_dir %s\n route POST /post {\n journal {\n %s\n }\n }\n route GET /status {\n respond_status\n }\n }",
		a.addr, strings.ToLower(t.Name()), t.TempDir(), words)
}

func (d *door) post(t *testing.T, body string, fields ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url+"/post", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header[fields[i]] = []string{fields[i+1]}
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

func numbers(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

// away makes the door notice that the application is not there.
func (d *door) away(t *testing.T) {
	t.Helper()
	d.post(t, "first")
	eventually(t, "the status is Update", func() bool {
		_, text := d.get("/status")
		return text == "Update"
	})
}

func TestWritesOfAnAbsentApplicationAreDeliveredInOrderAndOnce(t *testing.T) {
	a := newTaker(t)
	d := open(t, journalled(t, a, "respond 200 ok"))
	d.away(t)
	want := []string{"first"}
	for _, n := range numbers(50) {
		res, text := d.post(t, n, "Authorization", "Basic b'c2ltOnNlY3JldA=='") // Python's slip
		if res.StatusCode != 200 || text != "ok" {
			t.Fatalf("%d %q", res.StatusCode, text)
		}
		want = append(want, n)
	}
	a.start(t)
	eventually(t, "all are delivered", func() bool { return len(a.has()) >= len(want) })
	if got := a.has(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	a.mu.Lock()
	h := a.seen[len(a.seen)-1]
	a.mu.Unlock()
	if h.Get("Authorization") != "Basic b'c2ltOnNlY3JldA=='" || h.Get("Idempotency-Key") == "" || h.Get("Portner-Attempt") == "" || h.Get("X-Forwarded-For") != "127.0.0.1" {
		t.Errorf("the application saw %v", h)
	}
	eventually(t, "the status is Alive", func() bool {
		_, text := d.get("/status")
		return text == "Alive"
	})
}

func TestHealthyApplicationAnswersByItself(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	d := open(t, journalled(t, a, "answer_within 10s"))
	if res, text := d.post(t, "x"); res.StatusCode != 201 || text != "taken x" {
		t.Errorf("%d %q", res.StatusCode, text)
	}
	a.answer = func(_ int, w http.ResponseWriter, _ string) bool {
		http.Error(w, "no", http.StatusUnprocessableEntity)
		return false
	}
	if res, text := d.post(t, "x"); res.StatusCode != 422 || text != "no\n" {
		t.Errorf("%d %q", res.StatusCode, text)
	}
	long := strings.Repeat("long ", 1<<16)
	a.answer = func(_ int, w http.ResponseWriter, _ string) bool { io.WriteString(w, long); return true }
	if res, text := d.post(t, "x"); res.StatusCode != 200 || text != long {
		t.Errorf("%d and %d bytes", res.StatusCode, len(text))
	}
}

func TestSlowApplicationIsAskedOnceAndTheClientAccepted(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	release := make(chan struct{})
	a.answer = func(_ int, w http.ResponseWriter, _ string) bool { <-release; w.Write([]byte("late")); return true }
	d := open(t, journalled(t, a, "answer_within 20ms"))
	res, _ := d.post(t, "x")
	at := res.Header.Get("Location")
	if res.StatusCode != 202 || res.Header.Get("Retry-After") == "" || !strings.HasPrefix(at, "/.well-known/portner/journal/") {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	if _, text := d.get(at); !strings.Contains(text, `"undelivered"`) {
		t.Errorf("while it runs: %s", text)
	}
	close(release)
	var told struct {
		State    string
		Attempts int
		Answer   struct {
			Status int
			Text   string
		}
	}
	eventually(t, "the status has the answer", func() bool {
		_, text := d.get(at)
		return json.Unmarshal([]byte(text), &told) == nil && told.State == "delivered"
	})
	if told.Attempts != 1 || told.Answer.Status != 200 || told.Answer.Text != "late" || a.attempts() != 1 {
		t.Errorf("%+v after %d attempts", told, a.attempts())
	}
	if status, _ := d.get("/.well-known/portner/journal/00000000000000000000000000000000"); status != 404 {
		t.Errorf("an unknown id: %d", status)
	}
}

func TestErrorOfTheApplicationIsNotShownAndTriedAgain(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	a.answer = func(n int, w http.ResponseWriter, _ string) bool {
		if n < 3 {
			http.Error(w, "broken", 500)
		}
		return n >= 3
	}
	d := open(t, journalled(t, a, "answer_within 10s"))
	if res, _ := d.post(t, "x"); res.StatusCode != 202 {
		t.Errorf("%d", res.StatusCode)
	}
	eventually(t, "it is delivered", func() bool { return len(a.has()) == 1 })
}

func TestClientThatLeavesCancelsNothing(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	entered, release := make(chan struct{}), make(chan struct{})
	a.answer = func(int, http.ResponseWriter, string) bool { close(entered); <-release; return true }
	d := open(t, journalled(t, a, "answer_within 10s"))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if _, err := d.do(ctx, http.MethodPost, "/post", strings.NewReader("x")); err == nil {
		t.Fatal("it was answered")
	}
	close(release)
	eventually(t, "it is taken", func() bool { return slices.Equal(a.has(), []string{"x"}) })
	if n := a.attempts(); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

func TestReloadKeepsWhatIsNotDelivered(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	d := open(t, words)
	d.away(t)
	for _, n := range numbers(5) {
		d.post(t, n)
	}
	d.load(strings.Replace(words, "respond 200", "respond 204", 1))
	if res, _ := d.post(t, "after"); res.StatusCode != 204 {
		t.Errorf("%d", res.StatusCode)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	d.load(words)
	a.start(t)
	want := append(append([]string{"first"}, numbers(5)...), "after")
	eventually(t, "all are delivered", func() bool { return len(a.has()) >= len(want) })
	if got := a.has(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestClientPrefersToBeAnsweredAtOnce(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	release := make(chan struct{})
	a.answer = func(int, http.ResponseWriter, string) bool { <-release; return true }
	d := open(t, journalled(t, a, "answer_within 1m"))
	for _, c := range []string{"respond-async", "wait=0"} {
		if res, _ := d.post(t, c, "Prefer", c); res.StatusCode != 202 || res.Header.Get("Preference-Applied") != c {
			t.Errorf("%s: %d %v", c, res.StatusCode, res.Header)
		}
	}
	close(release)
	eventually(t, "both are taken", func() bool { return slices.Equal(a.has(), []string{"respond-async", "wait=0"}) })
}

// Nor when it takes longer than it may: the application hears that nobody waits.
func TestAttemptThatTakesTooLongHasNoSecondOneBesideIt(t *testing.T) {
	for _, way := range []string{"", "direct off"} {
		t.Run(way, func(t *testing.T) {
			a := newTaker(t)
			var running, tried, most atomic.Int64
			hanging := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				if tried.Add(1) == 1 {
					select {
					case <-r.Context().Done():
					case <-time.After(3 * time.Second):
					}
				}
			})
			l, err := net.Listen("tcp", a.addr)
			if err != nil {
				t.Fatal(err)
			}
			a.running = &httptest.Server{Listener: l, Config: &http.Server{Handler: hanging}}
			a.running.Start()
			d := open(t, strings.Replace(journalled(t, a, "respond 200"), "concurrency 2", "concurrency 2\n timeouts {\n whole 300ms\n }\n"+way, 1))
			d.post(t, "x")
			eventually(t, "it is sent again", func() bool { return tried.Load() == 2 })
			if n := most.Load(); n != 1 {
				t.Errorf("%d attempts side by side", n)
			}
		})
	}
}

func TestRepeatGetsTheKeptAnswer(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	d := open(t, journalled(t, a, "answer_within 10s"))
	for range 2 {
		if res, text := d.post(t, "x", "Idempotency-Key", `"one"`); res.StatusCode != 201 || text != "taken x" {
			t.Errorf("%d %q", res.StatusCode, text)
		}
	}
	if res, _ := d.post(t, "y", "Idempotency-Key", `"one"`); res.StatusCode != 422 {
		t.Errorf("the key for another body: %d", res.StatusCode)
	}
	if res, _ := d.post(t, "y", "Idempotency-Key", `"one"`, "Cookie", "session=other"); res.StatusCode != 201 {
		t.Errorf("the key of another client: %d", res.StatusCode)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	a.answer = func(int, http.ResponseWriter, string) bool { close(entered); <-release; return true }
	go d.do(t.Context(), http.MethodPost, "/post", nil)
	<-entered
	close(release)
	if got := a.has(); !slices.Equal(got[:2], []string{"x", "y"}) {
		t.Errorf("taken: %v", got)
	}
}

// What is said to apply is what applies: of a longer wait, a minute.
func TestClientPrefersToWaitSoLong(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	d := open(t, journalled(t, a, "answer_within 0s"))
	for prefer, want := range map[string]string{"wait=2": "wait=2", "wait=60": "wait=60", "wait=120": "wait=60"} {
		if res, text := d.post(t, prefer, "Prefer", prefer); res.StatusCode != 201 || text != "taken "+prefer || res.Header.Get("Preference-Applied") != want {
			t.Errorf("%s: %d %q %v", prefer, res.StatusCode, text, res.Header["Preference-Applied"])
		}
	}
	release := make(chan struct{})
	a.answer = func(int, http.ResponseWriter, string) bool { <-release; return true }
	defer close(release)
	start := time.Now()
	if res, _ := d.post(t, "slow", "Prefer", "wait=1"); res.StatusCode != 202 || time.Since(start) < time.Second {
		t.Errorf("%d after %v", res.StatusCode, time.Since(start))
	}
}

// The cookie by which a browser keeps its place in the queue comes and goes
// between two sendings of one form.
func TestRepeatIsKnownWithAndWithoutThePlaceInTheQueue(t *testing.T) {
	for name, cookies := range map[string][]string{
		"nobody":  {"", "portner_place=x", "portner_place=y"},
		"session": {"session=1", "session=1; portner_place=x", "portner_place=y; session=1"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTaker(t)
			a.start(t)
			d := open(t, journalled(t, a, "answer_within 10s"))
			for _, cookie := range cookies {
				if res, text := d.post(t, "x", "Idempotency-Key", "one", "Cookie", cookie); res.StatusCode != 201 || text != "taken x" {
					t.Errorf("%q: %d %q", cookie, res.StatusCode, text)
				}
			}
			if res, _ := d.post(t, "x", "Idempotency-Key", "one"); res.StatusCode != 201 {
				t.Errorf("without a cookie: %d", res.StatusCode)
			}
			if want := map[string]int{"nobody": 1, "session": 2}[name]; a.attempts() != want {
				t.Errorf("%d attempts, want %d", a.attempts(), want)
			}
		})
	}
}

func TestRepeatOfWhatRunsIsAConflict(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	release := make(chan struct{})
	a.answer = func(int, http.ResponseWriter, string) bool { <-release; return true }
	defer close(release)
	d := open(t, journalled(t, a, "always"))
	if res, _ := d.post(t, "x", "Idempotency-Key", `"one"`); res.StatusCode != 202 {
		t.Errorf("%d", res.StatusCode)
	}
	if res, _ := d.post(t, "x", "Idempotency-Key", `"one"`); res.StatusCode != 409 || res.Header.Get("Location") == "" {
		t.Errorf("its repeat: %d", res.StatusCode)
	}
}

func TestFullJournalSaysSo(t *testing.T) {
	a := newTaker(t)
	d := open(t, journalled(t, a, "max_bytes 4KiB\n per_client off"))
	d.away(t)
	body := strings.Repeat("x", 1000)
	for range 10 {
		if res, _ := d.post(t, body); res.StatusCode == http.StatusInsufficientStorage {
			return
		}
	}
	t.Error("ten writes of 1000 bytes went into 4 KiB")
}

func TestClientsShareIsItsOwn(t *testing.T) {
	a := newTaker(t)
	d := open(t, journalled(t, a, "max_bytes 16KiB"))
	d.away(t)
	body := strings.Repeat("x", 1000)
	refused := false
	for range 5 {
		res, text := d.post(t, body, "Authorization", "greedy")
		if res.StatusCode == http.StatusAccepted {
			continue
		}
		if refused = true; res.StatusCode != http.StatusInsufficientStorage || !strings.Contains(text, `"journal-share"`) {
			t.Errorf("%d %s", res.StatusCode, text)
		}
	}
	if !refused {
		t.Error("five writes of 1000 bytes went into a quarter of 16 KiB")
	}
	if res, text := d.post(t, body, "Authorization", "modest"); res.StatusCode != http.StatusAccepted {
		t.Errorf("another client: %d %s", res.StatusCode, text)
	}
}

// Not even in passing: no file of the journal has had it.
func TestOmittedFieldsAreNeitherOnDiskNorSent(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200\n omit_headers X-Omitted Cookie")
	d := open(t, words)
	d.away(t)
	fields := []string{"X-Omitted", "OMITTED", "Cookie", "session=OMITTED", "X-Kept", "KEPTFIELD"}
	d.post(t, "x", fields...)
	var all strings.Builder
	files, err := os.ReadDir(store(t, words))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(store(t, words), file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	if !strings.Contains(all.String(), "KEPTFIELD") || strings.Contains(all.String(), "OMITTED") {
		t.Errorf("the kept one is on disk: %v, the omitted ones: %v", strings.Contains(all.String(), "KEPTFIELD"), strings.Contains(all.String(), "OMITTED"))
	}
	a.start(t)
	eventually(t, "both are delivered", func() bool { return len(a.has()) == 2 })
	d.post(t, "y", fields...) // by its own request
	eventually(t, "the third is delivered", func() bool { return len(a.has()) == 3 })
	for _, h := range a.seen[1:] {
		if h.Get("X-Kept") != "KEPTFIELD" || h["X-Omitted"] != nil || h["Cookie"] != nil {
			t.Errorf("the application saw %v", h)
		}
	}
}

// Writes are not kept, and nobody takes them.
func TestStatusIsDownWhenNothingIsKept(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, strings.Replace(words, dirOf(words), file, 1))
	eventually(t, "the status is Down", func() bool {
		ask(t, d.url+"/", "Prefer", "wait=0") // somebody has to notice that it is away
		status, text := d.get("/status")
		return status == http.StatusServiceUnavailable && text == "Down"
	})
	a.start(t)
	eventually(t, "the status is Alive", func() bool {
		status, text := d.get("/status")
		return status == http.StatusOK && text == "Alive"
	})
}

func TestValidateOpensNoJournal(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	d := open(t, words)
	validate(t, d.config(words)) // it would find it in use
	if res, _ := d.post(t, "x"); res.StatusCode != 200 {
		t.Errorf("%d", res.StatusCode)
	}
}

func TestPoolWithAnAttemptThatWaitsIsNotLeftOver(t *testing.T) {
	a := newTaker(t)
	d := open(t, journalled(t, a, "respond 200"))
	d.away(t) // its attempt waits for the application
	d.load("respond gone")
	caddymodule.RetireIdle()
	eventually(t, "the pool has retired", func() bool {
		return !slices.Contains(caddymodule.Retiring(), strings.ToLower(t.Name()))
	})
	if n := a.attempts(); n != 0 {
		t.Errorf("%d attempts", n)
	}
}

func TestTwoPoolsHaveTwoJournals(t *testing.T) {
	a, b := newTaker(t), newTaker(t)
	b.start(t)
	words := func(a *taker, name, path string) string {
		return fmt.Sprintf("app_proxy %s %s {\n name %s\n journal_dir %s\n route POST %s {\n journal {\n always\n }\n }\n }", path, a.addr, name, t.TempDir(), path)
	}
	d := open(t, words(a, "left", "/left")+"\n"+words(b, "right", "/right"))
	for _, path := range []string{"/left", "/right"} {
		if res, err := d.do(t.Context(), http.MethodPost, path, strings.NewReader(path)); err != nil || res.StatusCode != 202 {
			t.Errorf("%s: %v %v", path, res, err)
		}
	}
	eventually(t, "the right one is delivered", func() bool { return slices.Equal(b.has(), []string{"/right"}) })
	a.start(t)
	eventually(t, "the left one is delivered", func() bool { return slices.Equal(a.has(), []string{"/left"}) })
}

// The status is told by whichever handler of the site its path comes to.
func TestStatusOfAnEntryIsFoundInAnyJournal(t *testing.T) {
	a := newTaker(t)
	words := func(matcher, name, path string) string {
		return fmt.Sprintf("app_proxy %s %s {\n name %s\n journal_dir %s\n route POST %s {\n journal {\n always\n }\n }\n }", matcher, a.addr, name, t.TempDir(), path)
	}
	d := open(t, "@left path /left /.well-known/portner/journal/*\n"+words("@left", "left-of-site", "/left")+"\n"+words("/right", "right-of-site", "/right"))
	for _, path := range []string{"/left", "/right"} {
		res, err := d.do(t.Context(), http.MethodPost, path, strings.NewReader("x"))
		if err != nil || res.StatusCode != 202 {
			t.Fatalf("%s: %v %v", path, res, err)
		}
		if status, text := d.get(res.Header.Get("Location")); status != 200 || !strings.Contains(text, `"undelivered"`) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, text := d.get("/.well-known/portner/journal/" + strings.Repeat("0", 32)); status != 404 {
		t.Errorf("an id of nobody's: %d %s", status, text)
	}
	a.start(t)
	eventually(t, "both are delivered", func() bool { return len(a.has()) == 2 })
}

// TestOperatorsFieldsAreThoseOfTheClientAlsoInTheJournal: the client has left by the
// time that its write is sent, and what is sent is still its write.
func TestOperatorsFieldsAreThoseOfTheClientAlsoInTheJournal(t *testing.T) {
	bothWays(t, func(t *testing.T, direct string) {
		a := newTaker(t)
		const up = "header_up X-Host {remote_host}\n header_up X-Scheme {scheme}\n header_up X-Client {client_ip}\n trusted_proxies 127.0.0.1/32"
		config := strings.Replace(journalled(t, a, "respond 200"), "concurrency 2", "concurrency 2\n direct "+direct+"\n "+up, 1)
		d := open(t, strings.Replace(config, "name "+strings.ToLower(t.Name()), "name operators", 1))
		d.away(t)
		d.post(t, "second", "X-Forwarded-Proto", "https")
		a.start(t)
		eventually(t, "both are delivered", func() bool { return slices.Equal(a.has(), []string{"first", "second"}) })
		a.mu.Lock()
		defer a.mu.Unlock()
		for i, scheme := range []string{"http", "https"} {
			h := a.seen[i]
			if h.Get("X-Host") != "127.0.0.1" || h.Get("X-Client") != "127.0.0.1" || h.Get("X-Scheme") != scheme {
				t.Errorf("the application saw %v", h)
			}
		}
	})
}

// TestStreamForAnAnswerStopsNoLane: whoever answers a write with events has a bound.
func TestStreamForAnAnswerStopsNoLane(t *testing.T) {
	bothWays(t, func(t *testing.T, direct string) {
		a := newTaker(t)
		stuck := make(chan struct{})
		t.Cleanup(func() { close(stuck) })
		a.answer = func(n int, w http.ResponseWriter, _ string) bool {
			if n == 1 {
				w.Header().Set("Content-Type", "text/event-stream")
				http.NewResponseController(w).Flush()
				<-stuck
			}
			return n > 1
		}
		a.start(t)
		config := strings.Replace(journalled(t, a, "respond 200"), "concurrency 2", "concurrency 2\n direct "+direct+"\n timeouts {\n whole 2s\n }", 1)
		d := open(t, strings.Replace(config, "name "+strings.ToLower(t.Name()), "name events", 1))
		d.post(t, "first")
		d.post(t, "second")
		eventually(t, "both are delivered", func() bool { return slices.Equal(a.has(), []string{"first", "second"}) })
	})
}

func TestJournalOverReverseProxyWay(t *testing.T) {
	a := newTaker(t)
	d := open(t, strings.Replace(journalled(t, a, "respond 200"), "concurrency 2", "concurrency 2\n direct off", 1))
	d.away(t)
	d.post(t, "second")
	a.start(t)
	eventually(t, "both are delivered", func() bool { return slices.Equal(a.has(), []string{"first", "second"}) })
	a.mu.Lock()
	h := a.seen[0]
	a.mu.Unlock()
	if h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("Portner-Attempt") == "" || h.Get("Portner-Remote") != "" {
		t.Errorf("the application saw %v", h)
	}
}
