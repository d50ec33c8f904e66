package admission

import (
	"math"
	"time"
)

// costs knows what the requests of a route cost the application: the service
// time that the proxy sees. Bounded in routes.
type costs struct {
	routes  map[string]*route
	typical float64 // seconds; the median of all service times, about

	done  time.Time     // of the last answer of any route
	still time.Duration // time without an answer, in pauses longer than quiet
}

// maxRoutes bounds the routes whose cost is remembered. Callers fold paths into
// templates, of which there are fewer.
const maxRoutes = 1000

// route is one route's cost and who of it is in flight.
type route struct {
	name     string
	declared time.Duration       // 0: learned
	recent   [recentMost]float64 // seconds; the last service times, in a ring
	place    int                 // in recent, of the next
	answers  sample              // recent, summed up
	mean     float64             // seconds; of answers
	demand   demand              // while it was not slow
	seen     time.Time           // of the last completion
	inFlight int
	waiting  int
	running  list[Slot, *Slot] // by the time of sending
}

const (
	// recentMost is how many service times are remembered: a route that has
	// become slow is known by its second or third, and forgiven after sixteen.
	recentMost = 16
	// outlierFactor is how many times the mean of the others the largest may
	// count: one or two answers that took long say little about their route,
	// three say much.
	outlierFactor = 4
	outliersFrom  = 8 // so many samples are needed to distrust two of them
)

// A route is slow when it costs slowFactor times what is typical, and more than
// slowFloor, below which nobody suffers.
const (
	slowFactor = 4
	slowFloor  = 20 * time.Millisecond
)

// sample is service times, summed up for a mean that does not believe the
// largest ones (winsorized: Dixon, "Simplified Estimation from Censored Normal
// Samples", Ann. Math. Stat. 31/2, 1960; how much they may count is relative to
// the others, for service times are not symmetric).
type sample struct {
	sum     float64
	n       int
	largest [2]float64
}

func (s *sample) add(x float64) {
	s.sum += x
	s.n++
	switch {
	case x > s.largest[0]:
		s.largest[0], s.largest[1] = x, s.largest[0]
	case x > s.largest[1]:
		s.largest[1] = x
	}
}

// mean doubts as many of the largest, one or two.
func (s *sample) mean(doubt int) float64 {
	if s.n < 2 {
		return s.sum
	}
	if s.n < outliersFrom {
		doubt = 1
	}
	doubted := s.largest[:doubt]
	rest := s.sum
	for _, x := range doubted {
		rest -= x
	}
	most := outlierFactor * rest / float64(s.n-len(doubted))
	for _, x := range doubted {
		rest += min(x, most)
	}
	return rest / float64(s.n)
}

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
		if r.inFlight == 0 && r.waiting == 0 && (oldest == nil || r.seen.Before(oldest.seen)) {
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

// expected is what a request of the route will cost. What is in flight for longer
// than it should be is an outlier like others, however long that goes on.
func (c *costs) expected(r *route, now time.Time) time.Duration {
	return seconds(c.estimate(r, 2, outlierFactor*r.mean, now))
}

// slow reports whether the route would stall the others if it had all slots. The
// age of a request in flight says at once that it costs at least that much;
// completions would say it too late. One that hangs is an accident; a second one
// beside it, or just before, is not.
func (c *costs) slow(r *route, now time.Time) bool {
	cost := c.estimate(r, 1, math.Inf(1), now)
	return cost > slowFloor.Seconds() && c.typical > 0 && cost > slowFactor*c.typical
}

// estimate is the mean of the service times, in seconds. Requests in flight for
// longer than an outlier count by their age, most at the most, and then as many as
// doubt of the largest are doubted. The age of the first request of a route is all
// that is known of it.
func (c *costs) estimate(r *route, doubt int, most float64, now time.Time) float64 {
	switch oldest := r.running.oldest; {
	case r.declared > 0:
		return r.declared.Seconds()
	case r.answers.n == 0 && oldest == nil:
		return c.typical
	case r.answers.n == 0:
		return max(c.typical, now.Sub(oldest.granted).Seconds())
	case oldest == nil || now.Sub(oldest.granted).Seconds() <= outlierFactor*r.mean:
		return r.mean
	}
	all, stuck := r.answers, false
	for s := r.running.oldest; s != nil && all.n < 2*recentMost; s = s.next {
		age := c.age(s, c.done).Seconds()
		if age <= outlierFactor*r.mean {
			break
		}
		all.add(min(age, most))
		stuck = true
	}
	if !stuck {
		return r.mean
	}
	return all.mean(doubt)
}

// age is how long s has been in flight at a time, less the time in which nothing
// was answered: a machine that stands still says nothing about one route.
func (c *costs) age(s *Slot, at time.Time) time.Duration {
	return at.Sub(s.granted) - max(0, c.still-s.still)
}

// sent notes what age needs.
func (c *costs) sent(s *Slot) {
	s.still = c.still
	if s.granted.After(c.done) && !c.done.IsZero() {
		s.still += s.granted.Sub(c.done) // it is there for the rest of this pause only
	}
}

// quiet is how long a pause between answers is a sign of nothing, in seconds.
func (c *costs) quiet() float64 { return max(slowFloor.Seconds(), slowFactor*c.typical) }

// learn takes in one service time. Of the outliers that stood still together the
// first counts, which ends their pause: a stall of the machine is one accident,
// not one for each request that was in flight.
func (c *costs) learn(s *Slot, took time.Duration, now time.Time) {
	r, x := s.route, took.Seconds()
	outlier := outlierFactor * r.mean
	if r.answers.n == 0 || x <= outlier || c.age(s, now).Seconds() > outlier {
		r.learn(x)
	}
	r.seen = now
	if pause := now.Sub(c.done); !c.done.IsZero() && pause.Seconds() > c.quiet() {
		c.still += pause
	}
	c.done = now
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

func (r *route) learn(x float64) {
	r.recent[r.place] = x
	r.place = (r.place + 1) % recentMost
	known := min(r.answers.n+1, recentMost)
	r.answers = sample{}
	for _, x := range r.recent[:known] {
		r.answers.add(x)
	}
	r.mean = r.answers.mean(2)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
