package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/portner/portner/webapp/internal/store"
)

// site is the whole application behind a real listener, without the process.
type site struct {
	*httptest.Server
	store *store.Store
	srv   *Server
	logs  *observer.ObservedLogs
}

func start(t *testing.T) site {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	log := zaptest.NewLogger(t, zaptest.WrapOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, core) })))
	st, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "news.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	srv, err := New(st, log, "")
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(srv.Handler())
	t.Cleanup(ts.Close)
	return site{ts, st, srv, logs}
}

const mebibyte = 1 << 20

type answer struct {
	status int
	header http.Header
	body   string
}

func (s site) do(t *testing.T, method, path string, body io.Reader, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

func (s site) get(t *testing.T, path string) answer {
	t.Helper()
	return s.do(t, "GET", path, nil)
}

// post sends as the course's client does, slip included.
func (s site) post(t *testing.T, body string) answer {
	t.Helper()
	return s.do(t, "POST", "/post", strings.NewReader(body),
		"Content-Type", "application/json", "Connection", "close", "Authorization", "Basic b'c2ltdWxhdG9yOnN1cGVyX3NhZmUh'")
}

func item(id int, kind string, parent int, title, text string) string {
	b, err := json.Marshal(map[string]any{
		"post_title": title, "post_text": text, "hanesst_id": id, "post_type": kind, "post_parent": parent,
		"username": "pg", "pwd_hash": "Y89KIJ3frM", "post_url": "",
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

type problem struct {
	Type   string
	Title  string
	Status int
	Detail string
	Errors []struct{ Field, Pointer, Detail string }
}

// wantProblem checks that an answer is problem details which name the fields.
func wantProblem(t *testing.T, got answer, status int, fields ...string) {
	t.Helper()
	if got.status != status || got.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("got %d %s, want %d and a problem\n%s", got.status, got.header.Get("Content-Type"), status, got.body)
	}
	var p problem
	if err := json.Unmarshal([]byte(got.body), &p); err != nil {
		t.Fatalf("%v in %s", err, got.body)
	}
	if p.Type != "about:blank" || p.Status != status || p.Title != http.StatusText(status) {
		t.Errorf("got %+v", p)
	}
	var named []string
	for _, e := range p.Errors {
		named = append(named, e.Field)
		if e.Detail == "" || !strings.Contains(p.Detail, e.Detail) {
			t.Errorf("nothing is said about %s in %+v", e.Field, p)
		}
	}
	if !slices.Equal(named, fields) {
		t.Errorf("named %q, want %q", named, fields)
	}
}

func (s site) wantLatest(t *testing.T, want string) {
	t.Helper()
	if got := s.get(t, "/latest"); got.status != 200 || got.body != want {
		t.Errorf("/latest: %d %q, want 200 %q", got.status, got.body, want)
	}
}

func TestSimulatorIsServedAsItExpects(t *testing.T) {
	s := start(t)
	s.wantLatest(t, "0")
	for i, body := range []string{
		item(1, "story", -1, "Y Combinator", ""),
		item(2, "comment", 1, "", "first\ttext\n\nwith &#34;entities&#34;"),
		item(9, "poll", -1, "Which one?", ""),
		item(5, "pollopt", 9, "This one", ""),
		item(6, "job", -1, "YC is hiring", "apply"),
		item(6, "job", -1, "YC is hiring", "apply"), // again
	} {
		if got := s.post(t, body); got.status != 200 {
			t.Fatalf("post %d: %d %s", i, got.status, got.body)
		}
	}
	s.wantLatest(t, "6")
	got := s.get(t, "/status")
	if got.status != 200 || got.body != "Alive" {
		t.Errorf("/status: %d %q", got.status, got.body)
	}
	if ct := got.header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("/status is %s", ct)
	}
}

func TestBadPostsAreRefusedAndNothingIsStored(t *testing.T) {
	s := start(t)
	good := item(7, "story", -1, "Good", "")
	sent := func(h ...string) []string { return append([]string{"Content-Type", "application/json"}, h...) }
	for _, row := range []struct {
		name   string
		header []string
		body   string
		status int
		fields []string
	}{
		{"no body", sent(), "", 400, []string{"body"}},
		{"not JSON", sent(), "hello", 400, []string{"body"}},
		{"array", sent(), "[]", 400, []string{"body"}},
		{"trailing garbage", sent(), good + "x", 400, []string{"body"}},
		{"bad UTF-8", sent(), strings.Replace(good, "Good", "Go\xffod", 1), 400, []string{"post_title"}},
		{"field twice", sent(), strings.Replace(good, "{", `{"username":"eve",`, 1), 400, []string{"username"}},
		{"missing field", sent(), strings.Replace(good, "post_url", "url", 1), 422, []string{"post_url"}},
		{"wrong types", sent(), strings.NewReplacer(`"Good"`, "1", ":7", `:"7"`).Replace(good), 422, []string{"post_title", "hanesst_id"}},
		{"unknown post_type", sent(), strings.Replace(good, `"story"`, `"photo"`, 1), 422, []string{"post_type"}},
		{"NUL", sent(), strings.Replace(good, "Good", `Go\u0000od`, 1), 422, []string{"post_title"}},
		{"form", []string{"Content-Type", "application/x-www-form-urlencoded"}, good, 415, []string{"Content-Type"}},
		{"text", []string{"Content-Type", "text/plain"}, good, 415, []string{"Content-Type"}},
		{"broken type", []string{"Content-Type", "application/"}, good, 415, []string{"Content-Type"}},
		{"other characters", []string{"Content-Type", "application/json; charset=latin1"}, good, 415, []string{"Content-Type"}},
		{"compressed", sent("Content-Encoding", "gzip"), good, 415, []string{"Content-Encoding"}},
		{"just too large", sent(), good + strings.Repeat(" ", mebibyte+1-len(good)), 413, []string{"body"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			wantProblem(t, s.do(t, "POST", "/post", strings.NewReader(row.body), row.header...), row.status, row.fields...)
			s.wantLatest(t, "0")
		})
	}
	t.Run("too large without a length", func(t *testing.T) {
		body := io.MultiReader(strings.NewReader(good), strings.NewReader(strings.Repeat(" ", mebibyte)))
		wantProblem(t, s.do(t, "POST", "/post", body, sent()...), 413, "body")
		s.wantLatest(t, "0")
	})
	t.Run("and the next good one is taken", func(t *testing.T) {
		if got := s.post(t, good); got.status != 200 {
			t.Errorf("%d %s", got.status, got.body)
		}
		s.wantLatest(t, "7")
	})
}

func TestLargestBodyIsTaken(t *testing.T) {
	s := start(t)
	good := item(7, "story", -1, "Good", "")
	text := strings.Replace(good, `"post_text":""`, `"post_text":"`+strings.Repeat("x", mebibyte-len(good))+`"`, 1)
	if got := s.post(t, text); got.status != 200 {
		t.Errorf("%d bytes: %d %s", len(text), got.status, got.body)
	}
}

func TestMediaTypeIsReadLeniently(t *testing.T) {
	s := start(t)
	for i, said := range []string{"application/json", "Application/JSON; charset=UTF-8", ""} {
		got := s.do(t, "POST", "/post", strings.NewReader(item(i+1, "story", -1, "x", "")), "Content-Type", said)
		if got.status != 200 {
			t.Errorf("%q: %d %s", said, got.status, got.body)
		}
	}
}

func TestWrongSecretIsForbidden(t *testing.T) {
	s := start(t)
	s.post(t, item(1, "story", -1, "x", ""))
	other := strings.Replace(item(2, "story", -1, "x", ""), "Y89KIJ3frM", "guessed", 1)
	wantProblem(t, s.post(t, other), 403, "pwd_hash")
	s.wantLatest(t, "1")
}

func TestStatusIsDownWhileTheDatabaseIsAway(t *testing.T) {
	s := start(t)
	s.store.Close()
	if got := s.get(t, "/status"); got.status != 503 || got.body != "Down" {
		t.Errorf("/status: %d %q", got.status, got.body)
	}
	got := s.post(t, item(1, "story", -1, "x", ""))
	wantProblem(t, got, 503)
	if got.header.Get("Retry-After") == "" || strings.Contains(got.body, "sql") {
		t.Errorf("%v %s", got.header, got.body)
	}
	page := s.get(t, "/")
	if page.status != 503 || page.header.Get("Retry-After") == "" || !strings.Contains(page.body, "<h1") || strings.Contains(page.body, "sql") {
		t.Errorf("/: %d %s", page.status, page.body)
	}
}

func TestStatusIsUpdateWhileStopping(t *testing.T) {
	s := start(t)
	if err := s.srv.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.get(t, "/status"); got.status != 503 || got.body != "Update" {
		t.Errorf("/status: %d %q", got.status, got.body)
	}
}

func TestProgramsGetProblemsAndPeopleGetPages(t *testing.T) {
	s := start(t)
	for _, path := range []string{"/post", "/latest", "/status"} {
		wantProblem(t, s.do(t, "DELETE", path, nil), 405)
	}
	wantProblem(t, s.get(t, "/post"), 405)
	for path, status := range map[string]int{
		"/nothing": 404, "/item/1": 404, "/item/0": 404, "/item/x": 404, "/item/01": 404, "/item/1/": 404, "/item": 404,
		"/?n=0": 404, "/?n=x": 404, "/?after=x": 404, "/newest?n=99999999999999999999": 404, "/static/nothing": 404,
		"/static/..%2fpage.go": 404, "/item/%00": 404,
	} {
		got := s.get(t, path)
		if got.status != status || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") || !strings.Contains(got.body, "There is nothing here") {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := s.do(t, "POST", "/", strings.NewReader("x=y")); got.status != 405 || !strings.Contains(got.body, "<h1") {
		t.Errorf("POST /: %d", got.status)
	}
}

func TestHeadIsAnsweredLikeGet(t *testing.T) {
	s := start(t)
	s.post(t, item(1, "story", -1, "x", ""))
	for _, path := range []string{"/", "/newest", "/item/1", "/latest", "/status", "/static/style.css"} {
		head, get := s.do(t, "HEAD", path, nil), s.get(t, path)
		if head.status != get.status || head.body != "" || head.header.Get("Content-Length") != fmt.Sprint(len(get.body)) {
			t.Errorf("%s: HEAD %d with length %s, GET %d with %d bytes",
				path, head.status, head.header.Get("Content-Length"), get.status, len(get.body))
		}
	}
}

func TestEveryAnswerForbidsForeignContent(t *testing.T) {
	s := start(t)
	for _, path := range []string{"/", "/nothing", "/latest", "/static/style.css"} {
		h := s.get(t, path).header
		if !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") ||
			!strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" {
			t.Errorf("%s: %v", path, h)
		}
		if h.Get("Set-Cookie") != "" {
			t.Errorf("%s sets a cookie", path)
		}
	}
}

func TestRequestIDOfTheDoorIsInTheLog(t *testing.T) {
	s := start(t)
	if got := s.do(t, "GET", "/latest", nil, "X-Request-ID", "door-17").header.Get("X-Request-ID"); got != "door-17" {
		t.Errorf("answered with %q", got)
	}
	lines := s.logs.FilterMessage("request").FilterField(zap.String("request_id", "door-17")).All()
	if len(lines) != 1 || lines[0].ContextMap()["status"] != int64(200) || lines[0].ContextMap()["uri"] != "/latest" {
		t.Errorf("logged %+v", lines)
	}
	if got := s.get(t, "/latest").header.Get("X-Request-ID"); len(got) < 16 {
		t.Errorf("without one, made %q", got)
	}
	if got := s.do(t, "GET", "/latest", nil, "X-Request-ID", strings.Repeat("x", 1000)).header.Get("X-Request-ID"); len(got) > 128 {
		t.Errorf("kept one of %d bytes", len(got))
	}
}

func TestSecretIsNotInTheLog(t *testing.T) {
	s := start(t)
	s.post(t, item(1, "story", -1, "x", ""))
	s.post(t, strings.Replace(item(2, "story", -1, "x", ""), "Y89KIJ3frM", "Y89KIJ3frMx", 1))
	s.store.Close()
	s.post(t, item(3, "story", -1, "x", ""))
	for _, line := range s.logs.All() {
		if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "Y89KIJ3frM") {
			t.Errorf("logged %s", text)
		}
	}
}

func TestPanicIsAnsweredAndLogged(t *testing.T) {
	s := start(t)
	s.srv.Handler().(*echo.Echo).GET("/panic", func(echo.Context) error { panic("on purpose") })
	if got := s.get(t, "/panic"); got.status != 500 || strings.Contains(got.body, "on purpose") || !strings.Contains(got.body, "<h1") {
		t.Errorf("%d %s", got.status, got.body)
	}
	lines := s.logs.FilterMessage("request failed").All()
	if len(lines) != 1 || !bytes.Contains([]byte(fmt.Sprint(lines[0].ContextMap()["stack"])), []byte("server_test.go")) {
		t.Errorf("logged %+v", lines)
	}
	if got := s.get(t, "/latest"); got.status != 200 {
		t.Errorf("afterwards: %d", got.status)
	}
}

func TestBusyStoreIs503WithRetryAfterAndNoFault(t *testing.T) {
	s := start(t)
	e := s.srv.Handler().(*echo.Echo)
	for _, path := range []string{"/busy", "/api/v1/busy"} {
		e.GET(path, func(echo.Context) error { return store.ErrBusy })
		got := s.get(t, path)
		if got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "at once") || strings.Contains(got.body, "database") {
			t.Errorf("%s: %d %v %s", path, got.status, got.header, got.body)
		}
	}
	if lines := s.logs.FilterMessage("request failed").All(); len(lines) != 0 {
		t.Errorf("logged %+v", lines)
	}
}

func TestBodyThatBreaksOffIsNotStored(t *testing.T) {
	s := start(t)
	r, w := io.Pipe()
	go func() {
		io.WriteString(w, item(1, "story", -1, "x", "")[:20])
		w.CloseWithError(io.ErrUnexpectedEOF) // the client's transport closes the connection
	}()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/post", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if res, err := http.DefaultClient.Do(req); err == nil {
		res.Body.Close()
		t.Errorf("answered %d", res.StatusCode)
	}
	s.wantLatest(t, "0")
}
