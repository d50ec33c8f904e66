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

// overload measures what small applications give under more load than they can
// take, with and without something in front of them, and judges what Portner
// promises. docs/bench.md says how to read it.
func overload(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("overload", flag.ContinueOnError)
	which := flags.String("scenario", "all", "`names` of "+strings.Join(names(scenarios), ", "))
	apps := flags.String("apps", "all", "`names` of "+strings.Join(names(applications), ", "))
	in := flags.String("peers", "all", "`names` of what stands in front: "+strings.Join(names(peers), ", "))
	rounds := flags.Int("rounds", 3, "how often; the tables have medians")
	seconds := flags.Int("seconds", 10, "length of a measurement")
	loads := flags.String("loads", "0.5,1,2,5,20", "open loops of the overload scenario, in `multiples` of the capacity")
	quick := flags.Bool("quick", false, "a first look: the built-in applications, one round, 4 seconds, loads of 0.5, 5 and 20, unless the flags say otherwise")
	keepAlive := flags.Bool("keepalive", false, "clients keep their connections (default a new one for each request)")
	caddy := flags.String("caddy", "", "a Caddy `binary` with Portner in it (default built from this repository)")
	words := flags.String("words", "", "more `lines` for Portner's app_proxy, to try something")
	out := flags.String("out", "", "write overload.json and a plot of each scenario to this `directory`")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *quick {
		given := make(map[string]bool)
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		for name, value := range map[string]string{"apps": "builtin-1,builtin-2", "rounds": "1", "seconds": "4", "loads": "0.5,5,20"} {
			if !given[name] {
				flags.Set(name, value) // a value that we know to be right
			}
		}
	}

	l := &lab{
		rounds: *rounds, seconds: time.Duration(*seconds) * time.Second,
		keepAlive: *keepAlive, words: *words, caddy: *caddy, show: newProgress(),
	}
	err := errors.Join(
		choose(&l.scenarios, scenarios, *which), choose(&l.apps, applications, *apps), choose(&l.peers, peers, *in),
		parseLoads(&l.loads, *loads))
	if err == nil && (*rounds < 1 || *rounds > 20 || *seconds < 1 || *seconds > 60) {
		err = errors.New("-rounds is 1 to 20, -seconds is 1 to 60")
	}
	if err != nil {
		fmt.Fprintln(flags.Output(), err)
		return errUsage
	}
	if *out != "" {
		if err := os.MkdirAll(*out, 0o755); err != nil {
			return err
		}
	}

	if err := l.prepare(ctx); err != nil {
		return err
	}
	defer os.RemoveAll(l.dir)
	err = l.run(ctx)
	l.show.clear()
	if err != nil && (ctx.Err() == nil || len(l.cells) == 0) {
		return err
	}
	r := l.report() // of a part, after Ctrl-C
	r.print(os.Stdout)
	if *out != "" {
		if err := errors.Join(r.write(filepath.Join(*out, "overload.json")), r.plot(*out)); err != nil {
			return err
		}
	}
	if err == nil && slices.ContainsFunc(r.Verdicts, func(v Verdict) bool { return v.Is == missed }) {
		err = errBroken
	}
	return err
}

// A named thing can be chosen by a flag.
type named interface{ called() string }

func names[T named](all []T) []string {
	var list []string
	for _, one := range all {
		list = append(list, one.called())
	}
	return list
}

// choose takes the named ones, in the order of the table.
func choose[T named](chosen *[]T, all []T, list string) error {
	wanted := strings.Split(list, ",")
	for _, name := range wanted {
		if name != "all" && !slices.Contains(names(all), name) {
			return fmt.Errorf("there is no %q; expected all, or some of %s", name, strings.Join(names(all), ","))
		}
	}
	for _, one := range all {
		if slices.Contains(wanted, "all") || slices.Contains(wanted, one.called()) {
			*chosen = append(*chosen, one)
		}
	}
	return nil
}

func parseLoads(loads *[]float64, list string) error {
	for _, multiple := range strings.Split(list, ",") {
		m, err := strconv.ParseFloat(multiple, 64)
		if err != nil || !(m > 0 && m <= 30) {
			return fmt.Errorf("-loads: %q is not a multiple of the capacity up to 30", multiple)
		}
		*loads = append(*loads, m)
	}
	return nil
}
