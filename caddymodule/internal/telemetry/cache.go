package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portner/portner/caddymodule/internal/httpcache"
)

// cacheState is one number of a cache.
type cacheState struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(s httpcache.Stats, add func(value float64, labels ...string))
}

func cacheNumber(kind prometheus.ValueType, name, help string, read func(httpcache.Stats) float64) cacheState {
	return cacheState{prometheus.NewDesc(name, help, []string{"pool"}, nil), kind,
		func(s httpcache.Stats, add func(float64, ...string)) { add(read(s)) }}
}

var cacheStates = []cacheState{
	{prometheus.NewDesc("portner_cache_answers_total", "Requests by what the cache did: hit, collapsed, stale, miss, pass.", []string{"pool", "result"}, nil),
		prometheus.CounterValue, func(s httpcache.Stats, add func(float64, ...string)) {
			add(float64(s.Hits), "hit")
			add(float64(s.Collapsed), "collapsed")
			add(float64(s.Stale), "stale")
			add(float64(s.Misses), "miss")
			add(float64(s.Passes), "pass")
		}},
	cacheNumber(prometheus.CounterValue, "portner_cache_stored_total", "Answers that were kept.",
		func(s httpcache.Stats) float64 { return float64(s.Stored) }),
	cacheNumber(prometheus.CounterValue, "portner_cache_invalidations_total", "Addresses and tags that were invalidated.",
		func(s httpcache.Stats) float64 { return float64(s.Invalidations) }),
	cacheNumber(prometheus.CounterValue, "portner_cache_evictions_total", "Addresses that had to go from memory for others.",
		func(s httpcache.Stats) float64 { return float64(s.Evictions) }),
	cacheNumber(prometheus.GaugeValue, "portner_cache_keys", "Addresses of which something is kept.",
		func(s httpcache.Stats) float64 { return float64(s.Keys) }),
	cacheNumber(prometheus.GaugeValue, "portner_cache_bytes", "What is kept.",
		func(s httpcache.Stats) float64 { return float64(s.Bytes) }),
	cacheNumber(prometheus.GaugeValue, "portner_cache_max_bytes", "Most that is kept.",
		func(s httpcache.Stats) float64 { return float64(s.MaxBytes) }),
	diskNumber(prometheus.GaugeValue, "portner_cache_disk_keys", "Addresses of which something is kept on disk.",
		func(s *httpcache.DiskStats) float64 { return float64(s.Keys) }),
	diskNumber(prometheus.GaugeValue, "portner_cache_disk_bytes", "What is kept on disk.",
		func(s *httpcache.DiskStats) float64 { return float64(s.Bytes) }),
	diskNumber(prometheus.GaugeValue, "portner_cache_disk_max_bytes", "Most that is kept on disk.",
		func(s *httpcache.DiskStats) float64 { return float64(s.MaxBytes) }),
	diskNumber(prometheus.CounterValue, "portner_cache_disk_hits_total", "Addresses that were read from disk.",
		func(s *httpcache.DiskStats) float64 { return float64(s.Hits) }),
	diskNumber(prometheus.CounterValue, "portner_cache_disk_written_total", "Answers that were written to disk.",
		func(s *httpcache.DiskStats) float64 { return float64(s.Written) }),
	diskNumber(prometheus.CounterValue, "portner_cache_disk_dropped_total", "Answers that were not written: the disk is too slow, or full.",
		func(s *httpcache.DiskStats) float64 { return float64(s.Dropped) }),
	diskNumber(prometheus.CounterValue, "portner_cache_disk_damaged_total", "Answers and ends of files that were not whole.",
		func(s *httpcache.DiskStats) float64 { return float64(s.Damaged) }),
}

// diskNumber is one of the second tier, where there is one.
func diskNumber(kind prometheus.ValueType, name, help string, read func(*httpcache.DiskStats) float64) cacheState {
	return cacheState{prometheus.NewDesc(name, help, []string{"pool"}, nil), kind,
		func(s httpcache.Stats, add func(float64, ...string)) {
			if s.Disk != nil {
				add(read(s.Disk))
			}
		}}
}

// collectCache tells of the pool's cache, if there is one.
func (p *Pool) collectCache(ch chan<- prometheus.Metric) {
	if p.cache == nil {
		return
	}
	cache := p.cache()
	if cache == nil {
		return
	}
	stats := cache.Stats()
	for _, s := range cacheStates {
		s.read(stats, func(value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(s.desc, s.kind, value, append([]string{p.name}, labels...)...)
		})
	}
}
