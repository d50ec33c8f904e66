package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/portner/portner/caddymodule/internal/admission"
)

// collector tells what happened so far and how every pool is when it is asked.
type collector struct {
	mu    sync.Mutex
	pools map[*Pool]bool // mu
}

func (c *collector) add(p *Pool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pools[p] = true
}

func (c *collector) remove(p *Pool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pools, p)
}

// state is one number of a snapshot.
type state struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	// read calls add for every value, with the labels beside the pool's.
	read func(s admission.Snapshot, add func(value float64, labels ...string))
}

func gauge(name, help string, labels []string, read func(admission.Snapshot, func(float64, ...string))) state {
	return state{prometheus.NewDesc(name, help, append([]string{"pool"}, labels...), nil), prometheus.GaugeValue, read}
}

func counter(name, help string, labels []string, read func(admission.Snapshot, func(float64, ...string))) state {
	return state{prometheus.NewDesc(name, help, append([]string{"pool"}, labels...), nil), prometheus.CounterValue, read}
}

// all is what is told of a pool, in the order of a walk through it.
var all = []state{
	gauge("portner_held", "1 while no upstream of the pool is ready.", nil,
		func(s admission.Snapshot, add func(float64, ...string)) { add(number(s.Held)) }),
	gauge("portner_waiting", "Requests in the queue.", nil,
		func(s admission.Snapshot, add func(float64, ...string)) { add(float64(s.Waiting)) }),
	gauge("portner_queue_depth", "Most requests that may be in the queue.", nil,
		func(s admission.Snapshot, add func(float64, ...string)) { add(float64(s.Depth)) }),
	gauge("portner_class_waiting", "Requests of a class in the queue, also while the pool is held.", []string{"class"},
		classes(func(c admission.ClassState) float64 { return float64(c.Waiting) })),
	gauge("portner_class_in_flight", "Requests of a class at the application.", []string{"class"},
		classes(func(c admission.ClassState) float64 { return float64(c.InFlight) })),
	gauge("portner_standing_queue", "1 while the queue does not go away and the newest requests go first.", nil,
		func(s admission.Snapshot, add func(float64, ...string)) { add(number(s.Standing)) }),
	gauge("portner_drain_rate", "Slots given back per second, of late.", nil,
		func(s admission.Snapshot, add func(float64, ...string)) { add(s.DrainRate) }),
	counter("portner_granted_total", "Slots given out to requests.", nil,
		func(s admission.Snapshot, add func(float64, ...string)) { add(float64(s.Counts.Granted)) }),
	counter("portner_refused_total", "Requests that the queue refused, by reason.", []string{"reason"},
		func(s admission.Snapshot, add func(float64, ...string)) {
			add(float64(s.Counts.Full), "queue-full")
			add(float64(s.Counts.Wait), "queue-wait")
			add(float64(s.Counts.Shed), "queue-shed")
			add(float64(s.Counts.Excess), "client-excess")
			add(float64(s.Counts.Held), "held")
		}),
	gauge("portner_upstream_ready", "1 while requests may go to the upstream.", []string{"upstream"},
		upstreams(func(u admission.UpstreamState) float64 { return number(u.Ready) })),
	gauge("portner_in_flight", "Requests at the upstream.", []string{"upstream"},
		upstreams(func(u admission.UpstreamState) float64 { return float64(u.InFlight) })),
	gauge("portner_limit", "Most requests at the upstream at once.", []string{"upstream"},
		upstreams(func(u admission.UpstreamState) float64 { return float64(u.Limit) })),
	gauge("portner_route_cost_seconds", "What a request of the route is expected to cost the application.", []string{"route"},
		routes(func(r admission.RouteState) float64 { return r.Cost.Seconds() })),
	gauge("portner_route_slow", "1 while the route may not have all slots, because it costs much more than the others.", []string{"route"},
		routes(func(r admission.RouteState) float64 { return number(r.Slow) })),
	gauge("portner_route_in_flight", "Requests of the route at the application.", []string{"route"},
		routes(func(r admission.RouteState) float64 { return float64(r.InFlight) })),
	gauge("portner_route_waiting", "Requests of the route in the queue, also while the pool is held.", []string{"route"},
		routes(func(r admission.RouteState) float64 { return float64(r.Waiting) })),
}

func classes(value func(admission.ClassState) float64) func(admission.Snapshot, func(float64, ...string)) {
	return func(s admission.Snapshot, add func(float64, ...string)) {
		for _, c := range s.Classes {
			add(value(c), c.Name)
		}
	}
}

func upstreams(value func(admission.UpstreamState) float64) func(admission.Snapshot, func(float64, ...string)) {
	return func(s admission.Snapshot, add func(float64, ...string)) {
		for _, u := range s.Upstreams {
			add(value(u), u.Key)
		}
	}
}

func routes(value func(admission.RouteState) float64) func(admission.Snapshot, func(float64, ...string)) {
	return func(s admission.Snapshot, add func(float64, ...string)) {
		for _, r := range s.Routes {
			add(value(r), r.Name)
		}
	}
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	requests.Describe(ch)
	queueWait.Describe(ch)
	serviceTime.Describe(ch)
	turnedAway.Describe(ch)
	for _, s := range all {
		ch <- s.desc
	}
	for _, s := range cacheStates {
		ch <- s.desc
	}
	appendTime.Describe(ch)
	for _, s := range journalStates {
		ch <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.pools {
		snapshot := p.snapshot()
		for _, s := range all {
			s.read(snapshot, func(value float64, labels ...string) {
				values := []string{p.name}
				for _, l := range labels {
					values = append(values, clean(l))
				}
				ch <- prometheus.MustNewConstMetric(s.desc, s.kind, value, values...)
			})
		}
		p.collectCache(ch)
		p.collectJournal(ch)
	}
	requests.Collect(ch) // after the snapshots, which drop what is old
	queueWait.Collect(ch)
	serviceTime.Collect(ch)
	turnedAway.Collect(ch)
	appendTime.Collect(ch)
}

// snapshot is the pool's state with the routes alone that somebody knows;
// admission remembers more of them. Who looks also cleans up.
func (p *Pool) snapshot() admission.Snapshot {
	s := p.stats()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pruneLocked()
	known := p.knownLocked()
	kept := s.Routes[:0]
	for _, r := range s.Routes {
		if known[r.Name] {
			kept = append(kept, r)
		}
	}
	s.Routes = kept
	return s
}
