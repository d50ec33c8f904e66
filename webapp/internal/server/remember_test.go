package server

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
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
	m := &memory{pages: make(map[string]kept)}
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
	m = &memory{pages: make(map[string]kept)}
	for i := range maxPages - 1 {
		m.keep(fmt.Sprint(i), kept{at: now})
	}
	m.keep("young", kept{at: now.Add(keptFor - 1)})
	m.keep("new", kept{at: now.Add(keptFor), body: make([]byte, maxPage)})
	if _, young := m.pages["young"]; len(m.pages) != 2 || !young {
		t.Errorf("%d pages are kept, want the two that are not old", len(m.pages))
	}
}
