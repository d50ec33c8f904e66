package admission

import (
	"math"
	"time"
)

// lastPause is the longest pause between vain tries, by direction. More slots are
// tried often: workers that were added should not stand idle. Fewer, if they are
// too few, cost throughput for a window.
var lastPause = [2]time.Duration{4 * time.Second, 30 * time.Second}

// learner finds the limit of one upstream: the smallest number of requests at
// once with which the application does as much as it can.
//
// It climbs on throughput, measured while all slots were out. More slots are
// tried while each of them adds its part; fewer are tried where they seem to
// wait for each other inside the application, which costs nothing if that is so.
// A try lasts one window and is taken back if it did not pay; after a vain try
// the next in that direction waits longer. Nobody is refused for it.
//
// Looking at latency alone (Vegas, gradient) needs an idle moment to know what
// latency would be without a queue, and an application under load has none.
type learner struct {
	limit int

	// The running window.
	full  time.Duration // for how long all slots were out
	done  int           // answers meanwhile
	began time.Time     // of the window
	all   int           // answers, whether all slots were out or not
	area  float64       // seconds of service, of all requests
	peak  int           // most in flight
	last  time.Time     // when inFlight changed last

	rate    float64 // answers a second at limit, of the last window; 0: none yet
	tried   tryState
	back    int              // limit before the try
	wait    [2]time.Duration // pause after the next vain try, by direction
	next    [2]time.Time     // no try before, by direction
	alone   float64          // seconds; service time with little else in flight, of late
	another bool             // the application is another: alone tells nothing of it

	reported time.Time // the application said its limit itself
	relieved time.Time // it said that too much was asked, and got less

	part part
}

// part is how much of its limit an application wants to be used.
type part struct {
	percent int       // 0: all
	until   time.Time // all again, unless it is said again
	// A part cannot tell what the whole is good for: with three slots of four
	// nobody ever sees the fourth. So all are used while the limit is looked for,
	// once there is load for it, and again after reportHolds.
	lifted bool
	next   time.Time // not lifted before
}

// of is the part of n, at least one.
func (p *part) of(n int) int {
	if p.percent == 0 {
		return n
	}
	return max(1, n*p.percent/100)
}

// set takes in what the application says. 100 ends what it said before.
func (p *part) set(now time.Time, percent int) {
	if percent >= 100 {
		*p = part{}
		return
	}
	p.percent, p.until = percent, now.Add(reportHolds)
}

// most is how much of the limit may be used now.
func (l *learner) most() int {
	if l.part.lifted {
		return l.limit
	}
	return l.part.of(l.limit)
}

type tryState int

const (
	notTrying tryState = iota
	tryingMore
	tryingLess
)

const (
	startLimit = DefaultLimit
	maxLimit   = 1000

	// A window has so many answers or lasts so long; fewer say nothing.
	windowAnswers = 32
	windowTime    = 250 * time.Millisecond
	windowMost    = 2 * time.Second
	windowFewest  = 8

	// A slot more has paid when throughput grew by payShare of what it would
	// have grown had the slots been independent.
	payShare = 0.4
	// A slot less has cost nothing when throughput stayed within costless.
	costless = 0.97
	// Below this a try of fewer slots ends at once.
	hopeless = 0.85

	// Requests that take more than crowdedFrom times what one takes alone wait for each
	// other inside the application; those that take less than roomyTo times do not.
	crowdedFrom, roomyTo = 2, 1.5

	firstPause = time.Second

	// Another throughput at the same limit means another application.
	changed = 0.2

	// What the application said of itself holds so long.
	reportHolds = 30 * time.Second
	// It is believed once in so long that too much is asked of it: it must have
	// seen what less is like.
	reliefPause = time.Second
)

func newLearner() learner {
	return learner{limit: startLimit, wait: [2]time.Duration{firstPause, firstPause}}
}

// moved takes in a change of the number in flight from before, and whether it was
// an answer. It must be told of every change; it returns whether the limit is
// another now.
func (l *learner) moved(now time.Time, before int, answered bool) bool {
	if l.began.IsZero() {
		l.began, l.last = now, now
	}
	if l.part.percent > 0 && now.After(l.part.until) {
		l.part = part{}
	}
	if before >= l.most() {
		l.full += now.Sub(l.last)
		if answered {
			l.done++
		}
	}
	if answered {
		l.all++
	}
	l.area += float64(before) * now.Sub(l.last).Seconds()
	l.peak = max(l.peak, before)
	l.last = now
	if now.Before(l.reported.Add(reportHolds)) {
		return false
	}
	if now.Sub(l.began) >= windowMost && l.all >= windowFewest && l.full < windowTime {
		return l.close(now)
	}
	enough := l.done >= max(windowAnswers, 2*l.limit) && l.full >= windowTime ||
		l.done >= windowFewest && l.full >= windowMost
	if l.tried == tryingLess && l.done >= windowFewest && float64(l.done) < hopeless*l.rate*l.full.Seconds() {
		enough = true // it costs something: no need to know how much
	}
	if !enough {
		return false
	}
	rate := float64(l.done) / l.full.Seconds()
	l.window(now)
	was := l.most()
	if l.part.percent > 0 && !l.part.lifted {
		l.lift(now)
	} else {
		l.judge(now, rate)
	}
	return l.most() != was
}

// lift lets all slots be used, of which only a part was, to see what they are good
// for. Whatever was measured with a part is no measure for the whole.
func (l *learner) lift(now time.Time) {
	if now.Before(l.part.next) {
		return
	}
	l.part.lifted = true
	l.tried, l.rate, l.next = notTrying, 0, [2]time.Time{}
}

// found notes that no more slots are needed.
func (l *learner) found(now time.Time) {
	l.part.lifted, l.part.next = false, now.Add(reportHolds)
}

func (l *learner) window(now time.Time) {
	l.full, l.done, l.all, l.area, l.peak, l.began = 0, 0, 0, 0, 0, now
}

// close ends a window in which the slots were not all out. Nothing is learned of
// the limit, unless the requests waited for each other all the same: then the
// limit is more than anybody uses and would stay so.
func (l *learner) close(now time.Time) bool {
	crowded := l.alone > 0 && l.area/float64(l.all) > crowdedFrom*l.alone && l.peak < l.most()
	if crowded {
		l.limit, l.tried, l.rate = max(1, l.peak), notTrying, 0
	}
	l.part.lifted = false // there is no load to learn from
	l.window(now)
	return crowded
}

// served takes in a service time that was measured beside so many others. With few
// of them, and a slot free, it is what the application needs for one.
func (l *learner) served(took time.Duration, others int) {
	if others > max(1, l.limit/4) || others > 0 && others >= l.limit-1 {
		return
	}
	if x := took.Seconds(); l.alone == 0 || l.another || x < l.alone {
		l.alone, l.another = x, false
	} else {
		l.alone += (x - l.alone) / 16
	}
}

func (l *learner) judge(now time.Time, rate float64) {
	switch l.tried {
	case tryingMore:
		grown, hoped := rate/l.rate-1, float64(l.limit)/float64(l.back)-1
		switch {
		case grown >= payShare*hoped:
			l.keep(rate)
		case grown > 1-costless && l.limit-l.back > 1:
			// The knee is between the two: as many as had room.
			l.limit = min(l.limit, l.back+max(1, int(math.Ceil(float64(l.back)*grown))))
			l.keep(0)
			l.vain(now, 0)
		default:
			l.limit = l.back
			l.tried = notTrying
			l.vain(now, 0)
		}
		return
	case tryingLess:
		if rate >= costless*l.rate {
			l.keep(max(rate, costless*l.rate))
		} else {
			l.limit = l.back
			l.tried = notTrying
			l.vain(now, 1)
		}
		return
	}
	if l.rate > 0 && math.Abs(rate/l.rate-1) > changed {
		l.wait, l.next = [2]time.Duration{firstPause, firstPause}, [2]time.Time{}
		l.another = true
	}
	l.rate = rate
	l.try(now)
}

// keep makes the try the state; rate 0 means that it must be measured first.
func (l *learner) keep(rate float64) {
	which := 0
	if l.tried == tryingLess {
		which = 1
	}
	l.wait[which] = firstPause
	l.tried, l.rate = notTrying, rate
}

func (l *learner) vain(now time.Time, which int) {
	if which == 0 {
		l.found(now)
	}
	l.next[which] = now.Add(l.wait[which])
	l.wait[which] = min(2*l.wait[which], lastPause[which])
}

// try begins the next try, if it is time for one.
func (l *learner) try(now time.Time) {
	slowdown := l.slowdown()
	more := !now.Before(l.next[0]) && l.limit < maxLimit
	less := !now.Before(l.next[1]) && l.limit > 1
	switch {
	case less && (slowdown > crowdedFrom || !more && slowdown >= roomyTo):
		l.begin(tryingLess, l.limit-l.step(1))
	case l.limit == maxLimit:
		l.found(now)
	case more:
		l.begin(tryingMore, min(maxLimit, l.limit+l.step(0)))
	}
}

// slowdown is how many times longer a request takes now, by Little's law, than one
// takes alone. Where it is less than roomyTo nobody tries fewer slots: of two one is
// half, and whoever came meanwhile would wait for the try. Where nobody knows what one
// takes alone it is roomyTo.
func (l *learner) slowdown() float64 {
	if l.alone == 0 {
		return roomyTo
	}
	return float64(l.limit) / l.rate / l.alone
}

// step is half the limit while the last try in this direction has paid.
func (l *learner) step(which int) int {
	if l.wait[which] == firstPause {
		return max(1, l.limit/2)
	}
	return max(1, l.limit/8)
}

func (l *learner) begin(try tryState, limit int) {
	l.back, l.limit, l.tried = l.limit, limit, try
}

// relieve takes in that the application has utilization times as much to do as it
// can, with used in flight, one of them since sent. The next to say so must have
// been sent to the new limit, or all that are in flight would be believed, each
// with less. To the nearest number: of four slots one is no twentieth.
func (l *learner) relieve(now, sent time.Time, used int, utilization float64) {
	if now.Before(l.relieved.Add(reliefPause)) || !sent.After(l.relieved) {
		return
	}
	most := min(l.limit, max(l.peak, used))
	l.report(now, int(math.Round(float64(most)/utilization)))
	l.relieved = now
}

// report sets what the application says of itself.
func (l *learner) report(now time.Time, limit int) {
	l.limit, l.reported, l.tried, l.rate = min(max(limit, 1), maxLimit), now, notTrying, 0
	l.window(now)
}
