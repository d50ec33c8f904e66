package admission

import (
	"math"
	"testing"
	"time"
)

func TestMeanDoubtsTheLargest(t *testing.T) {
	quick := func(n int, others ...float64) sample {
		var s sample
		for range n {
			s.add(0.003)
		}
		for _, x := range others {
			s.add(x)
		}
		return s
	}
	for _, c := range []struct {
		name string
		s    sample
		want float64
	}{
		{"nothing", quick(0), 0},
		{"one is all that is known", quick(0, 3), 3},
		{"two that agree", quick(0, 3, 3), 3},
		{"one of two", quick(1, 3), 0.0075}, // 3 ms and four times that
		{"one of many", quick(15, 3), 0.003 * 19 / 16},
		{"two of many", quick(14, 3, 60), 0.003 * 22 / 16},
		{"two of few", quick(2, 3, 3), 6.006 / 4},
		{"three of many", quick(13, 3, 3, 3), (3.039 + 2*4*3.039/14) / 16},
		{"no outlier among what differs", quick(6, 0.004, 0.005), 0.027 / 8},
	} {
		if got := c.s.mean(2); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// learned makes the costs of one route that has been quick.
func learned(now time.Time) (*costs, *route) {
	c := new(costs)
	r := c.of("/", 0, now)
	for range recentMost {
		c.learn(&Slot{route: r, granted: now}, page, now)
	}
	return c, r
}

func TestRequestsThatHangDoNotSetThePriceOfTheOthers(t *testing.T) {
	now := time.Unix(1e9, 0)
	c, r := learned(now)
	for hung := range 6 {
		late := now.Add(time.Minute)
		c.done = late // others were answered all the time
		if slow := c.slow(r, late); slow != (hung > 1) {
			t.Errorf("%d hang: slow %v", hung, slow)
		}
		if cost := c.expected(r, late); cost > 2*page {
			t.Errorf("%d hang: the next is expected to cost %v", hung, cost)
		}
		s := &Slot{route: r, granted: now}
		r.running.insert(s, r.running.newest)
	}
}

func TestStalledTogetherCountsOnce(t *testing.T) {
	now := time.Unix(1e9, 0)
	c, r := learned(now)
	for range 4 {
		var slots []*Slot
		for range 5 {
			s := &Slot{route: r, granted: now}
			c.sent(s)
			slots = append(slots, s)
		}
		now = now.Add(time.Second)
		before := r.place
		for _, s := range slots {
			now = now.Add(time.Millisecond)
			c.learn(s, now.Sub(s.granted), now)
		}
		if learned := (r.place - before + recentMost) % recentMost; learned != 1 {
			t.Fatalf("%d of 5 that stood still together were learned", learned)
		}
	}
}

func TestAgeLeavesOutOnlyThePartOfAPauseThatWasSeen(t *testing.T) {
	now := time.Unix(1e9, 0)
	c, r := learned(now)
	late := &Slot{route: r, granted: now.Add(900 * time.Millisecond)}
	c.sent(late)
	now = now.Add(time.Second)
	c.learn(&Slot{route: r, granted: now.Add(-page)}, page, now) // ends a pause of a second
	if age := c.age(late, now.Add(50*time.Millisecond)); age != 50*time.Millisecond {
		t.Errorf("age %v, want the 50ms since the pause", age)
	}
}
