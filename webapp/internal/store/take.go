package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/portner/portner/webapp/internal/news"
)

// Take stores a post of the simulator, and its author where he is new. When
// it returns nil the item is on the disk. An id that is there already changes
// nothing, whatever else the post says: the simulator and the door send again
// what they got no answer for. ErrWrongSecret refuses a post in a known name.
//
// A client that leaves does not stop it: the course's client gives up after
// 100 ms and does not send again, so a post that has arrived is kept.
func (s *Store) Take(ctx context.Context, p news.Post) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	fresh, err := s.authenticate(ctx, p.By, p.Secret)
	if err != nil {
		return err
	}
	if err := s.take(ctx, p, fresh); err != nil {
		return err
	}
	s.trusted.add(p.By, p.Secret)
	return nil
}

// authenticate checks the secret of a known user, outside the transaction:
// it is slow on purpose. For an unknown one it returns what to store.
func (s *Store) authenticate(ctx context.Context, name, secret string) (fresh string, err error) {
	if s.trusted.knows(name, secret) {
		return "", nil
	}
	var stored string
	err = s.q.secret.QueryRowContext(ctx, name).Scan(&stored)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return seal(secret), nil
	case err != nil:
		return "", unavailable("read user", err)
	}
	return "", verify(stored, secret)
}

func (s *Store) take(ctx context.Context, p news.Post, fresh string) error {
	// database/sql gives its connection to any of those who wait, so that
	// under load some wait many times longer than others.
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return unavailable("wait for the writer", ctx.Err())
	}
	defer func() { <-s.turn }()
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return unavailable("begin", err)
	}
	defer tx.Rollback() // no-op after the commit
	var known bool
	if err := tx.StmtContext(ctx, s.q.wHas).QueryRowContext(ctx, p.ID).Scan(&known); err != nil {
		return unavailable("look for item", err)
	}
	if known {
		return nil
	}
	now := time.Now()
	if fresh != "" {
		if err := s.addUser(ctx, tx, p, fresh, now); err != nil {
			return err
		}
	}
	if err := s.addItem(ctx, tx, p, now); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return unavailable("commit", err)
	}
	return nil
}

func (s *Store) addUser(ctx context.Context, tx *sql.Tx, p news.Post, fresh string, now time.Time) error {
	var stored string
	err := tx.StmtContext(ctx, s.q.wSecret).QueryRowContext(ctx, p.By).Scan(&stored)
	if err == nil { // somebody was faster with the same name
		return verify(stored, p.Secret)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return unavailable("read user", err)
	}
	if _, err := tx.StmtContext(ctx, s.q.wAddUser).ExecContext(ctx, p.By, fresh, now.UnixMilli()); err != nil {
		return unavailable("add user", err)
	}
	return nil
}

func (s *Store) addItem(ctx context.Context, tx *sql.Tx, p news.Post, now time.Time) error {
	root := p.ID // heads a thread of its own
	if p.Parent != 0 {
		err := tx.StmtContext(ctx, s.q.wRootOf).QueryRowContext(ctx, p.Parent).Scan(&root)
		if errors.Is(err, sql.ErrNoRows) {
			root = 0
		} else if err != nil {
			return unavailable("read parent", err)
		}
	}
	rank := news.Rank(0, now)
	_, err := tx.StmtContext(ctx, s.q.wAddItem).ExecContext(ctx,
		p.ID, p.Kind, p.Parent, root, p.By, p.Title, p.Body, p.URL, now.UnixMilli(), rank)
	if err != nil {
		return unavailable("add item", err)
	}
	if root == 0 {
		return nil // the item waits too, and with it whoever waits for it
	}
	return s.count(ctx, tx, p, root)
}

// count gives the thread what the new item brings: itself, and the replies
// that have waited for it.
func (s *Store) count(ctx context.Context, tx *sql.Tx, p news.Post, root news.ID) error {
	var waiting, gained int
	if err := tx.StmtContext(ctx, s.q.wWaiting).QueryRowContext(ctx, p.ID).Scan(&waiting, &gained); err != nil {
		return unavailable("look for waiting replies", err)
	}
	if waiting > 0 {
		if _, err := tx.StmtContext(ctx, s.q.wAttach).ExecContext(ctx, p.ID, root); err != nil {
			return unavailable("attach waiting replies", err)
		}
	}
	if p.Kind == news.Comment && root != p.ID {
		gained++
	}
	if gained == 0 {
		return nil
	}
	var replies int
	var at int64
	if err := tx.StmtContext(ctx, s.q.wHead).QueryRowContext(ctx, root).Scan(&replies, &at); err != nil {
		return unavailable(fmt.Sprintf("read head %d", root), err)
	}
	replies += gained
	_, err := tx.StmtContext(ctx, s.q.wMove).ExecContext(ctx, replies, news.Rank(replies, time.UnixMilli(at)), root)
	if err != nil {
		return unavailable("count replies", err)
	}
	return nil
}
