package admission

import (
	"cmp"
	"time"
)

// dispatchLocked grants while there is somebody who may go.
func (q *Queue) dispatchLocked(now time.Time) {
	defer q.tellLocked() // also when a selection policy panics
	for _, u := range q.upstreams {
		u.climb(1+int(now.Sub(q.released)/rampStep), true)
		if u.probes == 0 && !now.Before(u.probeNext) {
			q.grantAheadLocked(u, 1, now)
		}
	}
	for {
		t, u := q.nextLocked(now)
		if t == nil {
			break
		}
		if t.order != nil {
			t.order.charge(t)
		}
		q.takeLocked(t)
		q.grantLocked(u, t, now)
	}
	for _, u := range q.upstreams { // what no request can use
		q.grantAheadLocked(u, u.ahead.n, now)
	}
	q.observeLocked(now)
	if t := q.sheddableLocked(now); t != nil && q.standing.drop(now, q.costs.typical) {
		q.refuseLocked(t, ErrShed)
	}
	q.wakeLocked()
}

// tellLocked tells those who were granted. The runtime runs next whom it was told of
// last: not who was dropped, while the application waits for the others.
func (q *Queue) tellLocked() {
	for i, t := range q.granted {
		t.end()
		q.granted[i] = nil
	}
	q.granted = q.granted[:0]
}

const (
	// probeShare is the part of a slot's time that probes may take from requests
	// that wait.
	probeShare = 0.1
	// probeRest is how long a probe gives way to requests at the most: one that
	// hung for minutes must not be the last.
	probeRest = 30 * time.Second
)

// grantAheadLocked grants free slots of u to at most n who ask for u itself.
func (q *Queue) grantAheadLocked(u *upstream, n int, now time.Time) {
	for ; n > 0 && u.ahead.n > 0 && u.used < max(1, u.limit()); n-- {
		t := u.ahead.oldest
		q.takeLocked(t)
		q.grantLocked(u, t, now)
	}
}

// sheddableLocked is the oldest of the heaviest client, if it waits for nothing:
// in a standing queue the newest go first. Nobody knows how patient people are up
// to DefaultWait. Who was promised more, or has said how long it waits, is not shed
// for the haste of others while its time is more than the queue of now needs.
func (q *Queue) sheddableLocked(now time.Time) *ticket {
	slots := q.limitLocked()
	if !q.standing.on || len(q.crowd.heavy) == 0 || q.waiting <= slots {
		return nil
	}
	t := q.crowd.heavy[0].tickets.oldest
	patient := t.ask.Own > 0 || q.waitOf(t) > DefaultWait
	if patient && now.Add(q.fastWorkLocked()/time.Duration(max(slots, 1))).Before(q.deadlineLocked(t)) {
		return nil
	}
	return t
}

// rampStep is how long it takes at the most until an upstream that was held gets
// one slot more: answers are quicker, but the first ones may be long.
const rampStep = 250 * time.Millisecond

// climb moves the limit of an upstream that was held up to n, or by n.
func (u *upstream) climb(n int, to bool) {
	if u.ramp == 0 {
		return
	}
	if to {
		u.ramp = max(u.ramp, n)
	} else {
		u.ramp += n
	}
	if u.ramp >= u.base() {
		u.ramp = 0
	}
}

// wakeEvery is how often those are looked at that time alone may let in: the
// slow, and the held.
const wakeEvery = 50 * time.Millisecond

// wakeLocked sees to it that they are.
func (q *Queue) wakeLocked() {
	if q.waking || q.held || q.holding.n == 0 && !q.slowWaitLocked() {
		return
	}
	q.waking = true
	time.AfterFunc(wakeEvery, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.waking = false
		q.dispatchLocked(time.Now())
	})
}

// slowWaitLocked reports whether anybody waits in a slow line.
func (q *Queue) slowWaitLocked() bool {
	waits := q.line.slow.n > 0
	for _, u := range q.upstreams {
		waits = waits || u.line.slow.n > 0
	}
	return waits
}

// nextLocked is whose turn it is, and the free upstream for it.
func (q *Queue) nextLocked(now time.Time) (*ticket, *upstream) {
	if q.waiting == 0 || q.held {
		return nil, nil
	}
	if q.halvesLocked() {
		if t, u := q.nextButLocked(true, now); t != nil {
			return t, u
		}
	}
	return q.nextButLocked(false, now)
}

// halvesLocked reports whether the classes that may have half of the slots have
// it, and others wait.
func (q *Queue) halvesLocked() bool {
	return q.halfUsed > 0 && q.waiting > q.halfWaiting && q.halfUsed >= q.limitLocked()/2
}

// nextButLocked is nextLocked; halves: without the classes that may have half.
func (q *Queue) nextButLocked(halves bool, now time.Time) (*ticket, *upstream) {
	if t, u := q.nextHeldLocked(halves, now); t != nil {
		return t, u
	}
	var best *ticket
	var at *upstream
	consider := func(l *line) {
		if t := q.nextOfLocked(l, halves, now); t != nil && (best == nil || t.seq < best.seq) {
			if u := q.freeLocked(t); u != nil {
				best, at = t, u
			}
		}
	}
	anyOpen := false
	for _, u := range q.upstreams {
		if u.open() {
			anyOpen = true
			consider(&u.line)
		}
	}
	if anyOpen {
		consider(&q.line)
	}
	return best, at
}

// heldLook is how many of the held are looked at for one that may go: the sticky
// and the slow may have to wait while others need not.
const heldLook = 16

func (q *Queue) nextHeldLocked(halves bool, now time.Time) (*ticket, *upstream) {
	look := 0
	for t := q.holding.oldest; t != nil && look < heldLook; t, look = t.next, look+1 {
		if t.stuck == nil || !t.stuck.fit() {
			t.stuck = nil
			q.stickLocked(t)
		}
		if halves && t.half || !q.mayLocked(t.route, now) {
			continue
		}
		if u := q.freeLocked(t); u != nil {
			return t, u
		}
	}
	return nil, nil
}

// nextOfLocked is whose turn it is in a line. Routes may have turned out to be
// slow, or fast, since their requests were queued.
func (q *Queue) nextOfLocked(l *line, halves bool, now time.Time) *ticket {
	if t := q.nextSlowLocked(l, halves, now); t != nil {
		return t
	}
	moved := false
	for t := l.fast.nextBut(q.standing.on, halves); t != nil; t = l.fast.nextBut(q.standing.on, halves) {
		if q.mayLocked(t.route, now) {
			return t
		}
		l.fast.remove(t, &q.crowd)
		l.slow.push(t, &q.crowd)
		moved = true
	}
	if moved { // nobody may be left for whom a slot was kept
		return q.nextSlowLocked(l, halves, now)
	}
	return nil
}

func (q *Queue) nextSlowLocked(l *line, halves bool, now time.Time) *ticket {
	if t := l.slow.nextBut(false, halves); t != nil && q.mayLocked(t.route, now) {
		return t
	}
	return nil
}

// mayLocked reports whether a request of r may go when a slot is free.
func (q *Queue) mayLocked(r *route, now time.Time) bool {
	if q.costs.slow(r, now) {
		return q.slowMayLocked(r, now)
	}
	return !q.suspectLocked(r, now)
}

func (q *Queue) grantLocked(u *upstream, t *ticket, now time.Time) {
	t.slot = q.claimLocked(u, t, now)
	q.granted = append(q.granted, t)
}

// claimLocked is the only place where a slot comes into being.
func (q *Queue) claimLocked(u *upstream, t *ticket, now time.Time) *Slot {
	s := &Slot{q: q, u: u, seq: t.seq, granted: now, charge: t.charge, use: t.use, half: t.half}
	s.waited, s.queued = now.Sub(q.sinceLocked(t)), t.queued+now.Sub(t.at)
	s.past = t.past + now.Sub(t.at)
	u.learned.moved(now, u.used, false)
	u.used++
	if s.half {
		q.halfUsed++
	}
	if t.route != nil {
		s.route = t.route
		s.slow = q.costs.slow(t.route, now)
		q.costs.sent(s)
		s.use.inFlight++
		t.route.running.insert(s, t.route.running.newest)
		t.route.inFlight++
		if t.route.inFlight == 1 {
			q.slow.busy = append(q.slow.busy, t.route)
		}
		q.counts.Granted++
	} else {
		u.probes++
	}
	return s
}

// giveBackLocked takes a slot back. served is the service time, if the
// application has answered.
func (q *Queue) giveBackLocked(s *Slot, served time.Duration) {
	if s.back {
		return
	}
	s.back = true
	now := time.Now()
	u := s.u
	u.learned.moved(now, u.used, served > 0)
	u.used--
	if s.half {
		q.halfUsed--
	}
	q.rate.mark(now)
	if s.route != nil {
		s.use.inFlight--
		q.leaveRouteLocked(s, now)
		if served > 0 {
			u.learned.served(served, u.used)
			q.costs.learn(s, served, now)
			u.climb(1, false)
		}
		s.charge.settle(cmp.Or(served, now.Sub(s.granted)))
	} else {
		u.probes--
		rest := float64(now.Sub(s.granted)) * (1/probeShare - 1)
		u.probeNext = now.Add(min(time.Duration(rest), probeRest))
	}
	if u.gone && u.used == 0 && u.ahead.n == 0 {
		for i, known := range q.upstreams {
			if known == u {
				q.upstreams = append(q.upstreams[:i:i], q.upstreams[i+1:]...)
				break
			}
		}
	}
	q.dispatchLocked(now)
}

func (q *Queue) leaveRouteLocked(s *Slot, now time.Time) {
	r := s.route
	if s.slow || q.costs.slow(r, now) {
		q.slow.rest(now, now.Sub(s.granted))
	}
	r.running.remove(s)
	r.inFlight--
	if r.inFlight > 0 {
		return
	}
	for i, busy := range q.slow.busy {
		if busy == r {
			last := len(q.slow.busy) - 1
			q.slow.busy[i] = q.slow.busy[last]
			q.slow.busy[last] = nil
			q.slow.busy = q.slow.busy[:last]
			return
		}
	}
}

// freeLocked picks an upstream with a free slot for t, or nil.
func (q *Queue) freeLocked(t *ticket) *upstream {
	if t.stuck != nil {
		if t.stuck.open() {
			return t.stuck
		}
		return nil
	}
	if t.ask.Sticky {
		return nil // nothing to stick to
	}
	if t.ask.Choose != nil {
		if u := q.chooseLocked(t, (*upstream).open); u != nil {
			return u
		}
	}
	var best *upstream
	n := len(q.upstreams)
	for i := range n {
		u := q.upstreams[(q.turn+i)%n]
		// used/limit < best.used/best.limit, without dividing
		if u.open() && (best == nil || u.used*best.limit() < best.used*u.limit()) {
			best = u
		}
	}
	q.turn++
	return best
}

// chooseLocked asks the request's own policy.
func (q *Queue) chooseLocked(t *ticket, may func(*upstream) bool) *upstream {
	keys := make([]string, 0, len(q.upstreams))
	for _, u := range q.upstreams {
		if may(u) {
			keys = append(keys, u.key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	chosen := t.ask.Choose(keys)
	for _, u := range q.upstreams {
		if u.key == chosen && may(u) {
			return u
		}
	}
	return nil
}

// stickLocked binds a sticky ticket to one ready upstream; while there is none
// it stays unbound.
func (q *Queue) stickLocked(t *ticket) {
	if !t.ask.Sticky || t.stuck != nil {
		return
	}
	t.stuck = q.chooseLocked(t, (*upstream).fit)
	if t.stuck != nil {
		return
	}
	for _, u := range q.upstreams { // the policy declined: any will do
		if u.fit() {
			t.stuck = u
			return
		}
	}
}
