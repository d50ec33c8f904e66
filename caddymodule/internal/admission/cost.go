package admission

import "time"

// costs knows what the requests of a route cost the application: the service
// time that the proxy sees. Bounded in routes.
type costs struct {
	routes  map[string]*route
	typical float64 // seconds; the median of all service times, about
}

// maxRoutes bounds the routes whose cost is remembered. Callers fold paths into
// templates, of which there are fewer.
const maxRoutes = 1000

// route is one route's cost and who of it is in flight.
type route struct {
	name     string
	declared time.Duration // 0: learned
	mean     float64       // seconds; 0: nothing known yet
	seen     time.Time     // of the last completion
	inFlight int
	running  slotList // by the time of sending
}

// One completion moves the mean by weightOfOne of what it differs, and counts as
// outlierFactor times the mean at the most: one stuck request says little about
// its route, ten say much.
const (
	weightOfOne   = 0.1
	outlierFactor = 4
)

// A route is slow when it costs slowFactor times what is typical, and more than
// slowFloor, below which nobody suffers.
const (
	slowFactor = 4
	slowFloor  = 20 * time.Millisecond
)

func (c *costs) of(name string, declared time.Duration, now time.Time) *route {
	r := c.routes[name]
	if r == nil {
		if c.routes == nil {
			c.routes = make(map[string]*route)
		}
		if len(c.routes) >= maxRoutes {
			c.forgetOne()
		}
		r = &route{name: name, seen: now}
		c.routes[name] = r
	}
	r.declared = declared
	return r
}

// forgetOne drops the route that was seen least lately, of a few: map order is
// random enough.
func (c *costs) forgetOne() {
	var oldest *route
	looked := 0
	for _, r := range c.routes {
		if r.inFlight == 0 && (oldest == nil || r.seen.Before(oldest.seen)) {
			oldest = r
		}
		if looked++; looked == 8 && oldest != nil {
			break
		}
	}
	if oldest != nil {
		delete(c.routes, oldest.name)
	}
}

// expected is what a request of the route will cost. The age of one in flight
// says at once that it may be that much; completions would say it too late.
func (c *costs) expected(r *route, now time.Time) time.Duration {
	if r.declared > 0 {
		return r.declared
	}
	mean := r.mean
	if mean == 0 {
		mean = c.typical
	}
	cost := time.Duration(mean * float64(time.Second))
	if r.running.oldest != nil {
		cost = max(cost, now.Sub(r.running.oldest.granted))
	}
	return cost
}

// slow reports whether the route would stall the others if it had all slots.
func (c *costs) slow(r *route, now time.Time) bool {
	cost := c.expected(r, now)
	return cost > slowFloor && c.typical > 0 && cost.Seconds() > slowFactor*c.typical
}

// learn takes in one service time.
func (c *costs) learn(r *route, took time.Duration, now time.Time) {
	x := took.Seconds()
	if r.mean == 0 {
		r.mean = x
	} else {
		r.mean += weightOfOne * (min(x, outlierFactor*r.mean) - r.mean)
	}
	r.seen = now
	// A running median: a step towards each sample, of a size that does not
	// depend on how far away it is.
	const step = 0.05
	switch {
	case c.typical == 0:
		c.typical = x
	case x > c.typical:
		c.typical *= 1 + step
	case x < c.typical:
		c.typical *= 1 - step
	}
}

// slotList holds the slots of a route by the time of their grant.
type slotList struct{ oldest, newest *Slot }

func (l *slotList) push(s *Slot) {
	s.prev = l.newest
	if l.newest == nil {
		l.oldest = s
	} else {
		l.newest.next = s
	}
	l.newest = s
}

func (l *slotList) remove(s *Slot) {
	if s.prev == nil {
		l.oldest = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		l.newest = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
}
