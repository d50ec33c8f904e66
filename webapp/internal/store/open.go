// Package store keeps users and items in SQLite or PostgreSQL.
//
// Always: a change that returned nil is on the disk (SQLite: WAL with
// synchronous=FULL); an id is stored once; counts, points, karma and ranks are
// those of the rows, because one transaction changes them together; reading
// changes nothing. Changes go through one writer and share commits (write.go),
// readers never wait for it. Rights and bounds are checked here, by the rules
// of package news, so no caller can forget them. Safe for concurrent use, by
// several processes too. It does not know HTTP.
//
// A read or a change of a database that is away or takes too long is
// ErrUnavailable; nothing needs to be done for it to work again once the
// database is back.
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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/zap"
	"modernc.org/sqlite"
)

// Errors that callers decide by. Those of package news (ErrNoSuchItem,
// ErrNotAllowed, *Invalid) come from here too.
var (
	// ErrUnavailable: the database cannot be reached, is locked for too long or is broken.
	ErrUnavailable = errors.New("the database is not available")
	// ErrWrongSecret: there is no such user, or the password is not his.
	ErrWrongSecret = errors.New("wrong password")
	// ErrNoSuchUser: nobody has that name.
	ErrNoSuchUser = errors.New("no such user")
	// ErrNameTaken: somebody has that name, or one that differs in the size of letters alone.
	ErrNameTaken = errors.New("the name is taken")
	// ErrNoSession: there never was such a session, or it has ended.
	ErrNoSession = errors.New("no session")
)

// Store is an open database. Close it.
type Store struct {
	log      *zap.Logger
	write    *sql.DB // SQLite: one connection; PostgreSQL: the same as read
	read     *sql.DB
	w, r     *base
	trusted  *trusted
	gate     *gate         // one place per computation of argon2id
	searches *gate         // and one per search
	wal      *checkpointer // nil for PostgreSQL

	changes chan *change
	closing chan struct{} // closed when the writer is to end
	closed  chan struct{} // closed when it has ended
	once    sync.Once
	wg      sync.WaitGroup

	commits, committed atomic.Int64 // transactions, and the changes in them
	touches            touches
}

// busyTimeout is how long a statement of SQLite waits for another process.
const busyTimeout = 5 * time.Second

// Open opens a database and brings it to the newest schema. where is a file of
// SQLite, which is created with its folder where there is none, or the address
// of a PostgreSQL database (postgres://…).
func Open(ctx context.Context, where string, log *zap.Logger) (_ *Store, err error) {
	s := &Store{
		log: log, trusted: newTrusted(), gate: &gate{places: maxDerivations, most: maxDeriving}, searches: &gate{places: maxSearches, most: maxSearching},
		changes: make(chan *change, 10*maxShared), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	open := s.openSQLite
	if IsPostgres(where) {
		open = s.openPostgres
	}
	if err := open(ctx, where); err != nil {
		close(s.closed) // there is no writer
		return nil, errors.Join(err, s.Close())
	}
	go s.writer() // ends with Close
	if s.wal != nil {
		s.wg.Go(func() { s.wal.run(s.closing) })
	}
	return s, nil
}

// IsPostgres reports whether Open takes where for an address of PostgreSQL.
func IsPostgres(where string) bool {
	return strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://")
}

func (s *Store) openSQLite(ctx context.Context, path string) (err error) {
	if path, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("store: locate %s: %w", path, err)
	}
	// 0700: the file holds what was derived from people's passwords.
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("store: create folder: %w", err)
	}
	if err := create(path); err != nil {
		return err
	}
	// As SQLite is built everywhere else. It keeps the same promise without
	// writing the time of every commit into the file system's journal. Where
	// there is no such call, fsync stays.
	sqlite.Fdatasync(true)
	// KiB of pages in memory: a million items and their indexes are 1 GB, and
	// SQLite's own 2 MB would read the same inner pages for every post.
	if s.write, err = connect(path, "immediate", "cache_size(-65536)"); err != nil {
		return err
	}
	s.w = newBase(s.write, false)
	s.write.SetMaxOpenConns(1)
	s.write.SetMaxIdleConns(1)
	if err := migrateSQLite(ctx, s.write, path, s.log); err != nil {
		return err
	}
	keepToOwner(path, s.log) // not before it is known to be ours
	if s.read, err = connect(path, "deferred", "query_only(1)", "cache_size(-16384)"); err != nil {
		return err
	}
	if s.wal, err = newCheckpointer(path, s.log); err != nil {
		return err
	}
	s.r = newBase(s.read, false)
	readers := max(4, runtime.GOMAXPROCS(0))
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	return s.settle(ctx)
}

func connect(path, lock string, pragmas ...string) (*sql.DB, error) {
	pragmas = append([]string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), // first: the others may meet a lock
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(1)",
		"wal_autocheckpoint(0)", // see checkpoint.go
	}, pragmas...)
	f, err := newFile(path, dsn(path, pragmas...)+"&mode=rw&_txlock="+lock)
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	return sql.OpenDB(f), nil
}

// create makes an empty file where there is none. Its folder may be open to
// everybody, the file is its owner's: SQLite makes -wal and -shm as it is.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("store: create %s: %w", path, err)
	}
	return f.Close()
}

// keepToOwner takes from everybody what the versions before gave to everybody.
// A mode that opens a file to a group alone was set by somebody who meant it.
func keepToOwner(path string, log *zap.Logger) {
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		is, err := os.Stat(name)
		if err == nil && is.Mode().Perm()&0o007 != 0 {
			err = os.Chmod(name, 0o600)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			log.Warn("a file of the database may be read by others, and that cannot be changed", zap.Error(err))
		}
	}
}

// dsn names a file in the form that lets its path hold a question mark.
func dsn(path string, pragmas ...string) string {
	u := url.URL{Scheme: "file", Path: path, OmitHost: true, RawQuery: url.Values{"_pragma": pragmas}.Encode()}
	return u.String()
}

// Bounds of the pool. PostgreSQL allows 100 connections at first; several
// copies of this program and a person with psql fit below that.
const (
	maxConnections = 16
	connectTimeout = 3 * time.Second
)

func (s *Store) openPostgres(ctx context.Context, address string) error {
	cfg, err := pgx.ParseConfig(address)
	if err != nil {
		return fmt.Errorf("store: read the address of the database: %w", err) // pgx leaves the password out
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "webapp"
	}
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		// Every query here is made for an index. Without statistics, on a young
		// table, the planner would rather read all of it, at every level of a
		// thread. So one plan is good for all arguments, and planning a list anew
		// takes longer than reading it.
		_, err := conn.Exec(ctx, "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; "+
			"SET plan_cache_mode = force_generic_plan; SET random_page_cost = 1.1") // as on a disk without heads
		return err
	}))
	s.read, s.write = db, db
	s.r = newBase(db, true)
	s.w = s.r
	db.SetMaxOpenConns(maxConnections)
	db.SetMaxIdleConns(maxConnections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	if err := s.await(ctx); err != nil {
		return err
	}
	return migratePostgres(ctx, db, s.log)
}

// await waits for a database that is starting as well, until ctx ends.
func (s *Store) await(ctx context.Context) error {
	const firstPause, longestPause = 50 * time.Millisecond, 2 * time.Second
	said := false
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := s.read.PingContext(ctx)
		switch {
		case err == nil:
			return nil
		case refusedLogin(err):
			return fmt.Errorf("store: %w", err) // waiting does not help
		case !said:
			s.log.Warn("waiting for the database", zap.Error(err))
			said = true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return unavailable("wait for the database", errors.Join(ctx.Err(), err))
		}
	}
}

// settle prepares what is asked most, so that a first request costs what the
// others do and a text that SQLite cannot read ends the start.
func (s *Store) settle(ctx context.Context) error {
	for _, b := range []struct {
		base  *base
		texts []string
	}{{s.w, writeTexts}, {s.r, readTexts}} {
		for _, text := range b.texts {
			if _, err := b.base.prepared(ctx, text); err != nil {
				return fmt.Errorf("store: prepare %q: %w", text, err)
			}
		}
	}
	return nil
}

// Close waits for what runs and closes the database. Safe to call twice.
func (s *Store) Close() error {
	var errs []error
	s.once.Do(func() {
		close(s.closing)
		<-s.closed
		s.wg.Wait()
		if s.wal != nil {
			errs = append(errs, s.wal.db.Close())
		}
		if s.r != nil && s.r != s.w {
			errs = append(errs, s.r.close())
		}
		if s.w != nil {
			errs = append(errs, s.w.close())
		}
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("store: close: %w", err)
	}
	return nil
}

// Shared is how many changes were committed and in how many transactions.
func (s *Store) Shared() (changes, commits int64) { return s.committed.Load(), s.commits.Load() }

// Ping asks the database for an answer.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.Latest(ctx)
	return err
}

// Connections describes the pool of readers.
func (s *Store) Connections() sql.DBStats { return s.read.Stats() }
