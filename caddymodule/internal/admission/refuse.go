package admission

import (
	"errors"
	"fmt"
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

// loseLocked notes that t waits until then and no longer. Where more than
// DefaultWait was promised, people are expected to be patient: the queue is not
// too long for those who leave before a tenth of the rest.
func (q *Queue) loseLocked(t *ticket, until time.Time) {
	if patience := until.Sub(q.sinceLocked(t)); patience >= (q.waitOf(t)-DefaultWait)/10 {
		q.lost++
	}
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
	if slots := q.wholeLocked(); slots > 0 && !q.held {
		r.Wait = (q.work + q.heldWork) / time.Duration(slots)
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
// so no rate has to be measured. What is ahead of t among the others the order knows.
// Everybody has those before him that were held: they come out by age alone.
func (q *Queue) predictLocked(t *ticket, slow bool, now time.Time) time.Duration {
	slots := q.wholeLocked()
	if slots == 0 {
		return 0
	}
	held := q.heldWork / time.Duration(slots)
	return held + q.predictLineLocked(t, slow, slots, now)
}

// predictLineLocked is predictLocked without the held.
func (q *Queue) predictLineLocked(t *ticket, slow bool, slots int, now time.Time) time.Duration {
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
	own := c.class.name == t.ask.Class && c.class.find(t) == c
	if c.returns() {
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
