package admission

import "time"

// slowGate keeps slow routes from holding every slot (DARC: Demoulin et al.,
// "When Idling is Ideal", SOSP 2021, for slots that are not ours to preempt).
// What it keeps back is for others that are there, or were lately: a route that
// is alone may have everything, however slow it is.
type slowGate struct {
	busy   []*route  // routes in flight
	demand demand    // of the routes that are not slow
	lately [2]guest  // of those, the two that came last, the last first
	next   time.Time // with one slot: when the next may go
}

// guest is when a route's last request came.
type guest struct {
	route *route
	at    time.Time
}

const (
	// slowShare is the share of the time that slow requests may have of an only
	// slot while others want it.
	slowShare = 0.25
	// headroom is how many times their own demand the others have in reserve.
	headroom = 1.5
	// A slot is kept for others so long after the last of them: who reads a page
	// asks for the next one. Demand alone would forget a route with few requests.
	keptFor = 5 * time.Second
	// slotKept is the demand from which on an only slot is shared, in slots.
	slotKept = 0.01
)

// came notes a request of a route that is not slow.
func (g *slowGate) came(r *route, cost time.Duration, now time.Time) {
	g.demand.add(now, cost)
	r.demand.add(now, cost)
	if g.lately[0].route != r {
		g.lately[1] = g.lately[0]
	}
	g.lately[0] = guest{r, now}
}

// slowMayLocked reports whether a request of r, which is slow, may go now.
func (q *Queue) slowMayLocked(r *route, now time.Time) bool {
	slots, slow := q.limitLocked(), 0
	for _, busy := range q.slow.busy {
		if q.costs.slow(busy, now) {
			slow += busy.inFlight
		}
	}
	if slots > 1 {
		return slow < slots-q.reserveLocked(r, slots, now)
	}
	return slow == 0 && (!now.Before(q.slow.next) || q.othersLocked(r, now) < slotKept)
}

// suspectLocked reports whether r may be about to hold every slot: one of its
// requests hangs, which says nothing about it, but others are there, and of three
// slots or more one can be kept for them until the next has answered.
func (q *Queue) suspectLocked(r *route, now time.Time) bool {
	oldest := r.running.oldest
	if oldest == nil || r.answers.n == 0 || now.Sub(oldest.granted) < slowFloor || q.costs.age(oldest, q.costs.done).Seconds() <= outlierFactor*r.mean {
		return false
	}
	slots := q.limitLocked()
	return slots > 2 && r.inFlight >= slots-1 && q.othersThereLocked(r, now)
}

// reserveLocked is how many of the slots are kept from r for the others: what
// they need, with some headroom, at least one if there are any, and never all.
func (q *Queue) reserveLocked(r *route, slots int, now time.Time) int {
	need := int(q.othersLocked(r, now)*headroom + 0.999)
	if need == 0 && !q.othersThereLocked(r, now) {
		return 0
	}
	return min(max(need, 1), slots-1)
}

// othersLocked is the demand, in slots, of the routes other than r that are not
// slow. A route that has become slow lately was among them.
func (q *Queue) othersLocked(r *route, now time.Time) float64 {
	others := q.slow.demand.slots(now) - r.demand.slots(now)
	for _, busy := range q.slow.busy {
		if busy != r && q.costs.slow(busy, now) {
			others -= busy.demand.slots(now)
		}
	}
	return max(others, 0)
}

// othersThereLocked reports whether one of them waits, or came lately.
func (q *Queue) othersThereLocked(r *route, now time.Time) bool {
	if q.line.fast.n > 0 {
		return true
	}
	for _, u := range q.upstreams {
		if u.line.fast.n > 0 {
			return true
		}
	}
	for _, l := range q.slow.lately {
		if l.route != nil && l.route != r && now.Sub(l.at) < keptFor && !q.costs.slow(l.route, now) {
			return true
		}
	}
	return false
}

// rest begins the time in which an only slot is the others'.
func (g *slowGate) rest(now time.Time, took time.Duration) {
	g.next = now.Add(time.Duration(float64(took) * (1/slowShare - 1)))
}
