package admission

import "time"

// dispatchLocked grants while there is somebody who may go.
func (q *Queue) dispatchLocked(now time.Time) {
	for _, u := range q.upstreams {
		u.climb(1+int(now.Sub(q.released)/rampStep), true)
		for u.ahead.n > 0 && u.used < max(1, u.limit()) {
			t := u.ahead.oldest
			q.takeLocked(t)
			q.grantLocked(u, t, now)
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
	q.observeLocked(now)
	if q.standing.drop(now, q.costs.typical) && len(q.heavy) > 0 && q.waiting > q.limitLocked() {
		q.refuseLocked(q.heavy[0].tickets.oldest, ErrShed)
	}
	q.wakeLocked()
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
	if q.waking || q.held || q.line.slow.n == 0 && q.holding.n == 0 {
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

// nextLocked is whose turn it is, and the free upstream for it.
func (q *Queue) nextLocked(now time.Time) (*ticket, *upstream) {
	if q.waiting == 0 || q.held {
		return nil, nil
	}
	if t, u := q.nextHeldLocked(now); t != nil {
		return t, u
	}
	slowMay := q.slowMayLocked(now)
	var best *ticket
	var at *upstream
	consider := func(l *line) {
		if t := q.nextOfLocked(l, slowMay, now); t != nil && (best == nil || t.seq < best.seq) {
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

func (q *Queue) nextHeldLocked(now time.Time) (*ticket, *upstream) {
	look := 0
	for t := q.holding.oldest; t != nil && look < heldLook; t, look = t.next, look+1 {
		if t.stuck == nil || !t.stuck.fit() {
			t.stuck = nil
			q.stickLocked(t)
		}
		if q.costs.slow(t.route, now) && !q.slowMayLocked(now) {
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
func (q *Queue) nextOfLocked(l *line, slowMay bool, now time.Time) *ticket {
	if t := l.slow.next(false); t != nil && (slowMay || !q.costs.slow(t.route, now)) {
		return t
	}
	for {
		t := l.fast.next(q.standing.on)
		if t == nil || slowMay || !q.costs.slow(t.route, now) {
			return t
		}
		l.fast.remove(t, &q.heavy)
		l.slow.push(t, &q.heavy)
	}
}

func (q *Queue) grantLocked(u *upstream, t *ticket, now time.Time) {
	t.slot = q.claimLocked(u, t, now)
	close(t.done)
}

// claimLocked is the only place where a slot comes into being.
func (q *Queue) claimLocked(u *upstream, t *ticket, now time.Time) *Slot {
	s := &Slot{q: q, u: u, at: t.at, seq: t.seq, granted: now, expected: t.cost, client: t.charged}
	s.waited = now.Sub(t.at)
	if q.released.After(t.at) {
		s.waited = now.Sub(q.released)
	}
	u.learned.moved(now, u.used, false)
	u.used++
	if t.route != nil {
		s.route = t.route
		s.slow = q.costs.slow(t.route, now)
		t.route.running.push(s)
		t.route.inFlight++
		if t.route.inFlight == 1 {
			q.slow.busy = append(q.slow.busy, t.route)
		}
		q.counts.Granted++
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
	q.rate.mark(now)
	if s.route != nil {
		q.leaveRouteLocked(s, now)
		if served > 0 {
			u.learned.served(served, u.used)
			q.costs.learn(s.route, served, now)
			if s.client != nil {
				s.client.settle(s.expected, served)
			}
			u.climb(1, false)
		}
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

// slowGate keeps slow routes from holding every slot (DARC: Demoulin et al.,
// "When Idling is Ideal", SOSP 2021, for slots that are not ours to preempt).
type slowGate struct {
	busy   []*route  // routes in flight
	demand demand    // of the routes that are not slow
	next   time.Time // with one slot: when the next may go
}

const (
	// slowShare is the share of the time that slow requests may have of an only
	// slot while others want it.
	slowShare = 0.25
	// headroom is how many times their own demand the others have in reserve.
	headroom = 1.5
)

// slowMayLocked reports whether a slow request may go now.
func (q *Queue) slowMayLocked(now time.Time) bool {
	slots, slow := q.limitLocked(), 0
	for _, r := range q.slow.busy {
		if q.costs.slow(r, now) {
			slow += r.inFlight
		}
	}
	if slots > 1 {
		return slow < slots-q.slow.reserve(slots, now)
	}
	return slow == 0 && (!now.Before(q.slow.next) || q.slow.demand.slots(now) < 0.01)
}

// reserve is how many of the slots the others keep: what they need, with some
// headroom, at least one, and never all.
func (g *slowGate) reserve(slots int, now time.Time) int {
	need := int(g.demand.slots(now)*headroom + 0.999)
	return min(max(need, 1), slots-1)
}

// rest begins the time in which an only slot is the others'.
func (g *slowGate) rest(now time.Time, took time.Duration) {
	g.next = now.Add(time.Duration(float64(took) * (1/slowShare - 1)))
}
