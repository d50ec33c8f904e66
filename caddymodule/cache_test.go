package caddymodule_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// newsApp is a small application that says what may be kept of it.
type newsApp struct {
	*app
	asked  atomic.Int32
	latest atomic.Int32
	hang   chan bool // not nil: GETs wait for it
	mu     sync.Mutex
}

func (n *newsApp) hangs() chan bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hang
}

func (n *newsApp) setHang(c chan bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hang = c
}

const story = "What is kept need not be asked for again. "

func newNews(t *testing.T) *newsApp {
	n := &newsApp{}
	n.app = newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			id := n.latest.Add(1)
			w.Header().Set("Portner-Invalidate", "tag=front, url=/latest")
			fmt.Fprint(w, id)
			return
		}
		n.asked.Add(1)
		if c := n.hangs(); c != nil {
			<-c
		}
		h := w.Header()
		switch r.URL.Path {
		case "/private":
			h.Set("Cache-Control", "private, max-age=60")
		case "/cookie":
			h.Set("Cache-Control", "max-age=60")
			h.Set("Set-Cookie", fmt.Sprintf("id=%d", n.asked.Load()))
		case "/silent":
		case "/swr":
			h.Set("Cache-Control", "max-age=0, stale-while-revalidate=60")
		case "/soon":
			h.Set("Cache-Control", "max-age=0, stale-if-error=60")
		case "/vary":
			h.Set("Cache-Control", "max-age=60")
			h.Set("Vary", "X-Forwarded-For")
		default:
			h.Set("Cache-Control", "s-maxage=60")
			h.Set("Cache-Tag", "front")
			h.Set("Etag", `"v`+fmt.Sprint(n.latest.Load())+`"`)
		}
		fmt.Fprintf(w, "%s latest %d, asked %d as %s %s://%s%s; %s", r.Header.Get("Cookie"), n.latest.Load(), n.asked.Load(),
			r.Header.Get("X-Forwarded-Host"), r.Header.Get("X-Forwarded-Proto"), r.Host, r.URL.RequestURI(), strings.Repeat(story, 20))
	})
	return n
}

// eachWay runs a test on the direct way and on that of reverseproxy.
func eachWay(t *testing.T, f func(t *testing.T, direct string)) {
	for _, direct := range []string{"on", "off"} {
		t.Run("direct "+direct, func(t *testing.T) { f(t, "\ndirect "+direct+"\n") })
	}
}

func cacheStatus(res *http.Response) string { return res.Header.Get("Cache-Status") }

func TestHitDoesNotTouchTheApplication(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		n := newNews(t)
		d := open(t, "app_proxy "+n.addr+" {\ncache"+direct+"}")
		first, text := ask(t, d.url+"/")
		if got := cacheStatus(first); !strings.HasPrefix(got, "Portner; fwd=uri-miss; stored; ttl=") {
			t.Errorf("first: %q", got)
		}
		if !strings.HasPrefix(first.Header.Get("Server-Timing"), "queue;dur=") {
			t.Errorf("the one who asked is not told where the time went: %v", first.Header)
		}
		second, again := ask(t, d.url+"/")
		if n.asked.Load() != 1 || text != again {
			t.Fatalf("asked %d times; %q, then %q", n.asked.Load(), text, again)
		}
		if got := cacheStatus(second); !strings.HasPrefix(got, "Portner; hit; ttl=") {
			t.Errorf("second: %q", got)
		}
		h := second.Header
		if h.Get("Age") == "" || h.Get("Etag") == "" || h.Get("Server-Timing") != "" || len(h["Via"]) != 1 || h.Get("Portner-Invalidate") != "" || h["Content-Length"] == nil {
			t.Errorf("header of a hit: %v", h)
		}
	})
}

func TestWithoutTheWordNothingIsKept(t *testing.T) {
	n := newNews(t)
	d := open(t, "app_proxy "+n.addr)
	ask(t, d.url+"/")
	if res, _ := ask(t, d.url+"/"); n.asked.Load() != 2 || cacheStatus(res) != "" {
		t.Errorf("asked %d times, %q", n.asked.Load(), cacheStatus(res))
	}
}

func TestRouteMayKeepWhatSaysNothing(t *testing.T) {
	n := newNews(t)
	d := open(t, "app_proxy "+n.addr+" {\nroute GET /silent {\ncache 1m\n}\n}")
	for range 3 {
		ask(t, d.url+"/silent")
	}
	if n.asked.Load() != 1 {
		t.Errorf("asked %d times for what has a time", n.asked.Load())
	}
	for range 2 {
		ask(t, d.url+"/other") // has s-maxage, but its route has no word
	}
	if n.asked.Load() != 3 {
		t.Errorf("asked %d times in all, want 3", n.asked.Load())
	}
	ask(t, d.url+"/silent", "Cookie", "session=1")
	if n.asked.Load() != 4 {
		t.Error("somebody with a cookie got what others share")
	}
	ask(t, d.url+"//silent")
	ask(t, d.url+"//silent")
	if n.asked.Load() != 6 {
		t.Error("a path that is another as it was sent was kept")
	}
}

func TestRouteMayForbidKeeping(t *testing.T) {
	n := newNews(t)
	d := open(t, "app_proxy "+n.addr+" {\ncache\nroute GET /no {\ncache off\n}\n}")
	ask(t, d.url+"/no")
	ask(t, d.url+"/no")
	if n.asked.Load() != 2 {
		t.Errorf("asked %d times", n.asked.Load())
	}
}

func TestCacheSaysThatItStoodAside(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		n := newNews(t)
		d := open(t, "app_proxy "+n.addr+" {\nroute GET /item {\ncache 1m\n}\nroute GET /no {\ncache off\n}"+direct+"}")
		for _, row := range []struct{ method, path, want string }{
			{"POST", "/post", "Portner; fwd=method"}, {"GET", "/no", "Portner; fwd=bypass"}, {"GET", "/other", "Portner; fwd=bypass"},
			{"HEAD", "//item", "Portner; fwd=bypass"},
		} {
			res, err := d.do(t.Context(), row.method, row.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if got := res.Header["Cache-Status"]; len(got) != 1 || got[0] != row.want {
				t.Errorf("%s %s: %q, want %q", row.method, row.path, got, row.want)
			}
		}
	})
}

func TestStampedeReachesTheApplicationOnce(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		const clients = 100
		n := newNews(t)
		hang := make(chan bool)
		n.setHang(hang)
		d := open(t, "app_proxy "+n.addr+" {\nconcurrency 1\ncache"+direct+"}")
		var wg sync.WaitGroup
		bodies := make(chan string, clients)
		for range clients {
			wg.Go(func() {
				res, err := d.do(t.Context(), "GET", "/", nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				text, _ := io.ReadAll(res.Body)
				bodies <- fmt.Sprint(res.StatusCode, " ", string(text))
			})
		}
		eventually(t, "the leader is inside", func() bool { return n.asked.Load() == 1 })
		close(hang)
		wg.Wait()
		close(bodies)
		var first string
		for text := range bodies {
			if first == "" {
				first = text
			}
			if text != first || !strings.HasPrefix(text, "200 ") {
				t.Fatalf("got %q and %q", first, text)
			}
		}
		if n.asked.Load() != 1 {
			t.Errorf("%d requests reached the application", n.asked.Load())
		}
	})
}

func TestLeaderWhoLeavesGoesOnForTheOthers(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		n := newNews(t)
		hang := make(chan bool)
		n.setHang(hang)
		d := open(t, "app_proxy "+n.addr+" {\nconcurrency 1\ncache"+direct+"}")
		leading, leave := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := d.do(leading, "GET", "/", nil)
			gone <- err
		}()
		eventually(t, "the leader is inside", func() bool { return n.asked.Load() == 1 })
		leave()
		<-gone
		got := make(chan int, 1)
		go func() {
			status, _ := d.get("/")
			got <- status
		}()
		eventually(t, "the application is let go", func() bool {
			select {
			case hang <- true:
				return true
			default:
				return false
			}
		})
		n.setHang(nil)
		if status := <-got; status != 200 || n.asked.Load() != 1 {
			t.Errorf("status %d, asked %d times", status, n.asked.Load())
		}
	})
}

func TestPersonalAnswersAreNeverShared(t *testing.T) {
	n := newNews(t)
	d := open(t, "app_proxy "+n.addr+" {\ncache\n}")
	for _, test := range []struct{ path, name, value string }{
		{"/private", "", ""}, {"/cookie", "", ""},
		{"/vary", "X-Nothing", "1"}, // depends on the address, which the door adds
	} {
		n.asked.Store(0)
		for range 3 {
			res, _ := ask(t, d.url+test.path)
			if strings.Contains(cacheStatus(res), "hit") {
				t.Errorf("%s: %s", test.path, cacheStatus(res))
			}
		}
		if n.asked.Load() != 3 {
			t.Errorf("%s: asked %d times", test.path, n.asked.Load())
		}
	}
	// One who is known gets his own and leaves nothing behind.
	for _, header := range []string{"Cookie", "Authorization"} {
		path := "/mine?" + header
		if _, text := ask(t, d.url+path, header, "secret=1"); header == "Cookie" && !strings.Contains(text, "secret=1") {
			t.Fatal("the application does not see the cookie")
		}
		if _, text := ask(t, d.url+path); strings.Contains(text, "secret") {
			t.Errorf("%s: a stranger got %q", header, text)
		}
	}
}

func TestWriterSeesHisWrite(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		n := newNews(t)
		d := open(t, "app_proxy "+n.addr+" {\ncache"+direct+"}")
		for i := range 20 {
			for _, path := range []string{"/", "/latest"} {
				if _, text := ask(t, d.url+path); !strings.Contains(text, fmt.Sprintf("latest %d,", i)) {
					t.Fatalf("after %d writes %s is %q", i, path, text)
				}
			}
			res, err := d.do(t.Context(), "POST", "/post", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.Header.Get("Portner-Invalidate") != "" {
				t.Error("the client sees what is between the application and the door")
			}
		}
		if n.asked.Load() != 40 {
			t.Errorf("asked %d times", n.asked.Load())
		}
	})
}

func TestUnsafeMethodInvalidatesItsTarget(t *testing.T) {
	n := newNews(t)
	d := open(t, "app_proxy "+n.addr+" {\ncache\n}")
	ask(t, d.url+"/x")
	res, err := d.do(t.Context(), "POST", "/x", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if _, text := ask(t, d.url+"/x"); !strings.Contains(text, "latest 1,") {
		t.Errorf("RFC 9111 4.4: %q", text)
	}
}

func TestStaleIsServedWhileItIsRefreshed(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		n := newNews(t)
		d := open(t, "app_proxy "+n.addr+" {\nconcurrency 1\ncache"+direct+"}")
		ask(t, d.url+"/swr")
		hang := make(chan bool)
		n.setHang(hang)
		res, text := ask(t, d.url+"/swr")
		if !strings.Contains(text, "asked 1 ") || !strings.Contains(cacheStatus(res), "hit; ttl=") {
			t.Errorf("%q, %s", text, cacheStatus(res))
		}
		eventually(t, "somebody refreshes it, whose client has left", func() bool { return n.asked.Load() == 2 })
		n.setHang(nil)
		close(hang)
		eventually(t, "the new one is there", func() bool {
			_, text := ask(t, d.url+"/swr")
			return !strings.Contains(text, "asked 1 ")
		})
	})
}

func TestNobodySeesAnErrorWhereAStalePageIsAtHand(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		n := newNews(t)
		d := open(t, "app_proxy "+n.addr+" {\nconcurrency 1\nqueue {\nwait 0\n}\ncache"+direct+"}")
		ask(t, d.url+"/soon")
		hang := make(chan bool)
		n.setHang(hang)
		defer close(hang)
		go d.do(t.Context(), "GET", "/slow", nil)
		eventually(t, "the application hangs", func() bool { return n.asked.Load() == 2 })
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				res, err := d.do(t.Context(), "GET", "/soon", nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				if res.StatusCode != 200 || !strings.Contains(cacheStatus(res), "detail=overloaded") && !strings.Contains(cacheStatus(res), "collapsed") {
					t.Errorf("status %d, %s", res.StatusCode, cacheStatus(res))
				}
			})
		}
		wg.Wait()
		if res, err := d.do(t.Context(), "GET", "/never-seen", nil); err != nil || res.StatusCode != 503 {
			t.Errorf("what is not at hand: %v %v", res, err)
		}
	})
}

func TestStaleStandsInForAnApplicationThatIsAway(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		n := newNews(t)
		d := open(t, "app_proxy "+n.addr+" {\nhold 0\ncache"+direct+"}")
		ask(t, d.url+"/soon")
		n.CloseClientConnections()
		n.Close()
		for range 3 {
			res, text := ask(t, d.url+"/soon")
			if res.StatusCode != 200 || !strings.Contains(text, "asked 1 ") || !strings.Contains(cacheStatus(res), "detail=unreachable") {
				t.Errorf("status %d, %s", res.StatusCode, cacheStatus(res))
			}
		}
	})
}

func TestConditionsAndRangesAreAnsweredFromTheCache(t *testing.T) {
	n := newNews(t)
	d := open(t, "app_proxy "+n.addr+" {\ncache\n}")
	_, whole := ask(t, d.url+"/")
	for name, send := range map[string]*http.Client{"HTTP/1.1": client} {
		t.Run(name, func(t *testing.T) {
			for _, test := range []struct {
				method, header, value string
				status                int
				body                  string
			}{
				{"GET", "If-None-Match", `"v0"`, 304, ""},
				{"GET", "If-None-Match", `"other"`, 200, whole},
				{"GET", "Range", "bytes=0-3", 206, whole[:4]},
				{"GET", "Range", "bytes=-5", 206, whole[len(whole)-5:]},
				{"GET", "Range", "bytes=100000-", 416, ""},
				{"HEAD", "X-Nothing", "1", 200, ""},
			} {
				req, _ := http.NewRequestWithContext(t.Context(), test.method, d.url+"/", nil)
				req.Header.Set(test.header, test.value)
				res, err := send.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				text, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode != test.status || string(text) != test.body {
					t.Errorf("%s %s: %s: %d %q", test.method, test.header, test.value, res.StatusCode, text)
				}
				if test.method == "HEAD" && res.ContentLength != int64(len(whole)) {
					t.Errorf("HEAD: length %d of %d", res.ContentLength, len(whole))
				}
			}
		})
	}
	if n.asked.Load() != 1 {
		t.Errorf("asked %d times", n.asked.Load())
	}
}

func TestReloadKeepsWhatIsKept(t *testing.T) {
	n := newNews(t)
	d := open(t, "app_proxy "+n.addr+" {\ncache\n}")
	ask(t, d.url+"/")
	d.load("app_proxy " + n.addr + " {\ncache 10MiB\n}")
	if res, _ := ask(t, d.url+"/"); n.asked.Load() != 1 || !strings.Contains(cacheStatus(res), "hit") {
		t.Errorf("asked %d times, %s", n.asked.Load(), cacheStatus(res))
	}
	d.load("app_proxy " + n.addr)
	ask(t, d.url+"/")
	d.load("app_proxy " + n.addr + " {\ncache\n}")
	ask(t, d.url+"/")
	if n.asked.Load() != 3 {
		t.Errorf("asked %d times: a cache that was dropped came back", n.asked.Load())
	}
}

// TestHandlersOfAPoolKeepTheirOwnPages: one of them asks the application otherwise, or
// changes what it says. A write that came by one of them is seen by all.
func TestHandlersOfAPoolKeepTheirOwnPages(t *testing.T) {
	for _, words := range []string{"header_up X-Skin dark", "rewrite /dark{uri}", "header_down X-Skin dark"} {
		t.Run(words, func(t *testing.T) {
			var writes atomic.Int32
			a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "POST" {
					writes.Add(1)
					return
				}
				w.Header().Set("Cache-Control", "max-age=60")
				fmt.Fprintf(w, "%s %s, %d", r.URL.Path, r.Header.Get("X-Skin"), writes.Load())
			})
			d := open(t, `@dark header Skin-Of dark
			app_proxy @dark `+a.addr+` {
				cache
				`+words+`
			}
			app_proxy `+a.addr+` {
				cache
			}`)
			page := func(whose string) string {
				res, text := ask(t, d.url+"/page", "Skin-Of", whose)
				return res.Header.Get("X-Skin") + text
			}
			for n := range 2 {
				dark, light := page("dark"), page("light")
				if dark == light || page("dark") != dark || page("light") != light {
					t.Errorf("after %d writes: %q, %q", n, dark, light)
				}
				if want := fmt.Sprintf(", %d", n); !strings.HasSuffix(dark, want) || !strings.HasSuffix(light, want) {
					t.Errorf("after %d writes: %q, %q", n, dark, light)
				}
				res, err := d.do(t.Context(), "POST", "/page", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
			}
			if n := a.served.Load(); n != 6 {
				t.Errorf("%d requests reached the application, want 6", n)
			}
		})
	}
}

func TestNobodyPoisonsOrDeceives(t *testing.T) {
	n := newNews(t)
	d := open(t, "app_proxy "+n.addr+" {\ncache\n}")
	_, clean := ask(t, d.url+"/page")
	// Paths are kept as they are sent.
	seen := map[string]bool{clean: true}
	for _, path := range []string{"//page", "/page/", "/pag%65", "/page;x", "/page%2F", "/x/../page", "/page?", "/page?a", "/PAGE", "/page/x.css"} {
		conn, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, d.addr)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		conn.Close()
		if seen[string(text)] {
			t.Errorf("%s got the page of another address", path)
		}
		seen[string(text)] = true
	}
	// What one client says of itself reaches no other.
	for _, header := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Host", "X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "Forwarded", "X_Forwarded_Host"} {
		path := "/poison?" + header
		ask(t, d.url+path, header, "evil.example")
		if _, text := ask(t, d.url+path); strings.Contains(text, "evil") {
			t.Errorf("%s: %q", header, text)
		}
	}
	// A host is the same in any case, and another one is another.
	asked := n.asked.Load()
	host := func(name string) {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", d.url+"/hosted", nil)
		req.Host = name
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	host(d.addr)
	host(strings.ToUpper(d.addr))
	if n.asked.Load() != asked+1 {
		t.Errorf("one host asked %d times", n.asked.Load()-asked)
	}
}

// TestFieldThatDoesNotGoOnTellsNoVariantsApart: what Connection names stays at the
// door, so that the application answers those who send it as if they had not.
func TestFieldThatDoesNotGoOnTellsNoVariantsApart(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Vary", "Accept-Language")
			fmt.Fprintf(w, "in %q", r.Header.Get("Accept-Language"))
		})
		d := open(t, "app_proxy "+a.addr+" {\ncache"+direct+"}")
		conn, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nAccept-Language: da\r\nConnection: close, accept-language\r\n\r\n", d.addr)
		if text, _ := io.ReadAll(conn); !strings.Contains(string(text), `in ""`) || !strings.Contains(string(text), "detail=vary") {
			t.Errorf("%s", text)
		}
		if _, text := ask(t, d.url, "Accept-Language", "da"); text != `in "da"` {
			t.Errorf("who wants Danish got %s", text)
		}
	})
}

func TestAnswerThatBreaksOffIsNotKept(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		var asked atomic.Int32
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			if asked.Add(1) == 1 {
				w.Header().Set("Content-Length", "1000000")
				fmt.Fprint(w, strings.Repeat("half", 100_000))
				http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			fmt.Fprint(w, "whole")
		})
		d := open(t, "app_proxy "+a.addr+" {\ncache"+direct+"}")
		res, err := d.do(t.Context(), "GET", "/", nil)
		if err == nil {
			if _, err = io.ReadAll(res.Body); err == nil {
				t.Error("half an answer looks like a whole one")
			}
			res.Body.Close()
		}
		if _, text := ask(t, d.url+"/"); text != "whole" {
			t.Errorf("then %d bytes", len(text))
		}
	})
}

func TestFollowersReadAlong(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		more := make(chan bool)
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			fmt.Fprint(w, strings.Repeat("x", 100_000))
			http.NewResponseController(w).Flush()
			<-more
			fmt.Fprint(w, "end")
		})
		d := open(t, "app_proxy "+a.addr+" {\ncache"+direct+"}")
		var readers []*http.Response
		for range 3 {
			res, err := d.do(t.Context(), "GET", "/", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if _, err := io.ReadFull(res.Body, make([]byte, 60_000)); err != nil {
				t.Fatal(err)
			}
			readers = append(readers, res)
		}
		close(more)
		for _, res := range readers {
			if rest, err := io.ReadAll(res.Body); err != nil || len(rest) != 40_003 {
				t.Errorf("%d bytes, %v", len(rest), err)
			}
		}
		if a.served.Load() != 1 {
			t.Errorf("%d requests", a.served.Load())
		}
	})
}

func TestVisitorWhoWasRefusedIsStillAnonymous(t *testing.T) {
	n := newNews(t)
	d := open(t, "app_proxy "+n.addr+" {\ncache\n}")
	ask(t, d.url+"/", "Cookie", "portner_place=x")
	ask(t, d.url+"/", "Cookie", "portner_place=y")
	if n.asked.Load() != 1 {
		t.Errorf("asked %d times", n.asked.Load())
	}
}

func TestOperatorPurges(t *testing.T) {
	n := newNews(t)
	d, admin := openWithAdmin(t, "app_proxy "+n.addr+" {\nname news\ncache\n}")
	order := func(text string) (int, string) {
		res, err := client.Post(admin+"/app_proxy/purge", "application/json", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	asked := int32(1)
	ask(t, d.url+"/")
	for _, test := range []struct{ text, want string }{
		{`{"urls": ["` + d.url + `/"]}`, `{"purged":["news"]}`},
		{`{"tags": ["front"], "pool": "news"}`, `{"purged":["news"]}`},
		{`{"all": true}`, `{"purged":["news"]}`},
	} {
		if status, got := order(test.text); status != 200 || strings.TrimSpace(got) != test.want {
			t.Errorf("%s: %d %s", test.text, status, got)
		}
		asked++
		for range 2 {
			ask(t, d.url+"/")
		}
		if n.asked.Load() != asked {
			t.Errorf("%s: asked %d times, want %d", test.text, n.asked.Load(), asked)
		}
	}
	for text, want := range map[string]int{
		`{}`: 400, `{"all": true, "tags": ["a"]}`: 400, `{"urls": ["/x"]}`: 400, `{"tags": [""]}`: 400, `{"tag": "a"}`: 400,
		`{"all": true}{"all": true}`: 400, `nonsense`: 400, `{"all": true, "pool": "other"}`: 404,
	} {
		if status, got := order(text); status != want {
			t.Errorf("%s: %d %s", text, status, got)
		}
	}
	if res, err := client.PostForm(admin+"/app_proxy/purge", nil); err != nil || res.StatusCode != 415 {
		t.Errorf("a form from some page: %v %v", res, err)
	}
	if _, text := ask(t, admin+"/app_proxy/cache"); !strings.Contains(text, `"name":"news","keys":1`) || !strings.Contains(text, `"invalidations_total":3`) {
		t.Error(text)
	}
	if _, text := ask(t, admin+"/metrics"); !strings.Contains(text, `portner_cache_answers_total{pool="news",result="hit"} 3`) ||
		!strings.Contains(text, `portner_requests_total{class="api",pool="news",route="GET /",verdict="hit"} 3`) {
		t.Error(text)
	}
}

// TestPageBehindAnotherHopIsInvalidatedByItsAddress: by the one that browsers know, which
// a trusted hop tells beside the host that it asks for.
func TestPageBehindAnotherHopIsInvalidatedByItsAddress(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			w.Header().Set(r.URL.Query().Get("by"), r.URL.Query().Get("say"))
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintf(w, "%s for %s", r.Host, r.Header.Get("X-Forwarded-Host"))
	})
	d, admin := openWithAdmin(t, "app_proxy "+a.addr+" {\nname news\ncache\ntrusted_proxies 127.0.0.1\n}")
	send := func(method, path, host string) (string, string) {
		r, _ := http.NewRequestWithContext(t.Context(), method, d.url+path, nil)
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("X-Forwarded-Host", host)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return cacheStatus(res), string(text)
	}
	const page, site, other = "https://news.example.com/p", "news.example.com", "other.example.com"
	for _, forget := range []func(){
		func() {
			res, err := client.Post(admin+"/app_proxy/purge", "application/json", strings.NewReader(`{"urls": ["`+page+`"]}`))
			if err != nil || res.StatusCode != 200 {
				t.Fatal(res, err)
			}
			res.Body.Close()
		},
		func() { send("POST", "/post?by=Location&say="+page, site) },
		func() { send("POST", "/post?by=Content-Location&say=p", site) },
		func() { send("POST", "/post?by=Portner-Invalidate&say=url="+page, site) },
		func() { send("POST", "/p", site) },
	} {
		for _, host := range []string{site, other} {
			send("GET", "/p", host)
			if status, text := send("GET", "/p", host); !strings.Contains(status, "hit") || text != d.addr+" for "+host {
				t.Fatalf("%s: %q, %s", host, text, status)
			}
		}
		forget()
		if status, _ := send("GET", "/p", site); strings.Contains(status, "hit") {
			t.Errorf("still there: %s", status)
		}
		if status, _ := send("GET", "/p", other); !strings.Contains(status, "hit") {
			t.Errorf("another site lost its page: %s", status)
		}
	}
	// Who asks without naming a host is told something else, and keeps it for himself.
	if _, text := ask(t, d.url+"/p"); text != d.addr+" for "+d.addr {
		t.Errorf("without a forwarded host: %q", text)
	}
}

// TestRangesAndConditionsOverHTTP2 asks by HTTP/2 without TLS, which Caddy speaks.
func TestRangesAndConditionsOverHTTP2(t *testing.T) {
	n := newNews(t)
	d := &door{t: t, addr: freeAddr(t), options: "servers {\nprotocols h1 h2c\n}"}
	d.url = "http://" + d.addr
	d.load("app_proxy " + n.addr + " {\ncache\n}")
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	transport := overH2C(t)
	get := func(method, name, value string) (*http.Response, string) {
		req, _ := http.NewRequestWithContext(t.Context(), method, d.url+"/", nil)
		req.Header.Set("Accept-Encoding", "identity")
		req.Header.Set(name, value)
		res, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res, string(text)
	}
	first, whole := get("GET", "X-Nothing", "1")
	if first.ProtoMajor != 2 {
		t.Fatal(first.Proto)
	}
	if res, text := get("GET", "Range", "bytes=1-3"); res.StatusCode != 206 || text != whole[1:4] {
		t.Errorf("range: %d %q", res.StatusCode, text)
	}
	if res, text := get("GET", "If-None-Match", first.Header.Get("Etag")); res.StatusCode != 304 || text != "" {
		t.Errorf("condition: %d %q", res.StatusCode, text)
	}
	if res, text := get("HEAD", "X-Nothing", "1"); res.StatusCode != 200 || text != "" || res.ContentLength != int64(len(whole)) {
		t.Errorf("HEAD: %d %q, length %d", res.StatusCode, text, res.ContentLength)
	}
	if n.asked.Load() != 1 {
		t.Errorf("asked %d times", n.asked.Load())
	}
}

// TestLeaderGetsWhatItAskedFor: the cache asks with conditions of its own.
func TestLeaderGetsWhatItAskedFor(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		n := newNews(t)
		d := open(t, "app_proxy "+n.addr+" {\ncache"+direct+"}")
		if res, text := ask(t, d.url+"/", "If-None-Match", `"v0"`); res.StatusCode != 304 || text != "" {
			t.Errorf("status %d, %q", res.StatusCode, text)
		}
		if res, text := ask(t, d.url+"/"); res.StatusCode != 200 || text == "" || n.asked.Load() != 1 {
			t.Errorf("then status %d, %q, asked %d times", res.StatusCode, text, n.asked.Load())
		}
		if res, _ := ask(t, d.url+"/other", "Cache-Control", "only-if-cached"); res.StatusCode != 504 {
			t.Errorf("only-if-cached: %d", res.StatusCode)
		}
	})
}

// TestSlowLeaderHoldsNobodyUp: who leads and does not read is one of the readers.
func TestSlowLeaderHoldsNobodyUp(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		const length = 12 << 20 // more than sockets take in by themselves
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Length", fmt.Sprint(length))
			w.Write(make([]byte, length))
		})
		d := open(t, "app_proxy "+a.addr+" {\ncache 256MiB"+direct+"}")
		slow, err := d.do(t.Context(), "GET", "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Body.Close()
		_, text := ask(t, d.url+"/")
		if len(text) != length || a.served.Load() != 1 {
			t.Errorf("%d bytes, %d requests", len(text), a.served.Load())
		}
	})
}

// TestWriteOfAClientThatLeftInvalidates: the application has done what it did.
func TestWriteOfAClientThatLeftInvalidates(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		entered, leave := make(chan bool), make(chan bool)
		var asked atomic.Int32
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				entered <- true
				<-leave
				w.Header().Set("Portner-Invalidate", "tag=front")
				return
			}
			asked.Add(1)
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Cache-Tag", "front")
		})
		d := open(t, "app_proxy "+a.addr+" {\ncache"+direct+"}")
		ask(t, d.url+"/")
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan bool)
		go func() {
			d.do(ctx, "POST", "/post", strings.NewReader("{}"))
			close(gone)
		}()
		<-entered
		cancel()
		<-gone
		leave <- true
		eventually(t, "the page is asked for again", func() bool {
			ask(t, d.url+"/")
			return asked.Load() == 2
		})
	})
}

// TestWriteIsSeenInACacheThatCameMeanwhile: a reload gives the pool another cache
// while the application is at it.
func TestWriteIsSeenInACacheThatCameMeanwhile(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		for name, before := range map[string]string{"the first": "", "one with a disk": "cache"} {
			var writes atomic.Int32
			entered, leave := make(chan bool), make(chan bool)
			a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "POST" {
					entered <- true
					<-leave
					writes.Add(1)
					w.Header().Set("Portner-Invalidate", "tag=front, url=/latest?n=1")
					return
				}
				w.Header().Set("Cache-Control", "max-age=60")
				if r.URL.Path == "/" {
					w.Header().Set("Cache-Tag", "front")
				}
				fmt.Fprint(w, writes.Load())
			})
			folder := t.TempDir() // goes after the door
			d := open(t, "app_proxy "+a.addr+" {\n"+before+direct+"}")
			gone := make(chan bool)
			go func() {
				defer close(gone)
				if res, err := d.do(t.Context(), "POST", "/post?x", strings.NewReader("{}")); err == nil {
					res.Body.Close()
				}
			}()
			<-entered
			d.load("app_proxy " + a.addr + " {\ncache {\ndisk 8MiB " + folder + "\n}" + direct + "}")
			paths := []string{"/", "/latest?n=1", "/post?x"}
			for _, path := range paths {
				if _, text := ask(t, d.url+path); text != "0" {
					t.Fatalf("%s: %s", path, text)
				}
			}
			close(leave)
			<-gone
			for _, path := range paths {
				eventually(t, name+" shows the write: "+path, func() bool {
					_, text := ask(t, d.url+path)
					return text == "1"
				})
			}
		}
	})
}

// TestDoorSaysWhatCouldBeKept: by what the application has answered, not by what it
// has said.
func TestDoorSaysWhatCouldBeKept(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/new" {
			fmt.Fprint(w, r.Header.Get("X-Request-Id"))
		}
		fmt.Fprint(w, "the same to everybody")
	})
	d, admin := openWithAdmin(t, "app_proxy "+a.addr+" {\ncache\nroute GET /same {\nclass pages\n}\nroute GET /new {\nclass pages\n}\n}")
	for range 30 {
		ask(t, d.url+"/same")
		ask(t, d.url+"/new")
	}
	_, text := ask(t, admin+"/app_proxy/cache")
	if !strings.Contains(text, `{"route":"GET /same","cache":"1m0s","requests":30,`) || strings.Contains(text, "/new") {
		t.Error(text)
	}
}

func TestStaleStandsInForAnError(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		var asked atomic.Int32
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) > 1 {
				http.Error(w, "broken", 500)
				return
			}
			w.Header().Set("Cache-Control", "max-age=0, stale-if-error=60")
			fmt.Fprint(w, "well")
		})
		d := open(t, "app_proxy "+a.addr+" {\ncache"+direct+"}")
		ask(t, d.url+"/")
		for range 3 {
			if res, text := ask(t, d.url+"/"); res.StatusCode != 200 || text != "well" || !strings.Contains(cacheStatus(res), "fwd-status=500") {
				t.Errorf("status %d, %q, %s", res.StatusCode, text, cacheStatus(res))
			}
		}
		if res, text := ask(t, d.url+"/other"); res.StatusCode != 500 || !strings.Contains(text, "broken") {
			t.Errorf("what is not at hand: %d %q", res.StatusCode, text)
		}
	})
}

// TestKeptWriteInvalidatesWhenItIsDelivered: its acceptance has changed nothing yet.
func TestKeptWriteInvalidatesWhenItIsDelivered(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		entered, leave := make(chan bool), make(chan bool)
		var asked atomic.Int32
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				entered <- true
				<-leave
				w.Header().Set("Portner-Invalidate", "url=/latest, tag=front")
				return
			}
			asked.Add(1)
			w.Header().Set("Cache-Control", "max-age=60")
			if r.URL.Path == "/" {
				w.Header().Set("Cache-Tag", "front")
			}
		})
		d := open(t, "app_proxy "+a.addr+" {\nname kept"+t.Name()[len(t.Name())-3:]+"\njournal_dir "+t.TempDir()+"\ncache\nroute POST /post {\njournal {\nanswer_within 20ms\n}\n}"+direct+"}")
		ask(t, d.url+"/")
		ask(t, d.url+"/latest")
		res, err := d.do(t.Context(), "POST", "/post", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		<-entered
		if res.StatusCode != 202 {
			t.Fatalf("accepted: %d", res.StatusCode)
		}
		ask(t, d.url+"/")
		ask(t, d.url+"/latest")
		if asked.Load() != 2 {
			t.Errorf("the accept answer invalidated something: asked %d times", asked.Load())
		}
		leave <- true
		defer func() {
			if t.Failed() {
				t.Logf("asked %d times, %d requests in all", asked.Load(), a.served.Load())
			}
		}()
		eventually(t, "both are asked for again", func() bool {
			ask(t, d.url+"/")
			ask(t, d.url+"/latest")
			return asked.Load() == 4
		})
	})
}

// TestWordsForTheDoorReachIt: they decide over what others are told, and nobody
// else sees them.
func TestWordsForTheDoorReachIt(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache")
			w.Header().Set("Portner-Cache-Control", r.URL.Query().Get("say"))
			fmt.Fprint(w, "page")
		})
		d := open(t, "app_proxy "+a.addr+" {\ncache"+direct+"}")
		for say, asked := range map[string]int32{"max-age=60": 1, "no-store": 3} {
			a.served.Store(0)
			for range 3 {
				res, _ := ask(t, d.url+"/?say="+say)
				if res.Header.Get("Portner-Cache-Control") != "" || res.Header.Get("Cache-Control") != "no-cache" {
					t.Errorf("%s: the client got %v", say, res.Header)
				}
			}
			if a.served.Load() != asked {
				t.Errorf("%s: asked %d times, want %d", say, a.served.Load(), asked)
			}
		}
	})
}

// TestWhatIsForOneReaderReachesHimAlone: fields that the answer itself excepts, and
// what caches in front of an application are told.
func TestWhatIsForOneReaderReachesHimAlone(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Surrogate-Capability"); got != `portner="Surrogate/1.0"` {
				t.Errorf("the application is told %q", got)
			}
			h := w.Header()
			h.Set("Cache-Control", "no-store")
			h.Set("Surrogate-Control", `max-age=60, public, private="Set-Cookie"`)
			h.Set("Set-Cookie", "session=his")
			if r.URL.Path == "/long" { // the client need not wait for its end
				fmt.Fprint(w, strings.Repeat(story, 10_000))
			}
			fmt.Fprint(w, "page")
		})
		d := open(t, "app_proxy "+a.addr+" {\ncache"+direct+"}")
		for i, path := range []string{"/", "/long"} {
			first, _ := ask(t, d.url+path)
			second, _ := ask(t, d.url+path)
			if first.Header.Get("Set-Cookie") != "session=his" || second.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s: the first got %v, the second %v", path, first.Header, second.Header)
			}
			if first.Header.Get("Surrogate-Control")+second.Header.Get("Surrogate-Control") != "" {
				t.Errorf("%s: a browser sees what is for caches", path)
			}
			if a.served.Load() != int32(i+1) {
				t.Errorf("%s: asked %d times", path, a.served.Load())
			}
		}
		refused := open(t, "app_proxy "+a.addr+" {\ncache {\nobject 1KiB\n}"+direct+"}") // too long to keep
		if res, _ := ask(t, refused.url+"/long"); res.Header.Get("Surrogate-Control") != "" {
			t.Error("where nothing is kept a browser sees what is for caches")
		}
	})
}

// TestRevalidatedPageKeepsItsType: net/http takes Content-Type out of a 304, and a
// page without one is shown as its source.
func TestRevalidatedPageKeepsItsType(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("Cache-Control", "no-cache")
			if r.Header.Get("If-None-Match") == `"1"` {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			w.Header().Set("Content-Type", "text/x-page")
			fmt.Fprint(w, "page")
		})
		d := open(t, "app_proxy "+a.addr+" {\ncache"+direct+"}")
		for range 3 {
			if res, body := ask(t, d.url); res.StatusCode != 200 || body != "page" || res.Header.Get("Content-Type") != "text/x-page" {
				t.Errorf("%d %q, %v", res.StatusCode, body, res.Header)
			}
		}
		if a.served.Load() != 3 {
			t.Errorf("asked %d times", a.served.Load())
		}
	})
}
