package caddymodule_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// news is the site that this repository ships: its Caddyfile, both programs.
type news struct {
	t *testing.T
	*program
}

func newNewsSite(t *testing.T) *news {
	t.Helper()
	webapp, err := built("../webapp")
	if err != nil {
		t.Fatal(err)
	}
	app := &program{t: t, log: new(bytes.Buffer)}
	behind := freeAddr(t)
	app.cmd = exec.Command(webapp, "-listen", behind, "-db", filepath.Join(t.TempDir(), "news.db"))
	app.begin(behind)
	addr := freeAddr(t)
	_, plain, _ := strings.Cut(freeAddr(t), ":")
	return &news{t, runFile(t, addr, "../Caddyfile", "SITE_ADDRESS=http://"+addr, "UPSTREAM="+behind, "HTTP_PORT="+plain)}
}

// TestPostThatTheSiteWouldRefuseIsNotKept: it would be answered with 200 while the
// application is away, and refused by it later.
func TestPostThatTheSiteWouldRefuseIsNotKept(t *testing.T) {
	addr, away := freeAddr(t), freeAddr(t)
	_, plain, _ := strings.Cut(freeAddr(t), ":")
	door := runFile(t, addr, "../Caddyfile", "SITE_ADDRESS=http://"+addr, "UPSTREAM="+away, "HTTP_PORT="+plain)
	const longest = 1 << 20
	for size, want := range map[int]int{longest: 200, longest + 1: 413} {
		res, err := http.Post(door.url+"/post", "application/json", strings.NewReader(strings.Repeat(" ", size)))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%d bytes: %d, want %d", size, res.StatusCode, want)
		}
	}
}

// reader is somebody with a browser.
type reader struct {
	*news
	http.Client
}

func (n *news) reader() *reader {
	jar, err := cookiejar.New(nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return &reader{n, http.Client{Jar: jar, Transport: new(http.Transport)}}
}

// page is a page, and whether it came from the cache.
func (r *reader) page(path string) (text string, hit bool) {
	r.t.Helper()
	res, err := r.Get(r.url + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		r.t.Fatalf("%s: %d %v %s", path, res.StatusCode, err, all)
	}
	return string(all), strings.Contains(cacheStatus(res), "; hit")
}

func (r *reader) send(path string, form url.Values) {
	r.t.Helper()
	res, err := r.PostForm(r.url+path, form)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != 200 { // after redirects
		r.t.Fatalf("%s: %d %s", path, res.StatusCode, text)
	}
}

// TestWhoIsLoggedInNeverGetsAnothersPage: neither a visitor's from the cache, nor
// anybody theirs.
func TestWhoIsLoggedInNeverGetsAnothersPage(t *testing.T) {
	n := newNewsSite(t)
	visitor := n.reader()
	members := map[string]*reader{"alice": n.reader(), "bob": n.reader()}
	for name, r := range members {
		r.send("/register", url.Values{"name": {name}, "password": {"correct horse battery"}, "again": {"correct horse battery"}})
	}
	hits := 0
	for range 3 {
		for _, path := range []string{"/", "/newest"} {
			text, hit := visitor.page(path)
			if hit {
				hits++
			}
			if strings.Contains(text, "alice") || strings.Contains(text, "bob") {
				t.Errorf("a visitor's %s is a member's", path)
			}
			for name, r := range members {
				text, hit := r.page(path)
				if hit || !strings.Contains(text, name) {
					t.Errorf("%s of %s: hit %t", path, name, hit)
				}
				for other := range members {
					if other != name && strings.Contains(text, other) {
						t.Errorf("%s of %s is %s's", path, name, other)
					}
				}
			}
		}
	}
	if hits != 4 {
		t.Errorf("%d hits for the visitor, want 4 of 6", hits)
	}
}

// TestPostIsSeenByTheNextReader: what is kept is forgotten with the answer to a
// post, be it by a member or, journaled, by the simulator.
func TestPostIsSeenByTheNextReader(t *testing.T) {
	n := newNewsSite(t)
	visitor, member := n.reader(), n.reader()
	member.send("/register", url.Values{"name": {"alice"}, "password": {"correct horse battery"}, "again": {"correct horse battery"}})
	warm := func() {
		for _, path := range []string{"/", "/newest"} {
			visitor.page(path)
			if _, hit := visitor.page(path); !hit {
				t.Errorf("%s is not kept: the test says nothing", path)
			}
		}
	}
	for i := range 2 { // more than that at a time nobody may post
		warm()
		form, _ := member.page("/submit")
		_, after, _ := strings.Cut(form, `name="csrf" value="`)
		token, _, _ := strings.Cut(after, `"`)
		title := fmt.Sprintf("Title number %d of alice", i)
		member.send("/submit", url.Values{"csrf": {token}, "title": {title}, "text": {"A text"}})
		for _, path := range []string{"/newest", "/"} {
			if text, _ := visitor.page(path); !strings.Contains(text, title) {
				t.Errorf("%s is without what was posted", path)
			}
		}
	}
	for i := range 5 {
		warm()
		title := fmt.Sprintf("Title number %d of the simulator", i)
		item := fmt.Sprintf(`{"post_title": %q, "post_text": "", "hanesst_id": %d, "post_type": "story", "post_parent": -1, "username": "pg", "pwd_hash": "x", "post_url": "http://example.com/%d"}`, title, 1+i, i)
		res, err := visitor.Post(n.url+"/post", "application/json", strings.NewReader(item))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatal(res.StatusCode)
		}
		// It is kept if the application needs more than 50 ms; then the pages change with
		// its delivery, which GET /latest tells of.
		eventually(t, "it is delivered", func() bool {
			latest, _ := visitor.page("/latest")
			return strings.TrimSpace(latest) == fmt.Sprint(1+i)
		})
		if text, _ := visitor.page("/newest"); !strings.Contains(text, title) {
			t.Errorf("/newest is without the post that /latest tells of")
		}
	}
}
