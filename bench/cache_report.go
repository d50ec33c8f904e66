package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
)

// report prints the medians, and writes everything to dir if that is not empty.
func (b *cacheLab) report(dir string) error {
	medians := b.medians()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scene\tproxy\tanswers/s\tCPU µs\tapplication requests per answer\thit ratio\tp50 ms\tp99 ms\twrong")
	for _, m := range medians {
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%.1f\t%.4f\t%.1f %%\t%.2f\t%.2f\t%d %s\n", m.Scene, m.Proxy, m.PerSecond, m.CPU, m.Asked, 100*(1-m.Asked), m.P50, m.P99, m.Wrong, m.Trouble)
	}
	err := w.Flush()
	for _, s := range b.scenes {
		fmt.Printf("%s: %s\n", s.name, s.about)
	}
	for _, p := range b.pairs {
		middle, word := middleRatio(p.Ratios), "kept"
		if middle > hitCost {
			word, err = "missed", errors.Join(err, errHitCost)
		}
		fmt.Printf("%s: a hit costs %.2f times the CPU of respond (quarters %.2f and %.2f, %d pairs); promised is %.1f: %s\n", p.Scene, middle,
			p.Ratios[len(p.Ratios)/4], p.Ratios[len(p.Ratios)*3/4], len(p.Ratios), hitCost, word)
	}
	if dir == "" {
		return err
	}
	text, jerr := json.MarshalIndent(map[string]any{"machine_cpus": cpus(), "seconds": b.length.Seconds(), "medians": medians, "readings": b.taken, "pairs": b.pairs}, "", "\t")
	return errors.Join(err, jerr,
		os.WriteFile(filepath.Join(dir, "cache.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "cache.svg"), b.chart(medians).svg(), 0o644))
}

// middleRatio sorts.
func middleRatio(ratios []float64) float64 {
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// medians are those of all rounds, number by number.
func (b *cacheLab) medians() []CacheReading {
	var list []CacheReading
	for _, s := range b.scenes {
		for _, c := range b.proxies {
			var of []CacheReading
			for _, r := range b.taken {
				if r.Scene == s.name && r.Proxy == c.name {
					of = append(of, r)
				}
			}
			if len(of) == 0 {
				continue
			}
			m := CacheReading{Scene: s.name, Proxy: c.name, Answers: int(middleValue(of, func(r CacheReading) float64 { return float64(r.Answers) })),
				PerSecond: middleValue(of, func(r CacheReading) float64 { return r.PerSecond }), CPU: middleValue(of, func(r CacheReading) float64 { return r.CPU }),
				Asked: middleValue(of, func(r CacheReading) float64 { return r.Asked }),
				P50:   middleValue(of, func(r CacheReading) float64 { return r.P50 }), P99: middleValue(of, func(r CacheReading) float64 { return r.P99 })}
			for _, r := range of {
				m.Wrong += r.Wrong
				m.Trouble = cmp.Or(m.Trouble, r.Trouble)
			}
			list = append(list, m)
		}
	}
	return list
}

func middleValue(of []CacheReading, value func(CacheReading) float64) float64 {
	var all []float64
	for _, r := range of {
		all = append(all, value(r))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (b *cacheLab) chart(medians []CacheReading) chart {
	c := chart{title: "What a cache costs and saves", note: fmt.Sprintf("%d CPUs, the proxy has one; medians of %d.", cpus(), b.rounds)}
	for _, measure := range []struct {
		label string
		log   bool
		of    func(CacheReading) float64
	}{
		{"CPU µs per answer", false, func(r CacheReading) float64 { return r.CPU }},
		{"application requests per 1000 answers", false, func(r CacheReading) float64 { return 1000 * r.Asked }},
		{"p99 ms", true, func(r CacheReading) float64 { return r.P99 }},
	} {
		p := panel{title: measure.label, x: "", y: measure.label, bars: true, log: measure.log}
		for _, s := range b.scenes {
			p.ticks = append(p.ticks, s.name)
		}
		for _, one := range b.proxies {
			s := series{name: one.name}
			for _, scene := range b.scenes {
				i := slices.IndexFunc(medians, func(r CacheReading) bool { return r.Scene == scene.name && r.Proxy == one.name })
				if i < 0 {
					s.values = append(s.values, math.NaN())
				} else {
					s.values = append(s.values, measure.of(medians[i]))
				}
			}
			p.series = append(p.series, s)
		}
		c.rows = append(c.rows, []panel{p})
	}
	return c
}
