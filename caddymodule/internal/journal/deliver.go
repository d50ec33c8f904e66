package journal

import (
	"container/heap"
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

// Send sends an entry to the application. attempt counts from 1, over restarts
// too, as far as they were noted. It returns when the exchange has ended, or at
// the end of ctx; then the entry is the journal's again.
type Send func(ctx context.Context, e *Entry, attempt int) Outcome

// Deliver begins to deliver accepted entries: lanes side by side, each in its
// order. It is called once; Close ends it.
func (j *Journal) Deliver(send Send) {
	j.started.Do(func() {
		j.wg.Go(func() { j.schedule(send) }) // both end with j.ctx; Close waits
		j.wg.Go(j.sweep)
	})
}

// Ready says that the application can be reached: an upstream has become ready.
// All that waits for another try is tried now.
func (j *Journal) Ready() {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	j.readyAt, j.away = now, away{}
	for _, l := range j.queue.lanes {
		l.due, l.misses = time.Time{}, 0
	}
	heap.Init(&j.queue)
	j.poke()
}

// away is for an application that does not answer at all: then one lane at a
// time is tried, and not each with a backoff of its own.
type away struct {
	misses int       // attempts in a row, over all lanes, without an answer
	until  time.Time // nobody is sent before
	next   time.Time // misses of requests' own attempts do not count before
}

// awayAfter attempts without an answer, the application counts as away.
const awayAfter = 8

// missed counts an attempt. Of those that ran side by side many end at once, and
// say no more than one: an attempt that ends while the application is given time
// began before that, and requests' own, which nobody paces, count once in a while.
func (a *away) missed(now time.Time, own bool) {
	if a.closed(now) || own && now.Before(a.next) {
		return
	}
	a.misses++
	a.next = now.Add(backoff(a.misses))
	if a.misses >= awayAfter {
		a.until = now.Add(backoff(a.misses - awayAfter + 1))
	}
}

// heard takes in what an attempt says about the application; own: it was a
// request's.
func (j *Journal) heard(k Kind, own bool) {
	switch k {
	case Taken, Rejected:
		j.Alive()
		return
	case Unsendable: // it was not asked
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if k != Unavailable {
		j.away = away{}
		return
	}
	j.away.missed(time.Now(), own)
	j.troubled.Store(true)
}

// recovered wakes what waits for an application that answered nobody, and now has
// answered somebody. Lanes that failed while others were answered keep their
// backoff: the answer says nothing new of them.
func (j *Journal) recovered() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.troubled.Store(false)
	now := time.Now()
	if j.away.misses >= awayAfter {
		j.readyAt = now
	}
	j.away = away{}
	if j.stalled {
		j.stalled = false
		for _, l := range j.lanes {
			l.wakeLocked()
		}
		heap.Init(&j.queue)
	}
	j.poke()
}

// schedule gives lanes to workers until the journal is closed or fails.
func (j *Journal) schedule(send Send) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := j.list(); err != nil {
			j.log.Error("journal: lanes cannot be listed; is tried again", zap.Error(err))
		}
		timer.Reset(j.startWorkers(send))
		select {
		case <-j.wake:
		case <-timer.C:
		case <-j.store.failedC():
			return
		case <-j.retired:
			return
		case <-j.ctx.Done():
			return
		}
	}
}

// listStep is how many lanes are read from the store at once. When there are
// more that fail than can be remembered, looking for them never ends, so steps
// and rounds have their pace.
const (
	listStep  = 128
	stepPace  = 5 * time.Millisecond
	roundPace = 100 * time.Millisecond
)

// list looks for lanes in the store that are not known here, when nothing else
// can be done.
func (j *Journal) list() error {
	now := time.Now()
	j.mu.Lock()
	cursor, may := j.cursor, j.mayListLocked(now)
	if may {
		j.listAt = now.Add(stepPace)
		if cursor == (Hash{}) {
			j.unlisted = false // until somebody is forgotten on the way
			j.roundAt = now.Add(roundPace)
		}
	}
	j.mu.Unlock()
	if !may {
		return nil
	}
	step := min(listStep, max(j.maxLanes/2, 1)) // or they would forget each other
	keys, err := j.store.lanes(cursor, step)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.unlisted = true
		return err
	}
	for _, key := range keys {
		if j.lanes[key] == nil { // of the others all is known
			j.queueLocked(j.laneLocked(key))
		}
	}
	j.cursor = Hash{}
	if len(keys) == step {
		j.cursor = keys[step-1]
	} else if j.listAt.Before(j.roundAt) {
		j.listAt = j.roundAt
	}
	return nil
}

func (j *Journal) mayListLocked(now time.Time) bool {
	switch {
	case !j.unlisted && j.cursor == Hash{}, j.working >= j.parallel, j.away.closed(now), now.Before(j.listAt):
		return false
	}
	return len(j.queue.lanes) == 0 || j.queue.lanes[0].due.After(now)
}

func (a *away) closed(now time.Time) bool { return a.misses >= awayAfter && now.Before(a.until) }

// startWorkers starts as many as may run, and returns when to look again.
func (j *Journal) startWorkers(send Send) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	for {
		wait := j.mayStartLocked(now)
		if wait > 0 {
			return wait
		}
		l := heap.Pop(&j.queue).(*lane)
		l.busy = true
		j.working++
		j.wg.Go(func() { j.work(send, l) }) // ends with its lane, or j.ctx
	}
}

// idleLook is how often the scheduler looks by itself.
const idleLook = time.Second

// mayStartLocked is how long until the next lane may go, 0 being now. Workers
// that end wake the scheduler.
func (j *Journal) mayStartLocked(now time.Time) time.Duration {
	next := idleLook // when lanes are listed again, or a look without a reason
	if j.unlisted || j.cursor != (Hash{}) {
		next = min(max(j.listAt.Sub(now), time.Millisecond), idleLook)
	}
	switch {
	case j.working >= j.parallel:
		return idleLook
	case len(j.queue.lanes) == 0:
		return next
	case j.away.misses >= awayAfter && j.working > 0:
		return idleLook
	case j.away.closed(now):
		return j.away.until.Sub(now)
	}
	return min(max(j.queue.lanes[0].due.Sub(now), 0), next)
}

// quantum is how many entries of a lane are delivered before others have a turn.
const quantum = 32

// work delivers a lane until it is empty, has to wait, or others shall have a turn.
func (j *Journal) work(send Send, l *lane) {
	for n := 0; n < quantum && j.deliver(send, l); n++ {
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	l.busy = false
	j.working--
	j.queueLocked(l)
	j.poke()
}

// head is the first entry of a lane that is a worker's, or the accepted one that
// its own request still sends. Those whose clients have not been told are passed
// over: they have no order with the rest.
func (j *Journal) head(l *lane) (h head, found bool, err error) {
	j.mu.Lock()
	from, gen := l.low, l.gen
	j.mu.Unlock()
	passed := false
	for {
		seq, t, ok, err := j.store.next(l.key, from)
		if err != nil || !ok {
			return head{}, false, err
		}
		j.mu.Lock()
		live := l.held[seq]
		switch {
		case live == nil:
			if !passed && l.gen == gen {
				l.low = seq
			}
			j.mu.Unlock()
			return head{seq: seq, tries: t}, true, nil
		case live.accepted && live.running:
			j.mu.Unlock()
			return head{seq: seq, own: true}, true, nil
		case !live.over:
			passed = true
		}
		j.mu.Unlock()
		from = seq + 1
	}
}

type head struct {
	seq   uint64
	tries tries
	own   bool // its own request sends it
}

// deliver makes one attempt for a lane. It reports whether to go on.
func (j *Journal) deliver(send Send, l *lane) bool {
	j.mu.Lock()
	gen := l.gen
	j.mu.Unlock()
	h, found, err := j.head(l)
	switch {
	case j.ctx.Err() != nil:
		return false
	case err != nil:
		return j.unreadable(l, err)
	case !found:
		return !j.empty(l, gen)
	case h.own:
		return !j.block(l, h.seq)
	}
	e, ok := j.take(l, h)
	if !ok {
		return false
	}
	if e == nil {
		return true
	}
	now := time.Now()
	if !e.Deadline.IsZero() && !now.Before(e.Deadline) {
		j.end(l, e, h.tries, ending{reason: ReasonAge, at: now})
		return true
	}
	h.tries.attempts++
	j.counts.attempts.Add(1)
	o := send(l.try.ctx, e, h.tries.attempts)
	if j.ctx.Err() != nil && !o.Kind.Final() {
		j.release(l)
		return false // it was us who ended it
	}
	return j.attempted(l, e, h.tries, o)
}

// empty notes that a lane has no backlog, unless it got one meanwhile.
func (j *Journal) empty(l *lane, gen uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l.gen != gen {
		return false
	}
	j.emptyLocked(l)
	return true
}

// block lets the lane wait for a request's attempt, if that still runs.
func (j *Journal) block(l *lane, seq uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	live := l.held[seq]
	l.blocked = live != nil && live.accepted && live.running
	return l.blocked
}

// unreadable waits: it may be the disk's mood.
func (j *Journal) unreadable(l *lane, err error) bool {
	if !errors.Is(err, ErrFailed) && !errors.Is(err, ErrClosed) {
		j.log.Error("journal: a lane cannot be read; is tried again", zap.Error(err))
	}
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	l.backOff(now, now.Add(maxBackoff))
	return false
}

// take claims an entry for the worker and reads it. No entry: it cannot be read,
// and is passed over from now on; it stays where it is. False: it is not due.
func (j *Journal) take(l *lane, h head) (*Entry, bool) {
	now := time.Now()
	j.mu.Lock()
	if l.held[h.seq] != nil { // somebody was faster
		j.mu.Unlock()
		return nil, true
	}
	if wait := h.tries.next.Sub(now); wait > 0 && wait <= maxBackoff && l.misses == 0 && h.tries.last.After(j.readyAt) {
		l.backOff(now, h.tries.next) // it was forgotten here
		j.mu.Unlock()
		return nil, false
	}
	l.sending, l.try = h.seq, newTry(j.ctx)
	j.mu.Unlock()

	e, err := j.store.load(h.seq)
	if err == nil {
		return e, true
	}
	j.release(l)
	if errors.Is(err, ErrNotFound) {
		return nil, true // dropped
	}
	if errors.Is(err, ErrFailed) || errors.Is(err, ErrClosed) {
		return nil, false
	}
	j.log.Error("journal: an entry cannot be read; the others of its lane go on", zap.Uint64("seq", h.seq), zap.Error(err))
	j.counts.unreadable.Add(1)
	j.mu.Lock()
	defer j.mu.Unlock()
	l.held[h.seq] = &Live{j: j, lane: l, held: true, durable: true, accepted: true, over: true}
	j.durable++
	return nil, true
}

func (j *Journal) release(l *lane) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l.sentLocked()
}

// sentLocked ends what a worker does with an entry.
func (l *lane) sentLocked() {
	l.try.cancel()
	close(l.try.ended)
	l.sending, l.try = 0, nil
}

// attempted decides what an attempt means for the entry.
func (j *Journal) attempted(l *lane, e *Entry, t tries, o Outcome) bool {
	now := time.Now()
	j.heard(o.Kind, false)
	if o.Kind.Final() {
		j.end(l, e, t, ending{reason: o.Kind.reason(), at: now, answer: o.Answer})
		return true
	}
	j.mu.Lock()
	j.count(&t, o, l, now)
	if t.poison(now) {
		j.mu.Unlock()
		j.end(l, e, t, ending{reason: ReasonPoison, at: now, answer: o.Answer})
		return true
	}
	l.backOff(now, now.Add(max(backoff(l.misses+1), o.After)))
	t.next = l.due
	l.sentLocked()
	j.mu.Unlock()
	e.unload()
	j.store.note(e, t, func(error) {}) // what is forgotten is only counted anew
	return false
}

// Poison is an entry that the application failed on poisonTries times, over
// poisonTime at least, while it answered others.
const (
	poisonTries = 10
	poisonTime  = time.Minute
)

func (t *tries) poison(now time.Time) bool {
	return t.failed >= poisonTries && now.Sub(t.first) >= poisonTime
}

// count notes an attempt that came to nothing. It speaks against the entry if
// the application failed on it and has answered somebody else since the last time,
// the first time since the lane is known. If it has answered nobody, that is no
// fault of the lane's, which need not wait any longer than that lasts, unless it
// was told to. j.mu is held.
func (j *Journal) count(t *tries, o Outcome, l *lane, now time.Time) {
	t.last = now
	answered := j.answered.Load()
	if l.stalled = l.failed && answered == l.mark && o.After == 0; l.stalled {
		j.stalled = true
		j.troubled.Store(true)
	}
	if o.Kind == Failed && answered != l.mark {
		if t.first.IsZero() || t.first.After(now) { // the clock may have been turned back
			t.first = now
		}
		t.failed++
	}
	l.mark, l.failed = answered, true
}

// end ends an entry that a worker has. Until the store has done it, the entry is
// held, and over.
func (j *Journal) end(l *lane, e *Entry, t tries, d ending) {
	e.unload()
	live := &Live{j: j, entry: e, lane: l, tries: t, held: true, durable: true, accepted: true, over: true}
	d.attempts = t.attempts
	d.answer = d.answer.kept()
	j.mu.Lock()
	l.held[e.Seq] = live
	j.durable++
	l.sentLocked()
	l.misses, l.due, l.mark, l.failed, l.stalled = 0, time.Time{}, j.answered.Load(), false, false
	j.mu.Unlock()
	if d.reason != "" {
		j.bury(live, &d)
		return
	}
	j.store.settle(e, &d, e.KeepAnswer, func(err error) {
		if err == nil {
			j.counts.delivered.Add(1)
		}
		j.concluded(live, err)
	})
}

// bury makes a held entry a dead letter, and says so: somebody has to look at it.
func (j *Journal) bury(live *Live, d *ending) {
	e := live.entry
	if d.reason == ReasonRejected {
		j.counts.rejected.Add(1)
	}
	j.store.bury(e, d, func(err error) {
		if err == nil {
			j.counts.buried.Add(1)
			status := 0
			if d.answer != nil {
				status = d.answer.Status
			}
			j.log.Error("journal: dead letter", zap.Stringer("id", e.ID), zap.String("reason", d.reason),
				zap.String("route", e.Route), zap.String("method", e.Method), zap.Int("status", status), zap.Int("attempts", d.attempts))
		}
		j.concluded(live, err)
	})
}

// concluded is called by the committer when an entry has ended in the store. With
// an error it has not: it stays held, and is delivered again after the next Open.
func (j *Journal) concluded(l *Live, err error) {
	if err != nil {
		if !errors.Is(err, ErrFailed) && !errors.Is(err, ErrClosed) {
			j.log.Error("journal: the end of an entry is not noted", zap.Uint64("seq", l.entry.Seq), zap.Error(err))
		}
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	l.letGoLocked()
}

// Sweeps look for entries that are too old and answers that were kept long enough.
const (
	sweepEvery = time.Second
	sweepStep  = 1000
)

func (j *Journal) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := j.sweepOnce(time.Now()); err != nil {
				j.log.Error("journal: sweep; is tried again", zap.Error(err))
			}
		case <-j.store.failedC():
			return
		case <-j.retired:
			return
		case <-j.ctx.Done():
			return
		}
	}
}

func (j *Journal) sweepOnce(now time.Time) error {
	seqs, err := j.store.overdue(now, sweepStep)
	for _, seq := range seqs {
		if err := j.buryOverdue(seq, now); err != nil {
			return err
		}
	}
	for n := sweepStep; err == nil && n == sweepStep && j.ctx.Err() == nil; {
		n, err = j.store.expire(now, sweepStep)
	}
	return err
}

// buryOverdue leaves alone what is being sent: it comes back here.
func (j *Journal) buryOverdue(seq uint64, now time.Time) error {
	e, err := j.store.load(seq)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) {
		return nil
	}
	if err != nil {
		return err
	}
	live, ok := j.claim(e)
	if ok {
		j.bury(live, &ending{reason: ReasonAge, at: now})
	}
	return nil
}

// claim holds an open entry that nobody has in hand, but not what would be sent.
func (j *Journal) claim(e *Entry) (*Live, bool) {
	e.unload()
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.laneLocked(e.lane())
	if l.held[e.Seq] != nil || l.sending == e.Seq {
		return nil, false
	}
	live := &Live{j: j, entry: e, lane: l, held: true, durable: true, accepted: true, over: true}
	l.held[e.Seq] = live
	j.durable++
	return live, true
}
