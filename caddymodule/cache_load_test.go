package caddymodule_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// gate is an application that lets GETs in one at a time when it is told to.
type gate struct {
	*app
	inside chan string // who is there
	open   chan bool
	asked  sync.Map // path -> *atomic.Int32
}

func newGate(t *testing.T, header func(path string, h http.Header)) *gate {
	g := &gate{inside: make(chan string), open: make(chan bool)}
	g.app = newApp(t, func(w http.ResponseWriter, r *http.Request) {
		g.count(r.URL.Path).Add(1)
		if strings.HasPrefix(r.URL.Path, "/slow") {
			select {
			case g.inside <- r.URL.Path:
			case <-t.Context().Done():
			}
			select {
			case <-g.open:
			case <-t.Context().Done():
			}
		}
		header(r.URL.Path, w.Header())
		fmt.Fprint(w, "page ", r.URL.Path)
	})
	return g
}

func (g *gate) count(path string) *atomic.Int32 {
	n, _ := g.asked.LoadOrStore(path, new(atomic.Int32))
	return n.(*atomic.Int32)
}

// TestFollowersOfARefusedLeaderDoNotStandInLine: the leader's time in the queue is
// over before a slot is free. Those who followed it get the same chance at once, and
// when one of them has a slot the others take its answer.
func TestFollowersOfARefusedLeaderDoNotStandInLine(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		const followers = 30
		g := newGate(t, func(_ string, h http.Header) { h.Set("Cache-Control", "max-age=60") })
		pool := "convoy" + direct[len(direct)-3:len(direct)-1]
		d := open(t, "app_proxy "+g.addr+" {\nname "+pool+"\nconcurrency 1\nqueue {\nwait 30s\n}\ncache"+direct+"}")
		waiting := func(n int) func() bool { return func() bool { return poolOf(t, pool).Waiting == n } }
		busy := d.visit("/slow")
		<-g.inside

		leader := d.visit("/cold", "Prefer", "wait=2")
		eventually(t, "the leader waits", waiting(1))
		var others []<-chan *http.Response
		for range followers {
			others = append(others, d.visit("/cold"))
		}
		if res := <-leader; res == nil || res.StatusCode != 503 {
			t.Fatalf("the leader: %v", res)
		}
		eventually(t, "all who followed wait side by side", waiting(followers))
		g.open <- true
		for _, other := range append(others, busy) {
			if res := <-other; res == nil || res.StatusCode != 200 {
				t.Errorf("a follower: %v", res)
			}
		}
		if n := g.count("/cold").Load(); n != 1 {
			t.Errorf("%d of them reached the application", n)
		}
		eventually(t, "nobody is left in the queue", waiting(0))
	})
}

// newCrowd is clients with a connection each, which have been served once: what the
// door does with a rush of new connections is another matter.
func newCrowd(t *testing.T, n int, url string) []*http.Client {
	t.Helper()
	crowd := make([]*http.Client, n)
	for i := range crowd {
		transport := &http.Transport{MaxConnsPerHost: 1}
		t.Cleanup(transport.CloseIdleConnections)
		crowd[i] = &http.Client{Transport: transport}
		if status, text := fetch(crowd[i], url); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
	}
	return crowd
}

// fetch asks for a page; status 0: the text is an error.
func fetch(c *http.Client, url string) (status int, text string) {
	res, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(b)
}

// TestBurstSeesNoErrorWhereStalePagesAreAtHand: many more than the queue takes come
// at once, while the application is busy with something else.
func TestBurstSeesNoErrorWhereStalePagesAreAtHand(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		const pages, readers, times = 10, 60, 5
		g := newGate(t, func(path string, h http.Header) {
			h.Set("Cache-Control", "max-age=0, stale-if-error=600")
			if strings.HasSuffix(path, "swr") {
				h.Set("Cache-Control", "max-age=0, stale-while-revalidate=600")
			}
		})
		d := open(t, "app_proxy "+g.addr+" {\nconcurrency 1\nqueue {\nwait 100ms\ndepth 20\n}\ncache"+direct+"}")
		path := func(i int) string {
			return fmt.Sprint("/page", i%pages, []string{"sie", "swr"}[i%2])
		}
		for i := range pages {
			ask(t, d.url+path(i))
		}
		crowd := newCrowd(t, readers, d.url+path(0))
		busy := d.visit("/slow")
		<-g.inside
		var wg sync.WaitGroup
		for i, c := range crowd {
			wg.Go(func() {
				for j := range times {
					if status, text := fetch(c, d.url+path(i+j)); status != 200 {
						t.Errorf("%s: %d %s", path(i+j), status, text)
					}
				}
			})
		}
		wg.Wait()
		if status, text := fetch(crowd[0], d.url+"/unknown"); status != 503 {
			t.Errorf("what nobody has: %d %s: it was no overload", status, text)
		}
		g.open <- true
		<-busy
	})
}

// TestColdStampedeBeginsWithTheLeader: the application is asked once, and whoever
// waits has the first byte when there is one, not when there are all.
func TestColdStampedeBeginsWithTheLeader(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		const readers = 50
		first, rest := make(chan bool), make(chan bool)
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			if r.URL.Path == "/warm" {
				return
			}
			<-first
			fmt.Fprint(w, strings.Repeat("x", 100_000))
			http.NewResponseController(w).Flush()
			<-rest
			fmt.Fprint(w, "end")
		})
		d := open(t, "app_proxy "+a.addr+" {\nconcurrency 1\ncache"+direct+"}")
		crowd := newCrowd(t, readers, d.url+"/warm")
		begun, ended := make(chan error, readers), make(chan error, readers)
		for _, c := range crowd {
			go func() {
				res, err := c.Get(d.url + "/")
				if err != nil {
					begun <- err
					return
				}
				defer res.Body.Close()
				_, err = io.ReadFull(res.Body, make([]byte, 50_000))
				begun <- err
				text, err := io.ReadAll(res.Body)
				if err == nil && len(text) != 50_003 {
					err = fmt.Errorf("%d bytes more", len(text))
				}
				ended <- err
			}()
		}
		close(first)
		for range readers { // all of them before the application sends the rest
			if err := <-begun; err != nil {
				t.Fatal(err)
			}
		}
		close(rest)
		for range readers {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if n := a.served.Load(); n != 2 { // one to warm up
			t.Errorf("asked %d times", n)
		}
	})
}

// TestReloadInTheMiddleOfAFlight: the leader's answer reaches those who came before
// and those who came after, and what the reload has bounded newly is kept.
func TestReloadInTheMiddleOfAFlight(t *testing.T) {
	eachWay(t, func(t *testing.T, direct string) {
		g := newGate(t, func(_ string, h http.Header) { h.Set("Cache-Control", "max-age=60") })
		d := open(t, "app_proxy "+g.addr+" {\nconcurrency 1\ncache 64MiB"+direct+"}")
		leader := d.visit("/slow")
		<-g.inside
		before := d.visit("/slow")
		d.load("app_proxy " + g.addr + " {\nconcurrency 1\ncache 32MiB" + direct + "}")
		after := d.visit("/slow")
		g.open <- true
		for who, answer := range map[string]<-chan *http.Response{"leader": leader, "before": before, "after": after} {
			if res := <-answer; res == nil || res.StatusCode != 200 {
				t.Errorf("%s: %v", who, res)
			}
		}
		if res, _ := ask(t, d.url+"/slow"); !strings.Contains(cacheStatus(res), "hit") || g.count("/slow").Load() != 1 {
			t.Errorf("then %s, asked %d times", cacheStatus(res), g.count("/slow").Load())
		}
	})
}
