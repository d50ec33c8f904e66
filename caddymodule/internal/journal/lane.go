package journal

import (
	"container/heap"
	"context"
	"time"
)

// lane is what is known of a lane in memory: not its entries, but who of them is
// in flight, and whether there are more in the store.
type lane struct {
	key  Hash
	held map[uint64]*Live // by seq; not for a worker to take
	late int              // of held: accepted, and the attempt still runs
	low  uint64           // no accepted entry of the store is older

	// backlog: the store may have accepted entries that are not in held. False is
	// certain. gen counts the reasons for true.
	backlog bool
	unsure  bool // backlog is a guess
	gen     uint64

	busy    bool   // a worker has it
	sending uint64 // seq of what the worker sends; 0: nothing
	try     *try   // the attempt at it
	blocked bool   // its next entry is accepted, and still being sent by its request

	due    time.Time // when a worker may look at it
	misses int       // attempts in a row that came to nothing
	mark   int64     // Journal.answered at the last attempt that failed, or else when the lane came to its entry
	failed bool      // mark is of an attempt
	// stalled: it failed twice, and nobody was answered in between.
	stalled bool
	seen    int // order of equals in the queue
	at      int // place in the queue; -1: not there
}

// try is an attempt that can be called off.
type try struct {
	ctx    context.Context // a worker's
	cancel context.CancelFunc
	ended  chan struct{} // closed when the entry is free again
}

func newTry(parent context.Context) *try {
	ctx, cancel := context.WithCancel(parent)
	return &try{ctx, cancel, make(chan struct{})}
}

// Backoff of a lane: doubled with each attempt that comes to nothing.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 30 * time.Second
)

func backoff(misses int) time.Duration {
	return min(minBackoff<<min(max(misses-1, 0), 20), maxBackoff)
}

func (l *lane) backOff(now, due time.Time) {
	l.misses++
	l.due = due
	if latest := now.Add(maxBackoff); l.due.After(latest) {
		l.due = latest
	}
}

// wakeLocked lets a stalled lane be tried at once. An attempt that runs began
// before there was an answer; if it fails, the next one is soon.
func (l *lane) wakeLocked() {
	if !l.stalled {
		return
	}
	l.stalled, l.due = false, time.Time{}
	if l.busy {
		l.misses = 0
	}
}

// laneLocked finds a lane, or makes one, which may have a backlog: only reading
// the store tells. A new one has seen nobody answered yet: it may be an old one that
// was forgotten, and that speaks against none of its entries.
func (j *Journal) laneLocked(key Hash) *lane {
	if l := j.lanes[key]; l != nil {
		return l
	}
	if len(j.lanes) >= j.maxLanes {
		j.evictLocked()
	}
	l := &lane{key: key, held: make(map[uint64]*Live), backlog: true, unsure: true, at: -1, mark: j.answered.Load()}
	j.lanes[key] = l
	return l
}

// evictLocked forgets a lane, of a few, that has nothing in flight: map order is
// random enough. One with a backlog is found again in the store.
func (j *Journal) evictLocked() {
	var victim *lane
	looked := 0
	for _, l := range j.lanes {
		if len(l.held) == 0 && !l.busy && (victim == nil || victim.backlog) {
			victim = l
		}
		if looked++; looked >= 16 && victim != nil || victim != nil && !victim.backlog {
			break
		}
	}
	if victim == nil {
		return
	}
	if victim.backlog {
		j.unlisted = true
	}
	if victim.at >= 0 {
		heap.Remove(&j.queue, victim.at)
	}
	delete(j.lanes, victim.key)
}

// backlogLocked notes an accepted entry in the store.
func (j *Journal) backlogLocked(l *lane, seq uint64) {
	l.backlog, l.unsure = true, false
	l.gen++
	l.low = min(l.low, seq)
	j.queueLocked(l)
	j.poke()
}

// queueLocked puts a lane where workers look.
func (j *Journal) queueLocked(l *lane) {
	if !l.backlog || l.busy || l.blocked {
		return
	}
	if l.at < 0 {
		j.queue.seen++
		l.seen = j.queue.seen
		heap.Push(&j.queue, l)
		return
	}
	heap.Fix(&j.queue, l.at)
}

// freeLocked lets workers look at a lane again that waited for a request's attempt.
func (j *Journal) freeLocked(l *lane) {
	if l.blocked {
		l.blocked = false
		j.queueLocked(l)
		j.poke()
	}
}

// resolve finds out about a backlog that is a guess.
func (j *Journal) resolve(l *lane) {
	j.mu.Lock()
	gen, guess := l.gen, l.backlog && l.unsure && !l.busy
	j.mu.Unlock()
	if !guess {
		return
	}
	_, found, err := j.head(l)
	if err != nil {
		return // a guess it stays
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if l.gen != gen || l.busy {
		return
	}
	l.unsure = false
	if found {
		j.queueLocked(l)
		j.poke()
		return
	}
	j.emptyLocked(l)
}

func (j *Journal) emptyLocked(l *lane) {
	l.backlog, l.unsure, l.misses, l.due = false, false, 0, time.Time{}
	if l.at >= 0 {
		heap.Remove(&j.queue, l.at)
	}
}

// poke wakes the scheduler.
func (j *Journal) poke() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// laneQueue is a heap of lanes by when they are due, first come first.
type laneQueue struct {
	lanes []*lane
	seen  int
}

func (q *laneQueue) Len() int { return len(q.lanes) }

func (q *laneQueue) Less(i, k int) bool {
	a, b := q.lanes[i], q.lanes[k]
	if !a.due.Equal(b.due) {
		return a.due.Before(b.due)
	}
	return a.seen < b.seen
}

func (q *laneQueue) Swap(i, k int) {
	q.lanes[i], q.lanes[k] = q.lanes[k], q.lanes[i]
	q.lanes[i].at, q.lanes[k].at = i, k
}

func (q *laneQueue) Push(x any) {
	l := x.(*lane)
	l.at = len(q.lanes)
	q.lanes = append(q.lanes, l)
}

func (q *laneQueue) Pop() any {
	last := len(q.lanes) - 1
	l := q.lanes[last]
	q.lanes[last] = nil
	q.lanes = q.lanes[:last]
	l.at = -1
	return l
}
