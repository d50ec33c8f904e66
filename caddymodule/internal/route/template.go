package route

import (
	"cmp"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of Templates.
const (
	MaxTemplates = maxExact + maxCoarse + 1 // 200; the last is Other

	maxExact  = 160
	maxFree   = 80 // exact ones that are had for the first asking
	maxCoarse = 39
	maxPath   = 2048 // bytes that are looked at
	maxDepth  = 6    // segments of a template; the rest of the path is {rest...}
	maxFirst  = 64   // names kept as the first segment: an application has that many parts
	maxNames  = 24   // names kept at any later place
	window    = 256  // names after which a wide place is looked at again
	period    = 10 * time.Minute
)

// Other is the template of requests that have no better one.
const Other = "other"

// Templates gives requests outside any route a label that says what they are,
// for metrics and for the learned cost: GET /item/{id}. HEAD counts as GET;
// methods that are not well known count as OTHER. The zero value is ready.
//
// Segments that look like ids, hashes or titles are folded (see fold); names
// stay. Where more than 64 different names come first in a path, or more than 24
// at a later place, the half of them that is used most stays, if it was used
// more than once, and everything else there becomes {name}: a scanner's guesses
// do not take the names away from the pages that people read. After ten minutes
// with few different names the place takes new ones again.
//
// Of 200 templates at most 160 are exact, and when half of these are taken, a
// shape must be asked for twice to get one: guesses rarely are. Until then, and
// when all are taken, it falls under GET /first/{rest...}, if its first segment
// is known, or else under Other. Room is made where it is wanted, at most every
// ten minutes: uses are halved, and what has none left is forgotten. So a
// template in use stays, and one that was a scanner's goes. Known says which
// there are, for those who keep something for each.
//
// Always: at most MaxTemplates at a time, each at most 256 bytes of printable
// UTF-8; the same path gives the same template while nothing is forgotten or
// folded at its places.
type Templates struct {
	mu     sync.RWMutex
	trees  [len(methods)]spot // mu
	exact  int                // mu; leaves at the end of a path
	coarse int                // mu; leaves for everything below a first segment
	swept  time.Time          // mu; when room was made last
	once   [1024]uint64       // mu; hashes of shapes that were asked for, by their last bits
}

var methods = [...]string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"}

// spot is a place in paths: what may follow there.
type spot struct {
	next   map[string]*spot // by segment: names and placeholders
	names  int              // names in next
	exact  *leaf            // paths that end here; may be nil
	coarse *leaf            // first segments only: what has no room elsewhere; may be nil

	wide  bool             // too many names: a new one is {name}
	asked atomic.Uint32    // how many became {name} since wide was last decided
	seen  [4]atomic.Uint64 // a bit for each of them, by hash
}

type leaf struct {
	label string
	uses  atomic.Uint64
}

// Of is the template of a request.
func (t *Templates) Of(method, escapedPath string) string {
	m := methodIndex(method)
	if escapedPath == "" {
		escapedPath = "/"
	}
	if escapedPath[0] != '/' {
		return Other
	}
	path := decode(escapedPath[:min(len(escapedPath), maxPath)])

	t.mu.RLock()
	l := t.trees[m].find(path[1:])
	t.mu.RUnlock()
	if l == nil {
		t.mu.Lock()
		l = t.growLocked(m, path[1:])
		t.mu.Unlock()
	}
	if l == nil {
		return Other
	}
	l.uses.Add(1)
	return l.label
}

// Known is all templates there are now, without Other.
func (t *Templates) Known() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	labels := make([]string, 0, t.exact+t.coarse)
	for i := range t.trees {
		t.trees[i].each(func(l *leaf) { labels = append(labels, l.label) })
	}
	slices.Sort(labels)
	return labels
}

func methodIndex(method string) int {
	switch method {
	case "GET", "HEAD":
		return 0
	}
	for i, m := range methods[1 : len(methods)-1] {
		if m == method {
			return i + 1
		}
	}
	return len(methods) - 1
}

// cut takes the first segment of what is left of a path.
func cut(path string, depth int) (token string, kept bool, left string, more bool) {
	if depth > maxDepth {
		return theRest, false, "", false
	}
	first, left, more := strings.Cut(path, "/")
	token, kept = fold(first)
	return token, kept, left, more
}

// find is nil where there is nothing yet, and where a wide place is due for a
// second look. The caller holds the lock for reading at least.
func (s *spot) find(path string) *leaf {
	for depth := 1; ; depth++ {
		token, kept, left, more := cut(path, depth)
		next := s.next[token]
		if next == nil && kept && s.wide {
			if s.asked.Load() >= window {
				return nil
			}
			s.note(token)
			next = s.next[aName]
		}
		switch {
		case next == nil:
			return nil
		case !more:
			return next.exact
		}
		s, path = next, left
	}
}

// growLocked makes the leaf that find did not find, or finds a coarser one. It
// is nil if there is none.
func (t *Templates) growLocked(m int, path string) *leaf {
	var tokens [maxDepth + 1]string
	var kept [maxDepth + 1]bool
	n := 0
	s := &t.trees[m] // nil beyond what there is
	for more := true; more; n++ {
		tokens[n], kept[n], path, more = cut(path, n+1)
		if s == nil {
			continue
		}
		if kept[n] && s.next[tokens[n]] == nil && t.wideLocked(s, n+1) {
			s.note(tokens[n])
			tokens[n], kept[n] = aName, false
		}
		s = s.next[tokens[n]]
	}
	if s != nil && s.exact != nil {
		return s.exact
	}
	if t.exact >= maxExact {
		t.sweepLocked()
	}
	label := methods[m] + " /" + strings.Join(tokens[:n], "/")
	if t.exact >= maxExact || t.exact >= maxFree && !t.againLocked(label) {
		return t.coarseLocked(m, tokens[0])
	}
	s = &t.trees[m]
	for i, token := range tokens[:n] {
		s = s.child(token, kept[i])
	}
	s.exact = &leaf{label: label}
	t.exact++
	return s.exact
}

// againLocked reports whether a shape was asked for before, not too many others
// ago.
func (t *Templates) againLocked(label string) bool {
	h := maphash.String(seed, label)
	slot := &t.once[h%uint64(len(t.once))]
	if *slot == h {
		return true
	}
	*slot = h
	return false
}

func (t *Templates) coarseLocked(m int, first string) *leaf {
	s := t.trees[m].next[first]
	if s == nil {
		return nil
	}
	if s.coarse == nil && t.coarse < maxCoarse {
		s.coarse = &leaf{label: methods[m] + " /" + first + "/" + theRest}
		t.coarse++
	}
	return s.coarse
}

func (s *spot) child(token string, name bool) *spot {
	if next := s.next[token]; next != nil {
		return next
	}
	if s.next == nil {
		s.next = make(map[string]*spot)
	}
	next := new(spot)
	s.next[strings.Clone(token)] = next // the clone keeps no path alive
	if name {
		s.names++
	}
	return next
}

// wideLocked reports whether a new name at s becomes {name}, and first decides
// it where it is due.
func (t *Templates) wideLocked(s *spot, depth int) bool {
	limit := maxNames
	if depth == 1 {
		limit = maxFirst
	}
	switch {
	case s.wide && s.asked.Load() >= window:
		s.wide = s.different() > limit*7/8
		s.reset()
	case !s.wide && s.names >= limit:
		t.narrowLocked(s, limit/2)
		s.wide = true
		s.reset()
	}
	return s.wide
}

// narrowLocked forgets the names at s, but for those that are used most.
func (t *Templates) narrowLocked(s *spot, most int) {
	type name struct {
		text string
		uses uint64
	}
	var names []name
	for text, next := range s.next {
		if _, kept := fold(text); !kept {
			continue // a placeholder
		}
		var uses uint64
		next.each(func(l *leaf) { uses += l.uses.Load() })
		names = append(names, name{text, uses})
	}
	slices.SortFunc(names, func(a, b name) int {
		return cmp.Or(cmp.Compare(b.uses, a.uses), cmp.Compare(a.text, b.text))
	})
	for i, n := range names {
		if i >= most || n.uses < 2 {
			t.forgetLocked(s, n.text)
		}
	}
}

func (t *Templates) forgetLocked(s *spot, token string) {
	next := s.next[token]
	next.eachSpot(func(s *spot) {
		if s.exact != nil {
			t.exact--
		}
		if s.coarse != nil {
			t.coarse--
		}
	})
	delete(s.next, token)
	if _, kept := fold(token); kept {
		s.names--
	}
}

// sweepLocked makes room, if it is time.
func (t *Templates) sweepLocked() {
	now := time.Now()
	if !t.swept.IsZero() && now.Sub(t.swept) < period {
		return
	}
	t.swept = now
	for i := range t.trees {
		t.sweepSpotLocked(&t.trees[i])
	}
}

func (t *Templates) sweepSpotLocked(s *spot) (empty bool) {
	if s.exact != nil && s.exact.fade() {
		s.exact = nil
		t.exact--
	}
	if s.coarse != nil && s.coarse.fade() {
		s.coarse = nil
		t.coarse--
	}
	for token, next := range s.next {
		if t.sweepSpotLocked(next) {
			t.forgetLocked(s, token)
		}
	}
	return s.exact == nil && s.coarse == nil && len(s.next) == 0
}

// fade halves the uses and reports whether none are left.
func (l *leaf) fade() bool {
	half := l.uses.Load() / 2
	l.uses.Store(half) // a use in between may be lost
	return half == 0
}

var seed = maphash.MakeSeed()

func (s *spot) note(name string) {
	h := maphash.String(seed, name)
	bit := uint64(1) << (h & 63)
	if word := &s.seen[h>>6&3]; word.Load()&bit == 0 {
		word.Or(bit)
	}
	s.asked.Add(1)
}

// different is about how many different names were noted, a little too few.
func (s *spot) different() (n int) {
	for i := range s.seen {
		n += bits.OnesCount64(s.seen[i].Load())
	}
	return n
}

func (s *spot) reset() {
	for i := range s.seen {
		s.seen[i].Store(0)
	}
	s.asked.Store(0)
}

func (s *spot) each(f func(l *leaf)) {
	s.eachSpot(func(s *spot) {
		if s.exact != nil {
			f(s.exact)
		}
		if s.coarse != nil {
			f(s.coarse)
		}
	})
}

func (s *spot) eachSpot(f func(s *spot)) {
	f(s)
	for _, next := range s.next {
		next.eachSpot(f)
	}
}
