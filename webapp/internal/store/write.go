package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/portner/portner/webapp/internal/news"
)

// Group commit. All changes of a process go through one goroutine, which runs
// what has gathered while the last commit went to the disk as one transaction:
// alone, a change has a commit of its own; many at once share one, and each
// returns after it. Changes are served in the order in which they came.

// change is one caller's wish: a post of the simulator, of which many are
// stored at once, or anything else.
type change struct {
	post  *news.Post
	fresh string // what to store of the secret of a post's new user; "" where he is known
	do    func(*work) error

	touched []news.Tag  // what it has changed; for who waits on done
	claimed atomic.Bool // by the writer, or by a caller who leaves
	done    chan error  // buffered
}

// work is what a change does its work with, inside the shared transaction.
//
// A change decides before it writes: it returns an error of its own (a wrong
// secret, a right that is missing) before its first exec, because what it
// wrote would be committed with the rest. An error of the database undoes the
// whole transaction, and then each change runs again in one of its own.
type work struct {
	at
	ctx  context.Context
	now  time.Time
	conn *sql.Conn

	seq     int64            // of the last item; 0: not read yet
	unfound bool             // there are items that the search does not know
	touched []news.Tag       // by the change that runs
	floors  map[List]float64 // of ranked lists; not read yet where there is none
}

const (
	// maxShared is the most changes in one commit. A hundred take about 20 ms,
	// which the first of them waits for.
	maxShared = 100
	// writeTimeout ends a transaction that the database does not end.
	writeTimeout = 10 * time.Second
)

var errClosed = errors.New("the store is closed")

// change runs do and returns when what it wrote is on the disk, or nothing of
// it is. A caller whose ctx ends before his turn leaves.
func (s *Store) change(ctx context.Context, do func(*work) error) error {
	return s.wait(ctx, &change{do: do})
}

func (s *Store) wait(ctx context.Context, c *change) error {
	defer spend(ctx)()
	c.done = make(chan error, 1)
	select {
	case s.changes <- c:
	case <-ctx.Done():
		return unavailable("wait for the writer", ctx.Err())
	case <-s.closing:
		return unavailable("write", errClosed)
	}
	select {
	case err := <-c.done:
		return c.said(ctx, err)
	case <-ctx.Done():
	case <-s.closed: // the writer has ended and looks at nothing any more
	}
	if c.claimed.CompareAndSwap(false, true) {
		if ctx.Err() == nil {
			return unavailable("write", errClosed)
		}
		return unavailable("wait for the writer", ctx.Err())
	}
	return c.said(ctx, <-c.done) // it is being done: say what became of it
}

func (c *change) said(ctx context.Context, err error) error {
	if err == nil {
		touched(ctx, c.touched)
	}
	return err
}

// writer ends with Close, after what it has begun.
func (s *Store) writer() {
	defer close(s.closed)
	for {
		select {
		case c := <-s.changes:
			s.together(s.gather(c))
		case pages := <-s.wal.done():
			s.wal.finish(s.write, pages)
		case <-s.closing:
			return
		}
	}
}

func (s *Store) gather(first *change) []*change {
	all := make([]*change, 0, maxShared)
	for next := first; ; {
		if next.claimed.CompareAndSwap(false, true) {
			all = append(all, next)
		}
		if len(all) == maxShared {
			return all
		}
		select {
		case next = <-s.changes:
		default:
			return all
		}
	}
}

// together commits all changes at once, or, where the database refused, each
// by itself, so that none suffers for another.
func (s *Store) together(all []*change) {
	if len(all) == 0 {
		return
	}
	results, err := s.commit(all)
	switch {
	case err == nil:
	case len(all) == 1:
		results[0] = err
	default:
		for i := range all {
			if _, results[i] = s.commit(all[i : i+1]); results[i] == nil {
				continue
			}
			if errors.Is(results[i], errNotBegun) { // nor will the next be
				for j := i + 1; j < len(all); j++ {
					results[j] = results[i]
				}
				break
			}
		}
	}
	for i, c := range all {
		c.done <- results[i]
	}
}

var errNotBegun = errors.New("no transaction")

// commit runs changes in one transaction. results are their own decisions;
// err means that nothing was committed. Of one change, err is its result too.
func (s *Store) commit(all []*change) (results []error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	results = make([]error, len(all))
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return results, unavailable("connect", errors.Join(errNotBegun, err))
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return results, unavailable("begin", errors.Join(errNotBegun, err))
	}
	defer tx.Rollback() // no-op after the commit
	var missed []string
	w := &work{at: at{base: s.w, tx: tx, miss: &missed, bound: make(map[string]*sql.Stmt)}, conn: conn, ctx: ctx, now: time.Now(),
		floors: make(map[List]float64)}
	if s.w.postgres { // several processes write in turns
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", lockWrite); err != nil {
			return results, unavailable("lock", errors.Join(errNotBegun, err))
		}
	} else { // its transaction is the lock, and no statement of it waits: spare each the goroutine that would end it
		w.ctx = context.WithoutCancel(ctx)
	}
	for from := 0; from < len(all); {
		next, err := s.some(w, all, results, from)
		if err != nil {
			return results, err
		}
		from = next
	}
	if err := w.makeFound(); err != nil {
		return results, err
	}
	if err := tx.Commit(); err != nil {
		return results, unavailable("commit", err)
	}
	if s.wal != nil {
		if err := stillThere(conn); err != nil {
			return results, unavailable("commit", err)
		}
	}
	s.commits.Add(1)
	version := s.committed.Add(int64(len(all)))
	for _, c := range all {
		s.touches.note(c.touched, version)
	}
	if s.wal != nil {
		s.wal.wrote(conn)
	}
	conn.Close() // preparing takes one, and SQLite's writer has no other
	for _, text := range missed {
		if _, err := s.w.prepared(ctx, text); err != nil {
			break // it works unprepared
		}
	}
	if len(all) == 1 {
		return results, results[0]
	}
	return results, nil
}

// some makes the change at from, or all posts that begin there, and says where
// the next begins. The error is one that undoes the transaction.
func (s *Store) some(w *work, all []*change, results []error, from int) (next int, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = unavailable("write", fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()
	next = from
	for next < len(all) && all[next].post != nil {
		next++
	}
	if next > from {
		return next, s.takeAll(w, all[from:next], results[from:next])
	}
	w.touched = nil
	if results[from] = all[from].do(w); errors.Is(results[from], ErrUnavailable) {
		return from, results[from]
	}
	all[from].touched = w.touched
	return from + 1, nil
}

// exec runs a statement and says how many rows it changed.
func (w *work) exec(act, text string, args ...any) (int64, error) {
	res, err := w.at.exec(w.ctx, text, args...)
	if err != nil {
		return 0, unavailable(act, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, unavailable(act, err)
	}
	return n, nil
}

// execAll runs a statement for each row of arguments; for PostgreSQL all of
// them travel at once.
func (w *work) execAll(act, text string, rows [][]any) error {
	if !w.base.postgres {
		for _, args := range rows {
			if _, err := w.exec(act, text, args...); err != nil {
				return err
			}
		}
		return nil
	}
	var batch pgx.Batch
	own := w.base.text(text)
	for _, args := range rows {
		batch.Queue(own, args...)
	}
	err := w.conn.Raw(func(driver any) error {
		return driver.(*stdlib.Conn).Conn().SendBatch(w.ctx, &batch).Close()
	})
	if err != nil {
		return unavailable(act, err)
	}
	return nil
}

// one reads the first row into dest.
func (w *work) one(act, text string, dest []any, args ...any) (found bool, err error) {
	return one(w.ctx, w.at, act, text, dest, args...)
}
