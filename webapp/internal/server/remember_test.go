package server

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"net/http/httptest"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/store"
)

func TestVisitorsPageIsMadeOnceUntilSomethingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "news.db"), zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		srv, err := New(st, zap.NewNop(), "")
		if err != nil {
			t.Fatal(err)
		}
		var made atomic.Int64
		srv.Handler().(*echo.Echo).GET("/counted", func(c echo.Context) error {
			if c.QueryParam("cookie") != "" {
				c.Response().Header().Set("Set-Cookie", "a=b")
			}
			return c.HTML(200, fmt.Sprint("made ", made.Add(1)))
		})
		get := func(path string, header ...string) string {
			t.Helper()
			r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			rec := httptest.NewRecorder()
			srv.Handler().ServeHTTP(rec, r)
			if h := rec.Header(); h.Get("Vary") != "Cookie" || h.Get("Content-Type") != "text/html; charset=UTF-8" || len(h.Values("X-Request-Id")) != 1 || len(h.Values("Server-Timing")) != 1 {
				t.Errorf("%s: %v", path, h)
			}
			return rec.Body.String()
		}
		want := func(what, got string, n int) {
			t.Helper()
			if got != fmt.Sprint("made ", n) {
				t.Errorf("%s: %s, want %d", what, got, n)
			}
		}
		want("first", get("/counted"), 1)
		want("again", get("/counted"), 1)
		want("another address", get("/counted?p=2"), 2)
		want("with a cookie", get("/counted", "Cookie", "x=y"), 3)
		want("still", get("/counted"), 1)
		post := news.Post{ID: 1, Kind: news.Story, By: "pg", Secret: "x", Title: "x"}
		if err := st.Take(t.Context(), post); err != nil {
			t.Fatal(err)
		}
		want("after a commit", get("/counted"), 4)
		time.Sleep(keptFor)
		want("after a second", get("/counted"), 5)
		want("one that sets a cookie", get("/counted?cookie=1"), 6)
		want("is made anew", get("/counted?cookie=1"), 7)
		for i := range 3 * maxPages {
			get(fmt.Sprintf("/counted?n=%d", i))
		}
		get("/counted?" + strings.Repeat("x", 2*maxKeptName))
	})
}

func TestMemoryOfPagesIsBounded(t *testing.T) {
	m := newMemory(nil)
	now := time.Now()
	for i := range 3 * maxPages {
		m.keep(fmt.Sprint(i), kept{at: now})
	}
	if len(m.pages) > maxPages {
		t.Errorf("%d pages", len(m.pages))
	}
}

func TestKeptPagesAreBounded(t *testing.T) {
	m := newMemory(nil)
	now := time.Now()
	held := func() (n int) {
		for _, p := range m.pages {
			n += len(p.body)
		}
		return n
	}
	for i := range 3 * maxPages {
		m.keep(fmt.Sprint(i), kept{at: now, body: make([]byte, maxPage)})
		m.keep(fmt.Sprint(i), kept{at: now, body: make([]byte, maxPage/2)}) // the same anew
		if got := held(); got > maxBytes || got != m.bytes {
			t.Fatalf("after %d pages: %d bytes, counted %d, at most %d", i, got, m.bytes, maxBytes)
		}
	}
	for i := range 3 * maxPages {
		m.keep(fmt.Sprint("small ", i), kept{at: now, body: make([]byte, 10)})
		if len(m.pages) > maxPages || held() != m.bytes {
			t.Fatalf("%d pages of %d bytes, counted %d", len(m.pages), held(), m.bytes)
		}
	}
	// What is old goes first, and not all.
	m = newMemory(nil)
	for i := range maxPages - 1 {
		m.keep(fmt.Sprint(i), kept{at: now})
	}
	m.keep("young", kept{at: now.Add(keptFor - 1)})
	m.keep("new", kept{at: now.Add(keptFor), body: make([]byte, maxPage)})
	if _, young := m.pages["young"]; len(m.pages) != 2 || !young {
		t.Errorf("%d pages are kept, want the two that are not old", len(m.pages))
	}
}

func TestPageThatManyWantIsMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "news.db"), zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		srv, err := New(st, zap.NewNop(), "")
		if err != nil {
			t.Fatal(err)
		}
		var made atomic.Int64
		srv.Handler().(*echo.Echo).GET("/slow", func(c echo.Context) error {
			n := made.Add(1)
			time.Sleep(time.Minute / 2)
			if c.QueryParam("fails") != "" {
				return echo.ErrTeapot
			}
			return c.HTML(200, fmt.Sprint("made ", n))
		})
		ask := func(ctx context.Context, path string) *httptest.ResponseRecorder {
			rec := httptest.NewRecorder()
			srv.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "GET", path, nil))
			return rec
		}
		crowd := func(path string, n int) (answers []*httptest.ResponseRecorder) {
			answers = make([]*httptest.ResponseRecorder, n)
			var wg sync.WaitGroup
			for i := range answers {
				wg.Go(func() { answers[i] = ask(t.Context(), path) })
			}
			wg.Wait()
			return answers
		}
		start := time.Now()
		for _, a := range crowd("/slow", 10) {
			if a.Code != 200 || a.Body.String() != "made 1" {
				t.Errorf("%d %s", a.Code, a.Body)
			}
		}
		if n, took := made.Load(), time.Since(start); n != 1 || took != time.Minute/2 {
			t.Errorf("made %d times in %v", n, took)
		}
		// What is committed before somebody asks is in his answer: he and who
		// comes with him share the next one.
		made.Store(0)
		time.Sleep(time.Minute)
		var early sync.WaitGroup
		early.Go(func() { ask(t.Context(), "/slow") })
		synctest.Wait()
		if _, err := st.Register(t.Context(), "ann", password); err != nil {
			t.Fatal(err)
		}
		for _, a := range crowd("/slow", 5) {
			if a.Body.String() != "made 2" {
				t.Errorf("after a commit: %s", a.Body)
			}
		}
		early.Wait()
		// What cannot be kept is made for each.
		for _, a := range crowd("/slow?fails=1", 3) {
			if a.Code != 418 {
				t.Errorf("%d", a.Code)
			}
		}
		// What was kept long ago is for nobody, not even for who waited in vain.
		var fails atomic.Bool
		srv.Handler().(*echo.Echo).GET("/once", func(c echo.Context) error {
			time.Sleep(time.Second / 2)
			if fails.Load() {
				return echo.ErrTeapot
			}
			return c.HTML(200, "old")
		})
		ask(t.Context(), "/once")
		time.Sleep(time.Minute)
		fails.Store(true)
		for _, a := range crowd("/once", 3) {
			if a.Code != 418 {
				t.Errorf("%d %s", a.Code, a.Body)
			}
		}
		for _, a := range crowd("/newest", 50) {
			if a.Code != 200 || a.Header().Get("Vary") != "Cookie" || len(a.Header().Values("X-Request-Id")) != 1 {
				t.Errorf("%d %v", a.Code, a.Header())
			}
		}
		// Who leaves does not wait.
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { ask(t.Context(), "/slow?q") })
		synctest.Wait()
		cancel()
		start = time.Now()
		ask(ctx, "/slow?q")
		if took := time.Since(start); took != 0 {
			t.Errorf("he waited %v", took)
		}
		wg.Wait()
	})
}
