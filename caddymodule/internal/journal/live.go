package journal

import (
	"context"
	"time"
)

// Live is an entry in the hands of its own request: it is sent by that request,
// and by nobody else, until it is accepted and its attempt has ended.
type Live struct {
	j     *Journal
	entry *Entry
	lane  *lane
	tries tries

	// All under j.mu.
	held      bool // in lane.held
	durable   bool
	abandoned bool // its request left before the commit
	accepted  bool
	begun     bool
	running   bool // an attempt
	over      bool // it has ended, and the store will know
	try       *try // while it runs
}

// Entry is what was kept. Nobody may change it. After End it has neither header nor
// body.
func (l *Live) Entry() *Entry { return l.entry }

// Unload forgets the body, for one who has it elsewhere. It is called before Begin.
func (l *Live) Unload() { l.entry.Body = nil }

// hold is called by the committer when the entry has its seq. No other commit
// goes on then, and the sums are exact: if all open entries are held by somebody,
// a new lane has no backlog, and nothing has to be read.
func (l *Live) hold() {
	j := l.j
	j.mu.Lock()
	defer j.mu.Unlock()
	key := l.entry.lane()
	fresh := j.lanes[key] == nil
	l.lane = j.laneLocked(key)
	if fresh && j.store.totals().open == j.durable {
		l.lane.backlog, l.lane.unsure = false, false
	}
	l.lane.held[l.entry.Seq] = l
	l.held = true
}

// committed is called by the committer.
func (l *Live) committed(err error) {
	j := l.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if !l.held {
		return // refused before it had a seq
	}
	if err != nil {
		l.letGoLocked()
		return
	}
	l.durable = true
	j.durable++
	j.counts.appended.Add(1)
	if l.abandoned {
		l.acceptLocked()
	}
}

// abandon gives an entry away that is not committed yet. False: it is.
func (l *Live) abandon() bool {
	l.j.mu.Lock()
	defer l.j.mu.Unlock()
	l.abandoned = !l.durable
	return l.abandoned
}

// letGoLocked ends the request's hold.
func (l *Live) letGoLocked() {
	if !l.held {
		return
	}
	l.held = false
	delete(l.lane.held, l.entry.Seq)
	if l.durable {
		l.j.durable--
	}
}

// Begin reports whether the request may send its entry now, and counts the
// attempt as begun: End must follow. False when entries of the lane that were
// accepted earlier have not been delivered, or when the journal is none any more:
// the one in its place has the entry as well. Then Accept is what remains.
func (l *Live) Begin() bool {
	j := l.j
	j.resolve(l.lane)
	j.mu.Lock()
	defer j.mu.Unlock()
	if l.begun || l.accepted || l.lane.backlog || l.lane.late > 0 || j.gone() {
		return false
	}
	l.begun, l.running = true, true
	l.try = &try{cancel: func() {}, ended: make(chan struct{})}
	j.flying++
	l.tries.attempts++
	j.counts.attempts.Add(1)
	return true
}

// OnDrop lets cancel be called if the entry is dropped while its attempt runs. It
// is called between Begin and End.
func (l *Live) OnDrop(cancel context.CancelFunc) {
	l.j.mu.Lock()
	defer l.j.mu.Unlock()
	l.try.cancel = cancel
}

// Accept says that the client is told so now. True: tell it. False: it has been
// told already, or the application's answer came first and is for the client.
//
// Afterwards the journal delivers the entry; if its attempt runs, that one goes
// on, and no second one starts beside it. To call it twice does no harm: defer it.
func (l *Live) Accept() bool {
	l.j.mu.Lock()
	defer l.j.mu.Unlock()
	return l.acceptLocked()
}

func (l *Live) acceptLocked() bool {
	if l.accepted || l.over {
		return false
	}
	l.accepted = true
	if l.running {
		l.lane.late++
		return true
	}
	l.giveLocked()
	return true
}

// giveLocked hands the entry over to the scheduler. Attempts that came to nothing
// here ran side by side: they are one miss of the lane, not one each, or a moment
// without answers would be taken for a long time.
func (l *Live) giveLocked() {
	l.letGoLocked()
	lane := l.lane
	if l.begun {
		lane.misses = max(lane.misses, 1)
		if l.tries.next.After(lane.due) {
			lane.due = l.tries.next
		}
	}
	l.j.backlogLocked(lane, l.entry.Seq)
}

// End tells how the attempt ended that Begin began. True: the outcome is final
// and the client has not been told anything: its answer, or that it is Unsendable,
// is the client's. A repeat finds an answer as soon as it has been said.
func (l *Live) End(o Outcome) bool {
	j := l.j
	now := time.Now()
	j.heard(o.Kind, true)
	j.mu.Lock()
	if !l.running {
		j.mu.Unlock()
		return false
	}
	l.running = false
	l.entry.unload() // it is in the store
	j.flying--
	if l.accepted {
		l.lane.late--
	}
	if !o.Kind.Final() {
		l.failedLocked(o, now)
		tried := l.tries
		close(l.try.ended)
		j.mu.Unlock()
		j.store.note(l.entry, tried, func(error) {}) // what is forgotten is only counted anew
		return false
	}
	close(l.try.ended)
	l.over = true
	accepted := l.accepted
	j.freeLocked(l.lane)
	j.mu.Unlock()

	keep := l.entry.KeepAnswer
	if !accepted && (l.entry.Made || o.Kind == Unsendable) {
		keep = 0 // nobody knows its id, or there is no answer that a repeat could have
	}
	j.conclude(l, o, accepted, keep, now)
	return !accepted
}

// failedLocked is for an attempt that came to nothing. It submits nothing: that
// may wait for the committer, which may wait for j.mu.
func (l *Live) failedLocked(o Outcome, now time.Time) {
	l.j.count(&l.tries, o, l.lane, now)
	l.tries.next = now.Add(min(max(backoff(1), o.After), maxBackoff))
	if l.accepted {
		l.giveLocked()
		l.j.freeLocked(l.lane)
	}
}

// conclude ends an entry in the store. It is held until that is done, so that
// nobody sends it meanwhile.
func (j *Journal) conclude(l *Live, o Outcome, accepted bool, keep time.Duration, now time.Time) {
	d := &ending{attempts: l.tries.attempts, at: now, answer: o.Answer.kept()}
	if accepted {
		d.reason = o.Kind.reason()
	}
	if d.reason != "" {
		j.bury(l, d)
		return
	}
	j.store.settle(l.entry, d, keep, func(err error) {
		if err == nil && o.Kind != Unsendable {
			j.counts.delivered.Add(1)
		}
		j.concluded(l, err)
	})
}
