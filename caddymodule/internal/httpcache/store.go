package httpcache

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// maxVariants is the most objects under one key. A field like User-Agent in Vary
// has more values than anybody wants to store.
const maxVariants = 32

// entry is all objects of a key, the newest first. It is never changed: a write
// makes another one.
type entry struct {
	objects []*Object
	mixed   bool // they vary on different fields: a request may get one or another
}

func newEntry(objects []*Object) *entry {
	e := &entry{objects: objects}
	for _, o := range objects[1:] {
		e.mixed = e.mixed || !sameNames(o.selectors, objects[0].selectors)
	}
	return e
}

// store holds entries up to a number of bytes; W-TinyLFU decides which. With a disk
// it has others there.
type store struct {
	entries   *otter.Cache[Key, *entry]
	evictions atomic.Int64
	disk      *disk // nil: there is none
	reading   [64]sync.Mutex
}

func newStore(bytes int64) (*store, error) {
	s := new(store)
	entries, err := otter.New(&otter.Options[Key, *entry]{
		MaximumWeight: uint64(bytes),
		Weigher:       func(_ Key, e *entry) uint32 { return e.weight() },
		OnAtomicDeletion: func(e otter.DeletionEvent[Key, *entry]) {
			if e.WasEvicted() {
				s.evictions.Add(1)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("httpcache: make a store of %d bytes: %w", bytes, err)
	}
	s.entries = entries
	return s, nil
}

func (e *entry) weight() uint32 {
	var n int64
	for _, o := range e.objects {
		n += o.Size()
	}
	return uint32(min(n, math.MaxUint32))
}

// find is the object for a request, valid or not yet known to be otherwise. Without
// one miss says why, in the words of RFC 9211 2.2. It does not allocate where memory
// has objects of which a request may get one only.
func (s *store) find(r *Request, e *epochs) (best *Object, miss string) {
	miss = "uri-miss"
	found, ok := s.entries.GetIfPresent(r.Key)
	if !ok {
		if found = s.fetch(r.Key, e); found == nil {
			return nil, miss
		}
	}
	for _, o := range found.objects {
		switch {
		case !e.valid(&o.validity):
		case !selects(o.selectors, r.Header):
			if miss == "uri-miss" {
				miss = "vary-miss"
			}
		case o.part != nil && !o.suits(r):
			miss = "partial"
		case !found.mixed:
			return o, ""
		case best == nil || o.before(best, e):
			best = o
		}
	}
	return best, miss
}

// before reports whether a request that may get either gets this one: what is
// fresh goes first, then what varies (RFC 9111 4.1: an answer without Vary is what
// those are told who ask for nothing in particular), then what has the later Date (4).
func (o *Object) before(other *Object, e *epochs) bool {
	now := time.Now()
	if a, b := o.state(now, e).stale < 0, other.state(now, e).stale < 0; a != b {
		return a
	}
	if a, b := len(o.selectors) > 0, len(other.selectors) > 0; a != b {
		return a
	}
	return date(o.header, o.received).After(date(other.header, other.received))
}

// others are the objects besides one that the same request could have got.
func (s *store) others(o *Object, request Header, e *epochs) (all []*Object) {
	found, ok := s.entries.GetEntryQuietly(o.key)
	if !ok || !found.Value.mixed {
		return nil
	}
	for _, x := range found.Value.objects {
		if x != o && x.part == nil && e.valid(&x.validity) && selects(x.selectors, request) {
			all = append(all, x)
		}
	}
	return all
}

// fetch is the entry that is on disk, and puts it into memory; nil: there is none.
// Of those who want the same one reads.
func (s *store) fetch(key Key, e *epochs) *entry {
	if s.disk == nil || !s.disk.has(key) {
		return nil
	}
	reading := &s.reading[digestOf(key)[0]%64]
	reading.Lock()
	defer reading.Unlock()
	if found, ok := s.entries.GetEntryQuietly(key); ok {
		return found.Value
	}
	objects := s.disk.fetch(key, e)
	if len(objects) == 0 {
		return nil
	}
	read := newEntry(objects)
	if other, absent := s.entries.SetIfAbsent(key, read); !absent {
		return other
	}
	return read // memory may not want it
}

// same reports whether two looks into the store have found the same: what is read
// from disk is another object each time.
func (o *Object) same(as *Object) bool {
	return o == as || o != nil && as != nil && o.filed && as.filed && o.received.Equal(as.received)
}

// suits reports whether a part is what the request wants (RFC 9111 3.3, 3.4).
func (o *Object) suits(r *Request) bool {
	return r.Method == "GET" && has(r.Header, "Range") &&
		rangeApplies(r.Header, o.header, o.etag(), o.received) && o.covers(r.Header)
}

// selectorsOf are those of the newest object of a key.
func (s *store) selectorsOf(key Key) []selector {
	if found, ok := s.entries.GetEntryQuietly(key); ok && len(found.Value.objects) > 0 {
		return found.Value.objects[0].selectors
	}
	return nil
}

// put stores an object in place of what it supersedes, unless something newer is
// there. request is what it answers; nil: it is an update of what was there.
func (s *store) put(o *Object, request Header, e *epochs) {
	older := false
	var over []*Object
	s.entries.Compute(o.key, func(old *entry, found bool) (*entry, otter.ComputeOp) {
		older, over = false, nil // it may be called again
		objects := make([]*Object, 1, 4)
		if found {
			for _, was := range old.objects {
				switch {
				case !e.valid(&was.validity):
				case o.ends(was, request):
					over = append(over, was)
				case !o.supersedes(was):
					objects = append(objects, was)
				case was.received.After(o.received) && !(o.part == nil && was.part != nil):
					older = true
					return old, otter.CancelOp
				case o.part != nil:
					if whole := combined(was, o); whole != nil {
						o = whole
					}
				}
			}
		}
		objects[0] = o
		return newEntry(objects[:min(len(objects), maxVariants)]), otter.WriteOp
	})
	if s.disk != nil && !older {
		for _, was := range over {
			s.disk.drop(was)
		}
		s.disk.add(o, time.Now())
	}
}

// ends reports whether a request got an answer that varied before, and now one that
// does not. Otherwise the former would go before the latter for as long as it is
// fresh, and its readers would go back in time.
func (o *Object) ends(was *Object, request Header) bool {
	return request != nil && len(o.selectors) == 0 && o.part == nil && len(was.selectors) > 0 &&
		!was.received.After(o.received) && selects(was.selectors, request)
}

// supersedes reports whether a new object takes the place of an old one: it is
// for the same requests. A part does not take the place of the whole.
func (o *Object) supersedes(was *Object) bool {
	return sameSelectors(o.selectors, was.selectors) && (o.part == nil || was.part != nil)
}

// drop takes one object away, if it is still there.
func (s *store) drop(o *Object) {
	s.entries.ComputeIfPresent(o.key, func(old *entry) (*entry, otter.ComputeOp) {
		var objects []*Object
		for _, was := range old.objects {
			if was != o {
				objects = append(objects, was)
			}
		}
		if len(objects) == 0 {
			return nil, otter.InvalidateOp
		}
		return newEntry(objects), otter.WriteOp
	})
	if s.disk != nil {
		s.disk.drop(o)
	}
}

// reweigh counts an entry's bytes anew, after a form of a body was made.
func (s *store) reweigh(key Key) {
	s.entries.ComputeIfPresent(key, func(old *entry) (*entry, otter.ComputeOp) {
		return old, otter.WriteOp
	})
}

// remove frees what was under a key that was invalidated.
func (s *store) remove(key Key) {
	s.entries.Invalidate(key)
	if s.disk != nil {
		s.disk.remove(key)
	}
}

func (s *store) clear() {
	s.entries.InvalidateAll()
	if s.disk != nil {
		s.disk.clear()
	}
}
