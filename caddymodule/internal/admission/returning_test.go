package admission

import (
	"errors"
	"fmt"
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
