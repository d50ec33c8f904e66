package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// simulator posts items one at a time as the course's client did, and then
// looks whether each of them is on the site once.
func simulator(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("simulator", flag.ContinueOnError)
	from := flags.String("items", "", "`file` with one JSON item per line (default ../shared/data/posts.jsonl, or made-up items where that is missing)")
	count := flags.Int("count", 1000, "how many items")
	runs := flags.Int("runs", 3, "how often, each time with an empty database")
	secure := flags.String("tls", "both", "`on`, off or both: HTTPS, HTTP, or one after the other")
	config := flags.String("config", "", "measure this Caddy`file` (default the repository's, which is what people use)")
	out := flags.String("json", "", "write the results to this `file` as well")
	if err := parse(flags, args); err != nil {
		return err
	}
	modes, ok := map[string][]bool{"on": {true}, "off": {false}, "both": {false, true}}[*secure]
	if !ok || *runs < 1 || *count < 1 {
		fmt.Fprintln(flags.Output(), "-tls is on, off or both; -runs and -count are at least 1")
		return errUsage
	}

	root, err := moduleRoot()
	if err != nil {
		return err
	}
	caddyfile := filepath.Join(root, "Caddyfile")
	if *config != "" {
		caddyfile = *config
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
	result := Result{Source: source, CPUs: runtime.NumCPU(), Go: runtime.Version(), Started: time.Now().UTC().Truncate(time.Second)}
	fmt.Printf("%s, one at a time, patience %v, %d CPUs\n", source, patience, result.CPUs)
	fmt.Println("over   run       p50       p99       max  late  lost  not 200  stored once  steal")
	for _, tls := range modes {
		for n := range *runs {
			run, err := simulate(ctx, b, caddyfile, filepath.Join(dir, fmt.Sprintf("%t%d", tls, n)), items, tls, patience, show)
			show.clear()
			if err != nil {
				return err
			}
			run.Number = n + 1
			fmt.Println(run)
			result.Runs = append(result.Runs, run)
		}
	}
	if *out != "" {
		if err := result.write(*out); err != nil {
			return err
		}
	}
	return result.broken()
}

// Result is what -json writes.
type Result struct {
	Started time.Time `json:"started"`
	Source  string    `json:"source"`
	CPUs    int       `json:"cpus"`
	Go      string    `json:"go"`
	Runs    []Run     `json:"runs"`
}

func (r Result) write(path string) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// broken says which promises did not hold. Lateness is measured, not promised,
// and so is what becomes of a post whose client has given up.
func (r Result) broken() error {
	var all []error
	for _, run := range r.Runs {
		for _, broken := range run.broken() {
			all = append(all, fmt.Errorf("%s, run %d: %s", run.Over, run.Number, broken))
		}
	}
	if all == nil {
		return nil
	}
	return fmt.Errorf("%w:\n%w", errBroken, errors.Join(all...))
}

// Run is one pass over all items.
type Run struct {
	Over    string   `json:"over"` // http or https
	Number  int      `json:"run"`
	Items   int      `json:"items"`
	Seconds float64  `json:"seconds"` // for all posts
	Latency Latency  `json:"latency"` // a late post counts with the time its client waited
	Late    int      `json:"late"`
	Lost    []int    `json:"lost,omitempty"` // late, and not on the site
	NotOK   int      `json:"not_200"`        // answers other than 200, and none at all
	Errors  []string `json:"errors,omitempty"`
	Latest  string   `json:"latest"`
	Wanted  []string `json:"latest_wanted"` // more than one where the last posts were late
	Findings
	Steal float64 `json:"cpu_steal_percent"` // -1: unknown
}

func (r Run) String() string {
	steal := "unknown"
	if r.Steal >= 0 {
		steal = fmt.Sprintf("%.1f %%", r.Steal)
	}
	return fmt.Sprintf("%-5s %4d %6.2f ms %6.2f ms %6.2f ms %5d %5d %8d %12d  %s", r.Over, r.Number,
		r.Latency.P50, r.Latency.P99, r.Latency.Max, r.Late, len(r.Lost), r.NotOK, r.once(), steal)
}

// once is how many items are on the site as they should be.
func (r Run) once() int {
	return r.Items - len(r.Lost) - len(r.bad())
}

func (r Run) broken() []string {
	var broken []string
	if r.NotOK > 0 {
		broken = append(broken, fmt.Sprintf("%d not answered 200, such as: %s", r.NotOK, strings.Join(r.Errors, "; ")))
	}
	if !slices.Contains(r.Wanted, r.Latest) {
		broken = append(broken, fmt.Sprintf("/latest is %q, want %s", r.Latest, strings.Join(r.Wanted, " or ")))
	}
	for _, f := range []struct {
		what string
		ids  []int
	}{{"missing", r.Missing}, {"stored more than once", r.Repeated}, {"not shown as posted", r.Wrong}} {
		if len(f.ids) > 0 {
			broken = append(broken, fmt.Sprintf("%d %s: %v", len(f.ids), f.what, first(f.ids, 20)))
		}
	}
	return broken
}

// deliveredWithin is how soon after its acceptance the last post must be on the
// site while that is well.
const deliveredWithin = 5 * time.Second

func simulate(ctx context.Context, b binaries, caddyfile, dir string, items []Item, tls bool, patience time.Duration, show *progress) (run Run, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return run, err
	}
	s, err := startSite(ctx, b, caddyfile, dir, tls)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()

	run = Run{Items: len(items), Over: "http"}
	if tls {
		run.Over = "https"
	}
	outcomes, err := postAll(ctx, s, items, patience, &run, show)
	if err != nil {
		return run, err
	}
	run.Wanted = latestWanted(items, outcomes)
	client := s.client(10 * time.Second)
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(deliveredWithin); ; { // what was accepted may still be on its way
		status, latest, err := get(client, s.url+"/latest")
		if err != nil {
			return run, err
		}
		run.Latest = string(latest)
		if status != http.StatusOK {
			run.Latest = fmt.Sprintf("%d %s", status, latest)
		}
		if slices.Contains(run.Wanted, run.Latest) || time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	looked := 0
	run.Findings, err = inspect(ctx, client, s.url, items, func() {
		looked++
		show.say("%s: looked at %d of %d", run.Over, looked, len(items))
	})
	run.forgive(items, outcomes)
	return run, err
}

// forgive takes late items out of the missing ones. A client that gives up
// before its request was sent on is dropped from the queue, and with it its
// post: that is counted, and no promise says otherwise yet.
func (r *Run) forgive(items []Item, outcomes []outcome) {
	late := make(map[int]bool)
	for i, item := range items {
		late[item.ID] = outcomes[i].late
	}
	r.Missing = slices.DeleteFunc(r.Missing, func(id int) bool {
		if late[id] {
			r.Lost = append(r.Lost, id)
		}
		return late[id]
	})
}

func postAll(ctx context.Context, s *site, items []Item, patience time.Duration, run *Run, show *progress) ([]outcome, error) {
	client := newCourseClient(s, patience)
	before, known := readCPU()
	start := time.Now()
	outcomes := make([]outcome, len(items))
	took := make([]time.Duration, len(items))
	for i, item := range items {
		outcomes[i] = client.post(ctx, item)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		took[i] = outcomes[i].took
		run.count(item, outcomes[i])
		show.say("%s: posted %d of %d", run.Over, i+1, len(items))
	}
	run.Seconds = float64(time.Since(start).Milliseconds()) / 1000
	run.Latency = latencyOf(took)
	run.Steal = -1
	if known {
		run.Steal = stealSince(before)
	}
	return outcomes, nil
}

func (r *Run) count(item Item, o outcome) {
	switch {
	case o.late:
		r.Late++
	case !o.taken():
		r.NotOK++
		if len(r.Errors) < 5 { // enough to see what it is
			r.Errors = append(r.Errors, fmt.Sprintf("item %d: %v", item.ID, o.err))
		}
	}
}

// latestWanted is the last item that was answered 200, or one of the late ones
// after it: their client does not know what became of them.
func latestWanted(items []Item, outcomes []outcome) []string {
	var wanted []string
	for i := len(items) - 1; i >= 0; i-- {
		id := strconv.Itoa(items[i].ID)
		if outcomes[i].taken() {
			return append(wanted, id)
		}
		if outcomes[i].late {
			wanted = append(wanted, id)
		}
	}
	return append(wanted, "0") // nothing was taken in
}

func first[T any](all []T, n int) []T {
	return all[:min(n, len(all))]
}
