package main

import (
	"fmt"
	"math"
	"time"
)

// killChart shows one round for each kind of victim over time, and below all
// rounds.
func killChart(rounds []*killRound, rows []KillRow) chart {
	c := chart{title: "Journal: SIGKILL under load", note: fmt.Sprintf("%d rounds; a gap in a backlog is a proxy that is away", len(rows))}
	var backlogs, latencies []panel
	for _, r := range rounds {
		title := fmt.Sprintf("round %d, %s: %s", r.number+1, r.rhythm.name, r.row.Kills[0])
		ticks := secondsOf(len(r.backlog))
		backlogs = append(backlogs, panel{title: title, x: "seconds", y: "accepted, not delivered", ticks: ticks, every: 20, series: []series{{"backlog", r.backlog}}})
		latencies = append(latencies, panel{title: title, x: "seconds", y: "until taken, ms", ticks: ticks, every: 20, log: true, series: []series{{"slowest of 50 ms", r.slowest(len(ticks))}}})
	}
	var p99, drained series
	p99.name, drained.name = "p99 of an answer", "until all was delivered"
	for _, row := range rows {
		p99.values = append(p99.values, row.Latency.P99)
		drained.values = append(drained.values, 1000*row.Drained)
	}
	every := max(1, len(rows)/5)
	c.rows = [][]panel{backlogs, latencies, {
		{title: "latency", x: "round", y: "ms", ticks: numbered(len(rows)), every: every, log: true, series: []series{p99}},
		{title: "delivery after the last post", x: "round", y: "ms", ticks: numbered(len(rows)), every: every, log: true, series: []series{drained}},
	}}
	return c
}

func secondsOf(samples int) (ticks []string) {
	for i := range samples {
		ticks = append(ticks, fmt.Sprint((time.Duration(i) * sampleEvery).Seconds()))
	}
	return ticks
}

// slowest is how long the slowest item took, tries and pauses together, of
// those that were told in each sample's time.
func (r *killRound) slowest(samples int) []float64 {
	values := make([]float64, samples)
	for i := range values {
		values[i] = math.NaN()
	}
	for _, p := range r.told {
		if at := int(p.told / sampleEvery); at < samples {
			if ms := milliseconds(p.told - p.sent); math.IsNaN(values[at]) || ms > values[at] {
				values[at] = ms
			}
		}
	}
	return values
}
