package admission

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestProbesLeaveTheRequestsTheirTime: probes that come without end, and several
// at once, have a tenth of the slot's time while requests wait.
func TestProbesLeaveTheRequestsTheirTime(t *testing.T) {
	for service, limit := range map[time.Duration]int{page: 1, 100 * time.Millisecond: 1, 20 * time.Millisecond: 4} {
		simulate(t, Config{Limit: limit, Depth: 1000}, limit, func(s *sim) {
			ctx, cancel := context.WithCancel(s.t.Context())
			var probing time.Duration
			for range 3 {
				s.wg.Go(func() {
					for ctx.Err() == nil {
						slot, err := s.q.Admit(ctx, Ask{Upstream: "a"})
						if err != nil {
							break
						}
						time.Sleep(service)
						slot.Served()
						s.mu.Lock()
						probing += service
						s.mu.Unlock()
						time.Sleep(time.Millisecond)
					}
				})
			}
			s.stay(10, 10*time.Second, Ask{Route: "/"}, page)
			cancel()
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			if share := probing.Seconds() / 10; share > 0.12 || share < 0.05 {
				t.Errorf("probes of %v had %.0f%% of one slot's time", service, 100*share)
			}
		})
	}
}

// TestProbeAfterOneThatHungIsNotTheLast: the time of a hung one does not count for
// longer than half a minute.
func TestProbeAfterOneThatHungIsNotTheLast(t *testing.T) {
	simulate(t, Config{Limit: 1, Wait: time.Hour, Depth: 1000}, 1, func(s *sim) {
		mustAdmit(s.t, s.q, Ask{Upstream: "a"}).Quarantine(time.Hour)
		time.Sleep(time.Hour)
		s.wg.Go(func() { s.stay(5, time.Minute, Ask{Route: "/"}, page) })
		synctest.Wait()
		start := time.Now()
		mustAdmit(s.t, s.q, Ask{Upstream: "a"}).Served()
		if waited := time.Since(start); waited > probeRest+time.Second {
			t.Errorf("the next probe waited %v", waited)
		}
	})
}

func TestProbeGoesAtOnceWhenNobodyElseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 1)
		probe := mustAdmit(t, q, Ask{Upstream: "a"})
		time.Sleep(time.Second)
		probe.Served()
		request := mustAdmit(t, q, Ask{})
		out := make(chan outcome, 1)
		arrive(t.Context(), q, "probe", Ask{Upstream: "a"}, out)
		request.Release()
		if got := <-out; got.at != 0 {
			t.Errorf("it waited %v after the request", got.at)
		}
	})
}

// TestProbesOfWhatTakesNoRequestsDoNotWait: nobody is kept from a slot by them.
func TestProbesOfWhatTakesNoRequestsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pool(Config{Limit: 1}, 1)
		q.SetReady("a", false)
		out := make(chan outcome, 1)
		arrive(t.Context(), q, "request", Ask{}, out)
		for range 10 {
			start := time.Now()
			slot := mustAdmit(t, q, Ask{Upstream: "a"})
			if waited := time.Since(start); waited != 0 {
				t.Errorf("waited %v", waited)
			}
			time.Sleep(time.Second)
			slot.Release()
		}
		q.SetReady("a", true)
		(<-out).slot.Release()
	})
}
