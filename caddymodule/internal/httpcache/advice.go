package httpcache

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what an Advisor remembers: about 3 MiB when all are reached.
const (
	maxTemplates = 200
	maxSampled   = 64 // addresses per template
)

// candidates are the times that advice chooses among.
var candidates = [...]time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute}

// outdated is the largest share of answers, in percent, that a suggested time
// may make older than what the application would have said.
const outdated = 1

// Advisor watches what the application answers and finds out what caching it
// would have done: for a sample of the addresses of each route it plays cache
// with each of the candidate times, and compares what that would have said with
// what the application did say.
//
// Safe for concurrent use. It keeps sums of bodies, not bodies.
type Advisor struct {
	seed maphash.Seed

	mu        sync.Mutex
	templates map[string]*watched // mu; len <= maxTemplates
}

// watched is one route template.
type watched struct {
	requests int64         // GETs with a 200, anonymous or not
	personal int64         // of them with credentials
	alike    int64         // of those: the same bytes as anonymous ones got last
	cookies  int64         // answers that set one
	service  time.Duration // of all, together
	since    time.Time
	sampled  []*address // the ones with the least hash; len <= maxSampled
}

// address is one URL of the sample.
type address struct {
	hash     uint64
	last     uint64 // sum of what anonymous requests got last; 0: nothing yet
	requests int64  // anonymous
	play     [len(candidates)]play
}

// play is a cache of one address with one candidate time.
type play struct {
	until time.Time
	sum   uint64
	saved int64         // requests that would not have gone on
	wrong int64         // of them: with other bytes than the application's
	time  time.Duration // of the application, saved
}

// NewAdvisor knows nothing yet.
func NewAdvisor() *Advisor {
	return &Advisor{seed: maphash.MakeSeed(), templates: make(map[string]*watched)}
}

// Hash sums a body for Seen.
func (a *Advisor) Hash() *maphash.Hash {
	h := &maphash.Hash{}
	h.SetSeed(a.seed)
	return h
}

// Seen is one GET that the application answered with 200.
type Seen struct {
	Template  string // of the route; labels, not paths
	Key       Key
	Anonymous bool          // neither Cookie nor Authorization
	SetCookie bool          // the answer has it
	Sum       uint64        // of the body, by Hash
	Service   time.Duration // that the application took
}

// Observe takes note of an answer.
func (a *Advisor) Observe(s Seen) {
	now := time.Now()
	hash := maphash.Comparable(a.seed, s.Key)
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.templates[s.Template]
	if w == nil {
		if len(a.templates) >= maxTemplates {
			return
		}
		w = &watched{since: now}
		a.templates[s.Template] = w
	}
	w.observe(s, hash, now)
}

func (w *watched) observe(s Seen, hash uint64, now time.Time) {
	w.requests++
	w.service += s.Service
	if s.SetCookie {
		w.cookies++
	}
	at := w.sample(hash)
	if !s.Anonymous {
		w.personal++
		if at != nil && at.last == s.Sum {
			w.alike++
		}
		return
	}
	if at != nil {
		at.observe(s, now)
	}
}

// sample is the address, if it is among those with the least hash: every address
// has the same chance, however often it is asked for.
func (w *watched) sample(hash uint64) *address {
	i, found := slices.BinarySearchFunc(w.sampled, hash, func(x *address, h uint64) int {
		switch {
		case x.hash < h:
			return -1
		case x.hash > h:
			return 1
		}
		return 0
	})
	if found {
		return w.sampled[i]
	}
	if i >= maxSampled {
		return nil
	}
	w.sampled = slices.Insert(w.sampled, i, &address{hash: hash})
	if len(w.sampled) > maxSampled {
		w.sampled = w.sampled[:maxSampled]
	}
	return w.sampled[i]
}

func (x *address) observe(s Seen, now time.Time) {
	x.requests++
	x.last = s.Sum
	for i := range x.play {
		p := &x.play[i]
		if !now.Before(p.until) {
			p.until, p.sum = now.Add(candidates[i]), s.Sum
			continue
		}
		p.saved++
		p.time += s.Service
		if p.sum != s.Sum {
			p.wrong++
		}
	}
}

// Advice is what to write into a route, and what it would have saved so far.
type Advice struct {
	Template string
	TTL      time.Duration // for `cache <duration>`
	Requests int64         // observed GETs, since
	Since    time.Time
	Saved    float64       // share of Requests that would not have reached the application
	Time     time.Duration // of the application, that would have been saved
	Outdated float64       // share of Requests that would have got something older
	// Public: requests with cookies got the same bytes as those without. With
	// `public` in its answers the application would save them as well.
	Public bool
}

// enough requests make an observation.
const enough = 20

// Advice lists the routes that get the same bytes out of the application again
// and again, those first that would save the most of its time.
func (a *Advisor) Advice() []Advice {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Advice
	for template, w := range a.templates {
		if x, ok := w.advice(); ok {
			x.Template = template
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(x, y Advice) int {
		if x.Time != y.Time {
			return int(min(1, max(-1, y.Time-x.Time)))
		}
		return strings.Compare(x.Template, y.Template)
	})
	return all
}

// advice is the longest time that hardly ever shows anything old, if it saves
// something. The sample stands for all addresses of the route.
func (w *watched) advice() (Advice, bool) {
	if w.requests < enough || w.cookies > 0 {
		return Advice{}, false
	}
	var sampled int64
	for _, x := range w.sampled {
		sampled += x.requests
	}
	if sampled == 0 {
		return Advice{}, false
	}
	anonymous := float64(w.requests - w.personal)
	for i := len(candidates) - 1; i >= 0; i-- {
		var sum play
		for _, x := range w.sampled {
			sum.saved += x.play[i].saved
			sum.wrong += x.play[i].wrong
			sum.time += x.play[i].time
		}
		if sum.wrong*100 > sampled*outdated || sum.saved*10 < sampled {
			continue
		}
		scale := anonymous / float64(sampled)
		return Advice{
			TTL: candidates[i], Requests: w.requests, Since: w.since,
			Saved:    float64(sum.saved) * scale / float64(w.requests),
			Time:     time.Duration(float64(sum.time) * scale),
			Outdated: float64(sum.wrong) * scale / float64(w.requests),
			Public:   w.personal > 0 && w.alike == w.personal,
		}, true
	}
	return Advice{}, false
}
