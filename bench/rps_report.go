package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// A costReport is all that a run of rps has measured.
type costReport struct {
	Started     time.Time   `json:"started"`
	Took        string      `json:"took"`
	CPUs        int         `json:"cpus"`
	Go          string      `json:"go"`
	Pinned      bool        `json:"pinned"`
	Connections int         `json:"connections"`
	Seconds     float64     `json:"seconds"`
	Rounds      int         `json:"rounds"`
	Words       string      `json:"words,omitempty"`
	LoadBefore  string      `json:"load_before"` // load averages of 1, 5 and 15 minutes
	LoadAfter   string      `json:"load_after"`
	LeftOut     []string    `json:"left_out,omitempty"`
	Judgements  []Judgement `json:"judgements"`
	Ratios      []Ratio     `json:"ratios"`
	Medians     []Reading   `json:"medians"`
	Readings    []Reading   `json:"readings"`
}

func (t *track) report() *costReport {
	r := &costReport{
		Started: t.begun.UTC().Truncate(time.Second), Took: time.Since(t.begun).Round(time.Second).String(),
		CPUs: runtime.NumCPU(), Go: runtime.Version(), Pinned: t.pinned, Connections: t.connections, Seconds: t.length.Seconds(), Rounds: t.rounds,
		Words: t.words, LoadBefore: t.loadBefore, LoadAfter: loadAverages(), LeftOut: t.leftOut, Readings: t.readings, Medians: middle(t.readings),
	}
	r.Ratios = ratios(r.Readings, r.Medians)
	for _, g := range goals {
		r.Judgements = append(r.Judgements, g.judge(r.Readings, r.Ratios))
	}
	return r
}

// note shows a reading as soon as it is there.
func (t *track) note(r Reading) {
	t.show.clear()
	void := ""
	if r.Void != "" {
		void = "  VOID: " + r.Void
	}
	fmt.Fprintf(os.Stderr, "%8s  round %d  %-7s  %-6s %4d KiB  %-8s %7.0f/s  %7.1f µs%s\n",
		time.Since(t.begun).Round(time.Second), r.Round, coresOf(r.Cores), r.Protocol, r.KiB, r.Proxy, r.PerSecond, r.CPU, void)
}

func (r *costReport) print(w io.Writer) {
	fmt.Fprintf(w, "\n%d CPUs, %s, %d connections, medians of %d, %s; load averages %s before, %s after\n",
		r.CPUs, r.Go, r.Connections, r.Rounds, r.Took, r.LoadBefore, r.LoadAfter)
	for _, left := range r.LeftOut {
		fmt.Fprintf(w, "LEFT OUT: %s\n", left)
	}
	if share := r.disturbed(); share > 0 {
		fmt.Fprintf(w, "DISTURBED: in %.0f %% of the measurements other processes used more than %d %% of a core; take no promise from this run\n", share, quiet)
	}
	var last Reading
	for _, m := range r.Medians {
		if m.Cores != last.Cores || m.Protocol != last.Protocol {
			r.printHead(w, m)
		} else if m.KiB != last.KiB {
			fmt.Fprintln(w)
		}
		r.printRow(w, m)
		last = m
	}
	fmt.Fprintln(w)
	for _, j := range r.Judgements {
		fmt.Fprintf(w, "%s\n    %-10s  %s\n", j.Says, j.Is, j.Measured)
	}
}

// quiet is how much of a core, in percent, others may use beside a measurement.
// They do not count as the proxy's time, but they empty its caches.
const quiet = 20

// disturbed is the share of the readings in which others were not quiet, in percent.
func (r *costReport) disturbed() float64 {
	n := 0
	for _, one := range r.Readings {
		if one.OthersCPU > quiet {
			n++
		}
	}
	return 100 * float64(n) / float64(max(len(r.Readings), 1))
}

func (r *costReport) printHead(w io.Writer, m Reading) {
	p, _ := findProtocol(m.Protocol)
	fmt.Fprintf(w, "\n%s, %s for the proxy", p.about, coresOf(m.Cores))
	if _, _, shared := divide(m.Cores, r.CPUs); shared {
		fmt.Fprint(w, "; application and generator share them, so requests per second are what the three can do together")
	}
	fmt.Fprintln(w, "\n   KiB  proxy      requests/s  CPU µs  allocs  proxy    app   load  others  steal  Portner's CPU to this one's")
}

func coresOf(n int) string {
	if n == 1 {
		return "1 core"
	}
	return strconv.Itoa(n) + " cores"
}

func (r *costReport) printRow(w io.Writer, m Reading) {
	allocs := "–"
	if m.Allocs >= 0 {
		allocs = fmt.Sprintf("%.1f", m.Allocs)
	}
	fmt.Fprintf(w, "%6d  %-10s %10.0f %7.1f %7s %5.0f%% %5.0f%% %5.0f%% %6.0f%% %5.1f%%",
		m.KiB, m.Proxy, m.PerSecond, m.CPU, allocs, m.ProxyCPU, m.AppCPU, m.LoadCPU, m.OthersCPU, m.Steal)
	if i := slices.IndexFunc(r.Ratios, func(x Ratio) bool { return x.same(m) }); i >= 0 {
		fmt.Fprintf(w, "  %v", r.Ratios[i])
	}
	if void := r.voids(m); void > 0 {
		fmt.Fprintf(w, "  VOID: %d of %d rounds", void, r.Rounds)
	}
	if m.Void != "" {
		fmt.Fprintf(w, ": %s", m.Void)
	}
	fmt.Fprintln(w)
}

func (x Ratio) same(m Reading) bool {
	return x.Cores == m.Cores && x.Protocol == m.Protocol && x.KiB == m.KiB && x.To == m.Proxy
}

func (r *costReport) voids(m Reading) (n int) {
	for _, one := range r.Readings {
		if one.key() == m.key() && one.Void != "" {
			n++
		}
	}
	return n
}

func (r *costReport) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// chart has a column for each protocol, and a row for each number of cores and
// measure.
func (r *costReport) chart() chart {
	c := chart{
		title: "What a request costs a proxy",
		note:  fmt.Sprintf("%d CPUs, %d connections, medians of %d. CPU is the proxy's alone, as the operating system counts it. What is void is left out.", r.CPUs, r.Connections, r.Rounds),
	}
	for _, cores := range distinctOf(r.Medians, func(m Reading) int { return m.Cores }) {
		for _, measure := range []struct {
			label string
			of    func(Reading) float64
		}{{"CPU µs per request", func(m Reading) float64 { return m.CPU }}, {"requests per second", func(m Reading) float64 { return m.PerSecond }}} {
			var row []panel
			for _, name := range distinctOf(r.Medians, func(m Reading) string { return m.Protocol }) {
				row = append(row, r.panel(cores, name, measure.label, measure.of))
			}
			c.rows = append(c.rows, row)
		}
	}
	return c
}

func (r *costReport) panel(cores int, protocol, label string, of func(Reading) float64) panel {
	known, _ := findProtocol(protocol)
	p := panel{title: known.about + ", " + coresOf(cores), x: "KiB of the answer", y: label, bars: true}
	sizes := distinctOf(r.Medians, func(m Reading) int { return m.KiB })
	for _, kib := range sizes {
		p.ticks = append(p.ticks, strconv.Itoa(kib))
	}
	for _, proxy := range distinctOf(r.Medians, func(m Reading) string { return m.Proxy }) {
		s := series{name: proxy}
		for _, kib := range sizes {
			s.values = append(s.values, r.valueOf(Reading{Cores: cores, Protocol: protocol, KiB: kib, Proxy: proxy}, of))
		}
		p.series = append(p.series, s)
	}
	return p
}

// valueOf is NaN for what is void or was not measured.
func (r *costReport) valueOf(key Reading, of func(Reading) float64) float64 {
	i := slices.IndexFunc(r.Medians, func(m Reading) bool { return m.key() == key })
	if i < 0 || r.Medians[i].Void != "" {
		return math.NaN()
	}
	return of(r.Medians[i])
}

// distinctOf lists what there is of something, in order of appearance.
func distinctOf[T comparable](readings []Reading, of func(Reading) T) []T {
	var list []T
	for _, r := range readings {
		if v := of(r); !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}
