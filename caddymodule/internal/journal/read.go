package journal

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// get calls use with the value under a key, if there is one. The value is only
// good until use returns.
func (s *pebbleStore) get(key []byte, use func([]byte) error) error {
	return s.with(func(db *pebble.DB) error {
		v, closer, err := db.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return s.readError(key, err)
		}
		defer closer.Close()
		return use(v)
	})
}

func (s *pebbleStore) readError(key []byte, err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %s, key %q: %w", ErrDamaged, s.dir, key, err)
	}
	return fmt.Errorf("journal: read %q: %w", key, err)
}

// each calls use at each key in [from, to), until it returns false.
func (s *pebbleStore) each(from, to []byte, use func(*pebble.Iterator) (bool, error)) error {
	return s.with(func(db *pebble.DB) error {
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		if err != nil {
			return s.readError(from, err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			more, err := use(it)
			if err != nil {
				_ = it.Close()
				return err
			}
			if !more {
				break
			}
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return s.readError(from, err)
		}
		return nil
	})
}

// next implements store.
func (s *pebbleStore) next(lane Hash, from uint64) (seq uint64, t tries, ok bool, err error) {
	end := append(hashKey(kLane, lane), "\xff\xff\xff\xff\xff\xff\xff\xff\xff"...)
	err = s.each(laneSeqKey(lane, from), end, func(it *pebble.Iterator) (bool, error) {
		v, err := it.ValueAndErr()
		if err != nil {
			return false, err
		}
		seq, ok = seqOf(it.Key()), true
		t, err = decodeTries(v)
		return false, err
	})
	return seq, t, ok, err
}

// load implements store.
func (s *pebbleStore) load(seq uint64) (e *Entry, err error) {
	err = s.get(seqKey(kEntry, seq), func(v []byte) (err error) {
		e, err = s.seal.openEntry(seq, v)
		return err
	})
	if err == nil && e == nil {
		err = ErrNotFound
	}
	return e, err
}

// lanes implements store.
func (s *pebbleStore) lanes(after Hash, most int) (lanes []Hash, err error) {
	err = s.with(func(db *pebble.DB) error {
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{kLane}, UpperBound: []byte{kLane + 1}})
		if err != nil {
			return s.readError([]byte{kLane}, err)
		}
		end := func(lane Hash) []byte { return append(hashKey(kLane, lane), "\xff\xff\xff\xff\xff\xff\xff\xff\xff"...) }
		for ok := it.SeekGE(end(after)); ok && len(lanes) < most; ok = it.SeekGE(end(lanes[len(lanes)-1])) {
			lanes = append(lanes, laneOf(it.Key()))
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return s.readError([]byte{kLane}, err)
		}
		return nil
	})
	return lanes, err
}

func (s *pebbleStore) place(id ID) (p place, found bool, err error) {
	err = s.get(hashKey(kID, Hash(id)), func(v []byte) (err error) {
		found = true
		p, err = decodePlace(v)
		return err
	})
	return p, found, err
}

// find implements store.
func (s *pebbleStore) find(id ID) (Status, error) {
	p, found, err := s.place(id)
	if err != nil {
		return Status{}, err
	}
	if !found {
		return Status{}, ErrNotFound
	}
	status := Status{ID: id, Seq: p.seq, State: p.state}
	key := seqKey(kReason, p.seq)
	switch p.state {
	case Undelivered:
		err := s.get(laneSeqKey(p.lane, p.seq), func(v []byte) error {
			t, err := decodeTries(v)
			status.Attempts, status.Next = t.attempts, t.next
			return err
		})
		return status, err
	case Delivered:
		key = timeSeqKey(kAnswer, p.expiry, p.seq)
	}
	err = s.get(key, func(v []byte) error {
		d, err := s.seal.openEnding(v)
		if err != nil {
			return err
		}
		status.Attempts, status.Reason, status.Ended, status.Answer = d.attempts, d.reason, d.at, d.answer
		return nil
	})
	return status, err
}

// overdue implements store.
func (s *pebbleStore) overdue(now time.Time, most int) (seqs []uint64, err error) {
	err = s.each([]byte{kDeadline}, timeSeqKey(kDeadline, now.UnixMilli()+1, 0), func(it *pebble.Iterator) (bool, error) {
		seqs = append(seqs, seqOf(it.Key()))
		return len(seqs) < most, nil
	})
	return seqs, err
}

// scan implements store. It reads in steps, so that each may be slow without
// keeping old files from being removed, and goes on behind what cannot be read.
func (s *pebbleStore) scan(state State, after uint64, each func(*Entry, *ending) bool) error {
	kind := byte(kEntry)
	if state == Dead {
		kind = kDead
	}
	last := s.totals().seq
	for {
		seqs, err := s.seqs(kind, after, 64)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if err != nil && len(seqs) == 0 { // the keys themselves: try them one by one
			if after++; after > last {
				return nil
			}
			seqs = []uint64{after}
		}
		if len(seqs) == 0 {
			return nil
		}
		for _, seq := range seqs {
			after = seq
			e, d, err := s.read(kind, seq)
			if errors.Is(err, ErrDamaged) || errors.Is(err, ErrSecret) { // the key was tried at Open
				s.damage(fmt.Sprintf("entry %d", seq), err)
				continue
			}
			if err != nil {
				return err
			}
			if e != nil && !each(e, d) {
				return nil
			}
		}
	}
}

func (s *pebbleStore) seqs(kind byte, after uint64, most int) (seqs []uint64, err error) {
	err = s.each(seqKey(kind, after+1), []byte{kind + 1}, func(it *pebble.Iterator) (bool, error) {
		seqs = append(seqs, seqOf(it.Key()))
		return len(seqs) < most, nil
	})
	return seqs, err
}

// read is the entry and, of a dead one, its end; nil if it is gone.
func (s *pebbleStore) read(kind byte, seq uint64) (e *Entry, d *ending, err error) {
	if kind == kDead {
		if e, _, err = s.deadEntry(seq); err == nil {
			err = s.get(seqKey(kReason, seq), func(v []byte) (err error) { d, err = s.seal.openEnding(v); return err })
		}
	} else {
		e, err = s.load(seq)
	}
	if errors.Is(err, ErrNotFound) {
		return nil, nil, nil
	}
	return e, d, err
}

// first remembers the oldest open entry: in front of it lie the tombstones of
// all that were delivered, and its body need not be read again.
type first struct {
	mu      sync.Mutex
	seq     uint64 // mu; none older is open
	arrived time.Time
}

func (f *first) reopened(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seq < f.seq {
		f.seq, f.arrived = seq, time.Time{}
	}
}

// oldest implements store.
func (s *pebbleStore) oldest() (at time.Time, ok bool) {
	s.first.mu.Lock()
	defer s.first.mu.Unlock()
	f := &s.first
	seqs, err := s.seqs(kEntry, max(f.seq, 1)-1, 1)
	if err != nil || len(seqs) == 0 {
		return time.Time{}, false
	}
	if seqs[0] != f.seq || f.arrived.IsZero() {
		e, err := s.load(seqs[0])
		if err != nil {
			return time.Time{}, false
		}
		f.seq, f.arrived = seqs[0], e.Arrived
	}
	return f.arrived, true
}
