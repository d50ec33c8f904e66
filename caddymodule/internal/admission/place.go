package admission

import (
	"cmp"
	"slices"
	"time"
)

// placeLocked puts t where it waits.
func (q *Queue) placeLocked(t *ticket) {
	if q.held {
		q.holdLocked(t, q.holding.before(t))
		return
	}
	q.stickLocked(t)
	l := &q.line
	if t.stuck != nil {
		l = &t.stuck.line
	}
	o := l.fast
	if q.costs.slow(t.route, time.Now()) {
		o = l.slow
	}
	o.push(t, &q.crowd)
	q.work += t.cost
}

func (q *Queue) holdLocked(t, after *ticket) {
	t.held = true
	q.holding.list.insert(t, after)
	q.heldWork += t.cost
}

// replaceLocked puts those where they wait whom emptyLocked has taken from there.
func (q *Queue) replaceLocked(all []*ticket) {
	for _, t := range all {
		t.stuck = nil
		if q.held {
			q.holdLocked(t, q.holding.newest)
		} else {
			q.placeLocked(t)
		}
		q.rearmLocked(t) // its deadline may be another now
	}
}

// unplaceLocked takes t from where it waits.
func (q *Queue) unplaceLocked(t *ticket) {
	switch {
	case t.held:
		q.holding.remove(t)
		q.heldWork -= t.cost
		t.held = false
	case t.ask.Upstream != "":
		q.findLocked(t.ask.Upstream).ahead.remove(t)
	default:
		q.work -= t.cost
		t.order.remove(t, &q.crowd)
	}
}

// takeLocked ends the waiting of t.
func (q *Queue) takeLocked(t *ticket) {
	q.unplaceLocked(t)
	t.waits = false
	if t.ask.Upstream == "" {
		q.places.leave(t)
		q.waiting--
		t.route.waiting--
		q.crowded.Store(q.waiting > 0)
		if t.half {
			q.halfWaiting--
		}
	}
}

// emptyLocked takes everybody from where he waits, in the order of arrival. The
// returning among them stand in the order of their first arrivals, in the places
// that are theirs.
func (q *Queue) emptyLocked() []*ticket {
	all := make([]*ticket, 0, q.waiting)
	drain := func(o *order) {
		for t := o.next(false); t != nil; t = o.next(false) {
			q.unplaceLocked(t)
			all = append(all, t)
		}
	}
	for t := q.holding.oldest; t != nil; t = q.holding.oldest {
		q.unplaceLocked(t)
		all = append(all, t)
	}
	drain(q.line.fast)
	drain(q.line.slow)
	for _, u := range q.upstreams {
		drain(u.line.fast)
		drain(u.line.slow)
	}
	slices.SortFunc(all, func(a, b *ticket) int { return cmp.Compare(a.seq, b.seq) })
	var back []*ticket
	for _, t := range all {
		if t.returns() {
			back = append(back, t)
		}
	}
	slices.SortFunc(back, func(a, b *ticket) int { return cmp.Or(a.ask.Since.Compare(b.ask.Since), cmp.Compare(a.seq, b.seq)) })
	for i, t := range all {
		if t.returns() {
			all[i], back = back[0], back[1:]
		}
	}
	return all
}

// places are those in which somebody waits. One cookie sent a thousand times would
// be the oldest of the returning a thousand times.
type places map[uint64]struct{}

// prove takes from an ask the arrival that another one waits with.
func (p places) prove(ask *Ask) {
	if _, taken := p[ask.Place]; taken {
		ask.Since = time.Time{}
	}
}

func (p *places) take(t *ticket) {
	if t.ask.Place == 0 || t.ask.Since.IsZero() {
		return
	}
	if *p == nil {
		*p = make(places)
	}
	(*p)[t.ask.Place] = struct{}{}
}

func (p places) leave(t *ticket) {
	if !t.ask.Since.IsZero() {
		delete(p, t.ask.Place)
	}
}
