package admission

import (
	"slices"
	"time"
)

// Snapshot is a consistent copy of the queue's state for readers.
type Snapshot struct {
	Held      bool            // no upstream is ready
	Waiting   int             // requests in the queue
	Depth     int             // most requests in the queue
	InFlight  int             // slots out
	Limit     int             // most slots out, all upstreams together
	DrainRate float64         // slots given back per second, of late
	Standing  bool            // the queue does not go away; the newest go first
	Upstreams []UpstreamState // in the order of the configuration
	Classes   []ClassState    // in the order of the configuration
	Routes    []RouteState    // in no order
	Counts    Counts
}

// UpstreamState is one upstream in a Snapshot.
type UpstreamState struct {
	Key      string
	Ready    bool
	InFlight int
	Limit    int
	Learned  bool // the limit is not configured
}

// ClassState is one class in a Snapshot.
type ClassState struct {
	Name     string
	Weight   int
	Waiting  int // also while the pool is held
	InFlight int
}

// use is what the requests of a class have in use.
type use struct {
	name     string
	half     bool // Class.Half
	inFlight int
}

// usesLocked makes the uses of the configured classes, and keeps those of before.
func (q *Queue) usesLocked() {
	before := q.uses
	q.uses = nil
	for _, c := range q.cfg.Classes {
		u := &use{name: c.Name}
		if i := slices.IndexFunc(before, func(u *use) bool { return u.name == c.Name }); i >= 0 {
			u = before[i]
		}
		u.half = c.Half
		q.uses = append(q.uses, u)
	}
}

// useLocked falls back to the first class, as order.classOf does.
func (q *Queue) useLocked(class string) *use {
	for _, u := range q.uses {
		if u.name == class {
			return u
		}
	}
	return q.uses[0]
}

// RouteState is what is known of a route in a Snapshot.
type RouteState struct {
	Name     string
	Cost     time.Duration // expected
	Slow     bool
	InFlight int
	Waiting  int // also while the pool is held
}

// Counts add up since the queue was made.
type Counts struct {
	Granted uint64 // slots given out to requests
	Full    uint64 // refused with ErrFull
	Wait    uint64 // refused with ErrWait
	Shed    uint64 // refused with ErrShed
	Excess  uint64 // refused with ErrExcess
	Held    uint64 // refused with ErrHeld
	Left    uint64 // left while waiting
}

// Stats returns a snapshot.
func (q *Queue) Stats() Snapshot {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	s := Snapshot{
		Held:      q.held,
		Waiting:   q.waiting,
		Depth:     q.depthLocked(),
		Limit:     q.limitLocked(),
		DrainRate: q.rate.perSecond(now),
		Counts:    q.counts,
	}
	for _, u := range q.upstreams {
		s.InFlight += u.used
		if !u.gone {
			s.Upstreams = append(s.Upstreams, UpstreamState{
				Key: u.key, Ready: u.ready && !u.drained, InFlight: u.used, Limit: u.limit(), Learned: u.fixed == 0,
			})
		}
	}
	s.Standing = q.standing.on
	held := q.heldByClassLocked()
	for i, c := range q.cfg.Classes {
		state := ClassState{Name: c.Name, Weight: c.Weight, Waiting: held[i] + q.line.waiting(i), InFlight: q.uses[i].inFlight}
		for _, u := range q.upstreams {
			state.Waiting += u.line.waiting(i)
		}
		s.Classes = append(s.Classes, state)
	}
	for name, r := range q.costs.routes {
		s.Routes = append(s.Routes, RouteState{
			Name: name, Cost: q.costs.expected(r, now), Slow: q.costs.slow(r, now), InFlight: r.inFlight, Waiting: r.waiting,
		})
	}
	return s
}

// Keys is the keys of the upstreams, in the order of the configuration: those of
// Snapshot.Upstreams, without the work of a snapshot.
func (q *Queue) Keys() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	keys := make([]string, 0, len(q.upstreams))
	for _, u := range q.upstreams {
		if !u.gone {
			keys = append(keys, u.key)
		}
	}
	return keys
}

// Idle reports whether no request waits and no slot is out, without the work of a
// snapshot. It is true of this moment only: who acts on it sees to it that nobody
// calls Admit meanwhile.
func (q *Queue) Idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, u := range q.upstreams {
		if u.used > 0 {
			return false
		}
	}
	return q.waiting == 0
}

// heldByClassLocked counts the held by the index of their class.
func (q *Queue) heldByClassLocked() []int {
	n := make([]int, len(q.cfg.Classes))
	for t := q.holding.oldest; t != nil; t = t.next {
		n[q.classOfLocked(t)]++
	}
	return n
}

// classOfLocked is the index of t's class in the configuration.
func (q *Queue) classOfLocked(t *ticket) int {
	for i, c := range q.cfg.Classes {
		if c.Name == t.ask.Class {
			return i
		}
	}
	return 0
}

// waiting counts the tickets of a class.
func (l *line) waiting(class int) int {
	n := 0
	for _, o := range []*order{l.fast, l.slow} {
		n += o.classes[class].tickets
	}
	return n
}

// meter counts events per second over the last ten seconds.
type meter struct {
	buckets [meterSeconds]uint32
	newest  int64     // the second that buckets[newest%meterSeconds] counts
	since   time.Time // first event, so that a young meter does not read low
}

const meterSeconds = 10

func (m *meter) mark(now time.Time) {
	if m.since.IsZero() {
		m.since = now
	}
	m.turnTo(now)
	m.buckets[m.newest%meterSeconds]++
}

func (m *meter) perSecond(now time.Time) float64 {
	if m.since.IsZero() {
		return 0
	}
	m.turnTo(now)
	sum := 0.0
	for _, n := range m.buckets {
		sum += float64(n)
	}
	span := min(now.Sub(m.since).Seconds(), meterSeconds)
	return sum / max(span, 1)
}

func (m *meter) turnTo(now time.Time) {
	second := now.Unix()
	for step := min(second-m.newest, meterSeconds); step > 0; step-- {
		m.buckets[(second-step+1)%meterSeconds] = 0
	}
	if second > m.newest {
		m.newest = second
	}
}
