package admission

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// workers is a model of an application: n workers, each one request at a time,
// one line before them, and a gap between an answer and the next request.
type workers struct {
	n       int
	service time.Duration
	jitter  float64
	gap     time.Duration
	rnd     *rand.Rand

	now  time.Time
	free []time.Time // when each worker is free
}

// drive keeps the learner's slots full for d and returns answers per second.
func (w *workers) drive(l *learner, d time.Duration) float64 {
	end := w.now.Add(d)
	type request struct{ sent, ends time.Time }
	var running []request
	answers := 0
	start := w.now
	for w.now.Before(end) {
		for len(running) < l.limit {
			if len(w.free) != w.n {
				w.free = make([]time.Time, w.n)
			}
			first := 0
			for i := range w.free {
				if w.free[i].Before(w.free[first]) {
					first = i
				}
			}
			begin := w.free[first]
			if sent := w.now.Add(w.gap); begin.Before(sent) {
				begin = sent
			}
			took := time.Duration(float64(w.service) * (1 + w.jitter*w.rnd.NormFloat64()))
			w.free[first] = begin.Add(max(took, w.service/2))
			l.moved(w.now, len(running), false)
			running = append(running, request{w.now, w.free[first]})
		}
		next := 0
		for i := range running {
			if running[i].ends.Before(running[next].ends) {
				next = i
			}
		}
		w.now = running[next].ends
		took := w.now.Sub(running[next].sent)
		running = append(running[:next], running[next+1:]...)
		l.moved(w.now, len(running)+1, true)
		l.served(took, len(running))
		answers++
	}
	return float64(answers) / w.now.Sub(start).Seconds()
}

func newWorkers(n int, service time.Duration, jitter float64) *workers {
	return &workers{n: n, service: service, jitter: jitter, gap: 200 * time.Microsecond,
		rnd: rand.New(rand.NewPCG(uint64(n), 7)), now: time.Unix(1e9, 0)}
}

// best is the throughput of the best fixed limit.
func best(n int, service time.Duration, jitter float64) float64 {
	most := 0.0
	for _, limit := range []int{n, n + 1, 2 * n} {
		w := newWorkers(n, service, jitter)
		fixed := &learner{limit: limit, reported: w.now.Add(time.Hour)}
		most = max(most, w.drive(fixed, 5*time.Second))
	}
	return most
}

func TestLimitFindsWhatTheWorkersCanTake(t *testing.T) {
	for _, c := range []struct {
		n       int
		service time.Duration
	}{{1, 20 * time.Millisecond}, {2, 20 * time.Millisecond}, {4, 20 * time.Millisecond}, {32, 20 * time.Millisecond},
		{1, 3 * time.Millisecond}, {2, 3 * time.Millisecond}, {2, 100 * time.Millisecond}} {
		for _, jitter := range []float64{0, 0.1} {
			t.Run(fmt.Sprint(c.n, " workers of ", c.service, " jitter ", jitter), func(t *testing.T) {
				w := newWorkers(c.n, c.service, jitter)
				l := newLearner()
				w.drive(&l, max(10*time.Second, 300*c.service))
				got, want := w.drive(&l, 20*time.Second), best(c.n, c.service, jitter)
				t.Logf("limit %d, %.1f answers/s, the best fixed limit has %.1f", l.limit, got, want)
				if got < 0.95*want {
					t.Errorf("%.1f answers/s with limit %d, want 95%% of %.1f", got, l.limit, want)
				}
				if most := c.n + max(1, c.n/4); l.limit > most+1 {
					t.Errorf("limit %d for %d workers", l.limit, c.n)
				}
			})
		}
	}
}

func TestLimitFollowsWorkersThatComeAndGo(t *testing.T) {
	w := newWorkers(2, 20*time.Millisecond, 0.05)
	l := newLearner()
	for _, n := range []int{2, 16, 4, 1, 8} {
		w.n, w.free = n, nil
		w.drive(&l, 10*time.Second)
		got, want := w.drive(&l, 10*time.Second), best(n, w.service, w.jitter)
		t.Logf("%d workers: limit %d, %.0f of %.0f answers/s", n, l.limit, got, want)
		if got < 0.95*want || l.limit > n+max(2, n/2) {
			t.Errorf("%d workers: limit %d, %.0f of %.0f answers/s", n, l.limit, got, want)
		}
	}
}

func TestLimitFollowsAnApplicationThatGetsSlowerAndFaster(t *testing.T) {
	w := newWorkers(4, 10*time.Millisecond, 0.05)
	l := newLearner()
	for _, service := range []time.Duration{10, 50, 5, 20} {
		w.service = service * time.Millisecond
		w.drive(&l, 10*time.Second)
		got, want := w.drive(&l, 10*time.Second), best(4, w.service, w.jitter)
		t.Logf("%v: limit %d, %.0f of %.0f answers/s", w.service, l.limit, got, want)
		if got < 0.95*want || l.limit > 7 {
			t.Errorf("%v: limit %d, %.0f of %.0f answers/s", w.service, l.limit, got, want)
		}
	}
}

func TestLimitIsLeftAloneWithoutLoad(t *testing.T) {
	l := newLearner()
	now := time.Unix(1e9, 0)
	for range 10_000 {
		l.moved(now, 0, false)
		now = now.Add(10 * time.Millisecond)
		l.moved(now, 1, true)
		now = now.Add(10 * time.Millisecond)
	}
	if l.limit != startLimit {
		t.Errorf("limit %d after a quiet time", l.limit)
	}
}

func TestLimitAboveWhatAnybodyUsesComesDownWhenItIsCrowded(t *testing.T) {
	l := newLearner()
	l.limit, l.alone = 60, 0.020
	now := time.Unix(1e9, 0)
	const clients = 40 // before one worker of 20 ms: each request takes 800 ms
	for i := range clients {
		l.moved(now, i, false)
	}
	for range 500 {
		now = now.Add(20 * time.Millisecond)
		l.moved(now, clients, true)
		l.moved(now, clients-1, false)
	}
	if l.limit > clients {
		t.Errorf("limit %d for %d clients of one worker", l.limit, clients)
	}
}

func TestReportedLimitHoldsForAWhile(t *testing.T) {
	w := newWorkers(4, 10*time.Millisecond, 0)
	l := newLearner()
	l.report(w.now, 30)
	w.drive(&l, reportHolds-time.Second)
	if l.limit != 30 {
		t.Errorf("limit %d, the application said 30", l.limit)
	}
	w.drive(&l, 30*time.Second)
	if l.limit > 7 {
		t.Errorf("limit %d long after the report, for 4 workers", l.limit)
	}
}

// TestTryIsJudgedByWhatItBrought: from eight slots, to twelve and to six. Half as
// many more must bring two fifths of their part, or what they brought is kept.
func TestTryIsJudgedByWhatItBrought(t *testing.T) {
	for _, c := range []struct {
		try   tryState
		limit int     // that is tried
		rate  float64 // found, of 100 before
		want  int
	}{
		{tryingMore, 12, 150, 12}, {tryingMore, 12, 121, 12},
		{tryingMore, 12, 119, 10}, {tryingMore, 12, 113, 10}, {tryingMore, 12, 112, 9}, {tryingMore, 12, 104, 9},
		{tryingMore, 12, 102, 8}, {tryingMore, 12, 80, 8},
		{tryingMore, 9, 106, 9}, {tryingMore, 9, 104, 8},
		{tryingLess, 6, 98, 6}, {tryingLess, 6, 96, 8},
	} {
		now := time.Unix(1e9, 0)
		l := newLearner()
		l.limit, l.rate = 8, 100
		l.begin(c.try, c.limit)
		if l.judge(now, c.rate); l.limit != c.want {
			t.Errorf("%d slots, rate %v of 100 with eight: limit %d, want %d", c.limit, c.rate, l.limit, c.want)
		}
	}
}

// TestFewerSlotsAreTriedWhereRequestsWaitForEachOther: eight that take more than
// twice as long as one alone.
func TestFewerSlotsAreTriedWhereRequestsWaitForEachOther(t *testing.T) {
	for ratio, want := range map[float64]int{1: 12, 1.9: 12, 2.1: 4, 8: 4} {
		l := newLearner()
		l.limit, l.alone = 8, 0.020
		if l.judge(time.Unix(1e9, 0), 8/(l.alone*ratio)); l.limit != want {
			t.Errorf("%v times as long as alone: %d slots are tried, want %d", ratio, l.limit, want)
		}
	}
}
