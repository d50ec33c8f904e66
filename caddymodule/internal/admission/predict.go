package admission

import "time"

// Predict says how long a request that came now would wait for its slot, without
// asking for one. It reports false while no upstream is ready: then nobody knows.
// It is a guess of the moment and promises nothing.
func (q *Queue) Predict(ask Ask) (wait time.Duration, ready bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held {
		return 0, false
	}
	now := time.Now()
	t := q.ticketLocked()
	defer q.spareLocked(t)
	ask.Choose, ask.Sticky = nil, false // it is asked when the request comes, once
	t.ask, t.at, t.seq = ask, now, q.seq
	q.places.prove(&t.ask)
	t.route = q.costs.of(ask.Route, ask.Cost, now)
	t.cost = q.costs.expected(t.route, now)
	if q.freeLocked(t) != nil && q.mayLocked(t.route, now) {
		return 0, true
	}
	return q.predictLocked(t, q.costs.slow(t.route, now), now), true
}
