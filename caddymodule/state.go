package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/front"
	"github.com/portner/portner/caddymodule/internal/httpcache"
	"github.com/portner/portner/caddymodule/internal/journal"
	"github.com/portner/portner/caddymodule/internal/route"
	"github.com/portner/portner/caddymodule/internal/telemetry"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

func init() {
	caddy.RegisterModule(new(App))
}

// pool is what outlives a reload: who waits, who runs, and what is known of the
// upstreams.
type pool struct {
	name   string
	queue  *admission.Queue
	health *upstream.Monitor
	ready  upstream.Ready
	log    *zap.Logger
	inside atomic.Int64 // requests in ServeHTTP; one that still uploads is in no queue

	templates *route.Templates // of requests outside any route
	places    *front.Places    // of browsers that were refused
	metrics   *telemetry.Pool
	cache     atomic.Pointer[httpcache.Cache] // nil: there is none
	cacheDir  string                          // mu; of the cache on disk; empty: there is none
	applied   chan struct{}                   // closed when the pool has had a configuration

	journal    atomic.Pointer[journal.Journal] // nil: there is none
	deliverBy  atomic.Pointer[front.Front]     // the deliveries' way to the application
	journalEnd atomic.Pointer[ending]          // with the journal; nil before the first
	journalMu  sync.Mutex
	kept       keeping // journalMu; how it is kept open

	mu       sync.Mutex
	resolver context.CancelFunc // mu; ends the resolver's loop
	streams  []func() error     // mu; close the websockets of earlier configs, oldest first
	wg       sync.WaitGroup     // the resolver
}

// generation is one configuration of a pool.
type generation struct {
	limits  admission.Config
	targets []admission.Target
	health  upstream.Config
	notify  func(event, key string)
	cache   *cachePlan   // nil: none
	journal *journalPlan // nil: none
	// resolve finds the upstreams of a dynamic pool; nil: targets are all.
	resolve func(ctx context.Context) ([]admission.Target, error)
}

// pools holds every pool that a config names, old or new, by name.
var pools = caddy.NewUsagePool()

// retiring holds pools that no config names any more, while requests are inside.
var retiring = struct {
	sync.Mutex
	pools map[string]*pool
}{pools: make(map[string]*pool)}

// usePool finds or makes the pool; every call needs one pools.Delete.
func usePool(name string) (*pool, error) {
	p, _, err := pools.LoadOrNew(name, func() (caddy.Destructor, error) {
		retiring.Lock()
		defer retiring.Unlock()
		if p := retiring.pools[name]; p != nil {
			delete(retiring.pools, name) // it comes back before the last request has left
			return p, nil
		}
		return newPool(name), nil
	})
	if err != nil {
		return nil, fmt.Errorf("app_proxy: pool %s: %w", name, err)
	}
	return p.(*pool), nil
}

func newPool(name string) *pool {
	raiseHeap()
	p := &pool{
		name:      name,
		queue:     admission.New(),
		places:    front.NewPlaces(name),
		templates: new(route.Templates),
		applied:   make(chan struct{}),
		log:       caddy.Log().Named("app_proxy").With(zap.String("pool", name)),
	}
	p.health = upstream.New(p.setReady, p.log)
	p.metrics = telemetry.NewPool(name, p.queue.Stats, p.templates.Known, p.cache.Load, p.journal.Load)
	return p
}

// apply makes g the pool's configuration. Requests that wait or run go on.
func (p *pool) apply(g generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopResolverLocked()
	p.health.Notify(g.notify)
	p.applyCache(g.cache)
	if g.resolve == nil {
		p.queue.Apply(g.limits, g.targets)
		p.health.Apply(g.health, p.queue.Keys())
		return
	}
	var known []admission.Target // as resolved last
	for _, key := range p.queue.Keys() {
		known = append(known, admission.Target{Key: key})
	}
	p.queue.Apply(g.limits, known)
	p.health.Apply(g.health, p.queue.Keys())
	ctx, cancel := context.WithCancel(context.Background())
	p.resolver = cancel
	p.wg.Go(func() { p.resolveLoop(ctx, g) })
}

// setTargets tells the queue of the upstreams before the monitor, which must not
// speak of one that the queue does not know.
func (p *pool) setTargets(g generation, targets []admission.Target) {
	p.queue.Apply(g.limits, targets)
	p.health.SetKeys(p.queue.Keys())
}

// resolveEvery is how often a dynamic source is asked; it caches by itself.
const resolveEvery = time.Second

// resolveLoop keeps the upstreams of a dynamic pool up to date. While the
// source fails, those found last stay.
func (p *pool) resolveLoop(ctx context.Context, g generation) {
	var last string
	for {
		targets, err := g.resolve(ctx)
		if ctx.Err() != nil {
			return
		}
		said := fmt.Sprint(targets, err)
		switch {
		case err != nil && said != last:
			p.log.Error("finding upstreams", zap.Error(err))
		case err == nil && said != last:
			p.setTargets(g, targets)
		}
		last = said
		t := time.NewTimer(resolveEvery)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

func (p *pool) stopResolverLocked() {
	if p.resolver != nil {
		p.resolver()
		p.resolver = nil
	}
	p.wg.Wait()
}

// maxStreams is how many reloads a websocket outlives. What is kept of each is a
// handler.
const maxStreams = 100

// endLater keeps the websockets of an earlier config until the pool goes, or
// until maxStreams later configs have come.
func (p *pool) endLater(closeAll func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams = append(p.streams, closeAll)
	if len(p.streams) <= maxStreams {
		return nil
	}
	oldest := p.streams[0]
	p.streams = p.streams[1:]
	return oldest()
}

// Destruct is called when no config names the pool any more. Requests may still
// be inside; what serves them ends when the last has left.
func (p *pool) Destruct() error {
	p.mu.Lock()
	streams := p.streams
	p.streams = nil
	p.mu.Unlock()
	var err error
	for _, closeAll := range streams {
		err = errors.Join(err, closeAll())
	}
	err = errors.Join(err, p.endCache())
	retiring.Lock()
	retiring.pools[p.name] = p
	retiring.Unlock()
	go p.retire() // ends when the pool is idle or named again
	return err
}

func (p *pool) retire() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if p.retired() {
			return
		}
	}
}

// retired ends what serves the pool when it is idle, and reports whether there is
// nothing left to do.
func (p *pool) retired() bool {
	retiring.Lock()
	if retiring.pools[p.name] != p {
		retiring.Unlock()
		return true
	}
	if p.inside.Load() == 0 {
		p.closeJournal() // its deliveries would go on for ever
	}
	if p.inside.Load() > 0 || !p.queue.Idle() {
		retiring.Unlock()
		return false
	}
	p.metrics.Close() // before there can be another pool of that name
	p.closeCache()
	delete(retiring.pools, p.name)
	retiring.Unlock()

	p.mu.Lock()
	p.stopResolverLocked()
	p.mu.Unlock()
	p.health.Close()
	return true
}

// App applies the configuration to the pools once all of it has been accepted.
// It is loaded by the handlers; nobody has to configure it.
type App struct {
	mu      sync.Mutex
	members map[string]member          // mu; by pool
	guarded map[*caddyhttp.Server]bool // mu; servers that ask door
}

// member is what the handlers of one pool agreed on.
type member struct {
	pool       *pool
	settings   string
	generation generation
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "app_proxy",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision implements caddy.Provisioner.
func (*App) Provision(ctx caddy.Context) error {
	if err := telemetry.Register(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("app_proxy: metrics: %w", err)
	}
	return listenForHandover(ctx)
}

// register notes what a handler wants of its pool. Handlers that share a pool
// must want the same.
func (a *App) register(m member) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.members[m.pool.name]
	switch {
	case ok && known.settings != m.settings:
		return fmt.Errorf("app_proxy: pool %s is configured twice, with different settings: %s and %s; give one of them another name",
			m.pool.name, known.settings, m.settings)
	case ok:
		if known.generation.cache == nil {
			known.generation.cache = m.generation.cache // one handler of them has a route for it
		}
		known.generation.journal = known.generation.journal.with(m.generation.journal)
		a.members[m.pool.name] = known
		return nil
	case a.members == nil:
		a.members = make(map[string]member)
	}
	a.members[m.pool.name] = m
	return nil
}

// Start implements caddy.App.
func (a *App) Start() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.startJournals(); err != nil {
		return err
	}
	for _, m := range a.members {
		m.pool.apply(m.generation)
		m.pool.applyJournal(m.generation.journal)
	}
	return nil
}

// Stop implements caddy.App. The pools belong to the handlers.
func (a *App) Stop() error { return nil }

var _ caddy.App = (*App)(nil)
