package main

import (
	"cmp"
	"fmt"
	"math"
	"strings"
)

// A promise is one line of what Portner says of itself, in the words in which it
// was made.
type promise struct {
	says  string
	judge func(r *report, p promise) []Verdict
}

// A Verdict is a promise, measured with one application.
type Verdict struct {
	Says     string `json:"says"`
	App      string `json:"app"`
	Measured string `json:"measured"`
	Is       string `json:"is"`
}

const (
	met      = "met"
	missed   = "MISSED"
	unjudged = "not judged"
)

var promises = []promise{
	{"5x overload: 200s within 1 s >= 95 % of the capacity of the same run, p50 <= 100 ms, p99 <= 500 ms",
		overloaded(5, least{share: 95}, most{p50: 100, p99: 500})},
	{"20x overload: 200s within 1 s >= 85 % of the capacity",
		overloaded(20, least{share: 85}, most{p50: math.Inf(1), p99: math.Inf(1)})},
	{"One 3 s request a second beside it, two workers: / open loop at 50 % of one worker's capacity: p99 from the first second on <= 5 times the same load without /slow",
		beside("slow", "open, alone", "open, beside /slow", 5)},
	{"One 3 s request a second beside it, two workers: / closed loop: >= 85 % of one worker's capacity", slowClosed},
	{"One greedy client with 100 connections among 20 polite ones that together offer 50 % of capacity, open loop: the polite ones' p99 within 2 times of what they see without it",
		beside("greedy", "alone", "beside greedy", 2)},
	{"concurrency auto: >= 95 % of the throughput of the best fixed limit, p99 within 1.5 times of its or 5 ms, within 10 s of load", autoIsAsGood},
	{"concurrency auto follows when workers are added or taken away (as good as the best fixed limit for them, 10 s later)", autoFollows},
}

// judgedElsewhere is what the lab cannot see from outside.
const judgedElsewhere = "Not measured here: what a pass through admission and a waiting request cost, and the invariants (go test -bench . ./caddymodule/internal/admission, go test -race ./...)."

type least struct{ share float64 }   // percent
type most struct{ p50, p99 float64 } // ms

// everybody is the share of answered requests, in percent, below which a p99 of
// those who were answered says nothing about a load that could be answered.
const everybody = 99

// eachApp judges every application that was measured in a scenario.
func (r *report) eachApp(p promise, scenario string, judge func(app string) (measured, is string)) []Verdict {
	var all []Verdict
	for _, app := range r.appsIn(scenario) {
		if measured, is := judge(app); is != "" {
			all = append(all, Verdict{p.says, app, measured, is})
		}
	}
	return all
}

func is(kept bool) string {
	if kept {
		return met
	}
	return missed
}

func overloaded(multiple float64, l least, m most) func(*report, promise) []Verdict {
	return func(r *report, p promise) []Verdict {
		return r.eachApp(p, "overload", func(app string) (string, string) {
			c, ok := r.median("overload", app, "portner", times(multiple))
			switch {
			case !ok:
				return "", ""
			case c.Void != "":
				return c.Void, unjudged
			}
			return fmt.Sprintf("%.1f %% of %.0f/s, p50 %.0f ms, p99 %.0f ms", c.Share, c.Capacity, c.P50, c.P99),
				is(c.Share >= l.share && c.P50 <= m.p50 && c.P99 <= m.p99)
		})
	}
}

// beside compares the p99 of a load with that of the same load and something
// beside it. Refusing those who would have been slow does not count as being fast.
func beside(scenario, alone, with string, factor float64) func(*report, promise) []Verdict {
	return func(r *report, p promise) []Verdict {
		return r.eachApp(p, scenario, func(app string) (string, string) {
			a, ok1 := r.median(scenario, app, "portner", alone)
			b, ok2 := r.median(scenario, app, "portner", with)
			switch {
			case !ok1 || !ok2:
				return "", ""
			case a.Void != "" || b.Void != "":
				return cmp.Or(a.Void, b.Void), unjudged
			}
			return fmt.Sprintf("p99 %.1f ms beside it, %.1f ms alone: %.1f times; %.1f %% answered", b.P99, a.P99, b.P99/a.P99, b.Answered),
				is(b.P99 <= factor*a.P99 && b.Answered >= everybody)
		})
	}
}

func slowClosed(r *report, p promise) []Verdict {
	return r.eachApp(p, "slow", func(app string) (string, string) {
		c, ok := r.median("slow", app, "portner", "closed, beside /slow")
		switch {
		case !ok:
			return "", ""
		case c.Void != "":
			return c.Void, unjudged
		}
		return fmt.Sprintf("%.1f %% of %.0f/s, p99 %.0f ms", c.Share, c.Capacity, c.P99), is(c.Share >= 85)
	})
}

// best is the fixed limit with the highest throughput; of those that are as good
// (within 2 %), the one with the lowest p99.
func (r *report) best(app, load string) (best Cell, ok bool) {
	var fixed []Cell
	highest := 0.0
	for _, c := range r.Medians {
		if c.Scenario == "auto" && c.App == app && c.Load == load && strings.HasPrefix(c.Peer, "limit ") && c.Void == "" {
			fixed = append(fixed, c)
			highest = max(highest, c.Goodput)
		}
	}
	for _, c := range fixed {
		if c.Goodput >= 0.98*highest && (!ok || c.P99 < best.P99) {
			best, ok = c, true
		}
	}
	return best, ok
}

func autoIsAsGood(r *report, p promise) []Verdict {
	var all []Verdict
	for _, multiple := range autoLoads {
		all = append(all, r.eachApp(p, "auto", func(app string) (string, string) {
			best, ok := r.best(app, times(multiple))
			return r.compareAuto(app, times(multiple), best, ok)
		})...)
	}
	return all
}

func autoFollows(r *report, p promise) []Verdict {
	var all []Verdict
	app := fmt.Sprintf("sleep-%d", followed[0])
	for _, workers := range followed {
		best, ok := r.best(fmt.Sprintf("sleep-%d", workers), times(autoLoads[len(autoLoads)-1]))
		if measured, is := r.compareAuto(app, followLoad(workers), best, ok); is != "" {
			all = append(all, Verdict{p.says, app, measured, is})
		}
	}
	return all
}

func (r *report) compareAuto(app, load string, best Cell, found bool) (measured, verdict string) {
	c, ok := r.median("auto", app, autoPeer, load)
	switch {
	case !ok:
		return "", ""
	case c.Void != "":
		return c.Void, unjudged
	case !found:
		return "no fixed limit was measured", unjudged
	}
	return fmt.Sprintf("%s: %.0f/s, p99 %.0f ms; %s: %.0f/s, p99 %.0f ms", load, c.Goodput, c.P99, best.Peer, best.Goodput, best.P99),
		is(c.Goodput >= 0.95*best.Goodput && c.P99 <= max(1.5*best.P99, best.P99+5))
}
