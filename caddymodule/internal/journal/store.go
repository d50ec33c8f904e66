package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// store keeps entries. The journal decides what happens to them; a store says
// when it is on disk. The one here is on Pebble; another, on a replicated log,
// has to hold the same.
//
// Always: changes take effect in the order in which they were submitted; one
// change is done wholly or not at all; done is called exactly once, from a
// goroutine that must not be held up; after done(nil) of append, revive or
// restore, no crash undoes the change. The others reach the disk with the next of
// those, or soon.
type store interface {
	// bound changes the limits.
	bound(lim Limits)
	// append gives the entry its Seq and keeps it. staged is called once the seq
	// is known and before anybody can see the entry; done may follow with an error.
	append(e *Entry, staged func(), done func(error))
	// restore is append for an entry that has been in a journal before: with its
	// id, and maybe dead. One whose id is known is left alone. Of the limits the
	// reserve counts. Once ctx has ended, nothing more is kept.
	restore(ctx context.Context, e *Entry, dead *ending, done func(error))
	// settle ends an entry that the application has. keep is how long the answer is
	// kept, of which no more than the status is where the reserve would be used.
	settle(e *Entry, d *ending, keep time.Duration, done func(error))
	// bury makes it a dead letter, with no more of the answer than settle keeps.
	bury(e *Entry, d *ending, done func(error))
	// note remembers an attempt that came to nothing.
	note(e *Entry, t tries, done func(error))
	// revive opens a dead letter again, at its old place in the order.
	revive(seq uint64, done func(error))
	// drop removes an open or a dead entry.
	drop(seq uint64, done func(error))

	// next is the first open entry of a lane with at least this seq.
	next(lane Hash, from uint64) (seq uint64, t tries, ok bool, err error)
	// load reads an open entry.
	load(seq uint64) (*Entry, error)
	// lanes names up to max lanes with open entries, in some fixed order, after the given one.
	lanes(after Hash, max int) ([]Hash, error)
	// find is what is known under an id.
	find(id ID) (Status, error)
	// overdue names up to max entries whose deadline has passed.
	overdue(now time.Time, max int) ([]uint64, error)
	// expire forgets up to max settled entries that have been kept long enough,
	// or for which there is no room; it reports how many.
	expire(now time.Time, max int) (int, error)
	// scan calls each for open or dead entries after a seq, in order, until it returns false.
	scan(state State, after uint64, each func(*Entry, *ending) bool) error
	// oldest is when the first of the open entries arrived.
	oldest() (time.Time, bool)
	// free is how many bytes the disk has left, if it says so.
	free() (int64, bool)

	totals() totals
	failure() error
	failedC() <-chan struct{}
	damaged() []string
	close() error
}

// Limits bound the journal. They may change.
type Limits struct {
	// MaxBytes of open and dead entries. Default 1 GiB. Answers that are kept have
	// as much again for themselves; the oldest are forgotten early when it is full.
	MaxBytes int64
	// PerClient is the most that one client may have of MaxBytes. Default a
	// quarter; negative: no bound.
	PerClient int64
	// Reserve is how much of the disk is left free: what Pebble may need to end what
	// it has begun. All memtables may wait to be written, and a compaction has about
	// two written of which it has not removed the old. Default six times Options.
	// Memory, and 256 MiB at least. Negative: nothing is.
	Reserve int64
}

const (
	defaultMaxBytes = 1 << 30
	defaultReserve  = 256 << 20
)

func (l Limits) withDefaults() Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = defaultMaxBytes
	}
	if l.PerClient == 0 {
		l.PerClient = l.MaxBytes / 4
	}
	return l
}

// append implements store.
func (s *pebbleStore) append(e *Entry, staged func(), done func(error)) {
	record, err := s.seal.entry(e)
	if err != nil {
		done(err)
		return
	}
	e.size = int64(len(record))
	scope := e.scope()
	s.submit(&op{sync: true, size: len(record), scope: scope, done: done, stage: func(g *group) error {
		if err := s.known(scope, e.Fingerprint); err != nil {
			return err
		}
		if err := g.room(e); err != nil {
			return err
		}
		g.totals.seq++
		e.Seq = g.totals.seq
		staged()
		g.open(e, record, tries{size: e.size})
		return nil
	}})
}

// known says whether a client's key has been used.
func (s *pebbleStore) known(scope, fingerprint Hash) error {
	if scope == (Hash{}) {
		return nil
	}
	var id ID
	var before Hash
	found := false
	err := s.get(hashKey(kKey, scope), func(v []byte) error {
		found = true
		r := reader{b: v}
		id, before = ID(r.hash()), r.hash()
		return r.err("a key")
	})
	switch {
	case err != nil || !found:
		return err
	case before != fingerprint:
		return ErrKeyReused
	}
	status, err := s.find(id)
	if err != nil {
		return err
	}
	return &Repeat{status}
}

// restore implements store.
func (s *pebbleStore) restore(ctx context.Context, e *Entry, dead *ending, done func(error)) {
	record, err := s.seal.entry(e)
	if err != nil {
		done(err)
		return
	}
	e.size = int64(len(record))
	s.submit(&op{sync: true, size: len(record), scope: Hash(e.ID), done: done, stage: func(g *group) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_, known, err := s.place(e.ID)
		if err != nil || known {
			return err
		}
		if !g.spare(e.size) {
			return errReserve
		}
		g.totals.seq++
		e.Seq = g.totals.seq
		if dead == nil {
			g.open(e, record, tries{size: e.size})
			return nil
		}
		g.hold(e)
		g.claimKey(e)
		return g.dead(e, record, dead)
	}})
}

// open keeps a new entry.
func (g *group) open(e *Entry, record []byte, t tries) {
	g.hold(e)
	g.claimKey(e)
	g.reopen(e, record, t)
}

// hold counts the entry's bytes.
func (g *group) hold(e *Entry) {
	g.totals.bytes += e.size
	g.client(e.Client, e.size)
}

func (g *group) claimKey(e *Entry) {
	if scope := e.scope(); scope != (Hash{}) {
		g.set(hashKey(kKey, scope), append(e.ID[:len(e.ID):len(e.ID)], e.Fingerprint[:]...))
	}
}

func (g *group) reopen(e *Entry, record []byte, t tries) {
	lane := e.lane()
	g.set(seqKey(kEntry, e.Seq), record)
	g.set(laneSeqKey(lane, e.Seq), t.encode())
	g.set(hashKey(kID, Hash(e.ID)), place{state: Undelivered, seq: e.Seq, lane: lane}.encode())
	if !e.Deadline.IsZero() {
		g.set(timeSeqKey(kDeadline, e.Deadline.UnixMilli(), e.Seq), nil)
	}
	g.totals.open++
}

// shut takes an open entry out of its lane. False: it is not there any more.
func (g *group) shut(e *Entry) (bool, error) {
	lane := laneSeqKey(e.lane(), e.Seq)
	found := false
	err := g.s.get(lane, func([]byte) error { found = true; return nil })
	if err != nil || !found {
		return false, err
	}
	g.delete(lane)
	g.deleteSized(seqKey(kEntry, e.Seq), e.size)
	if !e.Deadline.IsZero() {
		g.delete(timeSeqKey(kDeadline, e.Deadline.UnixMilli(), e.Seq))
	}
	g.totals.open--
	return true, nil
}

// release gives the bytes back.
func (g *group) release(e *Entry) {
	g.totals.bytes -= e.size
	g.client(e.Client, -e.size)
}

// settle implements store.
func (s *pebbleStore) settle(e *Entry, d *ending, keep time.Duration, done func(error)) {
	d.id, d.scope = e.ID, e.scope()
	var record []byte
	if keep > 0 { // of most writes nobody will ask for the answer again
		var err error
		if record, err = s.seal.ending(d); err != nil {
			done(err)
			return
		}
	}
	s.submit(&op{size: len(record), scope: d.scope, seq: e.Seq, done: done, stage: func(g *group) (err error) {
		if keep > 0 && !g.spare(int64(len(record))) {
			if record, err = s.seal.ending(d.bare()); err != nil {
				return err
			}
		}
		if ok, err := g.shut(e); !ok {
			return err
		}
		g.release(e)
		if keep <= 0 {
			g.forget(d)
			return nil
		}
		expiry := d.at.Add(keep).UnixMilli()
		g.set(timeSeqKey(kAnswer, expiry, e.Seq), record)
		g.set(hashKey(kID, Hash(e.ID)), place{state: Delivered, seq: e.Seq, expiry: expiry}.encode())
		g.totals.answers++
		g.totals.answerBytes += int64(len(record))
		return nil
	}})
}

// forget removes the names under which an entry is found.
func (g *group) forget(d *ending) {
	g.delete(hashKey(kID, Hash(d.id)))
	if d.scope != (Hash{}) {
		g.delete(hashKey(kKey, d.scope))
	}
}

// bury implements store.
func (s *pebbleStore) bury(e *Entry, d *ending, done func(error)) {
	s.submit(&op{size: int(e.size), scope: e.scope(), seq: e.Seq, done: done, stage: func(g *group) error {
		var record []byte
		if err := s.get(seqKey(kEntry, e.Seq), func(v []byte) error { record = append(record, v...); return nil }); err != nil {
			return err
		}
		end := d
		if !g.spare(e.size) {
			end = d.bare()
		}
		if ok, err := g.shut(e); !ok {
			return err
		}
		return g.dead(e, record, end)
	}})
}

func (g *group) dead(e *Entry, record []byte, d *ending) error {
	d.id, d.scope = e.ID, e.scope()
	reason, err := g.s.seal.ending(d)
	if err != nil {
		g.note(err) // the group is half built
		return err
	}
	g.set(seqKey(kDead, e.Seq), record)
	g.set(seqKey(kReason, e.Seq), reason)
	g.set(hashKey(kID, Hash(e.ID)), place{state: Dead, seq: e.Seq}.encode())
	g.totals.dead++
	return nil
}

// note implements store.
func (s *pebbleStore) note(e *Entry, t tries, done func(error)) {
	t.size = e.size
	lane := laneSeqKey(e.lane(), e.Seq)
	s.submit(&op{seq: e.Seq, done: done, stage: func(g *group) error {
		return s.get(lane, func([]byte) error {
			g.set(lane, t.encode())
			return nil
		})
	}})
}

// revive implements store.
func (s *pebbleStore) revive(seq uint64, done func(error)) {
	s.submit(&op{sync: true, seq: seq, done: done, stage: func(g *group) error {
		e, record, err := s.deadEntry(seq)
		if err != nil {
			return err
		}
		was := e.size
		if !e.Deadline.IsZero() { // an operator wants it delivered now
			e.Deadline = time.Time{}
			if record, err = s.seal.entry(e); err != nil {
				return err
			}
		}
		s.first.reopened(seq)
		g.raise(e)
		e.size = int64(len(record))
		g.totals.bytes += e.size - was
		g.client(e.Client, e.size-was)
		g.reopen(e, record, tries{size: e.size})
		return nil
	}})
}

// raise takes an entry out of the dead letters.
func (g *group) raise(e *Entry) {
	g.deleteSized(seqKey(kDead, e.Seq), e.size)
	g.delete(seqKey(kReason, e.Seq))
	g.totals.dead--
}

func (s *pebbleStore) deadEntry(seq uint64) (e *Entry, record []byte, err error) {
	if err := s.get(seqKey(kDead, seq), func(v []byte) error { record = append(record, v...); return nil }); err != nil {
		return nil, nil, err
	}
	if record == nil {
		return nil, nil, ErrNotFound
	}
	e, err = s.seal.openEntry(seq, record)
	return e, record, err
}

// drop implements store.
func (s *pebbleStore) drop(seq uint64, done func(error)) {
	s.submit(&op{sync: true, seq: seq, done: done, stage: func(g *group) error {
		e, _, err := s.deadEntry(seq)
		if err == nil {
			g.raise(e)
		} else if e, err = s.load(seq); err == nil {
			_, err = g.shut(e)
		}
		if err != nil {
			return err
		}
		g.release(e)
		g.forget(&ending{id: e.ID, scope: e.scope()})
		return nil
	}})
}

// expire implements store. It is alone in its group: what it reads is what it
// removes, and one range takes the answers away.
func (s *pebbleStore) expire(now time.Time, most int) (n int, err error) {
	result := make(chan error, 1)
	s.submit(&op{alone: true, done: func(err error) { result <- err }, stage: func(g *group) (err error) {
		n, err = g.expire(now, most)
		return err
	}})
	err = s.wait(result)
	return n, err
}

func (g *group) expire(now time.Time, most int) (n int, err error) {
	var last []byte
	room := g.s.answerRoom()
	err = g.s.each([]byte{kAnswer}, []byte{kAnswer + 1}, func(it *pebble.Iterator) (bool, error) {
		if msOf(it.Key()) > now.UnixMilli() && room >= 0 {
			return false, nil
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return false, err
		}
		d, err := g.s.seal.openEnding(v)
		if err != nil {
			g.s.damage(fmt.Sprintf("the answer of entry %d", seqOf(it.Key())), err)
		} else {
			g.forget(d)
		}
		room += int64(len(v))
		g.totals.answers--
		g.totals.answerBytes -= int64(len(v))
		last = append(last[:0], it.Key()...)
		n++
		return n < most, nil
	})
	if last != nil {
		g.deleteRange([]byte{kAnswer}, append(last, 0))
	}
	return n, err
}
