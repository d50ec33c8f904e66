package httpcache

import (
	"hash/maphash"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"
)

// flightKey is what may be fetched once for several.
type flightKey struct {
	Key
	variant  uint64 // hash of the selecting fields, as far as they are known
	personal bool   // the requests have credentials: others do not wait for theirs
}

// Flight is one request to the application, and those who wait for its answer.
// Its owner, whom Lookup gave it to, calls Prepare, Sent, Receive, Write, End or
// Fail in this order, from one goroutine at a time, and Done in any case. The
// owner is not bound to a client.
type Flight struct {
	c       *Cache
	key     Key
	in      flightKey
	alone   bool // nobody follows
	head    bool // HEAD
	asks    bool // Prepare puts the cache's conditions in place of the client's
	behind  bool // no client reads along
	request Header
	control Control
	of      credentials
	policy  Policy
	stale   *Object  // what is revalidated; nil: nothing
	forward string   // why the request goes on (RFC 9211 2.2)
	joins   *contest // it may be overtaken; nil: it may not

	decided chan struct{} // closed when followers know what to do

	mu     sync.Mutex
	done   bool      // mu; decided is closed
	ended  bool      // mu; no more bytes come
	away   bool      // mu; Sent was called
	sent   uint64    // mu; the epochs' clock at the time of sending; before, of Lookup
	sentAt time.Time // mu; likewise
	object *Object   // mu; set at most once; others may share it once done
	keep   bool      // mu; object is to be stored at the end
	open   bool      // mu; object is for followers
	stands bool      // mu; object is stale, and stands in for an answer
	body   *body     // mu; of object while it comes in
	length int64     // mu; Content-Length; -1: not said
	leaves *contest  // mu; set before done: it was refused, and those who followed contend
}

func (c *Cache) newFlight(r *Request, req *Control, p Policy, o *Object) *Flight {
	return &Flight{c: c, key: r.Key, request: cloneHeader(r.Header), control: *req, of: credentialsOf(r.Header), policy: p,
		stale: o, head: r.Method == "HEAD", decided: make(chan struct{}), sent: c.epochs.now(), sentAt: time.Now(), length: -1}
}

// board is the flight for a request that has no usable object: one of its own,
// or one to follow.
func (c *Cache) board(r *Request, req *Control, p Policy, o *Object, tired *Flight) (f *Flight, lead bool) {
	ranged := has(r.Header, "Range") && (o == nil || o.part != nil)
	in := c.flightKey(r)
	if r.Method == "HEAD" || ranged || tired != nil || c.alone.has(c.epochs.flight(in), time.Now()) {
		f := c.newFlight(r, req, p, o)
		f.in, f.alone = in, true
		// Conditions of a client whose answers are never stored are better
		// evaluated by the application.
		f.asks = o != nil && !f.head && o.part == nil
		if tired != nil {
			if f.joins = tired.contested(); f.joins != nil {
				f.asks = true // for all
			}
		}
		return f, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// The first flight of a key does not know yet what the answer varies on.
	for range maxVariants {
		f := c.flights[in]
		if f == nil || !c.boards(f, req) {
			break
		}
		next, differs := f.elsewhere(r)
		if !differs {
			return f, false
		}
		if next == in.variant {
			break
		}
		in.variant = next
	}
	f = c.newFlight(r, req, p, o)
	f.in, f.asks = in, true
	c.flights[in] = f
	return f, true
}

// refresh is the flight that revalidates an object in the background; nil: one
// is on its way.
func (c *Cache) refresh(r *Request, p Policy, o *Object) *Flight {
	in := c.flightKey(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[in]; f != nil && c.boards(f, &Control{}) {
		return nil
	}
	plain := *r
	plain.Method = "GET"
	f := c.newFlight(&plain, &Control{}, p, o)
	f.in, f.asks, f.behind, f.forward = in, true, true, "stale"
	c.flights[in] = f
	return f
}

// boards reports whether a new request may follow a flight: not one that was
// sent before an invalidation, and with a wish for the newest only one that has
// no answer yet.
func (c *Cache) boards(f *Flight, req *Control) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.away && !f.done:
		return true
	case !f.done:
		return c.epochs.current(&validity{f.sent, []uint32{c.epochs.key(f.key)}})
	}
	return f.open && f.goodLocked() && !req.has(noCache|maxAge|minFresh)
}

// goodLocked reports whether the object may still be given to followers:
// nothing was invalidated since it was asked for. One that stands in is stale
// anyway.
func (f *Flight) goodLocked() bool {
	v := &f.object.validity
	return (f.c.epochs.current(v) || f.stands && f.c.epochs.valid(v)) && f.object.body.joinable()
}

func (b *body) joinable() bool {
	if b.final.Load() != nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.grown
}

// elsewhere is the variant under which a request finds its flight, where the
// answer of this one turned out to be for others.
func (f *Flight) elsewhere(r *Request) (variant uint64, differs bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.object == nil || selects(f.object.selectors, r.Header) {
		return 0, false
	}
	return f.c.epochs.variant(f.object.selectors, r.Header), true
}

func (c *Cache) flightKey(r *Request) flightKey {
	in := flightKey{Key: r.Key, personal: !credentialsOf(r.Header).anonymous()}
	if s := c.store.selectorsOf(r.Key); len(s) > 0 {
		in.variant = c.epochs.variant(s, r.Header)
	}
	return in
}

func (e *epochs) variant(s []selector, request Header) uint64 {
	var h maphash.Hash
	h.SetSeed(e.seed)
	for i := range s {
		h.WriteString(s[i].name)
		h.WriteByte(0)
		h.Write(normalise(nil, s[i].name, request))
		h.WriteByte(0)
	}
	return h.Sum64()
}

func (e *epochs) flight(in flightKey) uint64 { return maphash.Comparable(e.seed, in) }

// Method is that of the request to send: HEAD where a client's HEAD goes on,
// else GET.
func (f *Flight) Method() string {
	if f.head {
		return "HEAD"
	}
	return "GET"
}

// Prepare changes the header of the request that is to be sent: with the
// cache's own conditions in place of the client's (RFC 9111 4.3.1), or as it is,
// and with what the cache can do.
func (f *Flight) Prepare(h Header) {
	h[surrogateCapability] = append(slices.Clip(f.request[surrogateCapability]), capability)
	switch {
	case !f.asks:
	case f.stale != nil:
		revalidation(h, f.stale)
	default:
		dropConditions(h)
	}
}

// Sent notes that the request is being sent now. What is invalidated from now on
// is not what it will bring. Call it again when it is sent again.
func (f *Flight) Sent() {
	f.mu.Lock()
	f.away, f.sent, f.sentAt = true, f.c.epochs.now(), time.Now()
	f.mu.Unlock()
	if f.joins != nil {
		f.joins.won(f)
	}
}

// shared is the object for a follower, once decided.
func (f *Flight) shared(r *Request) (*Object, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.object
	if !f.open || !f.goodLocked() || !selects(o.selectors, r.Header) {
		return nil, false
	}
	if of := credentialsOf(r.Header); !of.anonymous() && !o.control.shares(of) {
		return nil, false
	}
	o = o.joined()
	return o, o != nil
}

// decideLocked lets the followers go.
func (f *Flight) decideLocked() {
	if !f.done {
		f.done = true
		close(f.decided)
	}
}

// landLocked says that no more bytes come.
func (f *Flight) landLocked() {
	f.ended = true
	f.decideLocked()
}

// settle takes a flight that nobody may follow any more out of the cache's
// list. It is called without the flight's lock: the cache's comes before it.
func (f *Flight) settle() {
	f.mu.Lock()
	over := !f.alone && (f.ended || f.done && !f.open)
	f.mu.Unlock()
	if !over {
		return
	}
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.c.flights[f.in] == f {
		delete(f.c.flights, f.in)
	}
}

// Write takes in bytes of an answer that Receive said to Keep. It never fails;
// it waits only for followers of an answer that has become too long to store.
func (f *Flight) Write(p []byte) (int, error) {
	f.mu.Lock()
	b := f.body
	f.mu.Unlock()
	if b != nil {
		b.write(p)
	}
	return len(p), nil
}

// End says that all of the answer has come, with this trailer section.
func (f *Flight) End(trailer Header) {
	f.mu.Lock()
	b, o := f.body, f.object
	whole := b != nil && (f.length < 0 || f.length == b.received())
	keep := f.keep && !f.ended
	f.mu.Unlock()
	if !whole {
		f.Fail()
		return
	}
	b.end(trailer, nil)
	// Stored first and forgotten then: between the two a request finds both,
	// never neither.
	switch _, ok := b.whole(); {
	case !ok:
		f.c.alone.add(f.c.epochs.flight(f.in), time.Now()) // too long to share
	case keep && f.c.epochs.valid(&o.validity):
		f.c.store.put(o, f.request, f.c.epochs)
		f.c.counts.stored.Add(1)
	}
	defer f.settle()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.landLocked()
}

// Room is how many bytes Write takes in now without waiting for any reader.
func (f *Flight) Room() int64 {
	f.mu.Lock()
	b := f.body
	f.mu.Unlock()
	if b == nil {
		return math.MaxInt64
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit - int64(len(b.data))
}

func (b *body) received() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.base + int64(len(b.data))
}

// Fail says that no answer comes, or no more of it (RFC 9111 3.3: what is
// incomplete is not stored). Followers who have not seen its head go on as if it
// had never been.
func (f *Flight) Fail() {
	f.mu.Lock()
	b := f.body
	f.mu.Unlock()
	if b != nil {
		b.end(nil, ErrIncomplete)
	}
	defer f.settle()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.landLocked()
}

// Done ends a flight that has not ended otherwise. Safe to call twice.
func (f *Flight) Done() {
	f.mu.Lock()
	ended := f.ended
	f.mu.Unlock()
	if !ended {
		f.Fail()
	}
}

// contentLength is -1 when there is none.
func contentLength(h Header) int64 {
	n, err := strconv.ParseInt(field(h, "Content-Length"), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
