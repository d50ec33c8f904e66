package httpcache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what may be said of a cache. The zero value of a field means its
// default.
type Config struct {
	// Bytes bounds what is stored. Default 64 MiB: a small application's pages.
	Bytes int64
	// Object is the largest body that is stored, in bytes. Default an eighth of
	// Bytes, at most 16 MiB: one download must not empty the cache.
	Object int64
	// Heuristic is the longest time that an answer is fresh which has only
	// Last-Modified (RFC 9111 4.2.2). Default a minute: enough to be asked once,
	// short enough not to hurt. Negative: no time at all.
	Heuristic time.Duration
	// Plain: nothing is compressed.
	Plain bool
}

// Defaults of Config, in one place for everybody who must know them.
const (
	DefaultBytes     = 64 << 20
	DefaultHeuristic = time.Minute
	maxObject        = 16 << 20
	objectShare      = 8
)

func (c Config) withDefaults() Config {
	if c.Bytes <= 0 {
		c.Bytes = DefaultBytes
	}
	if c.Object <= 0 {
		c.Object = min(maxObject, c.Bytes/objectShare)
	}
	if c.Heuristic == 0 {
		c.Heuristic = DefaultHeuristic
	}
	return c
}

// Cache is one pool's. It outlives configurations.
type Cache struct {
	cfg    atomic.Pointer[Config]
	store  *store
	epochs *epochs
	press  *press
	alone  lonely
	counts counts
	advice *Advisor

	mu      sync.Mutex
	flights map[flightKey]*Flight // mu; undecided, or coming in and shared
}

// New makes an empty cache.
func New(cfg Config) (*Cache, error) {
	cfg = cfg.withDefaults()
	s, err := newStore(cfg.Bytes)
	if err != nil {
		return nil, err
	}
	c := &Cache{store: s, epochs: newEpochs(), press: newPress(), advice: NewAdvisor(), flights: make(map[flightKey]*Flight)}
	c.cfg.Store(&cfg)
	return c, nil
}

// Configure changes the bounds of a cache that is in use; what is stored stays,
// as far as it fits.
func (c *Cache) Configure(cfg Config) {
	cfg = cfg.withDefaults()
	c.cfg.Store(&cfg)
	c.store.entries.SetMaximum(uint64(cfg.Bytes))
}

// Advisor watches what the cache has not answered; it lives as long as the cache.
func (c *Cache) Advisor() *Advisor { return c.advice }

// Verdict is what is to be done with a request.
type Verdict int

const (
	// Pass: send it as it came, and tell Answered of the answer.
	Pass Verdict = iota
	// Hit: Object is the answer.
	Hit
	// Stale: Object is the answer; if there is a Flight, carry it out in the
	// background, whether the client stays or not: a GET of the whole.
	Stale
	// Fetch: carry out Flight, or end it with Instead. Object, if any, is the
	// one that is not fresh.
	Fetch
	// Wait: Follow must decide. Lookup alone returns it.
	Wait
	// Refuse: the client wants an answer from the cache or none: 504 (RFC 9111
	// 5.2.1.7).
	Refuse
)

// Found is what Lookup found.
type Found struct {
	Verdict Verdict
	Object  *Object
	Flight  *Flight
	Note    Note // for Cache-Status; Receive has a better one
}

// Lookup decides about one request. It waits for nobody, but may read from disk,
// and does not allocate when memory has a fresh object.
func (c *Cache) Lookup(r *Request, p Policy) Found {
	return c.lookup(r, p, nil)
}

// lookup is Lookup; tired, when not nil, is a flight that let its followers down
// once too often, or was refused: this request goes by itself.
func (c *Cache) lookup(r *Request, p Policy, tired *Flight) Found {
	if why, yes := r.passes(); yes {
		c.counts.passes.Add(1)
		return Found{Verdict: Pass, Note: Note{Forward: why}}
	}
	req := requestControl(r.Header)
	of := credentialsOf(r.Header)
	o, miss := c.store.find(r, c.epochs)
	seen := o
	note := Note{Forward: miss}
	if o != nil && !of.anonymous() && !o.control.shares(of) {
		o, note.Forward, note.Detail = nil, "miss", "credentials"
	}
	if o != nil {
		s := o.state(time.Now(), c.epochs)
		note.TTL, note.Lives = -s.stale, true
		switch judge(&req, &o.control, s) {
		case usable:
			c.counts.hits.Add(1)
			return Found{Verdict: Hit, Object: o, Note: Note{Hit: true, TTL: -s.stale, Lives: true}}
		case revalidate:
			c.counts.stale.Add(1)
			return Found{Verdict: Stale, Object: o, Flight: c.refresh(r, p, o), Note: Note{Hit: true, TTL: -s.stale, Lives: true}}
		}
		note.Forward = "stale"
		if s.stale < 0 {
			note.Forward = "request"
		}
	}
	switch {
	case req.has(onlyIfCached): // 5.2.1.7
		return Found{Verdict: Refuse, Note: Note{Detail: "only-if-cached"}}
	case req.has(noStore): // 5.2.1.5
		c.counts.passes.Add(1)
		return Found{Verdict: Pass, Object: o, Note: Note{Forward: note.Forward}}
	}
	f, lead := c.board(r, &req, p, o, tired)
	if lead && !f.alone {
		// Another flight may have landed since the look into the store: it is
		// forgotten after its object was stored, so that it is there now.
		if now, _ := c.store.find(r, c.epochs); !now.same(seen) {
			f.Done()
			return c.lookup(r, p, tired)
		}
	}
	if !lead {
		return Found{Verdict: Wait, Object: o, Flight: f, Note: note}
	}
	c.counts.misses.Add(1)
	f.forward = note.Forward
	return Found{Verdict: Fetch, Object: o, Flight: f, Note: note}
}

// state is the object's moment (RFC 9111 4.2). A soft invalidation ends its
// freshness.
func (o *Object) state(now time.Time, e *epochs) state {
	s := state{age: max(0, now.Sub(o.born))}
	s.stale = s.age - o.life
	if at, ok := e.softened(&o.validity); ok {
		s.stale = max(s.stale, now.Sub(at))
	}
	return s
}

// patience is how many leaders a follower sees fail before it goes alone.
const patience = 3

// Follow waits for the flight of a Found with verdict Wait, until the head of
// its answer is there or it has none for this request; others it returns at
// once. The error is the context's.
func (c *Cache) Follow(ctx context.Context, r *Request, p Policy, found Found) (Found, error) {
	for tries := 1; found.Verdict == Wait; tries++ {
		f := found.Flight
		select {
		case <-f.decided:
		case <-ctx.Done():
			return found, ctx.Err()
		}
		if o, ok := f.shared(r); ok {
			c.counts.collapsed.Add(1)
			found.Note.Collapsed = true
			found.Note.TTL, found.Note.Lives = -o.state(time.Now(), c.epochs).stale, true
			return Found{Verdict: Hit, Object: o, Note: found.Note}, nil
		}
		var tired *Flight
		if k := f.contested(); k != nil {
			if first := k.first.Load(); first != nil {
				found.Flight = first
				continue
			}
			tired = f
		} else if tries >= patience {
			tired = f
		}
		found = c.lookup(r, p, tired)
	}
	return found, nil
}

// Answer is what the client gets of an object: 200, 304, 206, 416.
func (c *Cache) Answer(r *Request, o *Object) Answer {
	a, made := o.answer(r.Method, r.Header, c.press)
	a.remote = r.Trusted
	if made {
		c.store.reweigh(o.key)
	}
	return a
}

// StaleFor reports whether an object that is not fresh, from Found, may answer
// the request because the application cannot (RFC 5861 4, RFC 9111 4.2.4). An
// object that was invalidated hard meanwhile never may. Who has a Flight calls
// its Instead.
func (c *Cache) StaleFor(r *Request, p Policy, o *Object, why Trouble) (Note, bool) {
	if o == nil || !c.epochs.valid(&o.validity) {
		return Note{}, false
	}
	req := requestControl(r.Header)
	s := o.state(time.Now(), c.epochs)
	if !staleOnError(&req, &o.control, s, why, p.Stale) {
		return Note{}, false
	}
	c.counts.stale.Add(1)
	return Note{Hit: true, TTL: -s.stale, Lives: true, Detail: troubles[why]}, true
}

var troubles = [...]string{Overloaded: "overloaded", Failing: "failing", Unreachable: "unreachable"}

// counts are of Stats.
type counts struct {
	hits, misses, passes, stale, collapsed, stored, invalidations atomic.Int64
}

// Stats is a consistent enough copy for readers. Counts are since New.
type Stats struct {
	Hits, Misses, Passes int64 // answered from the store; fetched; not the cache's business
	Stale                int64 // answered from a stale object
	Collapsed            int64 // answered by another's flight
	Stored               int64 // objects
	Invalidations        int64
	Evictions            int64 // keys that had to go for others
	Keys                 int
	Bytes, MaxBytes      int64
	Flights              int
	Disk                 *DiskStats // nil: there is no second tier
}

// Stats are the cache's numbers now.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	flights := len(c.flights)
	c.mu.Unlock()
	return Stats{
		Hits: c.counts.hits.Load(), Misses: c.counts.misses.Load(), Passes: c.counts.passes.Load(),
		Stale: c.counts.stale.Load(), Collapsed: c.counts.collapsed.Load(), Stored: c.counts.stored.Load(),
		Invalidations: c.counts.invalidations.Load(), Evictions: c.store.evictions.Load(),
		Keys: c.store.entries.EstimatedSize(), Bytes: int64(c.store.entries.WeightedSize()), MaxBytes: c.cfg.Load().Bytes,
		Flights: flights, Disk: c.store.disk.stats(),
	}
}
