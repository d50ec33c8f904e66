package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/portner/portner/webapp/internal/store"
)

type config struct {
	listen      string
	db          string
	origin      string
	grace       time.Duration
	drain       time.Duration
	private     string
	healthcheck bool
}

var errHelp = flag.ErrHelp

const usage = `Webapp is the news site: pages for people, an API for programs, SQLite or PostgreSQL.

Usage: webapp [flags]                             the site
       webapp import    [-db <where>] <file>      put in what export has written, or the simulator's items
       webapp export    [-db <where>] <file>      write everything as JSON Lines
       webapp backup    [-db <where>] <file>      copy a SQLite database, while the site runs
       webapp moderator [-db <where>] <name>      make a user a moderator

An import or export that broke off goes on when it is called again. - is the
standard input or output.

A flag wins over its environment variable.

  -listen <address>     WEBAPP_LISTEN   default 127.0.0.1:5001
        Where to answer: host:port, or unix:/path. Port 0 takes a free one;
        the line "serving" in the log says which.
  -db <where>           WEBAPP_DB       default data/webapp.db
        The database: a file of SQLite, or postgres://user@host/name. A file
        and its folder are made where there are none; beside it stand
        <file>-wal, <file>-shm and <file>.migrate. Without WEBAPP_DB,
        DATABASE_URL is used. DATABASE_URL_FILE names a file with that address,
        so that its password stands in no environment.
  -url <address>        WEBAPP_URL      default: as the request came
        How the site is called, as https://news.example.com: with it begin the
        addresses in feeds, in the sitemap and in what other sites show.
  -grace <duration>     WEBAPP_GRACE    default 20s
        At SIGTERM or Ctrl-C: how long requests in flight may take to be
        answered. A second signal ends the program at once.
  -drain <duration>     WEBAPP_DRAIN    default 0s
        At SIGTERM: how long to go on as before while /ready and /status say
        that the end is near, for those who ask them before they send requests.
  -private <address>    WEBAPP_PRIVATE  default none
        Where to answer those who run the site: /metrics (Prometheus),
        /debug/pprof/, /up, /ready. Keep it from the public.
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
	flags.StringVar(&cfg.origin, "url", "", "")
	flags.DurationVar(&cfg.grace, "grace", cfg.grace, "")
	flags.DurationVar(&cfg.drain, "drain", 0, "")
	flags.StringVar(&cfg.private, "private", "", "")
	flags.BoolVar(&cfg.healthcheck, "healthcheck", false, "")
	for name, variable := range map[string]string{"listen": "WEBAPP_LISTEN", "db": "WEBAPP_DB", "url": "WEBAPP_URL", "grace": "WEBAPP_GRACE", "drain": "WEBAPP_DRAIN", "private": "WEBAPP_PRIVATE"} {
		if value := getenv(variable); value != "" {
			if err := flags.Set(name, value); err != nil {
				return config{}, fmt.Errorf("%s: %q: %w", variable, value, err)
			}
		}
	}
	if err := databaseURL(&cfg, getenv); err != nil {
		return config{}, err
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
		return config{}, errors.New("-db must name a file or a database")
	case !isOrigin(cfg.origin):
		return config{}, fmt.Errorf("-url %q must be http:// or https:// and a host, and nothing behind it", cfg.origin)
	case cfg.drain < 0:
		return config{}, fmt.Errorf("-drain %s must not be negative", cfg.drain)
	case cfg.grace < 0:
		return config{}, fmt.Errorf("-grace %s must not be negative", cfg.grace)
	}
	return cfg, nil
}

// isOrigin takes "" too, which leaves it to the request.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return s == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && s == u.Scheme+"://"+u.Host
}

// databaseURL takes what platforms set for every application, where WEBAPP_DB
// says nothing.
func databaseURL(cfg *config, getenv func(string) string) error {
	address, file := getenv("DATABASE_URL"), getenv("DATABASE_URL_FILE")
	switch {
	case getenv("WEBAPP_DB") != "":
		return nil
	case address != "" && file != "":
		return errors.New("DATABASE_URL and DATABASE_URL_FILE are both set: leave one out")
	case file != "":
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("DATABASE_URL_FILE: %w", err)
		}
		address = strings.TrimSpace(string(b))
	}
	if address == "" {
		return nil
	}
	if !store.IsPostgres(address) {
		return errors.New("DATABASE_URL must begin with postgres://")
	}
	cfg.db = address
	return nil
}
