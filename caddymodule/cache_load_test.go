package caddymodule_test

import (
	"fmt"
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
			g.inside <- r.URL.Path
			<-g.open
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
