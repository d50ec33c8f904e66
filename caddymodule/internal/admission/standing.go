package admission

import (
	"math"
	"time"
)

// standing notices a queue that does not go away and that costs requests: some
// were refused for it or left it. A burst that drains is none, nor are clients
// who wait for each other with patience. In a standing queue every place is a wait
// without a use: the newest go first (they are still there), and CoDel's control
// law drops the oldest (Nichols, Jacobson: RFC 8289, section 5; newest first:
// Maurer, "Fail at Scale", ACM Queue 13/8, 2015).
//
// CoDel looks at the sojourn time of packets; here the queued work tells the same
// without waiting for it: the time that the slots need for it is the wait of who
// comes last.
type standing struct {
	since  time.Time     // when the queued work was below the target last; zero: it is now
	mark   time.Time     // the beginning of the running interval
	before time.Duration // queued work at mark
	lost   uint64        // requests refused or gone, at mark
	on     bool
	drops  int       // in this standing queue
	nextAt time.Time // when to drop the next
}

// target is how much wait is no sign of anything: one service time, and not less
// than what CoDel allows a network. interval is ten times that, at least 100 ms,
// the round trip of a person's reaction.
func target(typical float64) time.Duration {
	return max(5*time.Millisecond, time.Duration(typical*float64(time.Second)))
}

func interval(target time.Duration) time.Duration {
	return max(100*time.Millisecond, 10*target)
}

// observe takes in how long the slots need for the queued work, and how many
// requests were refused or left so far, not counting those that drop has cost.
func (s *standing) observe(now time.Time, work time.Duration, lost uint64, typical float64) {
	target := target(typical)
	interval := interval(target)
	if work <= target {
		*s = standing{}
		return
	}
	if s.since.IsZero() {
		s.since, s.mark, s.before, s.lost = now, now, 0, lost
		return
	}
	if now.Sub(s.mark) < interval {
		return
	}
	// One whole interval to see how much there is, and one more to see that it does
	// not become less. One that stands goes on to do so while requests are lost, even
	// if it becomes less by chance: oldest first, all whom the newest have left behind
	// would be served when they are about to go, and for nothing.
	draining := s.before > 0 && work < s.before-s.before/10
	if s.before > 0 {
		on := lost > s.lost && (s.on || !draining)
		if on && !s.on {
			s.drops, s.nextAt = 0, now.Add(interval)
		}
		s.on = on
	}
	s.mark, s.before, s.lost = now, work, lost
}

// drop reports whether one is to be dropped now.
func (s *standing) drop(now time.Time, typical float64) bool {
	if !s.on || now.Before(s.nextAt) {
		return false
	}
	s.drops++
	s.nextAt = now.Add(time.Duration(float64(interval(target(typical))) / math.Sqrt(float64(s.drops))))
	return true
}
