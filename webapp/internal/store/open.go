// Package store keeps users and items in SQLite.
//
// Always: a Take that returned nil is on the disk (WAL with synchronous=FULL);
// an id is stored once; the count of replies and the rank of a thread are
// those of its rows, because one transaction changes them together. One
// connection writes, several read, and readers never wait for the writer.
// Safe for concurrent use, by several processes too. It does not know HTTP.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"go.uber.org/zap"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Errors that callers decide by.
var (
	// ErrUnavailable: the database cannot be reached, is locked for too long or is broken.
	ErrUnavailable = errors.New("the database is not available")
	// ErrWrongSecret: the user exists and the password string is not his.
	ErrWrongSecret = errors.New("wrong password")
)

// Store is an open database. Close it.
type Store struct {
	log     *zap.Logger
	write   *sql.DB       // one connection
	turn    chan struct{} // held by whoever writes; waiters are served in order
	read    *sql.DB
	q       queries
	trusted *trusted
}

const (
	// busyTimeout is how long a statement waits for another process. Within
	// this process writers take turns.
	busyTimeout = 5 * time.Second
	// writeTimeout ends a write that has no client to end it (see Take).
	writeTimeout = 10 * time.Second
)

// Open opens the database at path, creates it and its folder where there is
// none, and brings it to the newest schema.
func Open(ctx context.Context, path string, log *zap.Logger) (_ *Store, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("store: locate %s: %w", path, err)
	}
	// 0700: the file holds what was derived from people's passwords.
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("store: create folder: %w", err)
	}
	s := &Store{log: log, trusted: newTrusted(), turn: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.write, err = connect(path, "immediate"); err != nil {
		return nil, err
	}
	s.write.SetMaxOpenConns(1)
	s.write.SetMaxIdleConns(1)
	if err := migrate(ctx, s.write, path, log); err != nil {
		return nil, err
	}
	if s.read, err = connect(path, "deferred", "query_only(1)"); err != nil {
		return nil, err
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func connect(path, lock string, pragmas ...string) (*sql.DB, error) {
	pragmas = append([]string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), // first: the others may meet a lock
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(1)",
	}, pragmas...)
	db, err := sql.Open("sqlite", dsn(path, pragmas...)+"&_txlock="+lock)
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	return db, nil
}

// dsn names a file in the form that lets its path hold a question mark.
func dsn(path string, pragmas ...string) string {
	u := url.URL{Scheme: "file", Path: path, OmitHost: true, RawQuery: url.Values{"_pragma": pragmas}.Encode()}
	return u.String()
}

// Close waits for what runs and closes the database. Safe to call twice.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("store: close: %w", err)
	}
	return nil
}

// unavailable tells callers that an error of the database is not theirs, and
// leaves a cancelled request what it is.
func unavailable(act string, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("store: %s: %w", act, err)
	}
	return fmt.Errorf("store: %s: %w: %w", act, ErrUnavailable, err)
}
