// Package upstream knows whether the upstreams of a pool are fit to be used.
//
// Three things make one unfit: a dial that failed (quarantine, until a dial
// succeeds), active probes that failed, and too many failed exchanges of late
// (passive). It tells readiness to whoever asked for it; it neither counts
// slots nor sends requests, and it does not know HTTP beyond status codes.
//
// Always: an upstream is told not ready before DialFailed returns, so that the
// slot that is given back next cannot go to the same dead address; at most one
// probe or dial of ours is outstanding per upstream; failed exchanges alone
// never take the last ready upstream away, for that would turn a few errors
// into an outage.
//
// Safe for concurrent use. Its goroutines end with Close.
package upstream

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Config is what may change while the monitor runs.
type Config struct {
	// Dial waits for a slot, tries to connect to an upstream and hangs up; nil:
	// nobody can dial it ahead of a request, and a quarantine ends by time.
	Dial func(ctx context.Context, key string) error
	// Probe waits for a slot and makes one active health check; nil: there are
	// none. An upstream whose slots are taken is busy, not down, so the time of
	// waiting does not count: timeouts are Probe's own.
	Probe func(ctx context.Context, key string) error
	// Interval is the time between two probes of one upstream. Default 30s.
	Interval time.Duration
	// Passes and Fails are how many probes in a row make an upstream ready or
	// not ready. Default 1 each.
	Passes, Fails int

	// FailDuration is how long a failed exchange is remembered. 0: exchanges
	// do not count.
	FailDuration time.Duration
	// MaxFails is how many failed exchanges make an upstream not ready.
	// Default 1.
	MaxFails int
	// Failed says whether an answer counts as a failed exchange; nil: never.
	Failed func(status int, latency time.Duration) bool
}

func (c Config) withDefaults() Config {
	if c.Interval <= 0 {
		c.Interval = 30 * time.Second
	}
	c.Passes, c.Fails, c.MaxFails = max(c.Passes, 1), max(c.Fails, 1), max(c.MaxFails, 1)
	return c
}

// A quarantine is tried again after firstBackoff, then twice that, up to
// maxBackoff: a restart is noticed within a second, and a dead address costs
// one dial a second.
const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = time.Second
)

// Monitor watches the upstreams of one pool.
type Monitor struct {
	tell func(key string, ready bool)
	log  *zap.Logger

	mu     sync.Mutex
	cfg    Config               // mu
	hosts  map[string]*host     // mu
	ctx    context.Context      // ends with Close
	cancel context.CancelFunc   //
	closed bool                 // mu
	wg     sync.WaitGroup       // the goroutines below; Add under mu while !closed
	notify func(string, string) // mu; an event's name and the upstream; may be nil
}

// host is what is known about one upstream. All of it belongs to Monitor.mu.
type host struct {
	key         string
	quarantined bool
	sick        bool               // by probes
	passes      int                // probes in a row that passed while sick
	fails       int                // probes in a row that failed while well
	failures    []time.Time        // exchanges that failed of late, oldest first; at most MaxFails
	forgetting  bool               // forgetLoop runs
	answered    time.Time          // the last answer that stands for a probe
	told        bool               // readiness as told last
	stop        context.CancelFunc // ends the probe loop
	gone        chan struct{}      // closed when it is no longer configured
}

// New makes a monitor without upstreams. tell is called with the monitor's lock
// held whenever readiness changes; an upstream that was never told about is
// ready.
func New(tell func(key string, ready bool), log *zap.Logger) *Monitor {
	ctx, cancel := context.WithCancel(context.Background())
	return &Monitor{
		tell: tell, log: log,
		hosts: make(map[string]*host), ctx: ctx, cancel: cancel,
	}
}

// Apply sets the configuration and the upstreams. What is known about those
// that stay is kept. Probe loops start anew, for their functions are others.
func (m *Monitor) Apply(cfg Config, keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.cfg = cfg.withDefaults()
	known := m.hosts
	m.hosts = make(map[string]*host, len(keys))
	for _, key := range keys {
		h := known[key]
		if h == nil {
			h = &host{key: key, told: true, gone: make(chan struct{})}
		}
		delete(known, key)
		m.hosts[key] = h
	}
	for _, h := range known {
		close(h.gone)
		if h.stop != nil {
			h.stop()
		}
	}
	for _, h := range m.hosts {
		if h.stop != nil {
			h.stop()
			h.stop = nil
		}
		if m.cfg.Probe != nil {
			ctx, stop := context.WithCancel(m.ctx)
			h.stop = stop
			cfg := m.cfg // the loop's own: it may outlast this configuration by a step
			m.wg.Go(func() { m.probeLoop(ctx, h, cfg) })
		} else {
			h.sick = false
		}
		m.judgeLocked(h)
	}
}

// SetKeys changes the upstreams and nothing else: a resolver found others. The
// probe loops of those that stay go on.
func (m *Monitor) SetKeys(keys []string) {
	m.mu.Lock()
	same := len(keys) == len(m.hosts)
	for _, key := range keys {
		same = same && m.hosts[key] != nil
	}
	cfg := m.cfg
	m.mu.Unlock()
	if !same {
		m.Apply(cfg, keys)
	}
}

// Notify sets who is told of "healthy" and "unhealthy" upstreams by probes.
func (m *Monitor) Notify(f func(event, key string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notify = f
}

// Close ends all goroutines and waits for them. Readiness stays as it was told.
func (m *Monitor) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.wg.Wait()
}

// DialFailed puts the upstream into quarantine until a dial succeeds.
func (m *Monitor) DialFailed(key string, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.hosts[key]
	if h == nil || h.quarantined || m.closed {
		return
	}
	h.quarantined = true
	m.log.Warn("upstream quarantined: dial failed", zap.String("upstream", key), zap.Error(cause))
	m.judgeLocked(h)
	m.wg.Go(func() { m.recoverLoop(h) })
}

// Answered tells of an answer. One that is no server error within the interval
// stands for a probe.
func (m *Monitor) Answered(key string, status int, latency time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.hosts[key]
	if h == nil {
		return
	}
	if status < 500 {
		h.answered = time.Now()
	}
	if m.cfg.Failed != nil && m.cfg.Failed(status, latency) {
		m.failedLocked(h)
	}
}

// Failed tells of an exchange without an answer (not of a failed dial).
func (m *Monitor) Failed(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.hosts[key]; h != nil {
		m.failedLocked(h)
	}
}

func (m *Monitor) failedLocked(h *host) {
	if m.cfg.FailDuration <= 0 || m.closed {
		return
	}
	// Only the newest MaxFails decide anything.
	if len(h.failures) >= m.cfg.MaxFails {
		h.failures = h.failures[len(h.failures)-m.cfg.MaxFails+1:]
	}
	h.failures = append(h.failures, time.Now())
	m.judgeLocked(h)
	if !h.forgetting {
		h.forgetting = true
		m.wg.Go(func() { m.forgetLoop(h) })
	}
}

// forgetLoop judges anew whenever a failure has become too old to count, and
// ends with the last of them.
func (m *Monitor) forgetLoop(h *host) {
	for {
		m.mu.Lock()
		for len(h.failures) > 0 && time.Since(h.failures[0]) >= m.cfg.FailDuration {
			h.failures = h.failures[1:]
		}
		m.judgeLocked(h)
		if len(h.failures) == 0 {
			h.forgetting = false
			m.mu.Unlock()
			return
		}
		wait := m.cfg.FailDuration - time.Since(h.failures[0])
		m.mu.Unlock()
		if !m.sleep(h, wait) {
			return
		}
	}
}

// judgeLocked works out whether h is ready and tells when that changed.
func (m *Monitor) judgeLocked(h *host) {
	ready := !h.quarantined && !h.sick
	if ready && m.failingLocked(h) && m.anotherLocked(h) {
		ready = false
	}
	if ready == h.told {
		return
	}
	h.told = ready
	m.tell(h.key, ready)
	if ready {
		m.log.Info("upstream ready", zap.String("upstream", h.key))
	}
	m.judgeAllLocked() // whether another may be spared depends on this one
}

func (m *Monitor) judgeAllLocked() {
	for _, h := range m.hosts {
		m.judgeLocked(h)
	}
}

// failingLocked reports whether h has failed too often of late.
func (m *Monitor) failingLocked(h *host) bool {
	oldest := len(h.failures) - m.cfg.MaxFails
	return oldest >= 0 && time.Since(h.failures[oldest]) < m.cfg.FailDuration
}

// anotherLocked reports whether an upstream other than h is ready.
func (m *Monitor) anotherLocked(h *host) bool {
	for _, other := range m.hosts {
		if other != h && other.told && !other.quarantined && !other.sick {
			return true
		}
	}
	return false
}

// recoverLoop dials a quarantined upstream until it answers.
func (m *Monitor) recoverLoop(h *host) {
	for backoff := firstBackoff; m.sleep(h, backoff); backoff = min(2*backoff, maxBackoff) {
		m.mu.Lock()
		dial := m.cfg.Dial
		m.mu.Unlock()
		if dial == nil || dial(m.ctx, h.key) == nil {
			m.mu.Lock()
			h.quarantined = false
			m.judgeLocked(h)
			m.mu.Unlock()
			return
		}
	}
}

// probeLoop checks h every interval.
func (m *Monitor) probeLoop(ctx context.Context, h *host, cfg Config) {
	for {
		m.mu.Lock()
		vouched := !h.sick && !h.answered.IsZero() && time.Since(h.answered) < cfg.Interval
		m.mu.Unlock()
		if !vouched {
			if err := cfg.Probe(ctx, h.key); ctx.Err() == nil {
				m.probed(h, err)
			}
		}
		t := time.NewTimer(cfg.Interval)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// probed counts one probe's result.
func (m *Monitor) probed(h *host, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil && h.sick:
		if h.passes++; h.passes >= m.cfg.Passes {
			m.healthLocked(h, true, nil)
		}
	case err == nil:
		h.fails = 0
	case h.sick:
		h.passes = 0
	default:
		if h.fails++; h.fails >= m.cfg.Fails {
			m.healthLocked(h, false, err)
		}
	}
}

func (m *Monitor) healthLocked(h *host, well bool, cause error) {
	h.sick, h.passes, h.fails = !well, 0, 0
	event := "healthy"
	if !well {
		event = "unhealthy"
		m.log.Warn("upstream unhealthy: probe failed", zap.String("upstream", h.key), zap.Error(cause))
	}
	m.judgeLocked(h)
	if m.notify != nil {
		m.notify(event, h.key)
	}
}

// sleep reports whether d passed; not when h or the monitor goes away.
func (m *Monitor) sleep(h *host, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.gone:
		return false
	case <-m.ctx.Done():
		return false
	}
}
