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
// callers of Admit; besides them there is at most one timer.
package admission

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// Why a request was refused: Admit returns a *Refusal that wraps one of these, or
// the context's own error.
var (
	// ErrFull: Depth requests are waiting already.
	ErrFull = errors.New("queue is full")
	// ErrWait: no slot came free before the deadline, or none will.
	ErrWait = errors.New("no slot comes free in time")
	// ErrShed: it was dropped from a queue that does not go away.
	ErrShed = errors.New("dropped from a standing queue")
	// ErrExcess: the queue is full of this client's own requests.
	ErrExcess = errors.New("too many requests of one client")
	// ErrHeld: no upstream became ready within Hold.
	ErrHeld = errors.New("no upstream is ready")
)

// Refusal says why, and what the queue looked like.
type Refusal struct {
	Reason error
	Wait   time.Duration // how long the queue of now will take; 0: nobody knows
	Ahead  int           // requests that wait
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("admission: refused: %v (%d wait, for about %v)", r.Reason, r.Ahead, r.Wait)
}

func (r *Refusal) Unwrap() error { return r.Reason }

// Config is what may change while the queue runs. The zero value of a field
// means its default.
type Config struct {
	// Limit is the most slots out at once at one upstream. Default: learned,
	// from 4 on.
	Limit int
	// Wait is the longest time in the queue. Default 5s: a person still waits,
	// a retry storm has passed. Negative: refuse at once when no slot is free.
	Wait time.Duration
	// Depth is the most requests waiting. Default max(100, 10 x the limits of
	// all upstreams together): longer queues are refused by time anyway.
	Depth int
	// Hold is the longest time a request waits while no upstream is ready.
	// Default 30s: an application that restarts takes seconds. Negative: refuse
	// at once.
	Hold time.Duration
	// Classes, at least one in the end; the first is for requests of unknown
	// class. Default: one.
	Classes []Class
}

// Class is an importance group: while classes wait for each other they get
// slots in proportion to their weights.
type Class struct {
	Name   string
	Weight int           // >= 1
	Wait   time.Duration // 0: Config.Wait; negative: as there
}

// Defaults of Config, in one place for everybody who must know them.
const (
	DefaultLimit = 4
	DefaultWait  = 5 * time.Second
	DefaultHold  = 30 * time.Second
	minDepth     = 100
	depthPerSlot = 10
)

func (c Config) withDefaults() Config {
	if c.Wait == 0 {
		c.Wait = DefaultWait
	}
	if c.Hold == 0 {
		c.Hold = DefaultHold
	}
	if len(c.Classes) == 0 {
		c.Classes = []Class{{Weight: 1}}
	}
	return c
}

// Target is one upstream as the configuration or the resolver names it.
type Target struct {
	Key   string // address; unique in a pool
	Limit int    // 0: Config.Limit
}

// Ask is what one request wants.
type Ask struct {
	Class  string        // name of its class
	Client string        // between whom the class is fair; all the same: first come first served
	Route  string        // template by which the cost is learned; few
	Cost   time.Duration // declared by the operator; 0: learned
	Wait   time.Duration // longest time in the queue; 0: the class's; negative: not at all
	Own    time.Duration // the client's own patience, from arrival on; 0: it did not say
	Since  time.Time     // proven time of an earlier arrival; zero: none

	// Upstream asks for a slot of this upstream and no other, ready or not: a
	// probe or a dial that finds out whether it is ready. It goes ahead of
	// everybody, one at a time and for a tenth of a slot's time; beyond that, after
	// the requests. Neither Depth nor Wait applies; the context alone ends the wait.
	Upstream string

	// Choose picks one of the candidates' keys; nil means the one with the
	// smallest share of its limit in use. It is called with the queue's lock
	// held, perhaps on another goroutine, and must neither block nor call the
	// queue. An answer that is no candidate counts as nil.
	Choose func(candidates []string) string
	// Sticky makes Choose choose once, among the ready upstreams, when the
	// request arrives, and the request then waits for a slot of that upstream.
	// Otherwise Choose chooses among those with a free slot, at the last moment.
	Sticky bool

	// Again is the slot that an attempt was made with before this one. The
	// request keeps its place: it is older than whoever came since.
	Again *Slot
}

// Queue is the one waiting line of a pool and the count of its slots.
type Queue struct {
	mu        sync.Mutex
	cfg       Config        // mu
	upstreams []*upstream   // mu; as configured; those taken away stay until their last slot is back
	line      line          // mu; who waits for any upstream
	holding   ticketList    // mu; who came while the pool was held; they go before line
	waiting   int           // mu; tickets of requests, everywhere; <= depth
	work      time.Duration // mu; expected cost of those that are not held
	crowd     crowd         // mu; the clients that wait
	seq       uint64        // mu; numbers arrivals
	spare     []*ticket     // mu; for who comes next; <= maxSpare
	held      bool          // mu; no upstream is ready
	released  time.Time     // mu; when held ended last
	turn      int           // mu; where ties among upstreams begin
	waking    bool          // mu; a timer will dispatch

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
	cap     int // what the application said of itself; 0: nothing
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

// limit is the most slots out at once, now.
func (u *upstream) limit() int {
	n := u.base()
	if u.cap > 0 {
		n = min(n, u.cap)
	}
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
	for _, t := range waiting {
		t.stuck = nil
		q.placeLocked(t)
		q.rearmLocked(t) // the durations may be others now
	}
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
	q.mu.Lock()
	t, slot, err := q.arriveLocked(ask)
	q.mu.Unlock()
	if t == nil {
		return slot, err
	}
	defer q.forget(t)

	for {
		select {
		case <-t.done:
			return t.slot, t.err
		case <-ctx.Done():
			return nil, q.leave(t, ctx.Err())
		case <-t.timer.C:
			q.expire(t) // ends t, or sets the timer anew
		}
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
	if ask.Again != nil {
		t.at, t.seq = ask.Again.at, ask.Again.seq
	}
	if ask.Upstream != "" {
		u := q.findLocked(ask.Upstream)
		switch {
		case u == nil:
			return false, nil, fmt.Errorf("admission: no upstream %q", ask.Upstream)
		case u.ahead.n == 0 && u.used < max(1, u.limit()):
			return false, q.claimLocked(u, t, now), nil
		}
		t.queue(math.MaxInt64)
		u.ahead.insert(t)
		return true, nil, nil
	}

	t.route = q.costs.of(ask.Route, ask.Cost, now)
	t.cost = q.costs.expected(t.route, now)
	slow := q.costs.slow(t.route, now)
	if !slow {
		q.slow.came(t.route, t.cost, now)
	}
	q.stickLocked(t)
	// With equal rights a free slot means that nobody who could use it waits,
	// for every slot that comes free is dispatched.
	if u := q.freeLocked(t); u != nil && (!slow || q.slowMayLocked(t.route, now)) {
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
	t.queue(until.Sub(now))
	q.waiting++
	q.placeLocked(t)
	q.observeLocked(now)
	q.wakeLocked()
	return true, nil, nil
}

// queue makes t ready to wait for at most d.
func (t *ticket) queue(d time.Duration) {
	if t.timer == nil {
		t.done = make(chan struct{}, 1)
		t.timer = time.NewTimer(d)
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

// expire refuses t if its deadline has passed: it may have moved while the timer
// was on its way.
func (q *Queue) expire(t *ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case t.slot != nil || t.err != nil:
	case time.Until(q.deadlineLocked(t)) > 0:
		q.rearmLocked(t)
	default:
		q.loseLocked(t, q.deadlineLocked(t))
		q.refuseLocked(t, q.lateLocked())
	}
}

// loseLocked notes that t waits until then and no longer. Where more than
// DefaultWait was promised, people are expected to be patient: the queue is not
// too long for those who leave before a tenth of the rest.
func (q *Queue) loseLocked(t *ticket, until time.Time) {
	if patience := until.Sub(q.sinceLocked(t)); patience >= (q.waitOf(t)-DefaultWait)/10 {
		q.lost++
	}
}

// sinceLocked is when the clock of Wait began for t.
func (q *Queue) sinceLocked(t *ticket) time.Time {
	if q.released.After(t.at) {
		return q.released
	}
	return t.at
}

// deadlineLocked is when t is refused. While the pool is held the clock of Hold
// runs from the arrival; when it is released the clock of Wait starts.
func (q *Queue) deadlineLocked(t *ticket) time.Time {
	var until time.Time
	if q.held {
		until = t.at.Add(q.cfg.Hold)
	} else {
		until = q.sinceLocked(t).Add(q.waitOf(t))
	}
	if own := t.at.Add(t.ask.Own); t.ask.Own > 0 && own.Before(until) {
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

// lateLocked is the reason for refusing a request whose time is over.
func (q *Queue) lateLocked() error {
	if q.held {
		return ErrHeld
	}
	return ErrWait
}

func (q *Queue) refusalLocked(reason error) *Refusal {
	switch reason {
	case ErrFull:
		q.counts.Full++
		q.lost++
	case ErrWait:
		q.counts.Wait++
	case ErrShed:
		q.counts.Shed++
	case ErrExcess:
		q.counts.Excess++
		q.lost++
	case ErrHeld:
		q.counts.Held++
	}
	r := &Refusal{Reason: reason, Ahead: q.waiting}
	if slots := q.limitLocked(); slots > 0 && !q.held {
		r.Wait = q.work / time.Duration(slots)
	}
	return r
}

// refuseLocked ends the wait of t.
func (q *Queue) refuseLocked(t *ticket, reason error) {
	q.takeLocked(t)
	t.err = q.refusalLocked(reason)
	t.end()
}

// predictLocked is how long t would wait: the work that is queued ahead of it,
// divided by what the slots do. A slot does a second of service time a second,
// so no rate has to be measured. Under fair queueing nobody has more ahead than
// his own requests, once for each that shares with him.
func (q *Queue) predictLocked(t *ticket, slow bool, now time.Time) time.Duration {
	slots := q.limitLocked()
	if slots == 0 {
		return 0
	}
	if slow {
		ahead := min(q.line.slow.work, q.line.slow.ahead(t, false))
		if r := t.route.running.oldest; r != nil {
			ahead += max(0, t.cost-now.Sub(r.granted))
		}
		if slots == 1 {
			return time.Duration(float64(ahead) / slowShare)
		}
		return ahead / time.Duration(max(1, slots-q.reserveLocked(t.route, slots, now)))
	}
	return min(q.fastWorkLocked(), q.line.fast.ahead(t, q.standing.on)) / time.Duration(slots)
}

// fastWorkLocked is the queued work that no gate keeps back.
func (q *Queue) fastWorkLocked() time.Duration { return q.work - q.line.slow.work }

// makeRoomLocked drops one from the client that has the most queued, so that t
// may wait; when that client is t's own, or nobody's order counts, t is refused.
func (q *Queue) makeRoomLocked(t *ticket) *Refusal {
	c := q.crowd.heaviest()
	if c == nil { // all of them are held: first come, first served
		return q.refusalLocked(ErrFull)
	}
	own := c.key == t.key() && c.class.name == t.ask.Class
	if c.key == returning {
		// Their order is a promise: who came last among them goes, and only while
		// they have more than the half of their class.
		last := c.tickets.newest
		if own && !t.before(last) {
			return q.refusalLocked(ErrFull)
		}
		q.refuseLocked(last, ErrFull)
		return nil
	}
	reason := ErrFull
	if n := len(q.crowd.heavy); n > 1 && c.tickets.n > 2*q.waiting/n {
		reason = ErrExcess
	}
	switch {
	case q.standing.on:
		q.refuseLocked(c.tickets.oldest, reason) // the likeliest to be gone
	case own:
		return q.refusalLocked(reason)
	default:
		q.refuseLocked(c.tickets.newest, reason)
	}
	return nil
}

// placeLocked puts t where it waits.
func (q *Queue) placeLocked(t *ticket) {
	if q.held {
		t.held = true
		q.holding.insert(t)
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

// unplaceLocked takes t from where it waits.
func (q *Queue) unplaceLocked(t *ticket) {
	switch {
	case t.held:
		q.holding.remove(t)
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
		t.held = true
		q.holding.insert(t)
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
