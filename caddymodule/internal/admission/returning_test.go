package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestReturningGoByTheirFirstArrival: who comes back goes by the time at which he
// came first, not by that of coming back.
func TestReturningGoByTheirFirstArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New()
		q.Apply(Config{Limit: 1}, []Target{{Key: "a"}})
		busy, err := q.Admit(t.Context(), Ask{})
		if err != nil {
			t.Fatal(err)
		}
		first := time.Now().Add(-time.Minute)
		var order []int
		for _, secondsLate := range []int{2, 0, 3, 1} {
			go func() {
				slot, err := q.Admit(t.Context(), Ask{Since: first.Add(time.Duration(secondsLate) * time.Second)})
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, secondsLate)
				slot.Served()
			}()
			synctest.Wait()
		}
		busy.Served()
		synctest.Wait()
		if got := fmt.Sprint(order); got != "[0 1 2 3]" {
			t.Errorf("order %s", got)
		}
	})
}

// TestReturningAreNotOneGreedyClient: they share a line, but none of them has
// sent too much.
func TestReturningAreNotOneGreedyClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New()
		q.Apply(Config{Limit: 1, Depth: 8, Wait: time.Minute}, []Target{{Key: "a"}})
		busy, err := q.Admit(t.Context(), Ask{})
		if err != nil {
			t.Fatal(err)
		}
		refused := make(chan error, 10)
		come := func(ask Ask) {
			go func() {
				slot, err := q.Admit(t.Context(), ask)
				if err != nil {
					refused <- err
					return
				}
				slot.Served()
			}()
			synctest.Wait()
		}
		for n := range 6 {
			come(Ask{Client: fmt.Sprint("returning ", n), Since: time.Now().Add(-time.Minute)})
		}
		come(Ask{Client: "one"})
		come(Ask{Client: "two"})
		come(Ask{Client: "three"})                                                // makes one of the returning leave
		come(Ask{Client: "returning 6", Since: time.Now().Add(-2 * time.Minute)}) // has no room
		for range 2 {
			if err := <-refused; !errors.Is(err, ErrFull) {
				t.Errorf("%v, want ErrFull", err)
			}
		}
		busy.Served()
	})
}

// back is the i-th of those who came an hour ago, fresh somebody who is new.
func back(i int) Ask {
	return Ask{Route: "/", Since: time.Now().Add(time.Duration(i)*time.Second - time.Hour)}
}
func fresh(i int) Ask { return Ask{Client: fmt.Sprint("new ", i), Route: "/"} }

// queueUp has requests arrive one after the other, of whom none is served.
type queueUp struct {
	ctx context.Context
	q   *Queue
	out chan outcome
}

func (u queueUp) arrive(from, to int, kind string, ask func(int) Ask) {
	for i := from; i < to; i++ {
		arrive(u.ctx, u.q, fmt.Sprint(kind, i), ask(i), u.out)
	}
}

// refused is who was refused since it was asked last.
func (u queueUp) refused() (names []string) {
	for len(u.out) > 0 {
		names = append(names, (<-u.out).name)
	}
	slices.Sort(names)
	return names
}

// TestReturningHaveTheirHalfWhoeverComes: that they were alone before is no debt, and
// those who are new have no more than half, however many they are.
func TestReturningHaveTheirHalfWhoeverComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 4, Depth: 1000, Wait: time.Minute}, 1)
		u := queueUp{t.Context(), q, make(chan outcome, 1000)}
		u.arrive(0, 104, "back ", back)
		half, all := 0, 0
		for slots := []*Slot{}; all < 304; all++ {
			if all == 54 {
				u.arrive(0, 200, "new ", fresh)
			}
			if len(slots) == 4 {
				time.Sleep(5 * time.Millisecond)
				slots[0].Served()
				slots = slots[1:]
			}
			got := <-u.out
			slots = append(slots, got.slot)
			if all >= 54 && all < 104 && strings.HasPrefix(got.name, "back") {
				half++
			}
			if all == 303 {
				for _, s := range slots {
					s.Served()
				}
			}
		}
		if half < 23 || half > 27 {
			t.Errorf("of fifty slots the returning had %d", half)
		}
		if class := q.line.fast.classes[0]; len(class.clients) != 0 || class.out != 0 {
			t.Errorf("with nobody there, %d clients are not even, and %d are said to be out", len(class.clients), class.out)
		}
	})
}

// TestReturningKeepTheirPlacesInAFullQueue: they are many in one line, but none is
// sent away while they have no more than the others together, and of those who are
// too many the last goes.
func TestReturningKeepTheirPlacesInAFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		full := func() queueUp {
			q := pool(Config{Limit: 1, Depth: 8, Wait: time.Minute}, 1)
			mustAdmit(t, q, Ask{Route: "/"})
			return queueUp{ctx, q, make(chan outcome, 100)}
		}
		few := full()
		few.arrive(0, 4, "back ", back)
		few.arrive(0, 30, "new ", fresh)
		for _, name := range few.refused() {
			if strings.HasPrefix(name, "back") {
				t.Errorf("%s was sent away", name)
			}
		}
		many := full()
		many.arrive(0, 8, "back ", back)
		many.arrive(0, 4, "new ", fresh)
		if got := many.refused(); !slices.Equal(got, []string{"back 4", "back 5", "back 6", "back 7"}) {
			t.Errorf("for four new ones, %v were sent away", got)
		}
		alone := full()
		alone.arrive(0, 8, "back ", back)
		alone.arrive(20, 21, "back ", back)
		alone.arrive(-1, 0, "back ", back) // older than all of them
		if got := alone.refused(); !slices.Equal(got, []string{"back 20", "back 7"}) {
			t.Errorf("among themselves, %v were sent away", got)
		}
	})
}

// TestOnePlaceIsOneTurn: who sends the cookie of one place many times waits with it
// once, and as one client with the others, as if it had none.
func TestOnePlaceIsOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1, Depth: 100, Wait: time.Minute}, 1)
		busy := mustAdmit(t, q, Ask{Route: "/"})
		u := queueUp{t.Context(), q, make(chan outcome, 100)}
		since := time.Now().Add(-time.Hour)
		replay := func(int) Ask { return Ask{Route: "/", Client: "greedy", Since: since, Place: 7} }
		u.arrive(0, 50, "greedy ", replay)
		u.arrive(0, 5, "back ", func(i int) Ask {
			ask := back(i)
			ask.Since, ask.Place = since.Add(time.Minute), uint64(100+i)
			return ask
		})
		var order []string
		for slot := busy; len(order) < 55; {
			slot.Served()
			got := <-u.out
			order, slot = append(order, got.name), got.slot
			checkBooks(t, q)
			if len(order) == 55 {
				slot.Served()
			}
		}
		for i := range 5 {
			if place := slices.Index(order, fmt.Sprint("back ", i)); place > 2*i+4 {
				t.Errorf("back %d in place %d: %v", i, place, order)
			}
		}
		busy = mustAdmit(t, q, Ask{Route: "/"})
		u.arrive(0, 1, "again ", replay) // the place is free again
		if q.crowd.returning == nil || len(q.places) != 1 {
			t.Errorf("the place is not given back: %v", q.places)
		}
		busy.Served()
		(<-u.out).slot.Served()
		if len(q.places) != 0 {
			t.Errorf("%d places are left", len(q.places))
		}
	})
}

func TestReturningAreNotShed(t *testing.T) {
	simulate(t, Config{Limit: 1}, 1, func(s *sim) {
		start := time.Now()
		s.open(5*rate, 10*time.Second, func(i int) visit { return visit{"new", Ask{Client: fmt.Sprint(i % 50), Route: "/"}, page} })
		s.open(rate/3, 10*time.Second, func(int) visit { return visit{"back", Ask{Route: "/", Since: start}, page} })
		s.wg.Wait()
		s.figures("new")
		if s.figures("back"); len(s.lost["back"]) != 0 {
			t.Errorf("a third of the slot was theirs to have: lost %v", s.lost["back"])
		}
	})
}

// TestReturningWaitForThoseBeforeThem, and for nobody else: their wait is known
// from their own line.
func TestReturningWaitForThoseBeforeThem(t *testing.T) {
	const service = 50 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		q := pool(Config{Limit: 1, Wait: 10 * time.Second, Depth: 1000}, 1)
		for range 20 {
			serve(t, q, "/", service)
		}
		mustAdmit(t, q, Ask{Route: "/"})
		u := queueUp{ctx, q, make(chan outcome, 1000)}
		for _, standing := range []bool{false, true} {
			u.arrive(0, 100, "new ", func(int) Ask { return Ask{Client: "one", Route: "/"} })
			u.arrive(0, 20, "back ", back)
			q.standing.on = standing
			for _, place := range []int{20, 10, 0} {
				// Half of the slot is not theirs, and the other half may begin.
				before := 2*time.Duration(place)*service + service
				ask := back(place - 1) // equals go by arrival
				ask.Wait = before + service/2
				arrive(ctx, q, fmt.Sprint("fits ", place), ask, u.out)
				ask.Wait = before - service/2
				arrive(ctx, q, fmt.Sprint("does not fit ", place), ask, u.out)
			}
			if got := u.refused(); !slices.Equal(got, []string{"does not fit 0", "does not fit 10", "does not fit 20"}) {
				t.Errorf("standing %v: refused %v", standing, got)
			}
			time.Sleep(time.Minute)
			u.refused()
		}
	})
}

// TestNewOnesWaitTwiceAsLongBesideTheReturning: half of the slot is not theirs.
func TestNewOnesWaitTwiceAsLongBesideTheReturning(t *testing.T) {
	const service = 50 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		q := pool(Config{Limit: 1, Wait: time.Minute, Depth: 1000}, 1)
		for range 20 {
			serve(t, q, "/", service)
		}
		mustAdmit(t, q, Ask{Route: "/"})
		u := queueUp{ctx, q, make(chan outcome, 1000)}
		one := func(int) Ask { return Ask{Client: "one", Route: "/", Wait: time.Second} }
		u.arrive(0, 4, "new ", one) // 200 ms of work, and two more who share
		u.arrive(0, 2, "new ", fresh)
		u.arrive(4, 5, "new ", one) // 600 ms
		u.arrive(0, 40, "back ", back)
		if got := u.refused(); len(got) != 0 {
			t.Errorf("refused %v", got)
		}
		u.arrive(5, 6, "new ", one)
		if got := u.refused(); len(got) != 1 {
			t.Errorf("refused %v, want the one who would wait 1.5 s", got)
		}
	})
}

// TestStatsCountByClassAndRoute who waits and who is in flight, through a reload.
func TestStatsCountByClassAndRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Limit: 2, Classes: []Class{{Name: "pages", Weight: 8}, {Name: "robots", Weight: 1}}}
		q := pool(cfg, 1)
		seen := func() string {
			s := q.Stats()
			slices.SortFunc(s.Routes, func(a, b RouteState) int { return strings.Compare(a.Name, b.Name) })
			var text []string
			for _, c := range s.Classes {
				text = append(text, fmt.Sprint(c.Name, " ", c.InFlight, "+", c.Waiting))
			}
			for _, r := range s.Routes {
				text = append(text, fmt.Sprint(r.Name, " ", r.InFlight, "+", r.Waiting))
			}
			return strings.Join(text, ", ")
		}
		want := func(want string) {
			t.Helper()
			if got := seen(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		page := mustAdmit(t, q, Ask{Class: "pages", Route: "/"})
		robot := mustAdmit(t, q, Ask{Class: "robots", Route: "/"})
		ctx, cancel := context.WithCancel(t.Context())
		out := make(chan outcome, 5)
		for i := range 5 {
			arrive(ctx, q, "", Ask{Class: cfg.Classes[i%2].Name, Route: fmt.Sprint("/", i%3)}, out)
		}
		want("pages 1+3, robots 1+2, / 2+0, /0 0+2, /1 0+2, /2 0+1")
		q.SetReady("a", false)
		q.Apply(cfg, []Target{{Key: "a"}})
		want("pages 1+3, robots 1+2, / 2+0, /0 0+2, /1 0+2, /2 0+1")
		q.SetReady("a", true)
		robot.Release()
		page.Served()
		synctest.Wait()
		want("pages 1+2, robots 1+1, / 0+0, /0 1+1, /1 1+1, /2 0+1")
		cancel()
		for range 5 {
			if got := <-out; got.slot != nil {
				got.slot.Release()
			}
		}
		want("pages 0+0, robots 0+0, / 0+0, /0 0+0, /1 0+0, /2 0+0")
	})
}

func TestStatsCountTheHeldInTheirClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		q := pool(Config{Limit: 1, Classes: []Class{{Name: "pages", Weight: 8}, {Name: "robots", Weight: 1}}}, 1)
		q.SetReady("a", false)
		out := make(chan outcome, 6)
		for _, class := range []string{"robots", "pages", "robots", "unknown"} {
			arrive(ctx, q, class, Ask{Class: class}, out)
		}
		if s := q.Stats(); s.Waiting != 4 || s.Classes[0].Waiting != 2 || s.Classes[1].Waiting != 2 {
			t.Errorf("held: %+v", s)
		}
		q.SetReady("a", true) // one goes, three are still among the held
		synctest.Wait()
		if s := q.Stats(); s.Waiting != 3 || s.Classes[0].Waiting+s.Classes[1].Waiting != 3 {
			t.Errorf("coming out: %+v", s)
		}
	})
}

func TestKeysAndIdleSayWhatStatsSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 3)
		if got := q.Keys(); !slices.Equal(got, []string{"a", "b", "c"}) || !q.Idle() {
			t.Errorf("keys %v, idle %v", got, q.Idle())
		}
		busy := mustAdmit(t, q, Ask{Upstream: "a"})
		q.Apply(Config{Limit: 1}, []Target{{Key: "c"}})
		if got := q.Keys(); !slices.Equal(got, []string{"c"}) || q.Idle() {
			t.Errorf("keys %v, idle %v while one that is gone has a slot out", got, q.Idle())
		}
		busy.Release()
		if !q.Idle() {
			t.Error("not idle")
		}
		q.SetReady("c", false)
		out := make(chan outcome, 1)
		arrive(t.Context(), q, "held", Ask{}, out)
		if q.Idle() {
			t.Error("idle while one is held")
		}
		q.SetReady("c", true)
		(<-out).slot.Release()
	})
}
