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

// find is the object for a request, valid or not yet known to be otherwise. any:
// the key is there, but perhaps no variant for this request (RFC 9111 4.1). It
// does not allocate where memory has the object.
func (s *store) find(r *Request, e *epochs) (o *Object, any bool) {
	found, ok := s.entries.GetIfPresent(r.Key)
	if !ok {
		if found = s.fetch(r.Key, e); found == nil {
			return nil, false
		}
	}
	for _, o := range found.objects {
		if e.valid(&o.validity) && selects(o.selectors, r.Header) && (o.part == nil || o.suits(r)) {
			return o, true
		}
	}
	return nil, true
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
	read := &entry{objects}
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

// put stores an object in place of what it supersedes, unless something newer
// is there.
func (s *store) put(o *Object, e *epochs) {
	older := false
	s.entries.Compute(o.key, func(old *entry, found bool) (*entry, otter.ComputeOp) {
		older = false // it may be called again
		objects := make([]*Object, 1, 4)
		if found {
			for _, was := range old.objects {
				switch {
				case !e.valid(&was.validity):
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
		return &entry{objects[:min(len(objects), maxVariants)]}, otter.WriteOp
	})
	if s.disk != nil && !older {
		s.disk.add(o, time.Now())
	}
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
		return &entry{objects}, otter.WriteOp
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
