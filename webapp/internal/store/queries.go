package store

import (
	"context"
	"database/sql"
	"fmt"
)

const columns = `id, kind, parent, root, author, title, body, url, created_at, replies`

// Every statement of the store, prepared once. Those of w run on the writer.
type queries struct {
	wHas, wSecret, wAddUser, wRootOf, wAddItem, wWaiting, wAttach, wHead, wMove *sql.Stmt

	secret, latest, item, front, newest, thread, below, rows *sql.Stmt
}

func (s *Store) prepare(ctx context.Context) error {
	q := &s.q
	for _, p := range []struct {
		stmt **sql.Stmt
		db   *sql.DB
		text string
	}{
		{&q.wHas, s.write, `SELECT count(*) FROM items WHERE id = ?`},
		{&q.wSecret, s.write, `SELECT secret FROM users WHERE name = ?`},
		{&q.wAddUser, s.write, `INSERT INTO users (name, secret, created_at) VALUES (?, ?, ?)`},
		{&q.wRootOf, s.write, `SELECT root FROM items WHERE id = ?`},
		{&q.wAddItem, s.write, `
			INSERT INTO items (seq, id, kind, parent, root, author, title, body, url, created_at, rank)
			VALUES ((SELECT coalesce(max(seq), 0) + 1 FROM items), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`},
		// UNION, not UNION ALL: it visits a row once, even where replies form a ring.
		// +root keeps SQLite from looking through all waiting items at every level.
		{&q.wWaiting, s.write, `
			WITH RECURSIVE waiting (id) AS (
				SELECT id FROM items WHERE parent = ?1 AND +root = 0
				UNION
				SELECT i.id FROM items i JOIN waiting w ON i.parent = w.id WHERE +i.root = 0)
			SELECT count(*), coalesce(sum(kind = 'comment'), 0) FROM items WHERE id IN (SELECT id FROM waiting)`},
		{&q.wAttach, s.write, `
			WITH RECURSIVE waiting (id) AS (
				SELECT id FROM items WHERE parent = ?1 AND +root = 0
				UNION
				SELECT i.id FROM items i JOIN waiting w ON i.parent = w.id WHERE +i.root = 0)
			UPDATE items SET root = ?2 WHERE id IN (SELECT id FROM waiting)`},
		{&q.wHead, s.write, `SELECT replies, created_at FROM items WHERE id = ?`},
		{&q.wMove, s.write, `UPDATE items SET replies = ?, rank = ? WHERE id = ?`},

		{&q.secret, s.read, `SELECT secret FROM users WHERE name = ?`},
		{&q.latest, s.read, `SELECT id FROM items ORDER BY seq DESC LIMIT 1`},
		{&q.item, s.read, `SELECT ` + columns + ` FROM items WHERE id = ?`},
		{&q.front, s.read, `
			SELECT ` + columns + ` FROM items INDEXED BY items_front
			WHERE kind IN ('story', 'poll', 'job') ORDER BY rank DESC, id DESC LIMIT ? OFFSET ?`},
		{&q.newest, s.read, `
			SELECT ` + columns + ` FROM items INDEXED BY items_newest
			WHERE kind IN ('story', 'poll', 'job') ORDER BY seq DESC LIMIT ? OFFSET ?`},
		{&q.thread, s.read, `SELECT id, parent, kind FROM items WHERE root = ?1 AND id <> ?1 ORDER BY id`},
		{&q.below, s.read, `
			WITH RECURSIVE below (id) AS (
				SELECT id FROM items WHERE parent = ?1
				UNION
				SELECT i.id FROM items i JOIN below b ON i.parent = b.id)
			SELECT id, parent, kind FROM items WHERE id IN (SELECT id FROM below) ORDER BY id`},
		{&q.rows, s.read, `SELECT ` + columns + ` FROM items WHERE id IN (SELECT value FROM json_each(?))`},
	} {
		stmt, err := p.db.PrepareContext(ctx, p.text)
		if err != nil {
			return fmt.Errorf("store: prepare %q: %w", p.text, err)
		}
		*p.stmt = stmt
	}
	return nil
}
