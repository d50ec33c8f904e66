package admission

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stay keeps n clients asking for d, each again when it was answered, who leave
// under no circumstances. It returns the longest wait and why some were refused.
func (s *sim) stay(n int, d time.Duration, ask Ask, service time.Duration) (longest time.Duration, refused map[error]int) {
	var wg sync.WaitGroup
	refused = map[error]int{}
	end := time.Now().Add(d)
	for range n {
		wg.Go(func() {
			for time.Now().Before(end) {
				slot, err := s.q.Admit(s.t.Context(), ask)
				s.mu.Lock()
				if err == nil {
					longest = max(longest, slot.Waited())
				} else {
					refused[errors.Unwrap(err)]++
				}
				s.mu.Unlock()
				if err == nil {
					time.Sleep(service)
					slot.Served()
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	wg.Wait()
	return longest, refused
}

// TestPatientClientsAreNotShedForTheHasteOfOthers: half of them leave after a
// second, the others were promised a minute and stay.
func TestPatientClientsAreNotShedForTheHasteOfOthers(t *testing.T) {
	simulate(t, Config{Limit: 1, Wait: 60 * time.Second, Depth: 1000}, 1, func(s *sim) {
		const service = 20 * time.Millisecond
		s.closed(100, 20*time.Second, func(int) visit { return visit{"hasty", Ask{Route: "/"}, service} })
		longest, refused := s.stay(100, 20*time.Second, Ask{Route: "/"}, service)
		if len(refused) != 0 || longest > 5*time.Second {
			t.Errorf("they waited up to %v for 4 s of work; refused %v", longest, refused)
		}
	})
}

// TestWhoHasTimeIsNotShed even where the queue is full all the time.
func TestWhoHasTimeIsNotShed(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		ask  Ask
		shed bool
	}{
		"promised":            {Config{Wait: 60 * time.Second}, Ask{Route: "/"}, false},
		"said by the client":  {Config{}, Ask{Route: "/", Own: patience}, false},
		"nobody knows":        {Config{}, Ask{Route: "/"}, true},
		"and it is of no use": {Config{Wait: 6 * time.Second, Depth: 10_000}, Ask{Route: "/", Client: "waits"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Limit = 1
			simulate(t, c.cfg, 1, func(s *sim) {
				s.open(5*rate, 10*time.Second, func(int) visit { return visit{"page", c.ask, page} })
				if c.cfg.Depth > 0 { // without them nobody would be there long enough
					_, refused := s.stay(2000, 10*time.Second, c.ask, page)
					t.Log(refused)
				}
				s.wg.Wait()
				s.figures("page")
				if n := s.q.Stats().Counts.Shed; (n > 0) != c.shed {
					t.Errorf("%d were shed", n)
				}
			})
		})
	}
}

// TestLossIsWhatTheQueueIsTooLongFor: everybody up to DefaultWait, and who used a
// tenth of what was promised beyond.
func TestLossIsWhatTheQueueIsTooLongFor(t *testing.T) {
	for _, c := range []struct {
		wait, own, leaves time.Duration // 0: it stays
		lost              uint64
	}{
		{wait: 5 * time.Second, leaves: time.Millisecond, lost: 1},
		{wait: 5 * time.Second, lost: 1},
		{wait: 65 * time.Second, leaves: 5 * time.Second, lost: 0},
		{wait: 65 * time.Second, leaves: 7 * time.Second, lost: 1},
		{wait: 65 * time.Second, own: time.Second, lost: 0},
		{wait: 65 * time.Second, own: 10 * time.Second, lost: 1},
		{wait: 65 * time.Second, lost: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := pool(Config{Limit: 1, Wait: c.wait}, 1)
			defer mustAdmit(t, q, Ask{}).Release()
			ctx, cancel := context.WithCancel(t.Context())
			if c.leaves > 0 {
				time.AfterFunc(c.leaves, cancel)
			}
			q.Admit(ctx, Ask{Own: c.own})
			cancel()
			if q.lost != c.lost {
				t.Errorf("%+v: %d lost", c, q.lost)
			}
		})
	}
}

// TestOverloadWithADeepQueueIsServedNewestFirst: nobody is refused for the length
// of the queue, and those who leave say that it is too long.
func TestOverloadWithADeepQueueIsServedNewestFirst(t *testing.T) {
	simulate(t, Config{Limit: 1, Depth: 100_000}, 1, func(s *sim) {
		s.open(3*rate, 10*time.Second, func(int) visit { return visit{"page", Ask{Route: "/"}, page} })
		s.wg.Wait()
		served, p50, _ := s.figures("page")
		if share := float64(served) / (10 * rate); share < 0.9 || p50 > 50*time.Millisecond {
			t.Errorf("%.0f%% of capacity, p50 %v", 100*share, p50)
		}
	})
}
