package admission

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// serve has one request of a route served in the bubble, and says how long it
// waited.
func serve(t *testing.T, q *Queue, route string, service time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	slot := mustAdmit(t, q, Ask{Route: route})
	waited := time.Since(start)
	time.Sleep(service)
	slot.Served()
	return waited
}

// TestHungRequestOfTheOnlyRouteLeavesItTheOtherSlot: two upstreams that take one
// request each, and the age of the hung one made the route wait for nobody.
func TestHungRequestOfTheOnlyRouteLeavesItTheOtherSlot(t *testing.T) {
	for _, quick := range []int{0, 1, 2, 20} {
		t.Run(fmt.Sprint(quick, " quick ones before"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := pool(Config{Limit: 1}, 2)
				for range quick {
					serve(t, q, "GET /", page)
				}
				hung := mustAdmit(t, q, Ask{Route: "GET /"})
				defer hung.Release()
				time.Sleep(300 * time.Millisecond)
				for range 1000 {
					if waited := serve(t, q, "GET /", page); waited != 0 {
						t.Fatalf("waited %v for a slot that was free", waited)
					}
				}
			})
		})
	}
}

func TestHungRequestDoesNotCondemnOneOfTwoFastRoutes(t *testing.T) {
	for limit, learned := range map[int]int{2: 1, 3: 100, 4: 3} {
		simulate(t, Config{Limit: limit}, limit, func(s *sim) {
			for range learned {
				serve(s.t, s.q, "/a", page)
				serve(s.t, s.q, "/b", page)
			}
			hung := mustAdmit(s.t, s.q, Ask{Route: "/a"})
			for _, name := range []string{"/a", "/b"} {
				s.open(rate/4, 20*time.Second, func(int) visit { return visit{name, Ask{Route: name}, page} })
			}
			s.wg.Wait()
			hung.Release()
			// One slot is left at least, half used: the wait of a queue, and no more.
			for _, name := range []string{"/a", "/b"} {
				if _, _, p99 := s.figures(name); p99 > 10*page || len(s.lost[name]) != 0 {
					t.Errorf("%s: p99 %v, lost %v", name, p99, s.lost[name])
				}
			}
		})
	}
}

func TestThreeHungRequestsDoNotMakeARouteUnaffordable(t *testing.T) {
	simulate(t, Config{Limit: 4, Depth: 1000}, 4, func(s *sim) {
		for range 20 {
			serve(s.t, s.q, "/", page)
		}
		for range 3 {
			defer mustAdmit(s.t, s.q, Ask{Route: "/"}).Release()
		}
		time.Sleep(10 * time.Second)
		for range 200 { // 640 ms of work for the last slot
			s.wg.Go(func() { s.ask(visit{"page", Ask{Route: "/"}, page}) })
		}
		s.wg.Wait()
		if served, _, _ := s.figures("page"); served != 200 {
			t.Errorf("%d of 200 served, lost %v", served, s.lost["page"])
		}
	})
}

// TestStallOfTheMachineIsNoneOfARoute: everything in flight gets 200 ms older at
// once. Nobody is refused for that, and the route costs what it did.
func TestStallOfTheMachineIsNoneOfARoute(t *testing.T) {
	simulate(t, Config{Limit: 8, Depth: 10_000}, 8, func(s *sim) {
		s.open(4*rate, 10*time.Second, func(int) visit { return visit{"page", Ask{Route: "/"}, page} })
		s.open(rate, 10*time.Second, func(int) visit { return visit{"other", Ask{Route: "/other"}, page} })
		for range 5 {
			time.Sleep(time.Second)
			s.mu.Lock()
			s.stands = time.Now().Add(200 * time.Millisecond)
			s.mu.Unlock()
			for range 30 {
				time.Sleep(10 * time.Millisecond)
				for _, r := range s.q.Stats().Routes {
					if r.Slow || r.Cost > 2*page {
						t.Errorf("%s is slow: %v, cost %v", r.Name, r.Slow, r.Cost)
					}
				}
			}
		}
		s.wg.Wait()
		for _, name := range []string{"page", "other"} {
			if s.figures(name); len(s.lost[name]) != 0 {
				t.Errorf("%s: lost %v", name, s.lost[name])
			}
		}
	})
}

func TestSlowRouteIsKnownByItsFirstRequest(t *testing.T) {
	simulate(t, Config{Limit: 2}, 2, func(s *sim) {
		s.open(rate/2, 10*time.Second, func(int) visit { return visit{"page", Ask{Route: "/"}, page} })
		time.Sleep(time.Second)
		first := mustAdmit(s.t, s.q, Ask{Route: "/slow"}) // never seen before
		time.Sleep(slowFloor + time.Millisecond)
		ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Second)
		defer cancel()
		if slot, err := s.q.Admit(ctx, Ask{Route: "/slow"}); err == nil {
			t.Error("a second one got the last slot")
			slot.Release()
		}
		first.Served()
		s.wg.Wait()
		if _, _, p99 := s.figures("page"); p99 > 10*page || len(s.lost["page"]) != 0 {
			t.Errorf("p99 %v, lost %v", p99, s.lost["page"])
		}
	})
}

// TestRouteThatHasBecomeSlowIsFoundOut: what was quick for long is not believed
// for ever, and of three slots it does not even get the last one first.
func TestRouteThatHasBecomeSlowIsFoundOut(t *testing.T) {
	for workers, searches := range map[int]float64{3: 1, 4: 3} {
		simulate(t, Config{Limit: workers}, workers, func(s *sim) {
			for range 100 {
				serve(s.t, s.q, "/search", page)
			}
			s.open(rate/2, 20*time.Second, func(int) visit { return visit{"page", Ask{Route: "/"}, page} })
			s.open(searches, 20*time.Second, func(int) visit { return visit{"search", Ask{Route: "/search"}, 3 * time.Second} })
			s.wg.Wait()
			if _, _, p99 := s.figures("page"); p99 > 10*page || len(s.lost["page"]) != 0 {
				t.Errorf("%d workers: p99 %v, lost %v", workers, p99, s.lost["page"])
			}
		})
	}
}

func TestSlowRouteHasEverySlotWhenNobodyElseWantsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 4}, 1)
		all := func() (most int) { // slots that /slow gets at once
			var slots []*Slot
			for {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				slot, err := q.Admit(ctx, Ask{Route: "/slow"})
				cancel()
				if err != nil {
					break
				}
				slots = append(slots, slot)
			}
			time.Sleep(time.Second)
			for _, s := range slots {
				s.Served()
			}
			return len(slots)
		}
		for range 20 {
			serve(t, q, "/", page)
		}
		time.Sleep(time.Minute)
		if n := all(); n != 4 {
			t.Errorf("%d of 4 slots for a route that nobody knows", n)
		}
		if n := all(); n != 4 {
			t.Errorf("%d of 4 slots for a slow route that is alone", n)
		}
		serve(t, q, "/", page)
		if n := all(); n != 3 {
			t.Errorf("%d of 4 slots just after another's request", n)
		}
		time.Sleep(keptFor - 2*time.Second)
		if n := all(); n != 3 {
			t.Errorf("%d of 4 slots a while after another's request", n)
		}
		time.Sleep(keptFor)
		if n := all(); n != 4 {
			t.Errorf("%d of 4 slots when the other is gone", n)
		}
	})
}

// TestFirstRequestOfASlowRouteDoesNotHideWhoCameBefore: the last one who came is
// not always the other.
func TestFirstRequestOfASlowRouteDoesNotHideWhoCameBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 2, Wait: time.Second}, 1)
		serve(t, q, "/", page)
		mustAdmit(t, q, Ask{Route: "/slow"})
		time.Sleep(3 * time.Second)
		if _, err := q.Admit(t.Context(), Ask{Route: "/slow"}); err == nil {
			t.Error("/slow has both slots, three seconds after a page")
		}
	})
}

// TestSlotIsKeptForWhoWaits, however long it is since he came.
func TestSlotIsKeptForWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 2, Wait: time.Hour}, 1)
		serve(t, q, "/", page)
		mustAdmit(t, q, Ask{Route: "/hangs"})
		busy := mustAdmit(t, q, Ask{Route: "/long"})
		out := make(chan outcome, 2)
		arrive(t.Context(), q, "slow", Ask{Route: "/slow", Cost: time.Second}, out)
		arrive(t.Context(), q, "page", Ask{Route: "/"}, out)
		time.Sleep(time.Minute)
		busy.Served()
		got := <-out
		if got.name != "page" {
			t.Errorf("the slot went to the %s one", got.name)
		}
		got.slot.Served() // and there is nobody else now
		(<-out).slot.Served()
	})
}

// TestRoutesThatAreSlowNowKeepNothingFromEachOther for what they were.
func TestRoutesThatAreSlowNowKeepNothingFromEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 4}, 1)
		serve(t, q, "/", page)
		time.Sleep(time.Minute)
		routes := []string{"/a", "/b"}
		for range 200 {
			for _, route := range routes {
				mustAdmit(t, q, Ask{Route: route, Cost: 10 * time.Millisecond}).Release()
			}
		}
		for i := range 4 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if _, err := q.Admit(ctx, Ask{Route: routes[i%2], Cost: time.Second}); err != nil {
				t.Errorf("slot %d of 4: %v", i+1, err)
			}
		}
	})
}

// TestWhoWaitedWhileHisRouteBecameSlowKeepsNoSlotFromIt.
func TestWhoWaitedWhileHisRouteBecameSlowKeepsNoSlotFromIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 2}, 1)
		serve(t, q, "/", page)
		time.Sleep(time.Minute)
		first := mustAdmit(t, q, Ask{Route: "/x"})
		mustAdmit(t, q, Ask{Route: "/x"})
		out := make(chan outcome, 2)
		arrive(t.Context(), q, "third", Ask{Route: "/x"}, out)
		arrive(t.Context(), q, "fourth", Ask{Route: "/x"}, out)
		time.Sleep(time.Second)
		first.Served()
		synctest.Wait()
		select {
		case got := <-out:
			got.slot.Served()
			(<-out).slot.Served()
		default:
			t.Error("a slot is free and nobody has it")
		}
	})
}

// TestReserveIsWhatTheOthersNeedAndHalfAgain: with eight slots the number that
// the slow may have tells the headroom; these demands are just beside the steps.
func TestReserveIsWhatTheOthersNeedAndHalfAgain(t *testing.T) {
	for _, c := range []struct {
		demand float64 // slots
		slow   int     // of eight
	}{{0.62, 7}, {0.71, 6}, {1.29, 6}, {1.38, 5}, {2.62, 4}, {2.71, 3}, {4.0, 2}, {6.5, 1}} {
		t.Run(fmt.Sprint(c.demand), func(t *testing.T) {
			simulate(t, Config{Limit: 8}, 8, func(s *sim) {
				const service = 15 * time.Millisecond
				gap := time.Duration(float64(service) / c.demand)
				s.wg.Go(func() {
					for range 20 * time.Second / gap {
						s.wg.Go(func() { s.ask(visit{"page", Ask{Route: "/"}, service}) })
						time.Sleep(gap)
					}
				})
				serve(s.t, s.q, "/slow", time.Second)
				time.Sleep(15 * time.Second)
				for range 8 {
					s.wg.Go(func() { s.ask(visit{"slow", Ask{Route: "/slow", Wait: time.Hour}, 500 * time.Millisecond}) })
				}
				time.Sleep(250 * time.Millisecond)
				for _, r := range s.q.Stats().Routes {
					if r.Name == "/slow" && r.InFlight != c.slow {
						t.Errorf("%d slow ones beside a demand of %v slots, want %d", r.InFlight, c.demand, c.slow)
					}
				}
				s.wg.Wait()
			})
		})
	}
}
