package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The door with a cache and the site behind it: a page is the door's until
// something of it changes, the writer's next reader sees it, and nobody sees
// what was made for somebody else.
func TestDoorKeepsPagesUntilTheyChange(t *testing.T) {
	site, _ := door(t, "cache 64MiB")
	client := http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	do := func(method, path, body string, header ...string) (h http.Header, text string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, site+path, strings.NewReader(body))
		must(t, err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := client.Do(req)
		must(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		must(t, err)
		if res.StatusCode >= 400 {
			t.Fatalf("%s %s: %s %s", method, path, res.Status, b)
		}
		return res.Header, string(b)
	}
	hit := func(path string, want bool, words ...string) {
		t.Helper()
		h, body := do("GET", path, "")
		if got := strings.Contains(h.Get("Cache-Status"), "hit"); got != want {
			t.Errorf("%s: %s, want a hit: %v", path, h.Get("Cache-Status"), want)
		}
		for _, w := range words {
			if !strings.Contains(body, w) {
				t.Errorf("%s does not show %q", path, w)
			}
		}
		if h.Get("Portner-Cache-Control") != "" || h.Get("Portner-Invalidate") != "" {
			t.Errorf("%s: a client sees %v", path, h)
		}
	}
	post := func(id, parent int, words string) {
		t.Helper()
		kind := "story"
		if parent > 0 {
			kind = "comment"
		}
		h, _ := do("POST", "/post", fmt.Sprintf(`{"post_title":%q,"post_text":%[1]q,"hanesst_id":%d,"post_type":%q,"post_parent":%d,"username":"pg","pwd_hash":"x","post_url":""}`, words, id, kind, parent),
			"Content-Type", "application/json")
		if h.Get("Portner-Invalidate") != "" {
			t.Errorf("a client sees %v", h)
		}
	}
	post(1, -1, "The first")
	post(2, -1, "The second")
	for _, path := range []string{"/", "/newest", "/item/1", "/item/2", "/comments", "/rss"} {
		hit(path, false)
		hit(path, true)
	}
	post(3, 1, "A comment on the first")
	hit("/item/2", true)
	hit("/item/1", false, "A comment on the first")
	hit("/comments", false, "A comment on the first")
	hit("/", false)
	for _, path := range []string{"/item/1", "/comments", "/"} {
		hit(path, true)
	}

	for range 3 { // asked about each time
		if h, _ := do("GET", "/login", ""); h.Get("Content-Type") != "text/html; charset=UTF-8" {
			t.Errorf("the form of the login has the type %q: %s", h.Get("Content-Type"), h.Get("Cache-Status"))
		}
	}

	same := []string{"Origin", site, "Content-Type", "application/x-www-form-urlencoded"}
	h, _ := do("POST", "/register", "name=ann&password=correct+horse+battery", same...)
	cookie, _, _ := strings.Cut(h.Get("Set-Cookie"), ";")
	hit("/item/2", true) // a newcomer is on no page; "/" is where the form has led (RFC 9111, 4.4)
	for range 2 {
		h, hers := do("GET", "/", "", "Cookie", cookie)
		if strings.Contains(h.Get("Cache-Status"), "hit") || !strings.Contains(hers, "Log out") {
			t.Errorf("ann gets %s of somebody else", h.Get("Cache-Status"))
		}
		if _, everybodys := do("GET", "/", ""); strings.Contains(everybodys, "Log out") || strings.Contains(everybodys, "csrf") {
			t.Error("a visitor gets what was made for ann")
		}
	}
	_, hers := do("GET", "/item/2", "", "Cookie", cookie)
	_, after, _ := strings.Cut(hers, `name="csrf" value="`)
	token, _, _ := strings.Cut(after, `"`)
	hit("/item/1", true)
	do("POST", "/item/2/vote", "value=1&csrf="+token, append(same, "Cookie", cookie)...)
	hit("/item/1", true)
	hit("/item/2", false, "2 points")
	hit("/newest", false, "2 points")
}
