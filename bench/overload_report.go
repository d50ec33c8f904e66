package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A report is all that a run of the lab has measured.
type report struct {
	Started    time.Time  `json:"started"`
	Took       string     `json:"took"`
	CPUs       int        `json:"cpus"`
	Go         string     `json:"go"`
	Pinned     bool       `json:"pinned"`
	KeepAlive  bool       `json:"keep_alive"`
	Words      string     `json:"words,omitempty"`
	Rounds     int        `json:"rounds"`
	LeftOut    []string   `json:"left_out,omitempty"`
	Verdicts   []Verdict  `json:"verdicts"`
	Medians    []Cell     `json:"medians"`
	Cells      []Cell     `json:"cells"`
	Capacities []Capacity `json:"capacities"`
}

func (l *lab) report() *report {
	r := &report{
		Started: l.begun.UTC().Truncate(time.Second), Took: time.Since(l.begun).Round(time.Second).String(),
		CPUs: runtime.NumCPU(), Go: runtime.Version(), Pinned: l.pinned, KeepAlive: l.keepAlive, Words: l.words, Rounds: l.rounds,
		LeftOut: l.leftOut, Cells: l.cells, Capacities: l.capacities, Medians: medians(l.cells),
	}
	for _, p := range promises {
		verdicts := p.judge(r, p)
		if len(verdicts) == 0 {
			verdicts = []Verdict{{Says: p.says, Measured: "no such cells in this run", Is: unjudged}}
		}
		r.Verdicts = append(r.Verdicts, verdicts...)
	}
	return r
}

// key is what the rounds of a cell have in common.
func (c Cell) key() [4]string { return [4]string{c.Scenario, c.App, c.Peer, c.Load} }

// medians are one cell for each key, in the order of the first round: every
// number is the median of the cells that count. If none does, the reason stands.
func medians(cells []Cell) []Cell {
	var all []Cell
	rounds := make(map[[4]string][]Cell)
	for _, c := range cells {
		if _, known := rounds[c.key()]; !known {
			all = append(all, c)
		}
		rounds[c.key()] = append(rounds[c.key()], c)
	}
	for i := range all {
		counted := slices.DeleteFunc(slices.Clone(rounds[all[i].key()]), func(c Cell) bool { return c.Void != "" })
		if len(counted) > 0 {
			all[i] = medianOf(counted)
		}
		all[i].Round = 0
	}
	return all
}

// medianOf takes the rest, such as what failed, from the first.
func medianOf(cells []Cell) Cell {
	m := cells[0]
	for _, field := range []func(*Cell) *float64{
		func(c *Cell) *float64 { return &c.Capacity }, func(c *Cell) *float64 { return &c.Goodput },
		func(c *Cell) *float64 { return &c.Share }, func(c *Cell) *float64 { return &c.Answered },
		func(c *Cell) *float64 { return &c.P50 }, func(c *Cell) *float64 { return &c.P99 }, func(c *Cell) *float64 { return &c.Max },
		func(c *Cell) *float64 { return &c.Sent }, func(c *Cell) *float64 { return &c.Refused }, func(c *Cell) *float64 { return &c.Wrong },
		func(c *Cell) *float64 { return &c.TimedOut }, func(c *Cell) *float64 { return &c.Failed }, func(c *Cell) *float64 { return &c.Beside },
		func(c *Cell) *float64 { return &c.Late }, func(c *Cell) *float64 { return &c.Steal }, func(c *Cell) *float64 { return &c.LoadCPU },
		func(c *Cell) *float64 { return &c.PeerCPU }, func(c *Cell) *float64 { return &c.AppCPU }, func(c *Cell) *float64 { return &c.OthersCPU },
	} {
		var values []float64
		for i := range cells {
			values = append(values, *field(&cells[i]))
		}
		*field(&m) = median(values)
	}
	return m
}

// median is the middle one, or the mean of the two in the middle.
func median(values []float64) float64 {
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

func (r *report) median(scenario, app, peer, load string) (Cell, bool) {
	i := slices.IndexFunc(r.Medians, func(c Cell) bool { return c.key() == [4]string{scenario, app, peer, load} })
	if i < 0 {
		return Cell{}, false
	}
	return r.Medians[i], true
}

// distinct lists what the medians have of something, in order.
func (r *report) distinct(of func(Cell) string, where func(Cell) bool) []string {
	var list []string
	for _, c := range r.Medians {
		if v := of(c); where(c) && !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

func (r *report) appsIn(scenario string) []string {
	return r.distinct(func(c Cell) string { return c.App }, func(c Cell) bool { return c.Scenario == scenario })
}

// note shows a cell as soon as it is there.
func (l *lab) note(c Cell) {
	l.show.clear()
	void := ""
	if c.Void != "" {
		void = "  VOID: " + c.Void
	}
	fmt.Fprintf(os.Stderr, "%8s  round %d  %-8s %-10s %-20s %-13s %6.0f/s  p50 %6.1f  p99 %7.1f ms%s\n",
		time.Since(l.begun).Round(time.Second), c.Round, c.Scenario, c.App, c.Load, c.Peer, c.Goodput, c.P50, c.P99, void)
}

func (r *report) print(w io.Writer) {
	unit := "new connections"
	if r.KeepAlive {
		unit = "kept connections"
	}
	fmt.Fprintf(w, "\n%d CPUs, %s, %s, medians of %d, %s\n", r.CPUs, r.Go, unit, r.Rounds, r.Took)
	for _, left := range r.LeftOut {
		fmt.Fprintf(w, "LEFT OUT: %s\n", left)
	}
	for _, s := range scenarios {
		for _, app := range r.appsIn(s.name) {
			r.printTable(w, s, app)
		}
	}
	fmt.Fprintln(w)
	for i, v := range r.Verdicts {
		if i == 0 || r.Verdicts[i-1].Says != v.Says {
			fmt.Fprintln(w, v.Says)
		}
		fmt.Fprintf(w, "    %-10s  %-10s  %s\n", v.Is, v.App, v.Measured)
	}
	fmt.Fprintln(w, judgedElsewhere)
}

func (r *report) printTable(w io.Writer, s scenario, app string) {
	fmt.Fprintf(w, "\n%s: %s\n%s: %s\n", s.name, s.about, app, findApp(app).about)
	fmt.Fprintln(w, "load                  in front         200s/s  capacity  answered      p50      p99     sent  refused  too late  failed   peer   app  load  others  late ms  steal")
	for _, c := range r.Medians {
		if c.Scenario != s.name || c.App != app {
			continue
		}
		fmt.Fprintf(w, "%-21s %-14s %8.1f %9.1f %8.1f%% %8.1f %8.1f %8.0f %8.0f %9.0f %7.0f %5.0f%% %4.0f%% %4.0f%% %6.0f%% %8.1f %5.1f%%",
			c.Load, c.Peer, c.Goodput, c.Capacity, c.Answered, c.P50, c.P99, c.Sent, c.Refused, c.TimedOut, c.Failed+c.Wrong,
			c.PeerCPU, c.AppCPU, c.LoadCPU, c.OthersCPU, c.Late, c.Steal)
		if c.Scenario == "slow" && strings.Contains(c.Load, "beside") {
			fmt.Fprintf(w, "  %.0f /slow answered", c.Beside)
		}
		if c.Scenario == "greedy" && c.Beside > 0 {
			fmt.Fprintf(w, "  greedy one got %.0f", c.Beside)
		}
		if c.Void != "" {
			fmt.Fprintf(w, "  VOID: %s", c.Void)
		}
		if c.Failures != "" {
			fmt.Fprintf(w, "  (%s)", c.Failures)
		}
		fmt.Fprintln(w)
	}
}

func (r *report) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
