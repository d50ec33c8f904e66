package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// journalBench posts items one at a time, as the course's client does, while the
// application, the proxy or both are stopped, killed, slow or broken, and looks
// whether each item that was accepted is in the application once, in order.
func journalBench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("journal", flag.ContinueOnError)
	from := flags.String("items", "", "`file` with one JSON item per line (default ../shared/data/posts.jsonl, or made-up items where that is missing)")
	count := flags.Int("count", 200, "how many items a round")
	rounds := flags.Int("rounds", len(faults), "how many rounds; the kinds take turns")
	only := flags.String("only", "", "one `kind`: "+strings.Join(faultNames(), ", "))
	plot := flags.String("plot", "", "write backlog and latency of the rounds as SVG into this `folder`")
	if err := parse(flags, args); err != nil {
		return err
	}
	kinds := slices.Clone(faults)
	if *only != "" {
		kinds = slices.DeleteFunc(kinds, func(f fault) bool { return f.name != *only })
	}
	if *count < 10 || *rounds < 1 || len(kinds) == 0 {
		fmt.Fprintln(flags.Output(), "-count is at least 10, -rounds at least 1, -only one of the kinds")
		return errUsage
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	items, source, err := loadItems(*from, root, *count)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "portner-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	show := newProgress()
	show.say("building")
	b, err := build(ctx, root, dir)
	show.clear()
	if err != nil {
		return err
	}
	fmt.Printf("%s, one at a time, patience %v\n", source, patience)
	fmt.Println("round  kind         accepted  tries  delivered  lost  duplicated  disorder  late       p50       p99       max  drained")
	var broken []error
	for n := range *rounds {
		kind := kinds[n%len(kinds)]
		r := &journalRound{number: n + 1, fault: kind, items: items, dir: filepath.Join(dir, strconv.Itoa(n)), b: b}
		err := r.run(ctx, show)
		show.clear()
		if err != nil {
			return fmt.Errorf("round %d, %s: %w", r.number, kind.name, err)
		}
		fmt.Println(r)
		broken = append(broken, r.broken())
		if *plot != "" {
			if err := os.WriteFile(filepath.Join(*plot, fmt.Sprintf("journal-%s.svg", kind.name)), r.chart().svg(), 0o644); err != nil {
				return err
			}
		}
		os.RemoveAll(r.dir)
	}
	if err := errors.Join(broken...); err != nil {
		return fmt.Errorf("%w:\n%w", errBroken, err)
	}
	return nil
}

// A fault begins when a fifth of the items has been posted and ends at three
// fifths.
type fault struct {
	name       string
	begin, end func(*journalRound, context.Context) error
}

var faults = []fault{
	{"none", nothing, nothing},
	{"app-stopped", (*journalRound).stopAppFor, (*journalRound).startAppFor},
	{"app-killed", (*journalRound).killAppFor, (*journalRound).startAppFor},
	{"app-slow", mode(gateSlow), mode(gateOpen)},
	{"app-500", mode(gateBroken), mode(gateOpen)},
	{"proxy-killed", (*journalRound).restartProxy, (*journalRound).restartProxy},
	{"both-killed", (*journalRound).killBoth, (*journalRound).startAppFor},
}

func faultNames() (names []string) {
	for _, f := range faults {
		names = append(names, f.name)
	}
	return names
}

func nothing(*journalRound, context.Context) error { return nil }

func mode(m gateMode) func(*journalRound, context.Context) error {
	return func(r *journalRound, _ context.Context) error { r.gate.set(m); return nil }
}

// outcome of a round, as a line and as what it breaks.
func (r *journalRound) String() string {
	l := latencyOf(r.took)
	return fmt.Sprintf("%5d  %-12s %8d %6d %10d %5d %11d %9d %5d %6.2f ms %6.2f ms %6.2f ms %6.2f s", r.number, r.fault.name,
		r.accepted, len(r.took), r.accepted-len(r.found.Missing), len(r.found.Missing), len(r.found.Repeated), r.disorder, r.late, l.P50, l.P99, l.Max, r.drained.Seconds())
}

func (r *journalRound) broken() error {
	if r.found.none() && r.disorder == 0 {
		return nil
	}
	return fmt.Errorf("round %d, %s: %d missing, %d repeated, %d wrong, %d out of order", r.number, r.fault.name,
		len(r.found.Missing), len(r.found.Repeated), len(r.found.Wrong), r.disorder)
}

// chart is the round over its items: what was accepted and not yet delivered, and
// how long each try took.
func (r *journalRound) chart() chart {
	var took []float64
	for _, t := range r.took {
		took = append(took, milliseconds(t))
	}
	return chart{
		title: fmt.Sprintf("Journal: %s, %d items one at a time", r.fault.name, len(r.items)),
		note:  fmt.Sprintf("patience %v; the fault lasts from a fifth to three fifths of the items; %s", patience, time.Now().UTC().Format(time.DateOnly)),
		rows: [][]panel{{
			{title: "accepted, not delivered", x: "try", y: "items", ticks: numbered(len(r.backlog)), every: max(1, len(r.backlog)/5), series: []series{{"backlog", r.backlog}}},
			{title: "latency of a post", x: "try", y: "ms", ticks: numbered(len(took)), every: max(1, len(took)/5), series: []series{{"latency", took}}, wanted: milliseconds(patience)},
		}},
	}
}

func numbered(n int) (ticks []string) {
	for i := range n {
		ticks = append(ticks, strconv.Itoa(i+1))
	}
	return ticks
}
