package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/portner/portner/webapp/internal/store"
)

// TestDoorMayKeepPagesOfVisitorsAlone: a member is never told anything that would
// let a cache keep what he sees, and what he writes ends all that is kept.
func TestDoorMayKeepPagesOfVisitorsAlone(t *testing.T) {
	st, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "news.db"), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	srv, err := New(st, zap.NewNop(), "")
	if err != nil {
		t.Fatal(err)
	}
	var cookie string
	do := func(method, path string, form url.Values) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(form.Encode()))
		if method == http.MethodPost {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		rec := httptest.NewRecorder()
		srv.Handler().ServeHTTP(rec, r)
		return rec
	}
	kept := func(path string) bool {
		t.Helper()
		h := do("GET", path, nil).Header()
		if (h.Get("Portner-Cache-Control") != "") != (h.Get("Cache-Tag") != "") {
			t.Errorf("%s: a page that is kept has no tag to forget it by: %v", path, h)
		}
		return h.Get("Portner-Cache-Control") != ""
	}
	for range 2 { // made, and out of memory
		for path, want := range map[string]bool{"/": true, "/newest": true, "/item/1": false, "/status": false, "/up": false, "/login": false, "/search?q=x": false, "/user/nobody": false} {
			if kept(path) != want {
				t.Errorf("a visitor's %s: kept is %v", path, !want)
			}
		}
	}
	member := do("POST", "/register", url.Values{"name": {"alice"}, "password": {"correct horse battery"}, "again": {"correct horse battery"}})
	cookie, _, _ = strings.Cut(member.Header().Get("Set-Cookie"), ";")
	if cookie == "" || member.Header().Get("Portner-Invalidate") != "" {
		t.Fatalf("a stranger could empty the cache by registering: %d %v", member.Code, member.Header())
	}
	for _, path := range []string{"/", "/newest", "/user/alice", "/submit", "/settings"} {
		if h := do("GET", path, nil).Header(); h.Get("Portner-Cache-Control") != "" || h.Get("Cache-Tag") != "" || h.Get("ETag") != "" || h.Get("Cache-Control") != "private, no-store" {
			t.Errorf("a member's %s: %v", path, h)
		}
	}
	form := do("GET", "/submit", nil).Body.String()
	_, after, _ := strings.Cut(form, `name="csrf" value="`)
	token, _, _ := strings.Cut(after, `"`)
	posted := do("POST", "/submit", url.Values{"csrf": {token}, "title": {"A title"}, "text": {"A text"}})
	if got := posted.Header().Get("Portner-Invalidate"); posted.Code >= 400 || !strings.Contains(got, `tag="list-newest"`) || !strings.Contains(got, `tag="user-alice"`) || strings.Contains(got, "pages") {
		t.Errorf("posted: %d %v", posted.Code, posted.Header())
	}
	if refused := do("POST", "/submit", url.Values{"csrf": {token}, "title": {""}}); refused.Header().Get("Portner-Invalidate") != "" {
		t.Errorf("refused: %d %v", refused.Code, refused.Header())
	}
	if left := do("POST", "/logout", url.Values{"csrf": {token}}); left.Header().Get("Portner-Invalidate") != "" {
		t.Error("a stranger could empty the cache by logging in and out")
	}
}
