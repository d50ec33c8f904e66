// Package telemetry shows Prometheus what happens at the door: what became of
// every request, how long it waited and how long the application had it, by pool,
// class and route template, and the state of every pool at the moment of the
// scrape.
//
// Always: labels are bounded, because routes are configured ones or learned
// templates and the series of those that are no longer known are dropped; a
// request costs one look into a map and three atomic additions; a pool that is
// closed leaves nothing behind.
//
// Safe for concurrent use. It decides nothing: Portner does the same when nobody
// measures.
package telemetry

import (
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/front"
	"github.com/portner/portner/caddymodule/internal/httpcache"
	"github.com/portner/portner/caddymodule/internal/journal"
	"github.com/portner/portner/caddymodule/internal/route"
)

// buckets, in seconds, go from a fast page to the patience of a person who has
// nowhere else to go.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// The collectors of this process. everything has the others in it, and is on the
// registry of every config.
var (
	requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "portner_requests_total",
		Help: "Requests by how they ended: ok, hit, collapsed, stale, failed, left, or the reason of a refusal.",
	}, []string{"pool", "class", "route", "verdict"})
	queueWait = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "portner_queue_wait_seconds",
		Help:    "Time between arrival and slot, of requests that got one.",
		Buckets: buckets,
	}, []string{"pool", "class", "route"})
	serviceTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "portner_service_time_seconds",
		Help:    "Time between sending a request to the application and the head of its answer.",
		Buckets: buckets,
	}, []string{"pool", "class", "route"})
	turnedAway = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "portner_turned_away_total",
		Help: "Connections that had waited too long at the door to be looked at.",
	})
	everything = &collector{pools: make(map[*Pool]bool)}
)

// TurnedAway counts a connection that was turned away at the door.
func TurnedAway() { turnedAway.Inc() }

// Register puts the metrics on a config's registry; they may be there already.
func Register(registry prometheus.Registerer) error {
	var known prometheus.AlreadyRegisteredError
	if err := registry.Register(everything); err != nil && !errors.As(err, &known) {
		return err
	}
	return nil
}

// Pool counts for one pool, until Close.
type Pool struct {
	name  string
	stats func() admission.Snapshot
	known func() []string // learned templates
	cache func() *httpcache.Cache

	journal func() *journal.Journal

	mu      sync.RWMutex
	closed  bool              // mu
	using   map[string]int    // mu; handlers by configured route
	series  map[labels]series // mu
	routes  map[string]bool   // mu; those in series
	pruneAt int               // mu; so many routes
}

type labels struct{ class, route, verdict string }

// series are the children that an exchange goes to: found once, kept.
type series struct {
	requests      prometheus.Counter
	wait, service prometheus.Observer
}

// NewPool begins to count for a pool whose state stats tells, and whose templates
// known lists; cache and kept are its cache and journal of the moment, nil while it has none. There is one
// at a time for each name.
func NewPool(name string, stats func() admission.Snapshot, known func() []string, cache func() *httpcache.Cache, kept func() *journal.Journal) *Pool {
	p := &Pool{
		name: clean(name), stats: stats, known: known, cache: cache, journal: kept,
		using: make(map[string]int), series: make(map[labels]series),
		routes: make(map[string]bool), pruneAt: route.MaxTemplates,
	}
	everything.add(p)
	return p
}

// Use keeps the series of a handler's configured routes, until release.
func (p *Pool) Use(routes []string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range routes {
		p.using[r]++
	}
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, r := range routes {
			if p.using[r]--; p.using[r] == 0 {
				delete(p.using, r)
			}
		}
	})
}

// Read takes in what became of a request; see front.Config.Readers.
func (p *Pool) Read(_ *http.Request, x front.Exchange) {
	key := labels{x.Class, x.Template, x.Verdict}
	p.mu.RLock()
	s, ok := p.series[key]
	p.mu.RUnlock()
	if !ok {
		if s, ok = p.grow(key); !ok {
			return
		}
	}
	s.requests.Inc()
	if x.Upstream != "" {
		s.wait.Observe(x.Wait.Seconds())
	}
	if x.Service > 0 {
		s.service.Observe(x.Service.Seconds())
	}
}

// grow makes the series for key, and room for them where it is wanted.
func (p *Pool) grow(key labels) (series, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return series{}, false
	}
	if !p.routes[key.route] && len(p.routes) >= p.pruneAt {
		p.pruneLocked()
	}
	class, template := clean(key.class), clean(key.route)
	s := series{
		requests: requests.WithLabelValues(p.name, class, template, key.verdict),
		wait:     queueWait.WithLabelValues(p.name, class, template),
		service:  serviceTime.WithLabelValues(p.name, class, template),
	}
	p.series[key] = s
	p.routes[key.route] = true
	return s, true
}

// pruneLocked drops the series of routes that nobody knows any more. At most as
// many as there may be templates come until it is called again.
func (p *Pool) pruneLocked() {
	known := p.knownLocked()
	for r := range p.routes {
		if known[r] {
			continue
		}
		delete(p.routes, r)
		drop(prometheus.Labels{"pool": p.name, "route": clean(r)})
	}
	for key := range p.series {
		if !known[key.route] {
			delete(p.series, key)
		}
	}
	p.pruneAt = len(p.routes) + route.MaxTemplates
}

func (p *Pool) knownLocked() map[string]bool {
	known := map[string]bool{route.Other: true}
	for _, r := range p.known() {
		known[r] = true
	}
	for r := range p.using {
		known[r] = true
	}
	return known
}

// Close drops all series of the pool.
func (p *Pool) Close() {
	everything.remove(p)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	clear(p.series)
	drop(prometheus.Labels{"pool": p.name})
	appendTime.DeleteLabelValues(p.name)
}

func drop(which prometheus.Labels) {
	requests.DeletePartialMatch(which)
	queueWait.DeletePartialMatch(which)
	serviceTime.DeletePartialMatch(which)
}

// clean makes a label of what a config may have said in no encoding at all.
func clean(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
