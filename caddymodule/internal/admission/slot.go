package admission

import "time"

// Slot is the right to be in flight at one upstream. Its methods are safe for
// concurrent use.
type Slot struct {
	q       *Queue
	u       *upstream
	at      time.Time // when the request arrived first
	seq     uint64    // its place among the arrivals
	granted time.Time
	back    bool // q.mu
}

// Upstream is the key of the upstream that the slot belongs to.
func (s *Slot) Upstream() string { return s.u.key }

// Waited is the time between arrival and grant.
func (s *Slot) Waited() time.Duration { return s.granted.Sub(s.at) }

// Release gives the slot back. It is safe to call twice.
func (s *Slot) Release() {
	s.q.mu.Lock()
	defer s.q.mu.Unlock()
	s.q.giveBackLocked(s)
}

// Quarantine gives the slot back after d, for an exchange of which nobody knows
// whether the application has ended it. It is safe to call before or after
// Release.
func (s *Slot) Quarantine(d time.Duration) {
	time.AfterFunc(d, s.Release)
}
