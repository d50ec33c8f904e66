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

// rps measures what a request costs a proxy: requests per second, and the CPU
// time that the operating system has counted for the proxy alone. docs/bench.md
// says how to read it.
func rps(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("rps", flag.ContinueOnError)
	which := flags.String("proxies", "all", "`names` of "+strings.Join(names(proxies), ", "))
	sizes := flags.String("sizes", "0,1,10,100", "of the answer, in `KiB`")
	in := flags.String("protocols", "all", "`names` of "+strings.Join(names(protocols), ", "))
	cores := flags.String("cores", "1,2", "`numbers` of cores that the proxy has")
	seconds := flags.Float64("seconds", 4, "length of a measurement")
	rounds := flags.Int("rounds", 5, "how often; the tables have medians, and a promise takes five")
	connections := flags.Int("connections", 64, "how many are kept open; each asks again when it has its answer")
	quick := flags.Bool("quick", false, "a first look: one core, 0 and 1 KiB, one round of a second, unless the flags say otherwise")
	caddy := flags.String("caddy", "", "a Caddy `binary` with Portner in it (default built from this repository)")
	words := flags.String("words", "", "more `lines` for Portner's app_proxy, to try something")
	out := flags.String("out", "", "write rps.json and rps.svg to this `directory`")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *quick {
		unlessGiven(flags, map[string]string{"cores": "1", "sizes": "0,1", "rounds": "1", "seconds": "1"})
	}

	t := &track{
		lab:    lab{caddy: *caddy, words: *words, rounds: *rounds, show: newProgress()},
		length: time.Duration(*seconds * float64(time.Second)), connections: *connections,
	}
	err := errors.Join(
		choose(&t.proxies, proxies, *which), choose(&t.protocols, protocols, *in),
		parseNumbers(&t.sizes, "sizes", *sizes, 0, 10_000), parseNumbers(&t.cores, "cores", *cores, 1, 64))
	if err == nil && (*rounds < 1 || *rounds > 50 || !(*seconds >= 0.1 && *seconds <= 60) || *connections < 1 || *connections > 1000) {
		err = errors.New("-rounds is 1 to 50, -seconds is 0.1 to 60, -connections is 1 to 1000")
	}
	if err != nil {
		fmt.Fprintln(flags.Output(), err)
		return errUsage
	}
	return t.measureAndReport(ctx, *out)
}

// measureAndReport reports a part of it after Ctrl-C. dir is where to, besides
// the terminal, or empty.
func (t *track) measureAndReport(ctx context.Context, dir string) error {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := t.prepare(ctx); err != nil {
		return err
	}
	defer os.RemoveAll(t.dir)
	err := t.run(ctx)
	t.show.clear()
	if err != nil && (ctx.Err() == nil || len(t.readings) == 0) {
		return err
	}
	r := t.report()
	r.print(os.Stdout)
	if dir != "" {
		if err := errors.Join(r.write(filepath.Join(dir, "rps.json")), os.WriteFile(filepath.Join(dir, "rps.svg"), r.chart().svg(), 0o644)); err != nil {
			return err
		}
	}
	if err == nil && slices.ContainsFunc(r.Judgements, func(j Judgement) bool { return j.Is == missed }) {
		err = errBroken
	}
	return err
}

// unlessGiven sets flags that the command line does not.
func unlessGiven(flags *flag.FlagSet, values map[string]string) {
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range values {
		if !given[name] {
			flags.Set(name, value) // a value that we know to be right
		}
	}
}

// parseNumbers takes each number of a list once.
func parseNumbers(numbers *[]int, name, list string, least, most int) error {
	for _, word := range strings.Split(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < least || n > most {
			return fmt.Errorf("-%s: %q is not a number from %d to %d", name, word, least, most)
		}
		if !slices.Contains(*numbers, n) {
			*numbers = append(*numbers, n)
		}
	}
	return nil
}

// A protocol is how clients speak with the proxy. It speaks HTTP/1.1 with the
// application in any case.
type protocol struct {
	name   string
	about  string
	secure bool
	alpn   string
}

func (p protocol) called() string { return p.name }

var protocols = []protocol{
	{"h1", "HTTP/1.1", false, ""},
	{"h1-tls", "HTTP/1.1 over TLS", true, "http/1.1"},
	{"h2-tls", "HTTP/2 over TLS", true, "h2"},
}

func findProtocol(name string) (protocol, bool) {
	i := slices.IndexFunc(protocols, func(p protocol) bool { return p.name == name })
	if i < 0 {
		return protocol{}, false
	}
	return protocols[i], true
}
