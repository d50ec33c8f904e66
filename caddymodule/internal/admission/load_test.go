package admission

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sim offers load to a queue in a bubble: time is exact and costs nothing.
type sim struct {
	t   *testing.T
	q   *Queue
	rnd *rand.Rand
	app chan struct{} // the application's workers
	// What it says of itself with every answer.
	says Report

	wg sync.WaitGroup
	mu sync.Mutex // also of rnd and stands
	// No answer comes before it: the machine stands still.
	stands time.Time

	took map[string][]time.Duration // of those that were served in time, by name
	lost map[string]map[error]int   // of those that were not, by name and reason
}

// visit is one request of a client with one second of patience.
type visit struct {
	name    string // whose figures it counts to
	ask     Ask
	service time.Duration
}

const patience = time.Second

func simulate(t *testing.T, cfg Config, workers int, f func(*sim)) {
	synctest.Test(t, func(t *testing.T) {
		s := &sim{
			t: t, q: pool(cfg, 1), rnd: rand.New(rand.NewPCG(1, 2)), app: make(chan struct{}, workers),
			took: map[string][]time.Duration{}, lost: map[string]map[error]int{},
		}
		f(s)
		s.wg.Wait()
		if stats := s.q.Stats(); stats.Waiting != 0 || stats.InFlight != 0 {
			t.Errorf("left behind: %d waiting, %d in flight", stats.Waiting, stats.InFlight)
		}
	})
}

func (s *sim) ask(v visit) (served bool) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	start := time.Now()
	slot, err := s.q.Admit(ctx, v.ask)
	if err == nil {
		s.app <- struct{}{} // the application's own line
		time.Sleep(v.service)
		s.mu.Lock()
		stands := s.stands
		s.mu.Unlock()
		time.Sleep(time.Until(stands))
		<-s.app
		slot.Report(s.says)
		slot.Served()
	}
	took := time.Since(start)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && took <= patience {
		s.took[v.name] = append(s.took[v.name], took)
		return true
	}
	var refusal *Refusal
	if errors.As(err, &refusal) {
		err = refusal.Reason
	}
	if s.lost[v.name] == nil {
		s.lost[v.name] = map[error]int{}
	}
	s.lost[v.name][err]++
	return false
}

// open offers visits at a rate, whatever becomes of them, with random gaps.
func (s *sim) open(rate float64, d time.Duration, next func(i int) visit) {
	s.wg.Go(func() {
		end := time.Now().Add(d)
		for i := 0; time.Now().Before(end); i++ {
			v := next(i)
			s.wg.Go(func() { s.ask(v) })
			s.mu.Lock()
			gap := s.rnd.ExpFloat64() / rate
			s.mu.Unlock()
			time.Sleep(time.Duration(gap * float64(time.Second)))
		}
	})
}

// closed has n clients of whom each asks again when it was answered.
func (s *sim) closed(n int, d time.Duration, next func(client int) visit) {
	end := time.Now().Add(d)
	for c := range n {
		s.wg.Go(func() {
			for time.Now().Before(end) {
				if s.ask(next(c)) {
					time.Sleep(100 * time.Microsecond)
				} else {
					time.Sleep(20 * time.Millisecond) // who was refused comes back after a while
				}
			}
		})
	}
}

// figures says what became of the visits of a name.
func (s *sim) figures(name string) (served int, p50, p99 time.Duration) {
	took := slices.Clone(s.took[name])
	slices.Sort(took)
	if len(took) == 0 {
		return 0, 0, 0
	}
	s.t.Logf("%s: %d served, p50 %v, p99 %v, not: %v", name, len(took), took[len(took)/2], took[len(took)*99/100], s.lost[name])
	return len(took), took[len(took)/2], took[len(took)*99/100]
}

const (
	page = 3200 * time.Microsecond
	rate = float64(time.Second) / float64(page) // of one worker
)

func TestOverloadKeepsTheApplicationBusyForThoseWhoAreStillThere(t *testing.T) {
	for _, times := range []float64{2, 5, 20} {
		for _, workers := range []int{1, 2} {
			t.Run(fmt.Sprintf("%.0f times %d workers", times, workers), func(t *testing.T) {
				simulate(t, Config{Limit: workers}, workers, func(s *sim) {
					capacity := float64(workers) * rate
					s.open(times*capacity, 5*time.Second, func(int) visit { return visit{"page", Ask{Route: "/"}, page} })
					s.wg.Wait()
					served, p50, p99 := s.figures("page")
					if share := float64(served) / (5 * capacity); share < 0.97 || p50 > 50*time.Millisecond || p99 > 500*time.Millisecond {
						t.Errorf("%.0f%% of capacity, p50 %v, p99 %v", 100*share, p50, p99)
					}
				})
			})
		}
	}
}

// TestALittleTooMuchIsServedInTime: a queue that becomes shorter by chance has not
// drained.
func TestALittleTooMuchIsServedInTime(t *testing.T) {
	for _, times := range []float64{1.1, 1.5, 2} {
		for _, clients := range []int{1, 50, 1e6} {
			simulate(t, Config{Limit: 2}, 2, func(s *sim) {
				const d, service = 30 * time.Second, 20 * time.Millisecond
				who := rand.New(rand.NewPCG(3, 4))
				s.open(times*2/service.Seconds(), d, func(int) visit {
					return visit{"page", Ask{Client: fmt.Sprint(who.IntN(clients)), Route: "/"}, service}
				})
				s.wg.Wait()
				served, _, _ := s.figures("page")
				if share := float64(served) / d.Seconds() * service.Seconds() / 2; share < 0.98 {
					t.Errorf("%.1f times, %d clients: %.1f%% of what there is", times, clients, 100*share)
				}
			})
		}
	}
}

// TestOverloadOfManyClientsIsAsGoodAsOfOne: a crowd is thousands of people with one
// request each. There is nobody among them with more than his share, and nobody is
// served by chance of having come too long ago.
func TestOverloadOfManyClientsIsAsGoodAsOfOne(t *testing.T) {
	for _, c := range []struct {
		times   float64
		service time.Duration
		share   float64 // of the capacity, at the least
		p50     time.Duration
		p99     time.Duration
	}{
		{2, page, 0.97, 50 * time.Millisecond, 500 * time.Millisecond},
		{5, page, 0.97, 50 * time.Millisecond, 500 * time.Millisecond},
		{20, page, 0.97, 50 * time.Millisecond, 500 * time.Millisecond},
		{5, 20 * time.Millisecond, 0.95, 100 * time.Millisecond, patience}, // the queue alone is longer than that
		{5, 100 * time.Millisecond, 0.65, 500 * time.Millisecond, patience},
	} {
		t.Run(fmt.Sprint(c.times, " times of ", c.service), func(t *testing.T) {
			simulate(t, Config{Limit: 1}, 1, func(s *sim) {
				const d = 20 * time.Second
				capacity := float64(time.Second) / float64(c.service)
				s.open(c.times*capacity, d, func(i int) visit {
					service := c.service/2 + c.service*time.Duration(i%101)/100 // no two cost the same
					return visit{"page", Ask{Client: fmt.Sprint(i), Route: "/"}, service}
				})
				s.wg.Wait()
				served, p50, p99 := s.figures("page")
				if share := float64(served) / (d.Seconds() * capacity); share < c.share || p50 > c.p50 || p99 > c.p99 {
					t.Errorf("%.0f%% of capacity, p50 %v, p99 %v", 100*share, p50, p99)
				}
			})
		})
	}
}

func TestBurstThatDrainsIsServedWhole(t *testing.T) {
	simulate(t, Config{Limit: 1}, 1, func(s *sim) {
		for range 40 { // a page with its pictures; 0.8 s of work
			s.wg.Go(func() { s.ask(visit{"burst", Ask{Route: "/"}, 20 * time.Millisecond}) })
		}
		s.wg.Wait()
		if served, _, _ := s.figures("burst"); served != 40 {
			t.Errorf("%d of 40 served: %v", served, s.lost)
		}
	})
}

func TestPatientClientsWaitForEachOtherWithoutLoss(t *testing.T) {
	simulate(t, Config{Limit: 1, Wait: 60 * time.Second, Depth: 1000}, 1, func(s *sim) {
		s.closed(100, 10*time.Second, func(int) visit { return visit{"patient", Ask{Route: "/"}, page} })
		s.wg.Wait()
		served, p50, p99 := s.figures("patient")
		if len(s.lost["patient"]) != 0 || p99 > p50*6/5 {
			t.Errorf("%d served, p50 %v, p99 %v, lost %v; want one after the other", served, p50, p99, s.lost)
		}
	})
}

func TestRequestWhoseWaitCannotFitIsRefusedAtOnce(t *testing.T) {
	simulate(t, Config{Limit: 1, Wait: 200 * time.Millisecond}, 1, func(s *sim) {
		ask := Ask{Route: "/"}
		for range 20 { // let it learn
			s.ask(visit{"learn", ask, 50 * time.Millisecond})
		}
		for range 10 {
			s.wg.Go(func() { s.ask(visit{"wave", ask, 50 * time.Millisecond}) })
		}
		synctest.Wait()
		stats := s.q.Stats()
		if stats.Counts.Wait < 4 || stats.Waiting > 5 {
			t.Errorf("%d refused at once, %d wait for 200ms with 50ms each", stats.Counts.Wait, stats.Waiting)
		}
		var r *Refusal
		if _, err := s.q.Admit(t.Context(), ask); !errors.As(err, &r) || !errors.Is(err, ErrWait) || r.Wait < 150*time.Millisecond || r.Ahead != stats.Waiting {
			t.Errorf("refusal %+v (%v)", r, err)
		}
	})
}

// TestPredictionCountsOneTurnOfEachClient, of those who wait, and no more of the
// greedy ones. It must come true.
func TestPredictionCountsOneTurnOfEachClient(t *testing.T) {
	const service = 20 * time.Millisecond
	robots := Ask{Class: "robots", Client: "new", Route: "/"}
	for _, c := range []struct {
		name     string
		fill     func(u queueUp)
		ask      Ask
		standing bool
		want     time.Duration
	}{
		{"nobody waits", func(queueUp) {}, fresh(-1), false, 0},
		{"a hundred new ones", func(u queueUp) { u.arrive(0, 100, "new ", fresh) }, fresh(-1), false, 100 * service},
		{"a hundred new ones in a standing queue", func(u queueUp) { u.arrive(0, 100, "new ", fresh) }, fresh(-1), true, 0},
		{"a greedy one", func(u queueUp) { u.arrive(0, 100, "greedy ", one) }, fresh(-1), false, 0},
		{"a few of one", func(u queueUp) { u.arrive(0, 4, "few ", one) }, fresh(-1), false, 4 * service},
		{"his own few", func(u queueUp) { u.arrive(0, 4, "few ", one) }, one(0), false, 4 * service},
		{"his own", func(u queueUp) { u.arrive(0, 100, "greedy ", one) }, one(0), false, 100 * service},
		{"his own in a standing queue", func(u queueUp) { u.arrive(0, 100, "greedy ", one) }, one(0), true, 0},
		{"another class", func(u queueUp) { u.arrive(0, 100, "new ", fresh) }, robots, false, service},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				q := pool(Config{Limit: 1, Wait: time.Minute, Depth: 1000, Classes: []Class{{Name: "pages", Weight: 8}, {Name: "robots", Weight: 1}}}, 1)
				for range 20 {
					serve(t, q, "/", service)
				}
				busy := mustAdmit(t, q, fresh(-2))
				u := queueUp{ctx, q, make(chan outcome, 1000)}
				c.fill(u)
				q.standing.on = c.standing
				if got, _ := q.Predict(c.ask); got.Round(time.Millisecond) != c.want {
					t.Errorf("%v predicted, want %v", got, c.want)
				}
				arrive(ctx, q, "asked", c.ask, u.out)
				for slot, before := busy, 0; ; before++ {
					slot.Served()
					got := <-u.out
					if got.name == "asked" {
						if most := int(c.want/service) + 1; before > most {
							t.Errorf("%d went before, want %d at the most", before, most)
						}
						got.slot.Served()
						break
					}
					slot = got.slot
					time.Sleep(service)
				}
			})
		})
	}
}

func one(int) Ask { return Ask{Client: "one", Route: "/"} }

func TestOwnDeadlineIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1, Classes: []Class{{Name: "pages", Weight: 1}, {Name: "api", Weight: 1, Wait: 2 * time.Second}}}, 1)
		mustAdmit(t, q, Ask{})
		for _, c := range []struct {
			ask  Ask
			want time.Duration
		}{{Ask{Wait: 100 * time.Millisecond}, 100 * time.Millisecond}, {Ask{Own: 300 * time.Millisecond}, 300 * time.Millisecond}, {Ask{Wait: time.Second, Own: time.Hour}, time.Second}, {Ask{Class: "api"}, 2 * time.Second}, {Ask{Class: "pages"}, 5 * time.Second}, {Ask{Wait: -1}, 0}} {
			start := time.Now()
			if _, err := q.Admit(t.Context(), c.ask); !errors.Is(err, ErrWait) || time.Since(start) != c.want {
				t.Errorf("%+v: %v after %v, want %v", c.ask, err, time.Since(start), c.want)
			}
		}
	})
}

func TestGreedyClientDoesNotSlowThePolite(t *testing.T) {
	polite := func(s *sim) {
		for i := range 20 {
			s.open(rate/2/20, 20*time.Second, func(int) visit { return visit{"polite", Ask{Client: fmt.Sprint(i), Route: "/"}, page} })
		}
	}
	var without time.Duration
	simulate(t, Config{Limit: 1}, 1, func(s *sim) {
		polite(s)
		s.wg.Wait()
		_, _, without = s.figures("polite")
	})
	simulate(t, Config{Limit: 1}, 1, func(s *sim) {
		polite(s)
		s.closed(100, 20*time.Second, func(int) visit { return visit{"greedy", Ask{Client: "greedy", Route: "/"}, page} })
		s.wg.Wait()
		_, _, with := s.figures("polite")
		s.figures("greedy")
		if with > 2*without || len(s.lost["polite"]) != 0 {
			t.Errorf("p99 of the polite %v, without the greedy one %v; lost %v", with, without, s.lost["polite"])
		}
	})
}

// TestFairnessCostsNobodyAnythingWhileAllAskForLittle: those of whom nobody asks for
// more than his share wait as in a line without clients.
func TestFairnessCostsNobodyAnythingWhileAllAskForLittle(t *testing.T) {
	for _, load := range []float64{0.6, 0.8, 0.9} {
		var line time.Duration
		for _, clients := range []int{1, 50} {
			simulate(t, Config{Limit: 2}, 2, func(s *sim) {
				who := rand.New(rand.NewPCG(3, 4))
				s.open(load*2*rate, 60*time.Second, func(i int) visit {
					return visit{"page", Ask{Client: fmt.Sprint(who.IntN(clients)), Route: "/"}, page}
				})
				s.wg.Wait()
				_, _, p99 := s.figures("page")
				if clients == 1 {
					line = p99
				} else if p99 > line+line/20 {
					t.Errorf("%.0f%% of what there is: p99 %v with 50 clients, %v in one line", 100*load, p99, line)
				}
			})
		}
	}
}

// TestAnyNumberAtATimeIsOneShare: whoever asks for little each time, and at once
// again, has had much after a while; and much queued is neither more nor less.
func TestAnyNumberAtATimeIsOneShare(t *testing.T) {
	for _, n := range []int{3, 20} {
		simulate(t, Config{Limit: 1}, 1, func(s *sim) {
			const d = 20 * time.Second
			s.closed(n, d, func(int) visit { return visit{"some at a time", Ask{Client: "some", Route: "/"}, page} })
			s.closed(10, d, func(c int) visit { return visit{"one at a time", Ask{Client: fmt.Sprint(c), Route: "/"}, page} })
			s.wg.Wait()
			some, _, _ := s.figures("some at a time")
			one, _, _ := s.figures("one at a time")
			if share := float64(some) / float64(some+one) * 11; share < 0.9 || share > 1.1 {
				t.Errorf("%d at a time: of eleven shares one has had %.2f", n, share)
			}
		})
	}
}

func TestSlowRouteDoesNotStallTheOthers(t *testing.T) {
	pages := func(s *sim) {
		s.open(rate/2, 20*time.Second, func(int) visit { return visit{"page", Ask{Route: "/"}, page} })
	}
	for _, workers := range []int{2, 4} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			var without time.Duration
			simulate(t, Config{Limit: workers}, workers, func(s *sim) {
				pages(s)
				s.wg.Wait()
				_, _, without = s.figures("page")
			})
			simulate(t, Config{Limit: workers}, workers, func(s *sim) {
				pages(s)
				s.open(float64(workers-1), 20*time.Second, func(int) visit { return visit{"slow", Ask{Route: "/slow"}, 3 * time.Second} })
				s.wg.Wait()
				served, _, with := s.figures("page")
				s.figures("slow")
				if with > 5*without || len(s.lost["page"]) != 0 {
					t.Errorf("%d pages, p99 %v, without the slow route %v; lost %v", served, with, without, s.lost["page"])
				}
			})
		})
	}
}

func TestWithOneSlotSlowWorkHasABoundedShare(t *testing.T) {
	simulate(t, Config{Limit: 1, Wait: time.Second}, 1, func(s *sim) {
		const d = 60 * time.Second
		s.closed(4, d, func(int) visit { return visit{"page", Ask{Route: "/"}, page} })
		s.open(2, d, func(int) visit { return visit{"slow", Ask{Route: "/slow"}, 300 * time.Millisecond} })
		s.wg.Wait()
		slow, _, _ := s.figures("slow")
		pages, _, _ := s.figures("page")
		if share := float64(slow) * 0.3 / d.Seconds(); share > slowShare+0.05 || slow < 20 {
			t.Errorf("%d slow requests had %.0f%% of the time", slow, 100*share)
		}
		if share := float64(pages) * page.Seconds() / d.Seconds(); share < 0.65 {
			t.Errorf("pages had %.0f%% of the time", 100*share)
		}
	})
}

func TestSlowRequestGoesWhenTheOthersAreGone(t *testing.T) {
	simulate(t, Config{Limit: 1, Wait: 30 * time.Second}, 1, func(s *sim) {
		s.closed(2, 2*time.Second, func(int) visit { return visit{"page", Ask{Route: "/"}, page} })
		s.open(2, 2*time.Second, func(int) visit { return visit{"slow", Ask{Route: "/slow"}, 300 * time.Millisecond} })
		time.Sleep(3 * time.Second)
		start := time.Now()
		for range 3 { // nothing else happens any more
			slot, err := s.q.Admit(s.t.Context(), Ask{Route: "/slow"})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond)
			slot.Served()
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("three slow requests took %v with nobody else there", took)
		}
	})
}

func TestLongAnswersDoNotKeepTheHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 4, Wait: 10 * time.Second}, 1)
		q.SetReady("a", false)
		out := make(chan outcome, 4)
		for i := range 4 {
			arrive(t.Context(), q, fmt.Sprint(i), Ask{}, out)
		}
		q.SetReady("a", true)
		for i := range 4 { // nobody answers
			if got := <-out; got.err != nil || got.at > time.Duration(i+1)*time.Second/2 {
				t.Errorf("request %d: %v after %v", i, got.err, got.at)
			}
		}
	})
}

func TestNewClientsGoInTheOrderOfTheirArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 1)
		busy := mustAdmit(t, q, Ask{Route: "/", Client: "first"})
		out := make(chan outcome, 8)
		for i := range 8 {
			arrive(t.Context(), q, fmt.Sprint(i), Ask{Route: "/", Client: fmt.Sprint(i)}, out)
		}
		for i := range 8 {
			busy.Served()
			got := <-out
			if got.err != nil || got.name != fmt.Sprint(i) {
				t.Fatalf("place %d went to %s (%v)", i, got.name, got.err)
			}
			busy = got.slot
		}
	})
}

func TestClassesShareByWeightAndNobodyStarves(t *testing.T) {
	classes := []Class{{Name: "writes", Weight: 16}, {Name: "pages", Weight: 8}, {Name: "robots", Weight: 1}}
	simulate(t, Config{Limit: 1, Classes: classes}, 1, func(s *sim) {
		for _, c := range classes {
			s.closed(5, 20*time.Second, func(int) visit { return visit{c.Name, Ask{Class: c.Name, Route: c.Name}, page} })
		}
		s.wg.Wait()
		n := map[string]float64{}
		for _, c := range classes {
			served, _, _ := s.figures(c.Name)
			n[c.Name] = float64(served)
		}
		if r := n["writes"] / n["pages"]; r < 1.8 || r > 2.2 {
			t.Errorf("writes to pages %.2f, want 2", r)
		}
		if r := n["pages"] / n["robots"]; r < 7 || r > 9 {
			t.Errorf("pages to robots %.2f, want 8", r)
		}
	})
}

func TestClientsPayWhatTheirRequestsCost(t *testing.T) {
	simulate(t, Config{Limit: 1}, 1, func(s *sim) {
		s.closed(10, 30*time.Second, func(int) visit { return visit{"cheap", Ask{Client: "a", Route: "/cheap"}, 2 * time.Millisecond} })
		s.closed(10, 30*time.Second, func(int) visit { return visit{"dear", Ask{Client: "b", Route: "/dear"}, 6 * time.Millisecond} })
		s.wg.Wait()
		cheap, _, _ := s.figures("cheap")
		dear, _, _ := s.figures("dear")
		if r := float64(cheap) * 2 / (float64(dear) * 6); r < 0.85 || r > 1.2 {
			t.Errorf("the one with cheap requests had %.2f times the time of the other", r)
		}
	})
}

func TestOwnExcessIsRefusedAsSuch(t *testing.T) {
	simulate(t, Config{Limit: 1, Depth: 50}, 1, func(s *sim) {
		s.closed(100, 5*time.Second, func(int) visit { return visit{"greedy", Ask{Client: "greedy", Route: "/"}, page} })
		s.closed(3, 5*time.Second, func(c int) visit { return visit{"polite", Ask{Client: fmt.Sprint(c), Route: "/"}, page} })
		s.wg.Wait()
		if s.lost["greedy"][ErrExcess] == 0 || len(s.lost["polite"]) != 0 {
			t.Errorf("greedy lost %v, polite lost %v", s.lost["greedy"], s.lost["polite"])
		}
	})
}

// TestWhoProvesAnEarlierArrivalGoesOldestFirstWithHalfTheShare, whatever the
// requests were expected to cost.
func TestWhoProvesAnEarlierArrivalGoesOldestFirstWithHalfTheShare(t *testing.T) {
	for _, cost := range []time.Duration{0, time.Millisecond, 3 * page} {
		t.Run(fmt.Sprint("expected ", cost), func(t *testing.T) {
			simulate(t, Config{Limit: 1}, 1, func(s *sim) {
				start := time.Now()
				s.closed(50, 10*time.Second, func(c int) visit {
					return visit{"new", Ask{Client: fmt.Sprint(c % 10), Route: "/", Cost: cost}, page}
				})
				s.closed(50, 10*time.Second, func(c int) visit {
					return visit{"returning", Ask{Client: fmt.Sprint(c % 10), Route: "/", Since: start, Cost: cost}, page}
				})
				s.wg.Wait()
				fresh, _, _ := s.figures("new")
				returning, _, _ := s.figures("returning")
				if share := float64(returning) / float64(fresh+returning); share < 0.4 || share > 0.55 {
					t.Errorf("the returning had %.0f%%, want about half", 100*share)
				}
			})
		})
	}
}

func TestTheHeldComeOutSlowlyAndInOrder(t *testing.T) {
	simulate(t, Config{Limit: 8, Depth: 1000}, 8, func(s *sim) {
		s.q.SetReady("a", false)
		var order []int
		var mu sync.Mutex
		most, running := 0, 0
		for i := range 100 {
			s.wg.Go(func() {
				slot, err := s.q.Admit(s.t.Context(), Ask{Route: "/", Client: fmt.Sprint(i % 7)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				running++
				if len(order) < 3 {
					most = max(most, running)
				}
				order = append(order, i)
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
				mu.Lock()
				running--
				mu.Unlock()
				slot.Served()
			})
			synctest.Wait()
		}
		s.q.SetReady("a", true)
		s.wg.Wait()
		if most > 2 {
			t.Errorf("%d at once among the first three", most)
		}
		if !slices.IsSorted(order[:50]) && len(order) == 100 {
			// Those granted in the same instant may run in any order.
			for i, n := range order {
				if n < i-8 || n > i+8 {
					t.Errorf("place %d went to request %d", i, n)
				}
			}
		}
	})
}

func TestAutoLimitFollowsTheApplicationThroughTheQueue(t *testing.T) {
	for _, workers := range []int{1, 4, 32} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			simulate(t, Config{Depth: 1000}, workers, func(s *sim) {
				s.closed(4*workers+8, 10*time.Second, func(int) visit { return visit{"learn", Ask{Route: "/"}, 20 * time.Millisecond} })
				s.wg.Wait()
				s.closed(4*workers+8, 10*time.Second, func(int) visit { return visit{"page", Ask{Route: "/"}, 20 * time.Millisecond} })
				s.wg.Wait()
				served, _, _ := s.figures("page")
				limit := s.q.Stats().Upstreams[0].Limit
				if share := float64(served) / (10 * 50 * float64(workers)); share < 0.95 || limit > workers+workers/4+2 {
					t.Errorf("%.0f%% of what %d workers can do, limit %d", 100*share, workers, limit)
				}
			})
		})
	}
}

// TestPartOfALimitIsAPartOfWhatTheApplicationCanTake, although it says so with
// every answer, and follows it when it can take more or less.
func TestPartOfALimitIsAPartOfWhatTheApplicationCanTake(t *testing.T) {
	for _, workers := range []int{1, 4, 32} {
		for _, percent := range []int{50, 75} {
			t.Run(fmt.Sprint(percent, "% of ", workers), func(t *testing.T) {
				simulate(t, Config{Depth: 1000}, workers, func(s *sim) {
					s.says = Report{Percent: percent}
					offer := func(name string, d time.Duration) {
						s.closed(4*workers+8, d, func(int) visit {
							return visit{name, Ask{Route: "/"}, 20 * time.Millisecond}
						})
						s.wg.Wait()
					}
					offer("learn", 15*time.Second)
					offer("page", 20*time.Second)
					served, _, _ := s.figures("page")
					limit := s.q.Stats().Upstreams[0].Limit
					want := max(1, float64(workers*percent/100))
					if rate := float64(served) / 20; rate < 0.85*50*want || float64(limit) > 1.5*want+2 {
						t.Errorf("%.0f a second of %.0f, limit %d, want about %.0f", rate, 50*want, limit, want)
					}
				})
			})
		}
	}
}

func TestPartOfALimitEndsWithoutAWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New()
		q.Apply(Config{}, []Target{{Key: "auto"}, {Key: "fixed", Limit: 8}})
		limits := func() string { s := q.Stats().Upstreams; return fmt.Sprint(s[0].Limit, s[1].Limit) }
		say := func(percent int) {
			for _, key := range []string{"auto", "fixed"} {
				s := mustAdmit(t, q, Ask{Upstream: key})
				s.Report(Report{Percent: percent})
				s.Release()
			}
		}
		for percent, want := range map[int]string{75: "3 6", 50: "2 4", 1: "1 1", 100: "4 8"} {
			if say(percent); limits() != want {
				t.Errorf("%d%%: limits %s, want %s", percent, limits(), want)
			}
		}
		say(50)
		time.Sleep(reportHolds)
		if say(0); limits() != "2 4" {
			t.Errorf("limits %s after half a minute", limits())
		}
		time.Sleep(time.Millisecond)
		if say(0); limits() != "4 8" {
			t.Errorf("limits %s after half a minute without the word", limits())
		}
	})
}

// TestUtilizationOfEveryAnswerIsBelievedOnce: sixty that are in flight together all
// say that it was too much.
func TestUtilizationOfEveryAnswerIsBelievedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{}, 1)
		say := func(n int, r Report) {
			var slots []*Slot
			for range n {
				slots = append(slots, mustAdmit(t, q, Ask{Route: "/"}))
			}
			time.Sleep(20 * time.Millisecond)
			for _, s := range slots {
				s.Report(r)
				s.Served()
			}
		}
		say(1, Report{Limit: 60})
		for _, want := range []int{50, 42, 35} { // a sixth less each time
			say(q.Stats().Limit, Report{Utilization: 1.2})
			if got := q.Stats().Limit; got != want {
				t.Errorf("limit %d, want %d", got, want)
			}
			for range 20 { // nor is it believed again within a second
				say(q.Stats().Limit, Report{Utilization: 1.2})
			}
			if got := q.Stats().Limit; got != want {
				t.Errorf("limit %d within a second, want %d", got, want)
			}
			time.Sleep(time.Second)
		}
		say(1, Report{Limit: 4})
		for range 10 { // four are nearer to it than three
			time.Sleep(2 * time.Second)
			say(4, Report{Utilization: 1.05})
		}
		if got := q.Stats().Limit; got != 4 {
			t.Errorf("limit %d, want 4", got)
		}
		time.Sleep(2 * time.Second)
		say(4, Report{Utilization: 3})
		if got := q.Stats().Limit; got != 1 {
			t.Errorf("limit %d, want 1", got)
		}
	})
}

func TestReportsOfTheApplicationSetTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New()
		q.Apply(Config{}, []Target{{Key: "auto"}, {Key: "fixed", Limit: 10}})
		for _, key := range []string{"auto", "fixed"} {
			s := mustAdmit(t, q, Ask{Upstream: key})
			s.Report(Report{Limit: 30})
			s.Report(Report{Drain: true})
			s.Release()
		}
		stats := q.Stats()
		if !stats.Held || stats.Upstreams[0].Limit != 30 || stats.Upstreams[1].Limit != 10 {
			t.Fatalf("%+v", stats)
		}
		s := mustAdmit(t, q, Ask{Upstream: "fixed"})
		s.Report(Report{Limit: 3, Ready: true})
		if stats := q.Stats(); stats.Held || stats.Upstreams[1].Limit != 3 {
			t.Fatalf("%+v", stats)
		}
	})
}

func BenchmarkWaitingTicket(b *testing.B) {
	q := pool(Config{Limit: 1, Depth: 1 << 30, Wait: time.Hour}, 1)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.claimLocked(q.upstreams[0], &ticket{}, time.Now())
	b.ReportAllocs()
	for i := range b.N {
		if t, _, err := q.arriveLocked(Ask{Client: clients[i%len(clients)], Route: "/"}); t == nil {
			b.Fatal(err)
		}
	}
}

var clients = func() []string {
	var list []string
	for i := range 1000 {
		list = append(list, fmt.Sprint("client ", i))
	}
	return list
}()

func BenchmarkGrantAmongTenThousand(b *testing.B) {
	q := pool(Config{Limit: 1, Depth: 1 << 30, Wait: time.Hour}, 1)
	q.mu.Lock()
	defer q.mu.Unlock()
	slot := q.claimLocked(q.upstreams[0], &ticket{}, time.Now())
	for i := range 10_000 {
		q.arriveLocked(Ask{Client: clients[i%len(clients)], Route: "/"})
	}
	b.ReportAllocs()
	for i := range b.N {
		q.arriveLocked(Ask{Client: clients[i%len(clients)], Route: "/"})
		q.giveBackLocked(slot, page)
		slot = q.costs.routes["/"].running.oldest // the one that was granted
	}
}
