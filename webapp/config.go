package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"
)

type config struct {
	listen      string
	db          string
	grace       time.Duration
	healthcheck bool
}

var errHelp = flag.ErrHelp

const usage = `Webapp is the news site: pages for people, an API for the simulator, one SQLite file.

Usage: webapp [flags]

A flag wins over its environment variable.

  -listen <address>     WEBAPP_LISTEN   default 127.0.0.1:5001
        Where to answer: host:port, or unix:/path. Port 0 takes a free one;
        the line "serving" in the log says which.
  -db <file>            WEBAPP_DB       default data/webapp.db
        The database. It and its folder are made where there are none; beside
        it stand <file>-wal, <file>-shm and <file>.migrate.
  -grace <duration>     WEBAPP_GRACE    default 20s
        At SIGTERM or Ctrl-C: how long requests in flight may take to be
        answered. A second signal ends the program at once.
  -healthcheck
        Ask the instance at -listen for its /status, and end with 0 when it is
        alive, else with 1. For container images without a shell.
  -help
        Show this.
`

// parseConfig reads flags and environment. With -help it writes the usage to
// w and returns errHelp.
func parseConfig(args []string, getenv func(string) string, w io.Writer) (config, error) {
	cfg := config{
		listen: "127.0.0.1:5001",
		db:     "data/webapp.db",
		grace:  20 * time.Second, // below the 30 s that container systems wait before they kill
	}
	flags := flag.NewFlagSet("webapp", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main says what is wrong, once
	flags.StringVar(&cfg.listen, "listen", cfg.listen, "")
	flags.StringVar(&cfg.db, "db", cfg.db, "")
	flags.DurationVar(&cfg.grace, "grace", cfg.grace, "")
	flags.BoolVar(&cfg.healthcheck, "healthcheck", false, "")
	for name, variable := range map[string]string{"listen": "WEBAPP_LISTEN", "db": "WEBAPP_DB", "grace": "WEBAPP_GRACE"} {
		if value := getenv(variable); value != "" {
			if err := flags.Set(name, value); err != nil {
				return config{}, fmt.Errorf("%s: %q: %w", variable, value, err)
			}
		}
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			io.WriteString(w, usage)
		}
		return config{}, err
	}
	switch {
	case flags.NArg() > 0:
		return config{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case cfg.db == "":
		return config{}, errors.New("-db must name a file")
	case cfg.grace < 0:
		return config{}, fmt.Errorf("-grace %s must not be negative", cfg.grace)
	}
	return cfg, nil
}
