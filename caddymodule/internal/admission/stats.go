package admission

import "time"

// Snapshot is a consistent copy of the queue's state for readers.
type Snapshot struct {
	Held      bool            // no upstream is ready
	Waiting   int             // requests in the queue
	Depth     int             // most requests in the queue
	InFlight  int             // slots out
	Limit     int             // most slots out, all upstreams together
	DrainRate float64         // slots given back per second, of late
	Upstreams []UpstreamState // in the order of the configuration
	Counts    Counts
}

// UpstreamState is one upstream in a Snapshot.
type UpstreamState struct {
	Key      string
	Ready    bool
	InFlight int
	Limit    int
}

// Stats returns a snapshot.
func (q *Queue) Stats() Snapshot {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Snapshot{
		Held:      q.held,
		Waiting:   q.waiting,
		Depth:     q.depthLocked(),
		Limit:     q.limitLocked(),
		DrainRate: q.rate.perSecond(time.Now()),
		Counts:    q.counts,
	}
	for _, u := range q.upstreams {
		s.InFlight += u.used
		if !u.gone {
			s.Upstreams = append(s.Upstreams, UpstreamState{
				Key: u.key, Ready: u.ready, InFlight: u.used, Limit: u.limit,
			})
		}
	}
	return s
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
