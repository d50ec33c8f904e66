package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Reading is one measurement: one page, asked of one proxy.
type Reading struct {
	Cores     int     `json:"cores"` // of the proxy
	Protocol  string  `json:"protocol"`
	KiB       int     `json:"kib"`
	Proxy     string  `json:"proxy"`
	Round     int     `json:"round,omitempty"` // 0 is the median of all
	PerSecond float64 `json:"per_second"`
	CPU       float64 `json:"cpu_us"`                 // of the proxy, per request
	Allocs    float64 `json:"allocs"`                 // of the proxy, per request; -1 is unknown
	ProxyCPU  float64 `json:"proxy_core_percent"`     // how much of a core each of them used
	LoadCPU   float64 `json:"generator_core_percent"` // it includes start and warm-up, as the next two
	AppCPU    float64 `json:"app_core_percent"`
	OthersCPU float64 `json:"others_core_percent"` // all other processes on all cores: the noise
	Steal     float64 `json:"steal_percent"`       // -1 is unknown
	Void      string  `json:"void,omitempty"`      // why it does not count
}

func (r Reading) String() string {
	return fmt.Sprintf("%s, %s, %d KiB, %s", coresOf(r.Cores), r.Protocol, r.KiB, r.Proxy)
}

func (r *Reading) fill(y *Yield, u usage) {
	r.Allocs, r.AppCPU, r.Steal = y.Allocs, u.app, u.steal
	if elapsed := y.Elapsed.Seconds(); elapsed > 0 {
		r.PerSecond = float64(y.Answers) / elapsed
		r.ProxyCPU = 100 * y.CPU.Seconds() / elapsed
	}
	if y.Answers > 0 {
		r.CPU = float64(y.CPU) / float64(time.Microsecond) / float64(y.Answers)
	}
	r.LoadCPU = 100 * y.LoadCPU.Seconds() / u.elapsed.Seconds()
	r.OthersCPU = max(0, u.all-u.peer-u.app-r.LoadCPU)

	var why []string
	if y.Trouble != "" {
		why = append(why, y.Trouble)
	} else if y.Answers == 0 {
		why = append(why, "no answers")
	}
	if r.Steal > 2 {
		why = append(why, fmt.Sprintf("the host took %.1f %% of the CPUs", r.Steal))
	}
	r.Void = strings.Join(why, "; ")
}

// key is what the rounds have in common.
func (r Reading) key() Reading {
	return Reading{Cores: r.Cores, Protocol: r.Protocol, KiB: r.KiB, Proxy: r.Proxy}
}

// middle is one reading for each key, in the order of the table: every number is
// the median of those that count. If none does, the first stands with its reason.
func middle(readings []Reading) []Reading {
	rounds := make(map[Reading][]Reading)
	var keys []Reading
	for _, r := range readings {
		if len(rounds[r.key()]) == 0 {
			keys = append(keys, r.key())
		}
		rounds[r.key()] = append(rounds[r.key()], r)
	}
	slices.SortFunc(keys, func(a, b Reading) int {
		return cmp.Or(cmp.Compare(a.Cores, b.Cores), cmp.Compare(protocolOrder(a), protocolOrder(b)), cmp.Compare(a.KiB, b.KiB), cmp.Compare(proxyOrder(a), proxyOrder(b)))
	})
	for i, key := range keys {
		counted := slices.DeleteFunc(slices.Clone(rounds[key]), func(r Reading) bool { return r.Void != "" })
		if len(counted) == 0 {
			counted = rounds[key][:1]
		}
		keys[i] = middleOf(counted)
	}
	return keys
}

func protocolOrder(r Reading) int { return slices.Index(names(protocols), r.Protocol) }
func proxyOrder(r Reading) int    { return slices.Index(names(proxies), r.Proxy) }

func middleOf(readings []Reading) Reading {
	m := readings[0]
	m.Round = 0
	for _, field := range []func(*Reading) *float64{
		func(r *Reading) *float64 { return &r.PerSecond }, func(r *Reading) *float64 { return &r.CPU },
		func(r *Reading) *float64 { return &r.Allocs }, func(r *Reading) *float64 { return &r.ProxyCPU },
		func(r *Reading) *float64 { return &r.LoadCPU }, func(r *Reading) *float64 { return &r.AppCPU },
		func(r *Reading) *float64 { return &r.OthersCPU }, func(r *Reading) *float64 { return &r.Steal },
	} {
		var values []float64
		for i := range readings {
			values = append(values, *field(&readings[i]))
		}
		*field(&m) = median(values)
	}
	return m
}

// A Ratio is the CPU time of Portner per request over that of another proxy: the
// median of the ratios of each round, so that what disturbs the machine for a
// while disturbs both.
type Ratio struct {
	Cores    int     `json:"cores"`
	Protocol string  `json:"protocol"`
	KiB      int     `json:"kib"`
	To       string  `json:"to"`
	Median   float64 `json:"median"`
	Least    float64 `json:"least"`
	Most     float64 `json:"most"`
	Pairs    int     `json:"pairs"` // rounds in which both count
}

func (r Ratio) String() string {
	return fmt.Sprintf("%.2f (%.2f..%.2f of %d)", r.Median, r.Least, r.Most, r.Pairs)
}

const ours = "portner"

// ratios are in the order of the medians; what has no pair is left out.
func ratios(readings, medians []Reading) []Ratio {
	var all []Ratio
	for _, to := range medians {
		if to.Proxy == ours {
			continue
		}
		if r, ok := ratioTo(readings, to.key()); ok {
			all = append(all, r)
		}
	}
	return all
}

func ratioTo(readings []Reading, to Reading) (Ratio, bool) {
	mine := to
	mine.Proxy = ours
	var values []float64
	for _, their := range readings {
		if their.key() != to || their.Void != "" {
			continue
		}
		i := slices.IndexFunc(readings, func(r Reading) bool { return r.key() == mine && r.Round == their.Round && r.Void == "" })
		if i >= 0 && their.CPU > 0 {
			values = append(values, readings[i].CPU/their.CPU)
		}
	}
	if len(values) == 0 {
		return Ratio{}, false
	}
	return Ratio{to.Cores, to.Protocol, to.KiB, to.Proxy, median(values), slices.Min(values), slices.Max(values), len(values)}, true
}

// A goal is one promise about the cost of a request, with one core for the proxy.
type goal struct {
	says     string
	protocol string
	kib      int
	most     float64 // of the ratio to Caddy, or allocations
	allocs   bool
}

var goals = []goal{
	{"HTTP/1.1, 1 KiB: CPU per request <= 0.52 of stock Caddy's", "h1", 1, 0.52, false},
	{"HTTP/1.1, 0 KiB: CPU per request <= 0.48 of stock Caddy's", "h1", 0, 0.48, false},
	{"HTTP/1.1, 100 KiB: CPU per request <= 0.80 of stock Caddy's", "h1", 100, 0.80, false},
	{"HTTP/2 over TLS, 1 KiB: CPU per request <= 0.75 of stock Caddy's", "h2-tls", 1, 0.75, false},
	{"HTTP/1.1, 1 KiB: at most 120 allocations per request", "h1", 1, 120, true},
}

// wantedPairs is how many rounds a judgement takes: fewer say what one might
// expect, and no more.
const wantedPairs = 5

// A Judgement is a goal, measured.
type Judgement struct {
	Says     string `json:"says"`
	Measured string `json:"measured"`
	Is       string `json:"is"`
}

func (g goal) judge(readings []Reading, all []Ratio) Judgement {
	if g.allocs {
		return g.judgeAllocs(readings)
	}
	i := slices.IndexFunc(all, func(r Ratio) bool {
		return r.Cores == 1 && r.Protocol == g.protocol && r.KiB == g.kib && r.To == "caddy"
	})
	if i < 0 {
		return Judgement{g.says, "no such pair in this run", unjudged}
	}
	return g.judgeValue(all[i].String(), all[i].Median, all[i].Pairs)
}

func (g goal) judgeAllocs(readings []Reading) Judgement {
	var values []float64
	for _, r := range readings {
		if r.key() == (Reading{Cores: 1, Protocol: g.protocol, KiB: g.kib, Proxy: ours}) && r.Void == "" && r.Allocs >= 0 {
			values = append(values, r.Allocs)
		}
	}
	if len(values) == 0 {
		return Judgement{g.says, "not measured in this run", unjudged}
	}
	m := median(values)
	return g.judgeValue(fmt.Sprintf("%.1f (%.1f..%.1f of %d)", m, slices.Min(values), slices.Max(values), len(values)), m, len(values))
}

func (g goal) judgeValue(measured string, value float64, rounds int) Judgement {
	if rounds < wantedPairs {
		return Judgement{g.says, fmt.Sprintf("%s; it takes %d rounds", measured, wantedPairs), unjudged}
	}
	return Judgement{g.says, measured, is(value <= g.most)}
}
