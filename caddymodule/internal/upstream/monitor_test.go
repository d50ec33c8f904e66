package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

var errRefused = errors.New("connection refused")

// world is the monitor's surroundings: what it told, and how upstreams behave.
type world struct {
	mu    sync.Mutex
	ready map[string]bool
	log   []string
	slots map[string]chan struct{} // one slot each
	up    map[string]bool          // whether a dial or probe succeeds
	tries map[string]int
}

func newWorld(keys ...string) *world {
	w := &world{ready: map[string]bool{}, slots: map[string]chan struct{}{}, up: map[string]bool{}, tries: map[string]int{}}
	for _, k := range keys {
		w.ready[k], w.up[k], w.slots[k] = true, true, make(chan struct{}, 1)
	}
	return w
}

func (w *world) tell(key string, ready bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready[key] = ready
	w.log = append(w.log, fmt.Sprintf("%s %v", key, ready))
}

// try is a dial or a probe: it waits for the upstream's slot.
func (w *world) try(ctx context.Context, key string) error {
	select {
	case w.slots[key] <- struct{}{}:
		defer func() { <-w.slots[key] }()
	case <-ctx.Done():
		return ctx.Err()
	}
	w.mu.Lock()
	w.tries[key]++
	up := w.up[key]
	w.mu.Unlock()
	if !up {
		return errRefused
	}
	return nil
}

func (w *world) set(key string, up bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up[key] = up
}

func (w *world) isReady(key string) bool {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ready[key]
}

func (w *world) tried(key string) int {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tries[key]
}

func bubble(t *testing.T, cfg Config, keys []string, f func(*testing.T, *Monitor, *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(keys...)
		m := New(w.tell, zap.NewNop())
		defer m.Close()
		if cfg.Probe != nil {
			cfg.Probe = w.try
		}
		if cfg.Dial != nil {
			cfg.Dial = w.try
		}
		m.Apply(cfg, keys)
		f(t, m, w)
	})
}

// wanted marks a function that bubble replaces by the world's.
func wanted(context.Context, string) error { return nil }

func TestFailedDialQuarantinesBeforeItReturnsAndUntilADialSucceeds(t *testing.T) {
	bubble(t, Config{Dial: wanted}, []string{"a"}, func(t *testing.T, m *Monitor, w *world) {
		w.set("a", false)
		m.DialFailed("a", errRefused)
		if w.ready["a"] { // no waiting: it must be told already
			t.Fatal("ready after a failed dial")
		}
		m.DialFailed("a", errRefused) // others fail at the same time
		time.Sleep(10 * time.Second)
		if n := w.tried("a"); n < 9 || n > 20 {
			t.Errorf("%d dials in 10s, want about one a second", n)
		}
		w.set("a", true)
		time.Sleep(maxBackoff)
		if !w.isReady("a") {
			t.Error("not ready a second after it came back")
		}
		if len(w.log) != 2 {
			t.Errorf("told %v, want one change each way", w.log)
		}
	})
}

func TestQuarantineWithoutADialEndsByTime(t *testing.T) {
	bubble(t, Config{}, []string{"a"}, func(t *testing.T, m *Monitor, w *world) {
		m.DialFailed("a", errRefused)
		if w.isReady("a") {
			t.Fatal("ready after a failed dial")
		}
		time.Sleep(firstBackoff)
		if !w.isReady("a") {
			t.Fatal("still in quarantine")
		}
	})
}

func TestProbesDecideAfterFailsAndPasses(t *testing.T) {
	cfg := Config{Probe: wanted, Interval: time.Second, Fails: 2, Passes: 3}
	bubble(t, cfg, []string{"a"}, func(t *testing.T, m *Monitor, w *world) {
		var events []string
		m.Notify(func(event, key string) { events = append(events, event+" "+key) })
		synctest.Wait() // the first probe, at once
		w.set("a", false)
		time.Sleep(time.Second)
		if !w.isReady("a") {
			t.Fatal("not ready after one failed probe of two")
		}
		time.Sleep(time.Second)
		if w.isReady("a") {
			t.Fatal("ready after two failed probes")
		}
		w.set("a", true)
		time.Sleep(2 * time.Second)
		if w.isReady("a") {
			t.Fatal("ready after two of three passes")
		}
		time.Sleep(time.Second)
		if !w.isReady("a") {
			t.Fatal("not ready after three passes")
		}
		if got := fmt.Sprint(events); got != "[unhealthy a healthy a]" {
			t.Errorf("events %s", got)
		}
	})
}

func TestBusyUpstreamIsNotDown(t *testing.T) {
	cfg := Config{Probe: wanted, Interval: time.Second}
	bubble(t, cfg, []string{"a"}, func(t *testing.T, m *Monitor, w *world) {
		synctest.Wait()
		w.slots["a"] <- struct{}{} // a request of an hour
		time.Sleep(time.Hour)
		if !w.isReady("a") || w.tried("a") > 2 {
			t.Fatalf("ready %v after %d probes; want one that waits for its slot", w.isReady("a"), w.tried("a"))
		}
		before := w.tried("a")
		<-w.slots["a"]
		if w.tried("a") != before+1 {
			t.Fatal("the probe did not get the slot")
		}
	})
}

func TestRealAnswerStandsForAProbe(t *testing.T) {
	bubble(t, Config{Probe: wanted, Interval: time.Second}, []string{"a"}, func(t *testing.T, m *Monitor, w *world) {
		before := w.tried("a")
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			m.Answered("a", 404, time.Millisecond)
		}
		if n := w.tried("a") - before; n != 0 {
			t.Errorf("%d probes of an upstream that answered all the time", n)
		}
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			m.Answered("a", 500, time.Millisecond) // errors vouch for nothing
		}
		if n := w.tried("a") - before; n < 9 {
			t.Errorf("%d probes in 10s of errors", n)
		}
	})
}

func TestFailedExchangesTakeAnUpstreamAwayForAWhile(t *testing.T) {
	cfg := Config{FailDuration: 10 * time.Second, MaxFails: 2, Failed: func(status int, latency time.Duration) bool { return status == 500 }}
	bubble(t, cfg, []string{"a", "b"}, func(t *testing.T, m *Monitor, w *world) {
		m.Answered("a", 500, 0)
		m.Answered("a", 200, 0)
		if !w.isReady("a") {
			t.Fatal("one failure of two")
		}
		time.Sleep(4 * time.Second)
		m.Failed("a")
		if w.isReady("a") {
			t.Fatal("ready after two failures")
		}
		time.Sleep(6 * time.Second) // the first is forgotten
		if !w.isReady("a") {
			t.Fatal("not ready again")
		}
	})
}

func TestFailedExchangesNeverTakeTheLastUpstream(t *testing.T) {
	cfg := Config{FailDuration: 10 * time.Second, Dial: wanted}
	bubble(t, cfg, []string{"a", "b"}, func(t *testing.T, m *Monitor, w *world) {
		m.Failed("a")
		m.Failed("b")
		if w.isReady("a") || !w.isReady("b") {
			t.Fatalf("ready: %v, want b alone", w.ready)
		}
		w.set("b", false)
		m.DialFailed("b", errRefused)
		if !w.isReady("a") || w.isReady("b") {
			t.Fatalf("ready: %v, want a back, for b cannot be reached", w.ready)
		}
	})
}

func TestKnowledgeOutlivesANewConfiguration(t *testing.T) {
	cfg := Config{Probe: wanted, Interval: time.Second, Dial: wanted}
	bubble(t, cfg, []string{"a", "b"}, func(t *testing.T, m *Monitor, w *world) {
		w.set("a", false)
		m.DialFailed("a", errRefused)
		time.Sleep(2 * time.Second)
		m.Apply(Config{Dial: w.try}, []string{"a", "b"})
		if w.isReady("a") {
			t.Fatal("the quarantine was forgotten")
		}
		m.SetKeys([]string{"b", "c"})
		before := w.tried("a")
		time.Sleep(5 * time.Second)
		if n := w.tried("a") - before; n > 1 {
			t.Errorf("%d dials of an upstream that is no longer configured", n)
		}
	})
}
