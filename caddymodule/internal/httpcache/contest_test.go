package httpcache

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// refused is a leader that was refused, with so many followers, who have asked what
// to do now.
func refused(t *testing.T, c *Cache, r Request, followers int) []Found {
	t.Helper()
	lead := c.Lookup(&r, Policy{})
	if lead.Verdict != Fetch {
		t.Fatalf("%+v", lead)
	}
	all := make([]Found, followers)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			var err error
			if all[i], err = c.Follow(t.Context(), &r, Policy{}, c.Lookup(&r, Policy{})); err != nil {
				t.Error(err)
			}
		})
	}
	synctest.Wait()
	if _, _, ok := lead.Flight.Instead(Overloaded); ok {
		t.Fatal("there is nothing that could stand in")
	}
	wg.Wait()
	return all
}

func TestFollowersOfARefusedLeaderAskSideBySide(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		all := refused(t, c, r, 50)
		for i, found := range all {
			if found.Verdict != Fetch || found.Flight.Overtaken() == nil || found.Flight.Overtaken().Err() != nil {
				t.Fatalf("follower %d stands in line: %+v", i, found)
			}
		}
		first := all[7].Flight
		h := fields(`If-None-Match: "0"`)
		first.Prepare(h)
		if has(h, "If-None-Match") {
			t.Error("the answer for all is asked for with the condition of one")
		}
		first.Sent()
		var wg sync.WaitGroup
		for i, found := range all {
			if found.Flight.Overtaken().Err() == nil {
				t.Fatalf("follower %d is not told", i)
			}
			again, overtaken := found.Flight.Rejoin(found.Note)
			if overtaken != (i != 7) {
				t.Fatalf("follower %d overtaken: %v", i, overtaken)
			}
			if overtaken {
				wg.Go(func() {
					got, err := c.Follow(t.Context(), &r, Policy{}, again)
					if err != nil || got.Verdict != Hit || !got.Note.Collapsed {
						t.Errorf("follower %d: %+v, %v", i, got, err)
					}
				})
			}
		}
		first.Receive(200, fields("Cache-Control: max-age=60"))
		first.End(nil)
		wg.Wait()
		if s := c.Stats(); s.Flights != 0 || s.Keys != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestWhoLooksLateFollowsTheFirst: a follower that wakes when another is sent
// already does not ask for a slot.
func TestWhoLooksLateFollowsTheFirst(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		late := c.Lookup(&r, Policy{})
		defer late.Flight.Done()
		waiting := c.Lookup(&r, Policy{})
		late.Flight.Instead(Overloaded)
		one, _ := c.Follow(t.Context(), &r, Policy{}, waiting)
		one.Flight.Sent()
		done := make(chan Found)
		go func() {
			found, _ := c.Follow(t.Context(), &r, Policy{}, waiting)
			done <- found
		}()
		synctest.Wait()
		one.Flight.Receive(200, fields("Cache-Control: max-age=60"))
		if found := <-done; found.Verdict != Hit {
			t.Errorf("%+v", found)
		}
		one.Flight.End(nil)
	})
}

func TestOvertakenByAnAnswerThatIsNotForAllGoesOn(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		all := refused(t, c, r, 2)
		all[0].Flight.Sent()
		again, _ := all[1].Flight.Rejoin(Note{})
		go func() {
			time.Sleep(time.Second)
			all[0].Flight.Receive(200, fields("Cache-Control: private"))
			all[0].Flight.Done()
		}()
		found, err := c.Follow(t.Context(), &r, Policy{}, again)
		if err != nil || found.Verdict != Fetch {
			t.Fatalf("%+v, %v", found, err)
		}
		found.Flight.Done()
	})
}

// TestFailureIsNoContest: an application that is down is not asked by a crowd.
func TestFailureIsNoContest(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		lead := c.Lookup(&r, Policy{})
		waiting := c.Lookup(&r, Policy{})
		lead.Flight.Instead(Unreachable)
		found, _ := c.Follow(t.Context(), &r, Policy{}, waiting)
		if found.Verdict != Fetch || found.Flight.Overtaken() != nil {
			t.Errorf("%+v", found)
		}
		if other := c.Lookup(&r, Policy{}); other.Verdict != Wait {
			t.Errorf("%v beside it", other.Verdict)
		}
		found.Flight.Done()
	})
}
