package admission

import "time"

// Slot is the right to be in flight at one upstream. Its methods are safe for
// concurrent use.
type Slot struct {
	q       *Queue
	u       *upstream
	seq     uint64 // the request's place among the arrivals
	granted time.Time
	past    time.Duration // between its first arrival and granted
	waited  time.Duration // in the queue, without the time it was held, with all attempts
	queued  time.Duration // the same, with the time it was held
	charge  charge
	route   *route // nil: a probe
	use     *use   // of its class; nil: a probe

	back        bool          // q.mu
	half        bool          // of a class that may have half of the slots
	slow        bool          // q.mu; its route was slow when it was sent
	still       time.Duration // q.mu; costs.still when it was sent
	links[Slot]               // q.mu; in route.running
}

// Upstream is the key of the upstream that the slot belongs to.
func (s *Slot) Upstream() string { return s.u.key }

// Waited is the time between arrival and grant, less what the pool was held; after
// other attempts, without what those have taken.
func (s *Slot) Waited() time.Duration { return s.waited }

// Release gives the slot back without a lesson: nothing was sent, or the answer
// tells nothing of what such a request costs. It is safe to call twice.
func (s *Slot) Release() {
	s.q.mu.Lock()
	defer s.q.mu.Unlock()
	s.q.giveBackLocked(s, 0)
}

// Served gives the slot back when the application has ended its answer. The time
// since the grant is what the request has cost. It is safe to call twice.
func (s *Slot) Served() {
	took := time.Since(s.granted)
	s.q.mu.Lock()
	defer s.q.mu.Unlock()
	s.q.giveBackLocked(s, max(took, 1))
}

// Quarantine gives the slot back after d, for an exchange of which nobody knows
// whether the application has ended it. It is safe to call before or after
// Release.
func (s *Slot) Quarantine(d time.Duration) {
	time.AfterFunc(d, s.Release)
}

// Report is what an application says of itself.
type Report struct {
	// Limit is the most requests it wants at once; 0: it does not say.
	Limit int
	// Percent is the part of its limit that it wants to be used; 0: it does not
	// say; 100, or half a minute without the word, ends an earlier smaller one.
	Percent int
	// Utilization is how much of what it can do is asked of it; over 1: too much.
	Utilization float64
	// Drain: it wants no new requests. Ready ends that, or half a minute without
	// the word: an application that is started anew does not know what the one
	// before it has said, and nobody can ask it while it gets nothing.
	Drain, Ready bool
}

// Report takes in what the application at this slot's upstream says of itself. A
// learned limit becomes what it says, for half a minute; a configured one is
// lowered to it and never raised.
func (s *Slot) Report(r Report) {
	if r == (Report{}) {
		return
	}
	s.q.change(s.u.key, func(u *upstream) bool {
		now := time.Now()
		if r.Percent > 0 {
			u.learned.part.set(now, r.Percent)
		}
		switch {
		case r.Limit > 0 && u.fixed > 0:
			u.cap = r.Limit
		case r.Limit > 0:
			u.learned.report(now, r.Limit)
		case r.Percent >= 100:
			u.cap = 0
		case r.Utilization > 1 && u.fixed == 0:
			u.learned.relieve(now, s.granted, u.used, r.Utilization)
		}
		if r.Drain || r.Ready {
			u.drained = r.Drain
			if u.undrain != nil {
				u.undrain.Stop()
			}
		}
		if r.Drain {
			u.undrain = time.AfterFunc(reportHolds, func() { s.q.undrain(u.key) })
		}
		return true
	})
}

// undrain lets requests find out whether the application still wants none.
func (q *Queue) undrain(key string) {
	q.change(key, func(u *upstream) bool {
		was := u.drained
		u.drained = false
		return was
	})
}
