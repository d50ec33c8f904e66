// Package admission decides which request may go now, and to which upstream.
//
// Always: an upstream never has more slots out than its limit, whatever
// departures, timeouts, retries, probes or reloads do; a ticket is granted at
// most once; a ticket that is cancelled after it was granted gives its slot
// back; a slot that is given back goes to the oldest ticket that may use it.
// Picking an upstream and claiming its slot is one step under one lock, or two
// requests would pick the same last slot.
//
// Safe for concurrent use. It does not know HTTP, and it starts no goroutine:
// all waiting is done by the callers of Admit.
package admission

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// Why a request was refused. Every error that Admit returns wraps one of these
// or is the context's own.
var (
	// ErrFull: Depth requests are waiting already.
	ErrFull = errors.New("queue is full")
	// ErrWait: no slot came free within Wait.
	ErrWait = errors.New("no slot came free in time")
	// ErrHeld: no upstream was ready within Hold.
	ErrHeld = errors.New("no upstream became ready in time")
)

// Config is what may change while the queue runs. The zero value of a field
// means its default.
type Config struct {
	// Limit is the most slots out at once at one upstream. Default 4: a number
	// that a small application survives and that still hides its waits on a
	// database.
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
	if c.Limit < 1 {
		c.Limit = DefaultLimit
	}
	if c.Wait == 0 {
		c.Wait = DefaultWait
	}
	if c.Hold == 0 {
		c.Hold = DefaultHold
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
	// Upstream asks for a slot of this upstream and no other, ready or not, and
	// ahead of everybody: a probe or a dial that finds out whether it is ready.
	// Neither Depth nor Wait applies; the context alone ends the wait.
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
	cfg       Config      // mu
	upstreams []*upstream // mu; as configured; those taken away stay until their last slot is back
	tickets   ticketHeap  // mu; who waits for any upstream
	waiting   int         // mu; tickets of requests, here and in upstreams; <= depth
	seq       uint64      // mu; numbers arrivals
	held      bool        // mu; no upstream is ready
	released  time.Time   // mu; when held ended last
	rate      meter       // mu; slots given back per second
	turn      int         // mu; where ties among upstreams begin
	counts    Counts      // mu
}

// upstream is one address and its slots.
type upstream struct {
	key     string
	limit   int
	used    int // > limit only after a lowering
	ready   bool
	gone    bool       // no longer configured
	ahead   ticketHeap // asks for this very upstream, ready or not
	tickets ticketHeap // sticky requests that wait for this one
}

// Counts add up since the queue was made.
type Counts struct {
	Granted uint64 // slots given out to requests
	Full    uint64 // refused with ErrFull
	Wait    uint64 // refused with ErrWait
	Held    uint64 // refused with ErrHeld
	Left    uint64 // left while waiting
}

// New makes an empty queue. Until Apply names its upstreams it is held.
func New() *Queue {
	return &Queue{cfg: Config{}.withDefaults(), held: true}
}

// Apply sets the configuration and the upstreams. An upstream that is new is
// ready; one that was there keeps its slots and whether it is ready; one that
// is no longer named gets no new requests. Whoever waits goes on waiting.
func (q *Queue) Apply(cfg Config, targets []Target) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cfg = cfg.withDefaults()

	var orphans []*ticket
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
			u = &upstream{key: t.Key, ready: true}
			known[t.Key] = u
		case !u.gone:
			continue // named twice
		}
		u.gone = false
		u.limit = t.Limit
		if u.limit < 1 {
			u.limit = q.cfg.Limit
		}
		next = append(next, u)
	}
	for _, u := range q.upstreams {
		if u.gone {
			orphans = append(orphans, u.tickets.all()...)
			u.tickets = nil
			if u.used > 0 || len(u.ahead) > 0 {
				next = append(next, u)
			}
		}
	}
	q.upstreams = next
	q.rehomeLocked(orphans)
	q.readinessLocked()
	q.rearmLocked() // the durations may be others now
	q.dispatchLocked()
}

// SetReady says whether requests may go to the upstream. Slots that are out
// stay out.
func (q *Queue) SetReady(key string, ready bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.findLocked(key)
	if u == nil || u.ready == ready {
		return
	}
	u.ready = ready
	if !ready {
		orphans := u.tickets.all()
		u.tickets = nil
		q.rehomeLocked(orphans)
	}
	q.readinessLocked()
	q.dispatchLocked()
}

// Admit waits for a slot. It returns the context's error when ctx ends first
// and one of ErrFull, ErrWait, ErrHeld when the request is refused. The caller
// must give the slot back.
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
	defer t.timer.Stop()

	for {
		select {
		case <-t.granted:
			return t.slot, nil
		case <-ctx.Done():
			if err := q.leave(t, ctx.Err(), true); err != nil {
				return nil, err
			}
		case <-t.timer.C:
			// The deadline may have moved while the timer was on its way.
			if err := q.leave(t, nil, false); err != nil {
				return nil, err
			}
		}
	}
}

// arriveLocked grants at once, refuses at once (ticket nil), or queues.
func (q *Queue) arriveLocked(ask Ask) (*ticket, *Slot, error) {
	now := time.Now()
	t := &ticket{ask: ask, at: now, seq: q.seq, index: -1}
	q.seq++
	if ask.Again != nil {
		t.at, t.seq = ask.Again.at, ask.Again.seq
	}

	if ask.Upstream != "" {
		u := q.findLocked(ask.Upstream)
		if u == nil {
			return nil, nil, fmt.Errorf("admission: no upstream %q", ask.Upstream)
		}
		if len(u.ahead) == 0 && u.used < u.limit {
			return nil, q.claimLocked(u, t), nil
		}
		t.wait(math.MaxInt64)
		u.ahead.push(t)
		return t, nil, nil
	}

	if ask.Sticky {
		q.stickLocked(t)
	}
	// Nobody may overtake: with equal rights, a free slot means that nobody who
	// could use it waits, for every slot that comes free is dispatched.
	if u := q.freeLocked(t); u != nil {
		return nil, q.claimLocked(u, t), nil
	}
	until := q.deadlineLocked(t)
	if !now.Before(until) {
		return nil, nil, q.refusedLocked()
	}
	// Who has been let in once is not turned away for the length of the queue.
	if ask.Again == nil && q.waiting >= q.depthLocked() {
		q.counts.Full++
		return nil, nil, ErrFull
	}
	t.wait(until.Sub(now))
	q.waiting++
	q.homeLocked(t).push(t)
	return t, nil, nil
}

// leave ends the wait of t: with err, or with the refusal when its deadline
// has passed. A ticket that was granted meanwhile gives its slot back when the
// caller is gone; otherwise nil is returned and the slot is taken.
func (q *Queue) leave(t *ticket, err error, gone bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.slot != nil {
		if !gone {
			return nil
		}
		q.giveBackLocked(t.slot)
		q.counts.Left++
		return err
	}
	if !gone {
		if left := time.Until(q.deadlineLocked(t)); left > 0 {
			t.timer.Reset(left)
			return nil
		}
		err = q.refusedLocked()
	} else {
		q.counts.Left++
	}
	if t.ask.Upstream != "" {
		q.findLocked(t.ask.Upstream).ahead.remove(t)
	} else {
		q.homeLocked(t).remove(t)
		q.waiting--
	}
	return err
}

// deadlineLocked is when t is refused. While the pool is held the clock of Hold
// runs from the arrival; when it is released the clock of Wait starts.
func (q *Queue) deadlineLocked(t *ticket) time.Time {
	if q.held {
		return t.at.Add(q.cfg.Hold)
	}
	from := t.at
	if q.released.After(from) {
		from = q.released
	}
	return from.Add(q.cfg.Wait)
}

func (q *Queue) refusedLocked() error {
	if q.held {
		q.counts.Held++
		return ErrHeld
	}
	q.counts.Wait++
	return ErrWait
}

// dispatchLocked grants while there is somebody who may go.
func (q *Queue) dispatchLocked() {
	for _, u := range q.upstreams {
		for u.used < u.limit && len(u.ahead) > 0 {
			q.grantLocked(u, u.ahead.pop())
		}
	}
	for {
		t, u := q.nextLocked()
		if t == nil {
			return
		}
		q.homeLocked(t).remove(t)
		q.waiting--
		q.grantLocked(u, t)
	}
}

// nextLocked is the oldest ticket that has a free upstream, and that upstream.
func (q *Queue) nextLocked() (*ticket, *upstream) {
	var oldest *ticket
	var at *upstream
	for _, u := range q.upstreams {
		if u.open() && len(u.tickets) > 0 && (oldest == nil || u.tickets[0].seq < oldest.seq) {
			oldest, at = u.tickets[0], u
		}
	}
	if len(q.tickets) > 0 && (oldest == nil || q.tickets[0].seq < oldest.seq) {
		if u := q.freeLocked(q.tickets[0]); u != nil {
			return q.tickets[0], u
		}
	}
	return oldest, at
}

func (q *Queue) grantLocked(u *upstream, t *ticket) {
	t.slot = q.claimLocked(u, t)
	close(t.granted)
}

// claimLocked is the only place where a slot comes into being.
func (q *Queue) claimLocked(u *upstream, t *ticket) *Slot {
	u.used++
	if t.ask.Upstream == "" {
		q.counts.Granted++
	}
	return &Slot{q: q, u: u, at: t.at, seq: t.seq, granted: time.Now()}
}

// open reports whether u takes one more request.
func (u *upstream) open() bool {
	return u.ready && !u.gone && u.used < u.limit
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
		return nil // held: nothing to stick to yet
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
		if u.open() && (best == nil || u.used*best.limit < best.used*u.limit) {
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
	may := func(u *upstream) bool { return u.ready && !u.gone }
	t.stuck = q.chooseLocked(t, may)
	if t.stuck != nil {
		return
	}
	for _, u := range q.upstreams { // the policy declined: any will do
		if may(u) {
			t.stuck = u
			return
		}
	}
}

// homeLocked is the heap that t waits in.
func (q *Queue) homeLocked(t *ticket) *ticketHeap {
	if t.stuck != nil {
		return &t.stuck.tickets
	}
	return &q.tickets
}

// rehomeLocked finds new upstreams for sticky tickets whose own went away.
func (q *Queue) rehomeLocked(orphans []*ticket) {
	for _, t := range orphans {
		q.stickLocked(t)
		q.homeLocked(t).push(t)
	}
}

// readinessLocked notices that the pool begins or ceases to be held.
func (q *Queue) readinessLocked() {
	held := true
	for _, u := range q.upstreams {
		if u.ready && !u.gone {
			held = false
		}
	}
	if held == q.held {
		return
	}
	q.held = held
	if !held {
		q.released = time.Now()
		var unbound []*ticket
		for _, t := range q.tickets.all() {
			if t.ask.Sticky {
				q.tickets.remove(t)
				unbound = append(unbound, t)
			}
		}
		q.rehomeLocked(unbound)
	}
	q.rearmLocked()
}

// rearmLocked sets every waiting ticket's timer to its deadline.
func (q *Queue) rearmLocked() {
	rearm := func(tickets ticketHeap) {
		for _, t := range tickets {
			t.timer.Reset(max(0, time.Until(q.deadlineLocked(t))))
		}
	}
	rearm(q.tickets)
	for _, u := range q.upstreams {
		rearm(u.tickets)
	}
}

func (q *Queue) findLocked(key string) *upstream {
	for _, u := range q.upstreams {
		if u.key == key {
			return u
		}
	}
	return nil
}

func (q *Queue) limitLocked() int {
	sum := 0
	for _, u := range q.upstreams {
		if !u.gone {
			sum += u.limit
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

func (q *Queue) giveBackLocked(s *Slot) {
	if s.back {
		return
	}
	s.back = true
	u := s.u
	u.used--
	q.rate.mark(time.Now())
	if u.gone && u.used == 0 && len(u.ahead) == 0 {
		for i, known := range q.upstreams {
			if known == u {
				q.upstreams = append(q.upstreams[:i:i], q.upstreams[i+1:]...)
				break
			}
		}
	}
	q.dispatchLocked()
}
