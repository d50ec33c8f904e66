package main

import (
	"slices"
	"testing"
)

func TestSlowReadersAreJudgedByTheWorstSlotTheRatioAndTheMemory(t *testing.T) {
	for _, c := range []struct {
		slot   Latency
		ratios []float64
		grown  float64
		want   []string
	}{
		{Latency{P50: 1, P99: 50, Max: 50}, []float64{1, 1.5, 9}, 637, []string{met, met, met}},
		{Latency{P50: 1, P99: 51, Max: 51}, []float64{1, 1.5, 9}, 637, []string{missed, met, met}},
		{Latency{P50: 1, P99: 50, Max: 50}, []float64{1, 1.6, 1.7}, 637, []string{met, missed, met}},
		{Latency{P50: 1, P99: 50, Max: 50}, []float64{1, 1.5, 9}, 638, []string{met, met, missed}},
	} {
		var got []string
		for _, v := range slowPromises(c.slot, c.ratios, c.grown, 1000) {
			got = append(got, v.Is)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
