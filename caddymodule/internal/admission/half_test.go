package admission

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

var halves = []Class{{Name: "pages", Weight: 8}, {Name: "journal", Weight: 16, Half: true}}

// granted is one slot that somebody got.
type granted struct {
	class string
	slot  *Slot
}

// crowdOf lets n of each class wait, and tells of each who gets a slot.
func crowdOf(t *testing.T, q *Queue, n int, classes ...string) <-chan granted {
	got := make(chan granted, n*len(classes))
	for range n {
		for _, class := range classes {
			go func() {
				s, err := q.Admit(t.Context(), Ask{Class: class, Wait: time.Hour})
				if err == nil { // else the test is over
					got <- granted{class, s}
				}
			}()
			synctest.Wait()
		}
	}
	return got
}

func TestClassOfHalfHasHalfOfTheSlotsWhileOthersWait(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 4, 7} {
		synctest.Test(t, func(t *testing.T) {
			q := pool(Config{Limit: limit, Classes: halves, Depth: 1000}, 1)
			var all []granted
			for range limit {
				all = append(all, granted{"pages", mustAdmit(t, q, Ask{Class: "pages"})})
			}
			got := crowdOf(t, q, 50, "journal", "pages")
			rng := rand.New(rand.NewPCG(1, uint64(limit)))
			turns, used := 0, map[string]int{"pages": limit}
			for waits := map[string]int{"pages": 50, "journal": 50}; waits["pages"] > 0; {
				time.Sleep(10 * time.Millisecond)
				i := rng.IntN(len(all))
				one := all[i]
				all = append(all[:i], all[i+1:]...)
				used[one.class]--
				one.slot.Served()
				synctest.Wait()
				next := <-got
				all = append(all, next)
				used[next.class]++
				waits[next.class]--
				if next.class == "journal" {
					turns++
				}
				if most := max(1, limit/2); waits["pages"] > 0 && used["journal"] > most {
					t.Fatalf("limit %d: %d slots for the journal, want %d at the most", limit, used["journal"], most)
				}
			}
			if turns > 51 || turns < 10 {
				t.Errorf("limit %d: %d turns of 100 were the journal's, want about half at the most", limit, turns)
			}
			for range limit { // nobody else waits now
				one := all[0]
				all = all[1:]
				one.slot.Served()
				synctest.Wait()
				next := <-got
				all = append(all, next)
			}
			for _, one := range all {
				if one.class != "journal" {
					t.Errorf("limit %d: a slot is left to %s, and the journal waits", limit, one.class)
				}
			}
			for n := len(all); n > 0; n-- {
				all[0].slot.Served()
				synctest.Wait()
				all = all[1:]
				for more := true; more; {
					select {
					case next := <-got:
						all, n = append(all, next), n+1
					default:
						more = false
					}
				}
			}
		})
	}
}

func TestClassOfHalfLeavesNothingUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 2, Classes: halves}, 2)
		onA := func([]string) string { return "a" }
		toA := Ask{Class: "pages", Choose: onA, Sticky: true, Wait: time.Hour}
		first, second := mustAdmit(t, q, toA), mustAdmit(t, q, toA)
		got := make(chan granted, 1)
		go func() { // waits for a, and has no use for b
			if s, err := q.Admit(t.Context(), toA); err == nil {
				got <- granted{"pages", s}
			}
		}()
		synctest.Wait()
		one, two := mustAdmit(t, q, Ask{Class: "journal"}), mustAdmit(t, q, Ask{Class: "journal"})
		if one.Upstream() != "b" || two.Upstream() != "b" {
			t.Errorf("on %s and %s, want b", one.Upstream(), two.Upstream())
		}
		first.Served()
		(<-got).slot.Served()
		second.Served()
		one.Served()
		two.Served()
	})
}

// What waited while the pool was held is let in by age, but for the half.
func TestClassOfHalfHasHalfAfterAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 4, Classes: halves}, 1)
		q.SetReady("a", false)
		var got [2]<-chan granted
		got[0] = crowdOf(t, q, 10, "journal")
		got[1] = crowdOf(t, q, 10, "pages")
		q.SetReady("a", true)
		for done := 0; done < 10; {
			time.Sleep(time.Second) // the limit climbs with time
			synctest.Wait()
			if used := len(got[0]); used > 2 && done+len(got[1]) < 10 {
				t.Fatalf("%d slots for the journal, want 2 at the most", used)
			}
			select {
			case page := <-got[1]:
				page.slot.Served()
				done++
			default:
			}
		}
		for range 10 {
			(<-got[0]).slot.Served()
			synctest.Wait()
		}
	})
}
