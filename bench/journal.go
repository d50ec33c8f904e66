package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// journalBench looks whether what clients were told of their writes holds, and
// what it costs: the real proxy, the real application with SQLite, real clients.
func journalBench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("journal", flag.ContinueOnError)
	l := &journalLab{show: newProgress()}
	which := flags.String("scenes", "all", "`names` of "+strings.Join(names(journalScenes), ", "))
	only := flags.String("faults", "all", "`names` of "+strings.Join(names(faults), ", ")+"; poison takes a minute and a half, twice")
	flags.StringVar(&l.from, "items", "", "`file` with one JSON item per line for the scenes that post one at a time (default made-up ones like them)")
	flags.IntVar(&l.count, "count", 200, "items of a round of faults")
	flags.IntVar(&l.rounds, "rounds", 100, "how often something is killed in kill; 100 take seven minutes")
	flags.IntVar(&l.clients, "clients", 16, "clients that post at once in kill")
	flags.Uint64Var(&l.seed, "seed", 1, "of the moments at which something is killed")
	flags.IntVar(&l.entries, "entries", 1_000_000, "writes that flood keeps; a million take two to four minutes and 4 GB of disk")
	flags.IntVar(&l.rate, "rate", 0, "writes a second of flood, counted from when each was to be sent (default as many as the door takes)")
	flags.IntVar(&l.pairs, "pairs", 500, "writes of each kind in cost")
	flags.StringVar(&l.caddy, "caddy", "", "a Caddy `binary` with Portner in it (default built from this repository)")
	flags.StringVar(&l.out, "out", "", "write journal.json and an SVG for each scene to this `directory`")
	if err := parse(flags, args); err != nil {
		return err
	}
	err := errors.Join(choose(&l.scenes, journalScenes, *which), choose(&l.faults, faults, *only))
	for _, bound := range []struct {
		name             string
		value, low, high int
	}{{"count", l.count, 10, 1000}, {"rounds", l.rounds, 1, 1000}, {"clients", l.clients, 1, 200}, {"entries", l.entries, 10_000, 5_000_000}, {"rate", l.rate, 0, 100_000}, {"pairs", l.pairs, 20, 20_000}} {
		if bound.value < bound.low || bound.value > bound.high {
			err = errors.Join(err, fmt.Errorf("-%s is %d to %d", bound.name, bound.low, bound.high))
		}
	}
	if err != nil {
		fmt.Fprintln(flags.Output(), err)
		return errUsage
	}
	return l.measureAndReport(ctx)
}

// A journalScene is one thing that is promised of the journal.
type journalScene struct {
	name  string
	about string
	run   func(*journalLab, context.Context) error
}

func (s journalScene) called() string { return s.name }

var journalScenes = []journalScene{
	{"faults", "items one at a time, while something is wrong for two fifths of them", (*journalLab).faultScene},
	{"kill", "many clients at once, while proxy, application or both are killed with SIGKILL", (*journalLab).killScene},
	{"down", "1000 items one at a time without an application, which then comes", (*journalLab).downScene},
	{"flood", "256 clients write 1 KiB without an application, a million times", (*journalLab).floodScene},
	{"cost", "a write that is kept and one that is not, side by side", (*journalLab).costScene},
}

// journalLab is where the scenes play, one after the other. Not for concurrent use.
type journalLab struct {
	scenes  []journalScene
	faults  []fault
	from    string
	caddy   string
	out     string
	count   int
	rounds  int
	clients int
	seed    uint64
	entries int
	rate    int
	pairs   int

	b      binaries
	dir    string
	stages int
	show   *progress
	given  []Item // from a file
	result JournalResult
}

// JournalResult is what -out gets as journal.json.
type JournalResult struct {
	Started  time.Time  `json:"started"`
	CPUs     int        `json:"cpus"`
	Go       string     `json:"go"`
	Items    string     `json:"items"`
	Seed     uint64     `json:"seed"`
	Faults   []FaultRow `json:"faults,omitempty"`
	Kills    []KillRow  `json:"kills,omitempty"`
	Down     *DownRow   `json:"down,omitempty"`
	Flood    *FloodRow  `json:"flood,omitempty"`
	Cost     *CostRow   `json:"cost,omitempty"`
	Verdicts []Verdict  `json:"verdicts"`
}

// measureAndReport reports a part of it after Ctrl-C.
func (l *journalLab) measureAndReport(ctx context.Context) (err error) {
	if l.out != "" {
		if err := os.MkdirAll(l.out, 0o755); err != nil {
			return err
		}
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	defer os.RemoveAll(l.dir)
	for _, s := range l.scenes {
		if err = s.run(l, ctx); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			break
		}
	}
	l.show.clear()
	return errors.Join(err, l.report())
}

func (l *journalLab) prepare(ctx context.Context) error {
	l.result = JournalResult{Started: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), Go: runtime.Version(), Seed: l.seed, Items: "made up"}
	if l.from != "" {
		var err error
		if l.given, err = readItems(l.from); err != nil {
			return err
		}
		l.result.Items = fmt.Sprintf("%d from %s", len(l.given), filepath.Base(l.from))
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	if l.dir, err = os.MkdirTemp("", "portner-bench-"); err != nil {
		return err
	}
	l.show.say("building")
	if err = l.build(ctx, root); err != nil {
		os.RemoveAll(l.dir)
	}
	l.show.clear()
	return err
}

func (l *journalLab) build(ctx context.Context, root string) (err error) {
	if l.caddy == "" {
		l.b, err = build(ctx, root, l.dir)
		return err
	}
	l.b = binaries{caddy: l.caddy, webapp: filepath.Join(l.dir, "webapp")}
	return goBuild(ctx, root, "-o", l.b.webapp, "./webapp")
}

// items are the given ones, or made-up ones of their nature, count at the most.
func (l *journalLab) items(count int) []Item {
	if l.given == nil {
		return makeItems(count)
	}
	return l.given[:min(count, len(l.given))]
}

// newSite is a site with an empty database and an empty journal.
func (l *journalLab) newSite(behind, options string) (*journalSite, error) {
	l.stages++
	return newJournalSite(l.b, filepath.Join(l.dir, strconv.Itoa(l.stages)), behind, options)
}

// forget removes the folders of a site that has ended.
func (l *journalLab) forget(s *journalSite) { os.RemoveAll(s.dir) }

// promised notes whether a promise held.
func (l *journalLab) promised(scene, says string, held bool, format string, args ...any) {
	v := Verdict{Says: says, App: scene, Measured: fmt.Sprintf(format, args...), Is: met}
	if !held {
		v.Is = missed
	}
	l.result.Verdicts = append(l.result.Verdicts, v)
}

func (l *journalLab) draw(name string, c chart) error {
	if l.out == "" {
		return nil
	}
	c.note += "; " + time.Now().UTC().Format(time.DateOnly)
	return os.WriteFile(filepath.Join(l.out, name+".svg"), c.svg(), 0o644)
}

// report prints the verdicts, and writes everything where it is wanted.
func (l *journalLab) report() error {
	l.judgeRounds()
	fmt.Println()
	for _, v := range l.result.Verdicts {
		fmt.Printf("%-6s  %s: %s: %s\n", v.Is, v.App, v.Says, v.Measured)
	}
	if l.out != "" {
		text, err := json.MarshalIndent(l.result, "", "\t")
		if err := errors.Join(err, os.WriteFile(filepath.Join(l.out, "journal.json"), append(text, '\n'), 0o644)); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(l.result.Verdicts, func(v Verdict) bool { return v.Is == missed }) {
		return errBroken
	}
	return nil
}

// judgeRounds judges faults and kills, which a run that was ended early has a
// part of.
func (l *journalLab) judgeRounds() {
	if rows := l.result.Faults; len(rows) > 0 {
		var all Audit
		var broken []string
		for _, r := range rows {
			all = all.sum(r.Audit)
			if r.Broken != "" {
				broken = append(broken, r.Fault+", "+r.Rhythm+": "+r.Broken)
			}
		}
		l.promised("faults", "what was accepted is in the application once, as it was posted, in order", len(broken) == 0,
			"%d rounds, %d accepted; %s", len(rows), all.Accepted, orNone(broken))
	}
	if rows := l.result.Kills; len(rows) > 0 {
		var all Audit
		kills, broken := 0, []string(nil)
		for _, r := range rows {
			all = all.sum(r.Audit)
			kills += len(r.Kills)
			if r.Broken != "" {
				broken = append(broken, fmt.Sprintf("round %d: %s", r.Round, r.Broken))
			}
		}
		l.promised("kill", "0 lost, 0 stored twice, order kept", len(broken) == 0,
			"%d rounds, %d kills, %d accepted, %d lost, %d twice, %d out of order; %s", len(rows), kills, all.Accepted, len(all.Lost), len(all.Twice), len(all.Disorder), orNone(broken))
	}
}

func orNone(broken []string) string {
	if len(broken) == 0 {
		return "nothing broken"
	}
	return strings.Join(first(broken, 5), "; ")
}

func numbered(n int) (ticks []string) {
	for i := range n {
		ticks = append(ticks, strconv.Itoa(i+1))
	}
	return ticks
}
