package httpcache

import (
	"fmt"
	"math"

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

// store holds entries up to a number of bytes; W-TinyLFU decides which.
type store struct {
	entries *otter.Cache[Key, *entry]
}

func newStore(bytes int64) (*store, error) {
	entries, err := otter.New(&otter.Options[Key, *entry]{
		MaximumWeight: uint64(bytes),
		Weigher:       func(_ Key, e *entry) uint32 { return e.weight() },
	})
	if err != nil {
		return nil, fmt.Errorf("httpcache: make a store of %d bytes: %w", bytes, err)
	}
	return &store{entries}, nil
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
// does not allocate.
func (s *store) find(r *Request, e *epochs) (o *Object, any bool) {
	found, ok := s.entries.GetIfPresent(r.Key)
	if !ok {
		return nil, false
	}
	for _, o := range found.objects {
		if e.valid(&o.validity) && selects(o.selectors, r.Header) && (o.part == nil || o.suits(r)) {
			return o, true
		}
	}
	return nil, true
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
	s.entries.Compute(o.key, func(old *entry, found bool) (*entry, otter.ComputeOp) {
		objects := make([]*Object, 1, 4)
		if found {
			for _, was := range old.objects {
				switch {
				case !e.valid(&was.validity):
				case !o.supersedes(was):
					objects = append(objects, was)
				case was.received.After(o.received) && !(o.part == nil && was.part != nil):
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
}

// reweigh counts an entry's bytes anew, after a form of a body was made.
func (s *store) reweigh(key Key) {
	s.entries.ComputeIfPresent(key, func(old *entry) (*entry, otter.ComputeOp) {
		return old, otter.WriteOp
	})
}

func (s *store) remove(key Key) { s.entries.Invalidate(key) }
func (s *store) clear()         { s.entries.InvalidateAll() }
