// Command bench measures Portner from outside: it builds both halves, starts
// them, and speaks HTTP. It imports neither of them, so that what it says holds
// for any client.
//
//	go run ./bench <subcommand> [flags]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// A subcommand measures one thing. It returns errBroken when a promise did not
// hold, after it has said which.
type subcommand struct {
	name string
	does string
	run  func(ctx context.Context, args []string) error
}

var subcommands = []subcommand{
	{"simulator", "post 1000 items as the course's client does and look whether each arrived once", simulator},
	{"news", "fill the news site with a million items and ask for its pages", newsBench},
	{"overload", "load small applications beyond what they can take, with and without something in front", overload},
	{"overload-app", "the small application of overload, which starts it", overloadApp},
	{"overload-load", "the generator of overload, which starts it", overloadLoad},
	{"rps", "count what a request costs Portner and other proxies: requests per second, CPU, allocations", rps},
	{"cache", "ask caches for pages: what a hit costs, and how often the application is asked", cacheBench},
	{"journal", "kill, stop and slow the proxy and the application while items come, and look whether each arrived once", journalBench},
	{"slow", "let a thousand clients read slowly: the slot, the others, the memory", slow},
	{"rps-app", "the application of rps, which starts it", rpsApp},
	{"rps-load", "the generator of rps, which starts it", rpsLoad},
}

var errBroken = errors.New("a promise was broken")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(dispatch(ctx, subcommands, os.Args[1:], os.Stderr))
}

func dispatch(ctx context.Context, known []subcommand, args []string, stderr io.Writer) int {
	if len(args) > 0 {
		for _, sub := range known {
			if sub.name == args[0] {
				return exitStatus(sub.run(ctx, args[1:]), stderr)
			}
		}
		fmt.Fprintf(stderr, "bench: there is no %q\n", args[0])
	}
	fmt.Fprintln(stderr, "usage: go run ./bench <subcommand> [flags]")
	for _, sub := range known {
		fmt.Fprintf(stderr, "  %-12s %s\n", sub.name, sub.does)
	}
	return 2
}

func exitStatus(err error, stderr io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2 // the flag package has said what is wrong
	}
	fmt.Fprintf(stderr, "bench: %v\n", err)
	return 1
}

var errUsage = errors.New("wrong flags")

// parse reads the flags of a subcommand, which takes no other arguments.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(flags.Output(), "%s takes no arguments, got %q\n", flags.Name(), flags.Args())
		return errUsage
	}
	return nil
}
