package admission

import "time"

// placeLocked puts t where it waits.
func (q *Queue) placeLocked(t *ticket) {
	if q.held {
		q.holdLocked(t)
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

func (q *Queue) holdLocked(t *ticket) {
	t.held = true
	q.holding.insert(t)
	q.heldWork += t.cost
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
	if t.ask.Upstream == "" {
		q.waiting--
		q.crowded.Store(q.waiting > 0)
		if t.half {
			q.halfWaiting--
		}
	}
}

// emptyLocked takes everybody from where he waits, oldest first.
func (q *Queue) emptyLocked() []*ticket {
	var all ticketList
	drain := func(o *order) {
		if o == nil {
			return
		}
		for t := o.next(false); t != nil; t = o.next(false) {
			q.unplaceLocked(t)
			all.insert(t)
		}
	}
	for t := q.holding.oldest; t != nil; t = q.holding.oldest {
		q.unplaceLocked(t)
		all.insert(t)
	}
	drain(q.line.fast)
	drain(q.line.slow)
	for _, u := range q.upstreams {
		drain(u.line.fast)
		drain(u.line.slow)
	}
	list := make([]*ticket, 0, all.n)
	for t := all.oldest; t != nil; t = all.oldest {
		all.remove(t)
		list = append(list, t)
	}
	return list
}
