package admission

import "time"

// ticket is one request that waits. Its fields belong to the queue's lock,
// except that slot and err may be read once done has said so.
type ticket struct {
	ask   Ask
	at    time.Time     // arrival; after another attempt, when that had failed
	past  time.Duration // between the first arrival and at
	seq   uint64        // place among the arrivals
	route *route        // what it is expected to cost, and whether that is slow; nil: a probe
	cost  time.Duration // expected when it was queued; what the sums count
	stuck *upstream     // sticky: the one it waits for
	use   *use          // of its class; nil: a probe
	half  bool          // Class.Half
	held  bool          // among the held
	waits bool          // it has neither slot nor err, and is in one of the lists below

	// Before other attempts: Slot.waited and Slot.queued.
	waited, queued time.Duration

	// Where it waits: among the held, as one of a client's in an order, or, a
	// probe, ahead of an upstream.
	order  *order
	client *client
	charge charge // when its turn came
	links[ticket]
	branches // among the returning

	slot  *Slot
	err   error
	done  chan struct{} // gets one value when slot or err is set; keeps it until it is read
	timer *time.Timer   // fires at the deadline
}

// end tells who waits that slot or err is set.
func (t *ticket) end() { t.done <- struct{}{} }

// returns reports whether t belongs to the returning: it proved an earlier arrival.
func (t *ticket) returns() bool { return !t.ask.Since.IsZero() }

// before reports whether t is older than other: those who proved when they came
// first go by that.
func (t *ticket) before(other *ticket) bool {
	mine, its := t.ask.Since, other.ask.Since
	if mine.IsZero() || its.IsZero() || mine.Equal(its) {
		return t.seq < other.seq
	}
	return mine.Before(its)
}

// ticketList holds tickets by age. Almost all come at the end; one that comes
// again, or has proven its age, is put in its place.
type ticketList struct{ list[ticket, *ticket] }

func (l *ticketList) insert(t *ticket) { l.list.insert(t, l.before(t)) }

// before is the newest that is not newer than t.
func (l *ticketList) before(t *ticket) *ticket {
	after := l.newest
	for after != nil && t.before(after) {
		after = after.prev
	}
	return after
}
