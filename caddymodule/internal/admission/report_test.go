package admission

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestDrainEndsWithoutAWord: the application that said drain is gone, its
// successor at the same address knows nothing of that, and nobody else can say
// ready.
func TestDrainEndsWithoutAWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New()
		q.Apply(Config{Limit: 1, Hold: time.Minute}, []Target{{Key: "a"}})
		last, err := q.Admit(t.Context(), Ask{})
		if err != nil {
			t.Fatal(err)
		}
		last.Report(Report{Drain: true})
		time.Sleep(10 * time.Second)
		last.Report(Report{Drain: true}) // said again: it counts from now
		last.Served()

		start := time.Now()
		next, err := q.Admit(t.Context(), Ask{})
		if waited := time.Since(start); err != nil || waited != reportHolds {
			t.Fatalf("%v after %v, want a slot after %v", err, waited, reportHolds)
		}
		// It may say so again, and ready ends it at once.
		next.Report(Report{Drain: true})
		if !q.Stats().Held {
			t.Error("drain does not hold the pool a second time")
		}
		next.Report(Report{Ready: true})
		if q.Stats().Held {
			t.Error("ready does not release the pool")
		}
		time.Sleep(10 * time.Second)
		next.Report(Report{Drain: true})
		time.Sleep(reportHolds - 5*time.Second)
		if !q.Stats().Held {
			t.Error("the end of the drain before ended this one")
		}
		next.Served()
		time.Sleep(time.Minute)
	})
}

func TestTimeHeldIsNoQueueWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New()
		q.Apply(Config{Limit: 1}, []Target{{Key: "a"}})
		q.SetReady("a", false)
		waits := make(chan time.Duration, 2)
		for range 2 {
			go func() {
				slot, err := q.Admit(t.Context(), Ask{})
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second)
				waits <- slot.Waited()
				slot.Served()
			}()
		}
		time.Sleep(20 * time.Second)
		q.SetReady("a", true)
		if first, second := <-waits, <-waits; first != 0 || second != time.Second {
			t.Errorf("waited %v and %v, want 0 and 1s after 20s held", first, second)
		}
	})
}

func TestRefusalOfTheHeldIsErrHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New()
		q.Apply(Config{Limit: 1, Hold: time.Second}, []Target{{Key: "a"}})
		slot, err := q.Admit(t.Context(), Ask{})
		if err != nil {
			t.Fatal(err)
		}
		defer slot.Release()
		slot.Report(Report{Drain: true})
		if _, err := q.Admit(t.Context(), Ask{}); !errors.Is(err, ErrHeld) {
			t.Errorf("%v while it drains, want ErrHeld", err)
		}
		slot.Report(Report{Ready: true})
	})
}
