package httpcache

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"
)

// marks is how many epochs there are. Keys and tags share them by hash: two
// that meet are invalidated together, which costs a request and is never wrong.
// 65,536 take 1.5 MiB, and no invalidation is ever forgotten.
const marks = 1 << 16

// epochs remember for every key and tag when it was invalidated last, in the
// cache's own count of events. An object is as old as the request that brought
// it was when it was *sent*: an invalidation after that moment, from wherever,
// makes it invalid, stored or not, without looking for it.
type epochs struct {
	seed  maphash.Seed   // of what lives as long as the process
	salt  [saltSize]byte // of marks
	book  *book          // has them on disk; nil: they live as long as the process
	clock atomic.Uint64  // counts invalidations
	hard  [marks]atomic.Uint64
	soft  [marks]atomic.Uint64
	since [marks]atomic.Int64 // when soft was raised; Unix nanoseconds
	all   atomic.Uint64       // as hard, of everything
}

func newEpochs() *epochs {
	e := &epochs{seed: maphash.MakeSeed()}
	rand.Read(e.salt[:]) // never fails
	return e
}

// validity is an object's part in it.
type validity struct {
	sent  uint64   // the clock when its request was sent
	marks []uint32 // of its key and tags
}

// key is the mark of all ways to a URI.
func (e *epochs) key(k Key) uint32 { return e.mark(0, k.Scheme, k.Host, k.URI) }

// tag is the mark of a tag; a tag is never taken for a key, but for their hash.
func (e *epochs) tag(t string) uint32 { return e.mark(1, t) }

// mark is the same in every process that has the same salt.
func (e *epochs) mark(kind byte, names ...string) uint32 {
	var room [512]byte
	b := append(append(room[:0], e.salt[:]...), kind)
	for _, s := range names {
		b = append(append(b, s...), 0)
	}
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint32(sum[:]) % marks
}

func (e *epochs) now() uint64 { return e.clock.Load() }

// invalidate raises the epochs of marks. When it returns, no object of an
// earlier request is valid.
func (e *epochs) invalidate(soft bool, marks ...uint32) {
	at := time.Now().UnixNano()
	if e.book != nil {
		e.book.enter(e, soft, at, marks...)
		return
	}
	now := e.clock.Add(1)
	for _, m := range marks {
		e.raise(soft, at, m, now)
	}
}

func (e *epochs) raise(soft bool, at int64, mark uint32, to uint64) {
	if soft {
		e.since[mark].Store(at)
		raise(&e.soft[mark], to)
	} else {
		raise(&e.hard[mark], to)
	}
}

func (e *epochs) invalidateAll() {
	if e.book != nil {
		raise(&e.all, e.book.enterAll(e))
		return
	}
	raise(&e.all, e.clock.Add(1))
}

func raise(epoch *atomic.Uint64, to uint64) {
	for {
		was := epoch.Load()
		if was >= to || epoch.CompareAndSwap(was, to) {
			return
		}
	}
}

// valid reports whether nothing that the object depends on was invalidated hard.
func (e *epochs) valid(v *validity) bool {
	if v.sent < e.all.Load() {
		return false
	}
	for _, m := range v.marks {
		if v.sent < e.hard[m].Load() {
			return false
		}
	}
	return true
}

// current reports whether nothing was invalidated, not even softly.
func (e *epochs) current(v *validity) bool {
	_, soft := e.softened(v)
	return !soft && e.valid(v)
}

// softened is when the object was invalidated softly; false: it was not.
func (e *epochs) softened(v *validity) (at time.Time, ok bool) {
	for _, m := range v.marks {
		if v.sent < e.soft[m].Load() {
			if t := time.Unix(0, e.since[m].Load()); !ok || t.Before(at) {
				at, ok = t, true
			}
		}
	}
	return at, ok
}

// maxTags bounds the tags of one answer; with more it is not stored, because it
// could not be invalidated by all.
const maxTags = 128

// tagsOf are the tags of an answer: Cache-Tag is separated by commas,
// Surrogate-Key by spaces.
func tagsOf(h Header) []string {
	var tags []string
	for l := members(h, "Cache-Tag"); ; {
		t, ok := l.next()
		if !ok {
			break
		}
		tags = append(tags, t)
	}
	for _, line := range h["Surrogate-Key"] {
		tags = append(tags, strings.Fields(line)...)
	}
	return tags
}

// Invalidation is one thing to invalidate.
type Invalidation struct {
	Tag  string // empty: URL
	URL  string // path and query, or a whole URL
	Soft bool   // it becomes stale, and may be used as far as stale answers may
}

// ParseInvalidations reads what an application wants invalidated:
// `tag=a, tag=b;soft, url=/x`. What it does not understand it leaves out.
func ParseInvalidations(lines []string) []Invalidation {
	var all []Invalidation
	for l := (list{lines: lines}); ; {
		member, ok := l.next()
		if !ok {
			return all
		}
		var x Invalidation
		if m, soft := strings.CutSuffix(member, "soft"); soft {
			if m = trim(m); strings.HasSuffix(m, ";") {
				member, x.Soft = trim(m[:len(m)-1]), true
			}
		}
		what, value, _ := strings.Cut(member, "=")
		switch value = unquote(trim(value)); {
		case value == "":
			continue
		case strings.EqualFold(trim(what), "tag"):
			x.Tag = value
		case strings.EqualFold(trim(what), "url"):
			x.URL = value
		default:
			continue
		}
		all = append(all, x)
	}
}

// Invalidate carries out what ParseInvalidations read, for an answer to a
// request for key, or an operator's wish with a whole URL. When it returns, no
// reader gets an answer whose request was sent before. Safe for concurrent use.
func (c *Cache) Invalidate(from Key, all ...Invalidation) {
	for _, x := range all {
		if x.Tag != "" {
			c.epochs.invalidate(x.Soft, c.epochs.tag(x.Tag))
			c.counts.invalidations.Add(1)
		} else if key, ok := resolve(from, x.URL); ok {
			c.invalidateKey(key, x.Soft)
		}
	}
}

func (c *Cache) invalidateKey(key Key, soft bool) {
	c.epochs.invalidate(soft, c.epochs.key(key))
	c.counts.invalidations.Add(1)
	if !soft {
		c.store.remove(key)
	}
}

// InvalidateAll makes everything that is stored, or under way, invalid.
func (c *Cache) InvalidateAll() {
	c.epochs.invalidateAll()
	c.counts.invalidations.Add(1)
	c.store.clear()
}

// Answered tells the cache of an answer to a request that passed it by. A
// success of an unsafe method invalidates its target, and what Location and
// Content-Location name if that is on the same origin (RFC 9111 4.4).
func (c *Cache) Answered(r *Request, status int, h Header) {
	if safe(r.Method) || status < 200 || status > 399 {
		return
	}
	c.invalidateKey(r.Key, false)
	for _, name := range []string{"Location", "Content-Location"} {
		if url := field(h, name); url != "" {
			if key, ok := resolve(r.Key, url); ok && key.Scheme == r.Key.Scheme && key.Host == r.Key.Host {
				c.invalidateKey(key, false)
			}
		}
	}
}

// safe methods change nothing (RFC 9110 9.2.1); unknown ones may.
func safe(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH":
		return true
	}
	return false
}
