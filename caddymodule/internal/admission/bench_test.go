package admission

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// BenchmarkRefusal is what one request costs that finds 500 waiting and is turned
// away, or makes another be turned away: under twentyfold overload almost all.
func BenchmarkRefusal(b *testing.B) {
	for _, c := range []struct {
		name string
		cfg  Config
		fill func(i int) Ask
		ask  Ask
	}{
		{"full", Config{Depth: 500}, crowded, Ask{Route: "/", Client: "client 1"}},
		{"excess", Config{Depth: 500}, greedy, Ask{Route: "/", Client: "greedy"}},
		{"too long", Config{Depth: 10_000}, greedy, Ask{Route: "/", Client: "greedy", Wait: time.Millisecond}},
		{"returning", Config{Depth: 500}, backAtRandom, Ask{Route: "/", Since: time.Unix(1e9, 0)}},
		{"returning too long", Config{Depth: 10_000}, backAtRandom, Ask{Route: "/", Since: time.Unix(1e9, 0), Wait: time.Millisecond}},
		{"returning displaces", Config{Depth: 500}, backAtRandom, Ask{Route: "/", Since: time.Unix(1e9-1800, 0)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.cfg.Limit, c.cfg.Wait = 1, time.Hour
			q := pool(c.cfg, 2)
			learnPage(b, q)
			for range 2 {
				admit(b, q, Ask{Route: "/"})
			}
			q.mu.Lock()
			defer q.mu.Unlock()
			for i := range 500 {
				q.arriveLocked(c.fill(i))
			}
			b.ReportAllocs()
			for b.Loop() {
				q.arriveLocked(c.ask)
			}
			if q.waiting != 500 {
				b.Fatalf("%d wait", q.waiting)
			}
		})
	}
}

// BenchmarkRefusalOfAnOlder is the same in a standing queue, where the newest wait.
func BenchmarkRefusalOfAnOlder(b *testing.B) {
	q := pool(Config{Limit: 1, Depth: 500, Wait: time.Hour}, 1)
	learnPage(b, q)
	admit(b, q, Ask{Route: "/"})
	q.mu.Lock()
	defer q.mu.Unlock()
	var waiting [500]*ticket
	for i := range waiting {
		waiting[i], _, _ = q.arriveLocked(Ask{Route: "/"})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i = (i + 1) % len(waiting) {
		q.standing.on = true
		t, _, _ := q.arriveLocked(Ask{Route: "/"})
		<-waiting[i].done // what its caller does when it hears of it
		q.spareLocked(waiting[i])
		waiting[i] = t
	}
}

func crowded(i int) Ask { return Ask{Route: "/", Client: fmt.Sprint("client ", i%50)} }
func greedy(i int) Ask {
	if i%5 == 0 {
		return crowded(i)
	}
	return Ask{Route: "/", Client: "greedy"}
}

var random = rand.New(rand.NewPCG(1, 2))

func backAtRandom(int) Ask {
	return Ask{Route: "/", Since: time.Unix(1e9-int64(random.IntN(3600)), 0)}
}

func learnPage(b *testing.B, q *Queue) {
	for range 20 {
		s := admit(b, q, Ask{Route: "/"})
		s.granted = s.granted.Add(-page)
		s.Served()
	}
}

func admit(b *testing.B, q *Queue, ask Ask) *Slot {
	s, err := q.Admit(b.Context(), ask)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkAdmitServed is the whole way of a request that nobody is before.
func BenchmarkAdmitServed(b *testing.B) {
	q := pool(Config{Limit: 8}, 2)
	b.ReportAllocs()
	for b.Loop() {
		admit(b, q, Ask{Route: "/", Client: "client"}).Served()
	}
}

func TestPassAndRefusalAllocateLittle(t *testing.T) {
	q := pool(Config{Limit: 1, Depth: 1}, 1)
	pass := testing.AllocsPerRun(1000, func() {
		if s, err := q.Admit(t.Context(), Ask{Route: "/"}); err == nil {
			s.Served()
		}
	})
	mustAdmit(t, q, Ask{Route: "/"})
	refusal := testing.AllocsPerRun(1000, func() { q.Admit(t.Context(), Ask{Route: "/", Wait: -1}) })
	if pass > 2 || refusal > 2 {
		t.Errorf("%v allocations to pass, %v to be refused; want 2 at the most", pass, refusal)
	}
}

// TestSpareTicketsKeepNothing: who waits next gets nothing of the one before, and
// a burst leaves no more than maxSpare behind.
func TestSpareTicketsKeepNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1, Depth: 2 * maxSpare, Wait: time.Second}, 1)
		for range 2 {
			busy := mustAdmit(t, q, Ask{})
			out := make(chan outcome, 2*maxSpare)
			ctx, cancel := context.WithCancel(t.Context())
			for i := range 2 * maxSpare {
				ask := back(i)
				ask.Sticky, ask.Choose = i%2 == 0, func(keys []string) string { return keys[0] }
				arrive(ctx, q, "", ask, out)
			}
			time.AfterFunc(time.Millisecond, busy.Release) // one is granted,
			time.AfterFunc(500*time.Millisecond, cancel)   // and the others leave;
			synctest.Wait()
			granted := <-out
			time.Sleep(2 * time.Second)
			granted.slot.Release()
			if n := len(q.spare); n != maxSpare {
				t.Errorf("%d spare tickets, want %d", n, maxSpare)
			}
			for _, spare := range q.spare {
				if got := (ticket{done: spare.done, timer: spare.timer}); len(spare.done) != 0 || !reflect.DeepEqual(*spare, got) {
					t.Fatalf("a spare ticket is %+v", *spare)
				}
			}
		}
	})
}

// BenchmarkReload is how long everybody is kept out while ten thousand who wait are
// placed anew; and while they are held and released.
func BenchmarkReload(b *testing.B) {
	for name, ask := range map[string]func(int) Ask{"clients": crowded, "returning": backAtRandom} {
		cfg := Config{Limit: 1, Depth: 20_000, Wait: time.Hour}
		targets := []Target{{Key: "a"}}
		q := pool(cfg, 1)
		admit(b, q, Ask{Route: "/"})
		q.mu.Lock()
		for i := range 10_000 {
			q.arriveLocked(ask(i))
		}
		q.mu.Unlock()
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				q.Apply(cfg, targets)
			}
		})
		b.Run(name+" held", func(b *testing.B) {
			for b.Loop() {
				q.SetReady("a", false)
				q.SetReady("a", true)
			}
		})
	}
}
