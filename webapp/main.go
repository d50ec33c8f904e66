// Webapp is the news site behind the door: the simulator's API and the pages
// for people, kept in SQLite or PostgreSQL.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/portner/portner/webapp/internal/server"
	"github.com/portner/portner/webapp/internal/store"
)

func main() {
	os.Exit(run(untilSignal(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// untilSignal ends with the first SIGTERM or Ctrl-C, which stops gracefully.
// By then signals have their default back, so a second one ends the program
// at once. (signal.NotifyContext gives it back later than it ends.)
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the first signal or the process
		<-signals
		signal.Stop(signals)
		cancel()
	}()
	return ctx
}

// run is the program without its process: exit status 0 is a clean end, 1 a
// failure, 2 a wrong flag.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	if len(args) > 0 && verbs[args[0]].run != nil {
		return runVerb(ctx, args, getenv, console{os.Stdin, stdout, stderr, newLogger(stderr)})
	}
	cfg, err := parseConfig(args, getenv, stdout)
	switch {
	case errors.Is(err, errHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "webapp: %v\nTry webapp -help.\n", err)
		return 2
	}
	act := serve
	if cfg.healthcheck {
		act = healthcheck
	}
	if err := act(ctx, cfg, newLogger(stderr)); err != nil {
		fmt.Fprintf(stderr, "webapp: %v\n", err)
		return 1
	}
	return 0
}

func newLogger(w io.Writer) *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.Lock(zapcore.AddSync(w)), zap.InfoLevel))
}

// serve listens first, so that a port in use is reported before the database
// is touched, and clients that come while the schema is brought up to date
// wait in the listener's queue.
func serve(ctx context.Context, cfg config, log *zap.Logger) (err error) {
	ln, err := listen(cfg.listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	st, err := store.Open(ctx, cfg.db, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	srv, err := server.New(st, log, cfg.origin)
	if err != nil {
		return err
	}
	if cfg.private != "" {
		inside, err := listen(cfg.private)
		if err != nil {
			return fmt.Errorf("private port: %w", err)
		}
		private := &http.Server{Handler: srv.Private(), ReadHeaderTimeout: 5 * time.Second, ErrorLog: zap.NewStdLog(log.Named("private"))}
		go private.Serve(inside) // ends with Close
		defer private.Close()
		log.Info("private port", zap.String("address", address(inside)))
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }() // ends with Stop, or by itself with an error
	log.Info("serving", zap.String("address", address(ln)), zap.String("db", database(cfg.db)))

	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	if cfg.drain > 0 {
		srv.Drain()
		log.Info("draining: not ready, and answering as before", zap.Duration("drain", cfg.drain))
		select {
		case err := <-failed:
			return fmt.Errorf("serve: %w", err)
		case <-time.After(cfg.drain):
		}
	}
	log.Info("stopping: what is in flight is answered first", zap.Duration("grace", cfg.grace))
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.grace)
	defer cancel()
	if err := srv.Stop(grace); err != nil {
		return fmt.Errorf("stop: some requests were not answered within %s: %w", cfg.grace, err)
	}
	log.Info("stopped")
	return nil
}

// database is where the items are, for the log: without a password.
func database(where string) string {
	if !store.IsPostgres(where) {
		return where
	}
	u, err := url.Parse(where)
	if err != nil {
		return "postgres"
	}
	u.RawQuery = "" // may hold one too
	return u.Redacted()
}

func address(ln net.Listener) string {
	if ln.Addr().Network() == "unix" {
		return unixPrefix + ln.Addr().String()
	}
	return ln.Addr().String()
}
