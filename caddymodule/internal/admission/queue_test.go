package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pool is a queue over upstreams named a, b, c … with the same limit.
func pool(cfg Config, n int) *Queue {
	q := New()
	var targets []Target
	for i := range n {
		targets = append(targets, Target{Key: string(rune('a' + i))})
	}
	q.Apply(cfg, targets)
	return q
}

func mustAdmit(t *testing.T, q *Queue, ask Ask) *Slot {
	t.Helper()
	s, err := q.Admit(t.Context(), ask)
	if err != nil {
		t.Fatalf("Admit: %v", err)
	}
	return s
}

// outcome is how one Admit ended.
type outcome struct {
	name string
	slot *Slot
	err  error
	at   time.Duration
}

// arrive starts an Admit in the bubble and returns when it is queued or done.
func arrive(ctx context.Context, q *Queue, name string, ask Ask, out chan<- outcome) {
	start := time.Now()
	go func() {
		s, err := q.Admit(ctx, ask)
		out <- outcome{name, s, err, time.Since(start)}
	}()
	synctest.Wait()
}

func TestWaitingRequestIsRefusedAfterWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1, Wait: 2 * time.Second}, 1)
		busy := mustAdmit(t, q, Ask{})
		defer busy.Release()

		start := time.Now()
		_, err := q.Admit(t.Context(), Ask{})
		if waited := time.Since(start); !errors.Is(err, ErrWait) || waited != 2*time.Second {
			t.Fatalf("got %v after %v, want ErrWait after 2s", err, waited)
		}
		if s := q.Stats(); s.Waiting != 0 || s.Counts.Wait != 1 {
			t.Fatalf("stats after the refusal: %+v", s)
		}
	})
}

func TestNegativeWaitRefusesAtOnceWhenNoSlotIsFree(t *testing.T) {
	q := pool(Config{Limit: 1, Wait: -1}, 1)
	s := mustAdmit(t, q, Ask{})
	if _, err := q.Admit(t.Context(), Ask{}); !errors.Is(err, ErrWait) {
		t.Fatalf("got %v, want ErrWait", err)
	}
	s.Release()
	mustAdmit(t, q, Ask{}).Release()
}

func TestFirstComeIsFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 1)
		busy := mustAdmit(t, q, Ask{})
		out := make(chan outcome, 10)
		for i := range 5 {
			arrive(t.Context(), q, fmt.Sprint(i), Ask{}, out)
		}
		for i := range 5 {
			busy.Release()
			got := <-out
			if got.name != fmt.Sprint(i) || got.err != nil {
				t.Fatalf("grant %d went to %s (%v)", i, got.name, got.err)
			}
			busy = got.slot
		}
	})
}

func TestWhoLeavesWhileWaitingIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 1)
		busy := mustAdmit(t, q, Ask{})
		out := make(chan outcome, 2)
		ctx, leave := context.WithCancel(t.Context())
		arrive(ctx, q, "leaver", Ask{}, out)
		arrive(t.Context(), q, "stayer", Ask{}, out)

		leave()
		if got := <-out; got.name != "leaver" || !errors.Is(got.err, context.Canceled) {
			t.Fatalf("got %+v", got)
		}
		busy.Release()
		if got := <-out; got.name != "stayer" || got.err != nil {
			t.Fatalf("got %+v", got)
		}
		if s := q.Stats(); s.Counts.Left != 1 || s.InFlight != 1 {
			t.Fatalf("stats: %+v", s)
		}
	})
}

func TestDepthBoundsTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1, Depth: 2}, 1)
		busy := mustAdmit(t, q, Ask{})
		out := make(chan outcome, 3)
		for range 2 {
			arrive(t.Context(), q, "waiter", Ask{}, out)
		}
		if _, err := q.Admit(t.Context(), Ask{}); !errors.Is(err, ErrFull) {
			t.Fatalf("got %v, want ErrFull", err)
		}
		// An attempt that failed comes back to its place all the same.
		arrive(t.Context(), q, "again", Ask{Again: busy}, out)
		busy.Release()
		if got := <-out; got.name != "again" || got.err != nil {
			t.Fatalf("got %+v, want the older request", got)
		} else {
			got.slot.Release()
		}
		for range 2 {
			(<-out).slot.Release()
		}
	})
}

// TestAttemptIsNoTimeInTheQueue: who comes again has waited what he waited before,
// in the queue, and not at the application.
func TestAttemptIsNoTimeInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1, Wait: 5 * time.Second, Hold: 10 * time.Second}, 1)
		after := func(d time.Duration, f func()) { time.AfterFunc(d, f) }
		after(2*time.Second, mustAdmit(t, q, Ask{}).Release)
		first := mustAdmit(t, q, Ask{})
		time.Sleep(20 * time.Second) // an answer that was none
		first.Release()
		after(time.Second, mustAdmit(t, q, Ask{}).Release)
		second := mustAdmit(t, q, Ask{Again: first})
		if first.Waited() != 2*time.Second || second.Waited() != 3*time.Second {
			t.Errorf("waited %v and then %v, want 2s and 3s", first.Waited(), second.Waited())
		}
		start := time.Now()
		_, err := q.Admit(t.Context(), Ask{Again: second})
		if waited := time.Since(start); !errors.Is(err, ErrWait) || waited != 2*time.Second {
			t.Errorf("%v after %v, want ErrWait after what is left of 5s", err, waited)
		}
		if _, err := q.Admit(t.Context(), Ask{Again: second, Own: 24 * time.Second}); !errors.Is(err, ErrWait) || time.Since(start) != 2*time.Second {
			t.Errorf("%v after %v: the client's own patience is over", err, time.Since(start))
		}

		q.SetReady("a", false)
		after(4*time.Second, func() { q.SetReady("a", true) })
		after(5*time.Second, second.Release)
		third := mustAdmit(t, q, Ask{Again: second})
		if third.Waited() != 4*time.Second {
			t.Errorf("waited %v, want 4s: 3 before and 1 after it was held", third.Waited())
		}
		q.SetReady("a", false)
		start = time.Now()
		_, err = q.Admit(t.Context(), Ask{Again: third})
		if waited := time.Since(start); !errors.Is(err, ErrHeld) || waited != 2*time.Second {
			t.Errorf("%v after %v, want ErrHeld after what is left of 10s", err, waited)
		}
		third.Release()
	})
}

func TestDefaultDepthGrowsWithTheLimits(t *testing.T) {
	if got := pool(Config{Limit: 1}, 1).Stats().Depth; got != 100 {
		t.Errorf("one slot: depth %d, want 100", got)
	}
	if got := pool(Config{Limit: 32}, 2).Stats().Depth; got != 640 {
		t.Errorf("64 slots: depth %d, want 640", got)
	}
}

func TestLeastUsedUpstreamIsPickedAndNeverOverItsLimit(t *testing.T) {
	q := New()
	q.Apply(Config{}, []Target{{"small", 1}, {"big", 3}})
	var got []string
	for range 4 {
		got = append(got, mustAdmit(t, q, Ask{}).Upstream())
	}
	slices.Sort(got)
	if want := []string{"big", "big", "big", "small"}; !slices.Equal(got, want) {
		t.Fatalf("claims went to %v, want %v", got, want)
	}
}

func TestAnUpstreamThatIsNotReadyGetsNothing(t *testing.T) {
	q := pool(Config{Limit: 2}, 2)
	q.SetReady("a", false)
	for range 2 {
		if u := mustAdmit(t, q, Ask{}).Upstream(); u != "b" {
			t.Fatalf("claimed %s", u)
		}
	}
	q.SetReady("a", true)
	if u := mustAdmit(t, q, Ask{}).Upstream(); u != "a" {
		t.Fatalf("claimed %s, want a, which is ready again", u)
	}
}

func TestHeldRequestsWaitForHoldAndAreServedOldestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1, Wait: time.Second, Hold: 10 * time.Second}, 1)
		q.SetReady("a", false)
		out := make(chan outcome, 3)
		arrive(t.Context(), q, "first", Ask{}, out)
		time.Sleep(6 * time.Second) // longer than Wait: the clock of Hold runs
		arrive(t.Context(), q, "second", Ask{}, out)
		time.Sleep(3 * time.Second)
		q.SetReady("a", true)

		first := <-out
		if first.name != "first" || first.err != nil || first.at != 9*time.Second {
			t.Fatalf("got %+v", first)
		}
		// Now the clock of Wait runs, from the release on.
		second := <-out
		if !errors.Is(second.err, ErrWait) || second.at != 4*time.Second {
			t.Fatalf("second: %v after %v, want ErrWait a second after the release", second.err, second.at)
		}
	})
}

func TestHeldRequestIsRefusedAfterHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1, Hold: 3 * time.Second}, 1)
		q.SetReady("a", false)
		start := time.Now()
		_, err := q.Admit(t.Context(), Ask{})
		if waited := time.Since(start); !errors.Is(err, ErrHeld) || waited != 3*time.Second {
			t.Fatalf("got %v after %v, want ErrHeld after 3s", err, waited)
		}
		q.Apply(Config{Limit: 1, Hold: -1}, []Target{{Key: "a"}})
		if _, err := q.Admit(t.Context(), Ask{}); !errors.Is(err, ErrHeld) {
			t.Fatalf("hold 0: got %v, want ErrHeld at once", err)
		}
	})
}

// TestHeldAreAheadOfWhoComesAfterThem, and he is told so at once.
func TestHeldAreAheadOfWhoComesAfterThem(t *testing.T) {
	const service = 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		q := pool(Config{Limit: 2, Depth: 1000}, 1)
		for range 20 {
			serve(t, q, "/", service)
		}
		q.SetReady("a", false)
		out := make(chan outcome, 1000)
		for i := range 201 {
			arrive(ctx, q, "held", fresh(i), out)
		}
		q.SetReady("a", true) // one goes; of two slots, but the second opens soon
		start := time.Now()
		if wait, ready := q.Predict(fresh(-1)); wait.Round(time.Millisecond) != 200*service/2 || !ready {
			t.Errorf("%v predicted, want 10s", wait)
		}
		var r *Refusal
		_, err := q.Admit(ctx, fresh(-1))
		if !errors.As(err, &r) || !errors.Is(err, ErrWait) || r.Wait.Round(time.Millisecond) != 10*time.Second || time.Since(start) != 0 {
			t.Errorf("%v after %v, want ErrWait at once", err, time.Since(start))
		}
		q.SetReady("a", false)
		if err := q.refusal(ErrHeld); err.Wait != 0 {
			t.Errorf("%v said to one who is held", err.Wait)
		}
		cancel()
		synctest.Wait()
		checkBooks(t, q)
	})
}

func (q *Queue) refusal(reason error) *Refusal {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refusalLocked(reason)
}

func TestQueueWithoutUpstreamsIsHeldUntilTheyAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New()
		out := make(chan outcome, 1)
		arrive(t.Context(), q, "early", Ask{}, out)
		time.Sleep(20 * time.Second)
		q.Apply(Config{Limit: 1}, []Target{{Key: "a"}})
		if got := <-out; got.err != nil || got.slot.Upstream() != "a" {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestProbeGoesAheadOfTheQueueAndToItsOwnUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 1)
		busy := mustAdmit(t, q, Ask{})
		out := make(chan outcome, 2)
		arrive(t.Context(), q, "request", Ask{}, out)
		arrive(t.Context(), q, "probe", Ask{Upstream: "a"}, out)
		busy.Release()
		got := <-out
		if got.name != "probe" {
			t.Fatalf("first slot went to the %s", got.name)
		}
		q.SetReady("a", false)
		got.slot.Release()
		got.slot = mustAdmit(t, q, Ask{Upstream: "a"}) // it is not ready, and that is what a probe is for
		q.SetReady("a", true)
		got.slot.Release()
		if got := <-out; got.name != "request" || got.err != nil {
			t.Fatalf("got %+v", got)
		}
		if _, err := q.Admit(t.Context(), Ask{Upstream: "nobody"}); err == nil {
			t.Fatal("a probe of an unknown upstream was admitted")
		}
	})
}

func TestStickyRequestWaitsForItsOwnUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 2)
		toB := Ask{Sticky: true, Choose: func(keys []string) string { return "b" }}
		b := mustAdmit(t, q, toB)
		out := make(chan outcome, 2)
		arrive(t.Context(), q, "sticky", toB, out)
		a := mustAdmit(t, q, Ask{}) // a was free all the time
		if a.Upstream() != "a" {
			t.Fatalf("got %s", a.Upstream())
		}
		a.Release()
		select {
		case got := <-out:
			t.Fatalf("went to %s", got.slot.Upstream())
		default:
		}
		b.Release()
		if got := <-out; got.slot.Upstream() != "b" {
			t.Fatalf("went to %s", got.slot.Upstream())
		}
	})
}

func TestStickyRequestMovesWhenItsUpstreamGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 2)
		last := Ask{Sticky: true, Choose: func(keys []string) string { return keys[len(keys)-1] }}
		b := mustAdmit(t, q, last)
		a := mustAdmit(t, q, Ask{})
		out := make(chan outcome, 2)
		arrive(t.Context(), q, "one", last, out)
		arrive(t.Context(), q, "two", last, out)
		q.SetReady("b", false) // both now wait for a
		b.Release()
		a.Release()
		one := <-out
		if one.slot.Upstream() != "a" {
			t.Fatalf("went to %s", one.slot.Upstream())
		}
		q.SetReady("a", false) // held: two waits for whichever comes back
		one.slot.Release()
		q.SetReady("b", true)
		if two := <-out; two.err != nil || two.slot.Upstream() != "b" {
			t.Fatalf("got %+v", two)
		}
	})
}

func TestChooseSeesOnlyUpstreamsWithAFreeSlot(t *testing.T) {
	q := pool(Config{Limit: 1}, 3)
	var seen [][]string
	ask := Ask{Choose: func(keys []string) string {
		seen = append(seen, slices.Clone(keys))
		return keys[0]
	}}
	for range 3 {
		mustAdmit(t, q, ask)
	}
	want := [][]string{{"a", "b", "c"}, {"b", "c"}, {"c"}}
	if !slices.EqualFunc(seen, want, slices.Equal) {
		t.Fatalf("candidates %v, want %v", seen, want)
	}
	q = pool(Config{Limit: 1}, 1)
	if mustAdmit(t, q, Ask{Choose: func([]string) string { return "nonsense" }}).Upstream() != "a" {
		t.Fatal("an answer that is no candidate must count as none")
	}
}

// TestPanicOfAPolicyIsNobodyElses: the queue goes on, and who was granted before has
// his slot.
func TestPanicOfAPolicyIsNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 1)
		busy := mustAdmit(t, q, Ask{})
		broken := true
		ask := Ask{Choose: func(keys []string) string {
			if broken {
				panic("policy")
			}
			return keys[0]
		}}
		out := make(chan outcome, 2)
		arrive(t.Context(), q, "one", Ask{}, out)
		arrive(t.Context(), q, "two", ask, out)
		mustPanic(t, func() { q.Apply(Config{Limit: 3}, []Target{{Key: "a"}}) })
		synctest.Wait()
		select {
		case got := <-out:
			if got.name != "one" || got.err != nil {
				t.Fatalf("got %+v", got)
			}
		default:
			t.Fatal("who was granted was not told")
		}
		q.SetReady("a", false)
		broken = false
		q.SetReady("a", true)
		if got := <-out; got.name != "two" || got.err != nil {
			t.Fatalf("got %+v", got)
		}
		busy.Release()
		broken = true
		mustPanic(t, func() { q.Admit(t.Context(), ask) })
		broken = false
		mustAdmit(t, q, ask)
	})
}

func mustPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("the panic was swallowed")
		}
	}()
	f()
}

func TestApplyKeepsWhoWaitsAndWhatIsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 1)
		busy := mustAdmit(t, q, Ask{})
		out := make(chan outcome, 2)
		arrive(t.Context(), q, "one", Ask{}, out)
		arrive(t.Context(), q, "two", Ask{}, out)

		q.Apply(Config{Limit: 1}, []Target{{Key: "a"}})
		synctest.Wait()
		if s := q.Stats(); s.Waiting != 2 || s.InFlight != 1 {
			t.Fatalf("after applying the same: %+v", s)
		}
		q.Apply(Config{Limit: 1}, []Target{{Key: "b"}}) // a goes, b comes
		one := <-out
		if one.slot.Upstream() != "b" {
			t.Fatalf("went to %s", one.slot.Upstream())
		}
		busy.Release() // a is gone: its slot serves nobody
		synctest.Wait()
		if s := q.Stats(); s.Waiting != 1 || len(s.Upstreams) != 1 || s.InFlight != 1 {
			t.Fatalf("after a has gone: %+v", s)
		}
		q.Apply(Config{Limit: 2}, []Target{{Key: "b"}, {Key: "b"}}) // a raise is felt at once
		if two := <-out; two.slot.Upstream() != "b" {
			t.Fatalf("got %+v", two)
		}
	})
}

// TestReloadKeepsTheOrderOfThousands, and nobody out for long: twenty thousand are
// placed anew in no time. Those who came back stand in their own order, in the
// places that are theirs.
func TestReloadKeepsTheOrderOfThousands(t *testing.T) {
	const n = 20_000
	q := pool(Config{Limit: 1, Depth: 2 * n, Wait: time.Hour}, 1)
	mustAdmit(t, q, Ask{})
	start := time.Now()
	q.mu.Lock()
	for i := range n {
		ask := fresh(i % 50)
		if i%1000 == 7 {
			ask = Ask{Since: start.Add(-time.Duration(i) * time.Second)} // who came last came back first
		}
		q.arriveLocked(ask)
	}
	q.mu.Unlock()
	start = time.Now()
	q.Apply(Config{Limit: 1, Depth: 2 * n, Wait: time.Hour}, []Target{{Key: "a"}})
	q.SetReady("a", false)
	if took := time.Since(start); took > time.Second {
		t.Errorf("%v for %d who wait", took, n)
	}
	if q.holding.n != n {
		t.Fatalf("%d of %d are held", q.holding.n, n)
	}
	i := uint64(1)
	for ticket := q.holding.oldest; ticket != nil; ticket, i = ticket.next, i+1 {
		want := i
		if !ticket.ask.Since.IsZero() {
			want = n - 1000 + 16 - i // their arrivals are 8, 1008, …
		}
		if ticket.seq != want {
			t.Fatalf("place %d is that of arrival %d, want %d", i, ticket.seq, want)
		}
	}
}

func TestLoweredLimitIsReachedBeforeAnybodyIsGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 3}, 1)
		var slots []*Slot
		for range 3 {
			slots = append(slots, mustAdmit(t, q, Ask{}))
		}
		q.Apply(Config{Limit: 1}, []Target{{Key: "a"}})
		out := make(chan outcome, 1)
		arrive(t.Context(), q, "next", Ask{}, out)
		for i, s := range slots {
			s.Release()
			s.Release() // twice is once
			synctest.Wait()
			if granted := len(out) == 1; granted != (i == 2) {
				t.Fatalf("granted=%v after %d of 3 came back", granted, i+1)
			}
		}
	})
}

func TestShorterWaitAppliesToWhoWaitsAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1, Wait: time.Hour}, 1)
		mustAdmit(t, q, Ask{})
		out := make(chan outcome, 1)
		arrive(t.Context(), q, "waiter", Ask{}, out)
		q.Apply(Config{Limit: 1, Wait: time.Second}, []Target{{Key: "a"}})
		if got := <-out; !errors.Is(got.err, ErrWait) || got.at != time.Second {
			t.Fatalf("got %v after %v", got.err, got.at)
		}
	})
}

func TestQuarantinedSlotComesBackLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 1)
		mustAdmit(t, q, Ask{}).Quarantine(3 * time.Second)
		start := time.Now()
		mustAdmit(t, q, Ask{}).Release()
		if d := time.Since(start); d != 3*time.Second {
			t.Fatalf("the slot was back after %v", d)
		}
	})
}

func TestDrainRateIsWhatCameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 1)
		for range 200 {
			s := mustAdmit(t, q, Ask{})
			time.Sleep(50 * time.Millisecond)
			s.Release()
		}
		if r := q.Stats().DrainRate; r < 18 || r > 22 {
			t.Errorf("20 a second were served, the meter says %.1f", r)
		}
		time.Sleep(time.Minute)
		if r := q.Stats().DrainRate; r != 0 {
			t.Errorf("after a quiet minute the meter says %.1f", r)
		}
	})
}

// TestInvariantsUnderRandomSchedules lets many clients arrive, wait, leave,
// hold and come again, while limits, readiness and upstreams change, and
// counts at every upstream by itself.
func TestInvariantsUnderRandomSchedules(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomSchedule(t, seed) })
		})
	}
}

func randomSchedule(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	keys := []string{"a", "b", "c"}
	limit := 1 + rnd.IntN(3)
	targets := []Target{{Key: "a"}, {Key: "b"}, {Key: "c"}}
	most := map[string]int{"a": limit, "b": limit, "c": limit}
	auto := seed%2 == 1
	if auto { // c has a limit that is learned, the others have their own
		limit, targets[0].Limit, targets[1].Limit, most["c"] = 0, limit, limit, maxLimit
	}
	classes := []Class{{Name: "pages", Weight: 8}, {Name: "robots", Weight: 1}, {Name: "journal", Weight: 16, Half: true}}
	cfg := Config{Limit: limit, Wait: 2 * time.Second, Hold: 4 * time.Second, Depth: 50, Classes: classes}
	q := New()
	q.Apply(cfg, targets)

	inUse := map[string]*atomic.Int32{"a": {}, "b": {}, "c": {}}
	var served, refused, left atomic.Int32
	var wg sync.WaitGroup
	for range 300 {
		stay := time.Duration(rnd.IntN(4000)) * time.Millisecond
		start := time.Duration(rnd.IntN(6000)) * time.Millisecond
		work := time.Duration(1+rnd.IntN(200)) * time.Millisecond
		again := rnd.IntN(5) == 0
		ask := Ask{}
		switch rnd.IntN(4) {
		case 0:
			ask = Ask{Sticky: true, Choose: func(k []string) string { return k[int(stay)%len(k)] }}
		case 1:
			ask = Ask{Choose: func(k []string) string { return k[0] }}
		}
		ask.Client, ask.Route, ask.Class = fmt.Sprint(rnd.IntN(8)), fmt.Sprint(rnd.IntN(4)), classes[rnd.IntN(3)].Name
		if ask.Route == "3" {
			work *= 5
		}
		if rnd.IntN(4) == 0 {
			ask.Since = time.Now().Add(-time.Duration(rnd.IntN(100)) * time.Second)
			ask.Place = uint64(rnd.IntN(20))
		}
		if rnd.IntN(4) == 0 {
			ask.Own = time.Duration(1+rnd.IntN(4000)) * time.Millisecond
		}
		report := randomReport(rnd)
		quarantine := rnd.IntN(20) == 0
		wg.Go(func() {
			time.Sleep(start)
			ctx, cancel := context.WithTimeout(t.Context(), stay)
			defer cancel()
			for {
				slot, err := q.Admit(ctx, ask)
				if err != nil {
					if errors.Is(err, context.DeadlineExceeded) {
						left.Add(1)
					} else {
						refused.Add(1)
					}
					return
				}
				if n := inUse[slot.Upstream()].Add(1); int(n) > most[slot.Upstream()] {
					t.Errorf("%d in flight at %s, limit %d", n, slot.Upstream(), most[slot.Upstream()])
				}
				time.Sleep(work)
				slot.Report(report)
				if quarantine { // it is over by then, but nobody says so
					slot.Quarantine(work)
					time.Sleep(work / 2)
				}
				inUse[slot.Upstream()].Add(-1)
				if work%2 == 0 && !quarantine {
					slot.Served()
				}
				if !quarantine {
					slot.Release()
					slot.Release()
				}
				if !again {
					served.Add(1)
					return
				}
				again, ask.Again = false, slot
			}
		})
	}
	probing, stop := context.WithCancel(t.Context())
	for _, key := range keys {
		wg.Go(func() {
			for probing.Err() == nil {
				if slot, err := q.Admit(probing, Ask{Upstream: key}); err == nil {
					if n := inUse[key].Add(1); int(n) > most[key] {
						t.Errorf("%d in flight at %s with a probe, limit %d", n, key, most[key])
					}
					time.Sleep(5 * time.Millisecond)
					inUse[key].Add(-1)
					slot.Served()
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 100 {
		time.Sleep(time.Duration(rnd.IntN(120)) * time.Millisecond)
		switch rnd.IntN(5) {
		case 0:
			q.SetReady(keys[rnd.IntN(3)], false)
		case 1, 2:
			q.SetReady(keys[rnd.IntN(3)], true)
		case 3: // one of three leaves the configuration, or all are back
			q.Apply(cfg, targets[rnd.IntN(3):])
		case 4: // less than before, or as much again
			less := slices.Clone(targets)
			less[rnd.IntN(2)].Limit = 1
			q.Apply(cfg, less)
		}
		checkBooks(t, q)
	}
	q.Apply(cfg, targets)
	for _, k := range keys {
		q.SetReady(k, true)
	}
	time.Sleep(10 * time.Second) // all requests have ended
	stop()
	wg.Wait()
	checkBooks(t, q)
	if !q.Idle() {
		t.Error("not idle at the end")
	}

	s := q.Stats()
	if s.Waiting != 0 || s.InFlight != 0 {
		t.Errorf("left behind: %+v", s)
	}
	if total := served.Load() + refused.Load() + left.Load(); total != 300 {
		t.Errorf("%d of 300 ended", total)
	}
	for _, k := range keys { // what the last ones said
		s := mustAdmit(t, q, Ask{Upstream: k})
		s.Report(Report{Ready: true, Percent: 100})
		s.Release()
	}
	for range 20 { // answers that end the ramp after the last time held
		mustAdmit(t, q, Ask{}).Served()
	}
	// No slot leaked: all of them can be claimed at once.
	all := q.Stats().Limit
	if !auto && all != 3*limit {
		t.Errorf("%d slots in all, want %d", all, 3*limit)
	}
	for range all {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if _, err := q.Admit(ctx, Ask{}); err != nil {
			t.Errorf("a slot is missing: %v", err)
		}
		cancel()
	}
}

// randomReport is what an application says of itself, seldom.
func randomReport(rnd *rand.Rand) Report {
	switch rnd.IntN(40) {
	case 0:
		return Report{Drain: true}
	case 1:
		return Report{Limit: 1 + rnd.IntN(5)}
	case 2, 3:
		return Report{Percent: 1 + rnd.IntN(100)}
	case 4, 5:
		return Report{Utilization: 1 + rnd.Float64()}
	case 6, 7, 8, 9:
		return Report{Ready: true, Percent: 100}
	}
	return Report{}
}

// checkBooks compares every sum that the queue keeps with what it sums up.
func checkBooks(t *testing.T, q *Queue) {
	synctest.Wait()
	s := q.Stats()
	waiting := 0
	for _, c := range s.Classes {
		waiting += c.Waiting
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := []line{q.line}
	probes, free := 0, 0
	for _, u := range q.upstreams {
		lines = append(lines, u.line)
		probes += u.probes
		if u.open() {
			free += u.limit() - u.used
		}
	}
	clients, back := 0, 0
	var work time.Duration
	fast, slow := 0, 0
	for _, l := range lines {
		fast, slow = fast+l.fast.n, slow+l.slow.n
		for _, o := range []*order{l.fast, l.slow} {
			n := 0
			for _, class := range o.classes {
				in, known := n, clients
				var early time.Duration
				for _, c := range append(slices.Collect(maps.Values(class.clients)), class.back) {
					n += c.tickets.n
					early += c.early
					if !c.waits() {
						continue
					}
					for ticket := c.tickets.oldest; ticket != nil; ticket = ticket.next {
						work += ticket.cost
					}
					if c.returns() {
						back++
					} else {
						clients++
					}
				}
				for p, h := range class.at {
					for i, c := range h {
						if c.in != spot(p) || c.index != i || c.waits() == (c.in == owing) || i > 0 && h.Less(i, (i-1)/2) || class.clients[c.key] != c {
							t.Errorf("class %s: %s is in the wrong place", class.name, c.key)
						}
					}
				}
				if waits := clients - known; waits != class.waiting() || waits != len(class.at[light])+len(class.at[heavy]) || class.back.in != nowhere {
					t.Errorf("class %s: %d clients wait, said to be %d, and %d owe, of %d", class.name, waits, class.waiting(), len(class.at[owing]), len(class.clients))
				}
				if n-in != class.tickets || early != class.early {
					t.Errorf("class %s: %d wait and %v of it early, said to be %d and %v", class.name, n-in, early, class.tickets, class.early)
				}
			}
			if n != o.n {
				t.Errorf("an order of %d says that it has %d", n, o.n)
			}
		}
	}
	inFlight := 0
	for _, r := range q.slow.busy {
		if r.inFlight != r.running.n || r.inFlight == 0 {
			t.Errorf("route %s: %d in flight, %d known", r.name, r.inFlight, r.running.n)
		}
		inFlight += r.inFlight
	}
	if waiting != q.waiting || q.waiting != fast+slow+q.holding.n {
		t.Errorf("%d wait, %d by class, %d fast, %d slow and %d held", q.waiting, waiting, fast, slow, q.holding.n)
	}
	var held time.Duration
	for ticket := q.holding.oldest; ticket != nil; ticket = ticket.next {
		held += ticket.cost
	}
	if held != q.heldWork {
		t.Errorf("%v of work is held, said to be %v", held, q.heldWork)
	}
	if len(q.places) > q.waiting {
		t.Errorf("%d places are taken and %d wait", len(q.places), q.waiting)
	}
	if work != q.work {
		t.Errorf("%v of work, said to be %v", work, q.work)
	}
	if clients != len(q.crowd.heavy) || back != len(q.crowd.returning) {
		t.Errorf("%d clients and %d lines of the returning wait, known are %d and %d", clients, back, len(q.crowd.heavy), len(q.crowd.returning))
	}
	byClass, byRoute := 0, 0
	for _, c := range s.Classes {
		byClass += c.InFlight
	}
	for _, r := range s.Routes {
		byRoute += r.Waiting
	}
	if byClass != inFlight || byRoute != q.waiting {
		t.Errorf("%d in flight by class, %d by route; %d waiting by route, %d in all", byClass, inFlight, byRoute, q.waiting)
	}
	if inFlight+probes != s.InFlight {
		t.Errorf("%d requests and %d probes in flight, %d slots out", inFlight, probes, s.InFlight)
	}
	// The one who is next for any upstream has nothing to wait for.
	if free > 0 && q.line.fast.n > 0 && q.holding.n == 0 && !q.held {
		t.Errorf("%d slots are free and %d wait", free, q.line.fast.n)
	}
}

func BenchmarkAdmitUncontended(b *testing.B) {
	q := pool(Config{Limit: 8}, 2)
	b.ReportAllocs()
	for b.Loop() {
		s, err := q.Admit(b.Context(), Ask{})
		if err != nil {
			b.Fatal(err)
		}
		s.Release()
	}
}
