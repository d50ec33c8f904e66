package main

import (
	"math"
	"slices"
	"time"
)

// quantile is the smallest of the durations that at least a share q of them
// does not exceed (nearest rank: a value that was really measured). It wants
// them sorted; of none it is 0.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Latency describes a set of durations, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func latencyOf(took []time.Duration) Latency {
	sorted := slices.Sorted(slices.Values(took))
	return Latency{
		P50: milliseconds(quantile(sorted, 0.50)),
		P99: milliseconds(quantile(sorted, 0.99)),
		Max: milliseconds(quantile(sorted, 1)),
	}
}

// milliseconds rounds to microseconds; a loopback measurement knows no more.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
