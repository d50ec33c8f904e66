// Package admission decides which request may go now, and to which upstream.
//
// Always: an upstream never has more slots out than its limit, whatever
// departures, timeouts, retries, probes or reloads do; a ticket is granted at
// most once; a ticket that is cancelled after it was granted gives its slot
// back; a slot that is given back goes to whoever is next. Picking an upstream
// and claiming its slot is one step under one lock, or two requests would pick
// the same last slot. No request waits beyond its deadline: that is what
// "nobody starves" means here.
//
// Safe for concurrent use. It does not know HTTP. All waiting is done by the
// callers of Admit; besides them there is a timer for each, and one more.
package admission

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Queue is the one waiting line of a pool and the count of its slots.
type Queue struct {
	mu          sync.Mutex
	cfg         Config        // mu
	upstreams   []*upstream   // mu; as configured; those taken away stay until their last slot is back
	line        line          // mu; who waits for any upstream
	holding     ticketList    // mu; who came while the pool was held; they go before line
	waiting     int           // mu; tickets of requests, everywhere; <= depth
	crowded     atomic.Bool   // changed under mu: waiting > 0
	work        time.Duration // mu; expected cost of those that are not held
	heldWork    time.Duration // mu; expected cost of the held
	uses        []*use        // mu; of cfg.Classes
	halfUsed    int           // mu; slots out for classes that may have half of them
	halfWaiting int           // mu; of waiting, theirs
	crowd       crowd         // mu; the clients that wait
	places      places        // mu; of the returning that wait
	seq         uint64        // mu; numbers arrivals
	spare       []*ticket     // mu; for who comes next; <= maxSpare
	held        bool          // mu; no upstream is ready
	released    time.Time     // mu; when held ended last
	turn        int           // mu; where ties among upstreams begin
	waking      bool          // mu; a timer will dispatch
	granted     []*ticket     // mu; by the dispatch that runs; they are to be told

	costs    costs    // mu
	standing standing // mu
	slow     slowGate // mu
	rate     meter    // mu; slots given back per second
	counts   Counts   // mu
	lost     uint64   // mu; requests that were refused or left as the queue was too long for them
}

// line is who waits for one and the same: for any upstream, or, sticky, for one.
type line struct {
	fast *order
	slow *order // those whose route is slow, while it may not go
}

func newLine(classes []Class) line {
	return line{fast: newOrder(classes), slow: newOrder(classes)}
}

// upstream is one address and its slots.
type upstream struct {
	key     string
	fixed   int // configured limit; 0: learned
	learned learner
	cap     int // of a configured limit, as the application said it; 0: it did not
	ramp    int // after it was held: the limit for now; 0: none
	used    int // > limit only after a lowering
	ready   bool
	drained bool        // the application asked for no more requests
	undrain *time.Timer // ends drained; nil: it never asked
	gone    bool        // no longer configured
	ahead   ticketList  // asks for this very upstream, ready or not
	line    line        // sticky requests that wait for this one

	probes    int       // of used: who asked for this very upstream
	probeNext time.Time // none goes before requests until then
}

// base is the configured limit, or else the learned one.
func (u *upstream) base() int {
	if u.fixed > 0 {
		return u.fixed
	}
	return u.learned.limit
}

// whole is the most slots out at once when it has climbed to it.
func (u *upstream) whole() int {
	n := u.learned.most()
	if u.fixed > 0 {
		n = u.learned.part.of(u.fixed)
	}
	if u.cap > 0 {
		n = min(n, u.cap)
	}
	return n
}

// limit is the most slots out at once, now.
func (u *upstream) limit() int {
	n := u.whole()
	if u.ramp > 0 {
		n = min(n, u.ramp)
	}
	return n
}

// fit reports whether u takes requests at all, open whether it takes one now.
func (u *upstream) fit() bool  { return u.ready && !u.drained && !u.gone }
func (u *upstream) open() bool { return u.fit() && u.used < u.limit() }

// New makes an empty queue. Until Apply names its upstreams it is held.
func New() *Queue {
	q := &Queue{cfg: Config{}.withDefaults(), held: true}
	q.line = newLine(q.cfg.Classes)
	q.usesLocked()
	return q
}

// Apply sets the configuration and the upstreams. An upstream that is new is
// ready; one that was there keeps its slots, what was learned of it and whether
// it is ready; one that is no longer named gets no new requests. Whoever waits
// goes on waiting.
func (q *Queue) Apply(cfg Config, targets []Target) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cfg = cfg.withDefaults()
	q.usesLocked()
	waiting := q.emptyLocked()

	known := make(map[string]*upstream, len(q.upstreams))
	for _, u := range q.upstreams {
		known[u.key] = u
		u.gone = true
	}
	next := make([]*upstream, 0, len(targets))
	for _, t := range targets {
		u := known[t.Key]
		switch {
		case u == nil:
			u = &upstream{key: t.Key, ready: true, learned: newLearner()}
			known[t.Key] = u
		case !u.gone:
			continue // named twice
		}
		u.gone = false
		u.fixed = t.Limit
		if u.fixed < 1 {
			u.fixed = q.cfg.Limit
		}
		next = append(next, u)
	}
	for _, u := range q.upstreams {
		if u.gone && (u.used > 0 || u.ahead.n > 0) {
			next = append(next, u)
		}
	}
	q.upstreams = next
	q.line = newLine(q.cfg.Classes)
	for _, u := range q.upstreams {
		u.line = newLine(q.cfg.Classes)
	}
	q.readinessLocked()
	q.replaceLocked(waiting)
	q.dispatchLocked(time.Now())
}

// SetReady says whether requests may go to the upstream. Slots that are out
// stay out.
func (q *Queue) SetReady(key string, ready bool) {
	q.change(key, func(u *upstream) bool {
		was := u.ready
		u.ready = ready
		return was != ready
	})
}

// change lets f change an upstream's fitness and deals with what follows.
func (q *Queue) change(key string, f func(*upstream) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.findLocked(key)
	if u == nil || !f(u) {
		return
	}
	if !u.fit() {
		// Who was bound to it is bound anew.
		for _, o := range []*order{u.line.fast, u.line.slow} {
			for t := o.next(false); t != nil; t = o.next(false) {
				q.unplaceLocked(t)
				t.stuck = nil
				q.placeLocked(t)
			}
		}
	}
	q.readinessLocked()
	q.dispatchLocked(time.Now())
}

// Admit waits for a slot. It returns the context's error when ctx ends first
// and a *Refusal when the request is refused. The caller must give the slot
// back.
func (q *Queue) Admit(ctx context.Context, ask Ask) (*Slot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t, slot, err := q.arrive(ask)
	if t == nil {
		return slot, err
	}
	defer q.forget(t)

	select {
	case <-t.done:
		return t.slot, t.err
	case <-ctx.Done():
		return nil, q.leave(t, ctx.Err())
	}
}

// maxSpare bounds the tickets that are kept for who comes next, with their timers
// and channels: in an overload every request that comes sends one away.
const maxSpare = 128

// forget ends a ticket that nobody waits with any more.
func (q *Queue) forget(t *ticket) {
	t.timer.Stop()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spareLocked(t)
}

func (q *Queue) spareLocked(t *ticket) {
	if len(q.spare) < maxSpare {
		*t = ticket{done: t.done, timer: t.timer}
		q.spare = append(q.spare, t)
	}
}

func (q *Queue) ticketLocked() *ticket {
	last := len(q.spare) - 1
	if last < 0 {
		return new(ticket)
	}
	t := q.spare[last]
	q.spare = q.spare[:last]
	return t
}

func (q *Queue) arrive(ask Ask) (*ticket, *Slot, error) {
	q.mu.Lock()
	defer q.mu.Unlock() // also when a selection policy panics
	return q.arriveLocked(ask)
}

// arriveLocked grants at once, refuses at once (ticket nil), or queues.
func (q *Queue) arriveLocked(ask Ask) (*ticket, *Slot, error) {
	t := q.ticketLocked()
	waits, slot, err := q.enterLocked(t, ask)
	if !waits {
		q.spareLocked(t)
		return nil, slot, err
	}
	return t, nil, nil
}

// enterLocked is arriveLocked for a ticket that is empty.
func (q *Queue) enterLocked(t *ticket, ask Ask) (waits bool, slot *Slot, err error) {
	now := time.Now()
	t.ask, t.at, t.seq = ask, now, q.seq
	q.seq++
	if s := ask.Again; s != nil {
		t.past, t.seq, t.waited, t.queued = s.past+now.Sub(s.granted), s.seq, s.waited, s.queued
	}
	q.places.prove(&t.ask)
	if ask.Upstream != "" {
		u := q.findLocked(ask.Upstream)
		switch {
		case u == nil:
			return false, nil, fmt.Errorf("admission: no upstream %q", ask.Upstream)
		case u.ahead.n == 0 && u.used < max(1, u.limit()):
			return false, q.claimLocked(u, t, now), nil
		}
		q.queueLocked(t, math.MaxInt64)
		u.ahead.insert(t)
		return true, nil, nil
	}

	t.use = q.useLocked(ask.Class)
	t.half = t.use.half && t.use.name == ask.Class
	t.route = q.costs.of(ask.Route, ask.Cost, now)
	t.cost = q.costs.expected(t.route, now)
	slow := q.costs.slow(t.route, now)
	if !slow {
		q.slow.came(t.route, t.cost, now)
	}
	q.stickLocked(t)
	// With equal rights a free slot means that nobody who could use it waits,
	// for every slot that comes free is dispatched.
	if u := q.freeLocked(t); u != nil && q.mayLocked(t.route, now) {
		return false, q.claimLocked(u, t, now), nil
	}

	until := q.deadlineLocked(t)
	if !now.Before(until) {
		q.loseLocked(t, until)
		return false, nil, q.refusalLocked(q.lateLocked())
	}
	if !q.held {
		if wait := q.predictLocked(t, slow, now); now.Add(wait).After(until) {
			q.loseLocked(t, until)
			r := q.refusalLocked(ErrWait)
			r.Wait = wait
			return false, nil, r
		}
	}
	// Who has been let in once is not turned away for the length of the queue.
	if ask.Again == nil && q.waiting >= q.depthLocked() {
		if r := q.makeRoomLocked(t); r != nil {
			return false, nil, r
		}
	}
	q.queueLocked(t, until.Sub(now))
	q.waiting++
	t.route.waiting++
	q.crowded.Store(true)
	if t.half {
		q.halfWaiting++
	}
	q.places.take(t)
	q.placeLocked(t)
	q.observeLocked(now)
	q.wakeLocked()
	return true, nil, nil
}

// queueLocked makes t ready to wait for at most d. A timer without a channel of its
// own is a quarter of a kilobyte less for each who waits.
func (q *Queue) queueLocked(t *ticket, d time.Duration) {
	t.waits = true
	if t.timer == nil {
		t.done = make(chan struct{}, 1)
		t.timer = time.AfterFunc(d, func() { q.expire(t) })
		return
	}
	t.timer.Reset(d)
}

// leave ends the wait of t because its caller is gone, for the reason err, unless
// it was refused meanwhile.
func (q *Queue) leave(t *ticket, err error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts.Left++
	switch {
	case t.slot != nil:
		<-t.done
		q.giveBackLocked(t.slot, 0)
		return err
	case t.err != nil:
		<-t.done
		return t.err
	}
	if t.ask.Upstream == "" {
		q.loseLocked(t, time.Now())
	}
	q.takeLocked(t)
	return err
}

// expire refuses t if its deadline has passed. It may have moved while the timer was
// on its way, or t has ended, or waits for somebody else by now.
func (q *Queue) expire(t *ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !t.waits:
	case time.Until(q.deadlineLocked(t)) > 0:
		q.rearmLocked(t)
	default:
		q.loseLocked(t, q.deadlineLocked(t))
		q.refuseLocked(t, q.lateLocked())
	}
}

// sinceLocked is when the clock of Wait began for t. It stood still during other
// attempts.
func (q *Queue) sinceLocked(t *ticket) time.Time {
	since := t.at
	if q.released.After(since) {
		since = q.released
	}
	return since.Add(-t.waited)
}

// deadlineLocked is when t is refused. While the pool is held the clock of Hold
// runs from the arrival; when it is released the clock of Wait starts.
func (q *Queue) deadlineLocked(t *ticket) time.Time {
	var until time.Time
	if q.held {
		until = t.at.Add(q.cfg.Hold - t.queued)
	} else {
		until = q.sinceLocked(t).Add(q.waitOf(t))
	}
	if own := t.at.Add(t.ask.Own - t.past); t.ask.Own > 0 && own.Before(until) {
		return own
	}
	return until
}

func (q *Queue) waitOf(t *ticket) time.Duration {
	if t.ask.Wait != 0 {
		return t.ask.Wait
	}
	for _, c := range q.cfg.Classes {
		if c.Name == t.ask.Class && c.Wait != 0 {
			return c.Wait
		}
	}
	return q.cfg.Wait
}

// readinessLocked notices that the pool begins or ceases to be held. The held
// keep their order, go before all who come after them, and go to a limit that
// grows with their answers: an application that has just started is not met by
// the whole queue at once.
func (q *Queue) readinessLocked() {
	held := true
	for _, u := range q.upstreams {
		held = held && !u.fit()
	}
	if held == q.held {
		return
	}
	waiting := q.emptyLocked()
	q.held = held
	q.standing = standing{}
	if !held {
		q.released = time.Now()
		for _, u := range q.upstreams {
			u.ramp = min(1, len(waiting))
		}
	}
	for _, t := range waiting {
		q.holdLocked(t, q.holding.newest)
		q.rearmLocked(t)
	}
}

// rearmLocked sets t's timer to its deadline.
func (q *Queue) rearmLocked(t *ticket) {
	t.timer.Reset(max(0, time.Until(q.deadlineLocked(t))))
}

func (q *Queue) findLocked(key string) *upstream {
	for _, u := range q.upstreams {
		if u.key == key {
			return u
		}
	}
	return nil
}

// limitLocked is the sum of the limits of the upstreams that are fit.
func (q *Queue) limitLocked() int {
	sum := 0
	for _, u := range q.upstreams {
		if u.fit() {
			sum += u.limit()
		}
	}
	return sum
}

// wholeLocked is what limitLocked will be when the upstreams have climbed.
func (q *Queue) wholeLocked() int {
	sum := 0
	for _, u := range q.upstreams {
		if u.fit() {
			sum += u.whole()
		}
	}
	return sum
}

func (q *Queue) depthLocked() int {
	if q.cfg.Depth > 0 {
		return q.cfg.Depth
	}
	return max(minDepth, depthPerSlot*q.limitLocked())
}

func (q *Queue) observeLocked(now time.Time) {
	if slots := q.limitLocked(); slots > 0 {
		q.standing.observe(now, q.fastWorkLocked()/time.Duration(slots), q.lost, q.costs.typical)
	}
}
