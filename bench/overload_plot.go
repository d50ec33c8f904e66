package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// A measure is one number of a cell, as a row of panels.
type measure struct {
	of     func(Cell) float64
	label  string
	log    bool
	wanted float64
}

var (
	p50Of = func(c Cell) float64 { return c.P50 }
	p99Of = func(c Cell) float64 { return c.P99 }
	share = func(c Cell) float64 { return c.Share }
	ratio = func(c Cell) float64 { return c.Answered }
	speed = func(c Cell) float64 { return c.Goodput }
)

// plot writes a chart for each scenario that has cells.
func (r *report) plot(dir string) error {
	for name, chart := range r.charts() {
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), chart.svg(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r *report) charts() map[string]chart {
	all := make(map[string]chart)
	note := fmt.Sprintf("%d CPUs, medians of %d. Dashed: what Portner promises. Only complete 200s count; what is void is left out.", r.CPUs, r.Rounds)
	for _, c := range []struct {
		scenario, title, x string
		bars               bool
		measures           []measure
	}{
		{"overload", "Overload, open loop: pages within 1 s", "offered load, times the capacity", false, []measure{
			{share, "200s, % of the capacity", false, 95}, {p99Of, "p99, ms", true, 500}, {p50Of, "p50, ms", true, 100}}},
		{"closed", "Closed loop", "connections", true, []measure{
			{share, "200s, % of the capacity", false, 0}, {p99Of, "p99, ms", true, 0}}},
		{"slow", "One request of 3 s every second beside the page, two workers", "load of the page", true, []measure{
			{p99Of, "p99 of the page, ms", true, 0}, {share, "200s, % of one worker's", false, 0}, {ratio, "answered, %", false, 0}}},
		{"greedy", "Twenty polite clients, and a greedy one with 100 connections", "what the polite ones see", true, []measure{
			{p99Of, "p99, ms", true, 0}, {p50Of, "p50, ms", true, 0}, {ratio, "answered, %", false, 0}}},
	} {
		if apps := r.appsIn(c.scenario); len(apps) > 0 {
			all[c.scenario] = chart{c.title, note, r.grid(c.scenario, apps, c.x, c.bars, c.measures)}
		}
	}
	if apps := r.appsIn("auto"); len(apps) > 0 {
		all["auto"] = r.autoChart(apps, note)
	}
	return all
}

// grid has a column for each application, a row for each measure, and a series
// for each peer.
func (r *report) grid(scenario string, apps []string, x string, bars bool, measures []measure) [][]panel {
	var rows [][]panel
	for _, m := range measures {
		var row []panel
		for _, app := range apps {
			here := func(c Cell) bool { return c.Scenario == scenario && c.App == app }
			p := panel{title: app, x: x, y: m.label, log: m.log, bars: bars, wanted: m.wanted,
				ticks: r.distinct(func(c Cell) string { return c.Load }, here)}
			for _, peer := range r.distinct(func(c Cell) string { return c.Peer }, here) {
				s := series{name: peer}
				for _, load := range p.ticks {
					s.values = append(s.values, r.value(scenario, app, peer, load, m.of))
				}
				p.series = append(p.series, s)
			}
			row = append(row, p)
		}
		rows = append(rows, row)
	}
	return rows
}

// value is NaN for what is void, was not measured, or answered nobody.
func (r *report) value(scenario, app, peer, load string, of func(Cell) float64) float64 {
	c, ok := r.median(scenario, app, peer, load)
	if !ok || c.Void != "" {
		return math.NaN()
	}
	return of(c)
}

// autoChart has the limits along x, and below how Portner follows.
func (r *report) autoChart(apps []string, note string) chart {
	c := chart{title: "Portner's own limit against fixed ones", note: note}
	for _, m := range []measure{{speed, "200s per second", false, 0}, {p99Of, "p99, ms", true, 0}} {
		var row []panel
		for _, app := range apps {
			loads := r.distinct(func(c Cell) string { return c.Load },
				func(c Cell) bool { return c.Scenario == "auto" && c.App == app && strings.HasSuffix(c.Load, "x") })
			limits := r.distinct(func(c Cell) string { return c.Peer },
				func(c Cell) bool { return c.Scenario == "auto" && c.App == app && strings.HasSuffix(c.Load, "x") })
			if len(loads) == 0 {
				continue
			}
			p := panel{title: app, x: "requests at once", y: m.label, log: m.log, bars: true}
			for _, limit := range limits {
				p.ticks = append(p.ticks, strings.TrimPrefix(limit, "limit "))
			}
			for _, load := range loads {
				s := series{name: load + " the capacity"}
				for _, limit := range limits {
					s.values = append(s.values, r.value("auto", app, limit, load, m.of))
				}
				p.series = append(p.series, s)
			}
			row = append(row, p)
		}
		if len(row) > 0 {
			c.rows = append(c.rows, row)
		}
	}
	if p := r.followPanel(); len(p.series) > 0 {
		c.rows = append(c.rows, []panel{p})
	}
	return c
}

// followPanel is the first round, second by second.
func (r *report) followPanel() panel {
	p := panel{title: "workers change: " + strings.Trim(fmt.Sprint(followed), "[]"), x: "seconds", y: "200s per second", every: 10}
	for _, c := range r.Cells {
		if c.Scenario != "auto" || c.Load != followWhole || c.Round != 1 {
			continue
		}
		s := series{name: c.Peer}
		for i, n := range c.Seconds {
			if i >= len(p.ticks) {
				p.ticks = append(p.ticks, fmt.Sprint(i))
			}
			s.values = append(s.values, float64(n))
		}
		p.series = append(p.series, s)
	}
	return p
}
