package main

import (
	"testing"
	"time"
)

func TestQuantilesAreMeasuredValues(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i+1) * time.Millisecond
	}
	for _, c := range []struct {
		sorted []time.Duration
		q      float64
		want   time.Duration
	}{
		{hundred, 0.50, 50 * time.Millisecond},
		{hundred, 0.99, 99 * time.Millisecond},
		{hundred, 1, 100 * time.Millisecond},
		{hundred, 0, time.Millisecond},
		{hundred[:2], 0.99, 2 * time.Millisecond},
		{hundred[:1], 0.50, time.Millisecond},
		{nil, 0.99, 0},
	} {
		if got := quantile(c.sorted, c.q); got != c.want {
			t.Errorf("quantile %v of %d is %v, want %v", c.q, len(c.sorted), got, c.want)
		}
	}
}

func TestLatencySortsWhatItIsGiven(t *testing.T) {
	got := latencyOf([]time.Duration{3 * time.Millisecond, 1 * time.Millisecond, 2*time.Millisecond + 345678})
	if want := (Latency{P50: 2.346, P99: 3, Max: 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
