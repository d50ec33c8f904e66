package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/portner/portner/webapp/internal/news"
)

// Record is one row of an export: a user, an item or a mark, in that order,
// each table by its key. Sessions are not carried: people log in again.
// What is computed (ranks, the search) is computed anew.
type Record struct {
	User *UserRecord `json:"user,omitempty"`
	Item *ItemRecord `json:"item,omitempty"`
	Mark *MarkRecord `json:"mark,omitempty"`
}

// UserRecord holds what was derived from passwords: keep exports as you keep
// the database.
type UserRecord struct {
	Name      string `json:"name"`
	Secret    string `json:"secret,omitempty"`
	Password  string `json:"password,omitempty"`
	Created   int64  `json:"created"` // Unix milliseconds, as all times here
	Karma     int    `json:"karma"`
	About     string `json:"about,omitempty"`
	Moderator int    `json:"moderator,omitempty"`
	ShowDead  int    `json:"showdead,omitempty"`
}

type ItemRecord struct {
	Seq     int64      `json:"seq"` // order of intake; given anew by an import
	ID      news.ID    `json:"id"`
	Kind    news.Kind  `json:"kind"`
	Parent  news.ID    `json:"parent,omitempty"`
	Root    news.ID    `json:"root,omitempty"`
	By      string     `json:"by"`
	Title   string     `json:"title,omitempty"`
	Body    string     `json:"body,omitempty"`
	URL     string     `json:"url,omitempty"`
	Created int64      `json:"created"`
	Edited  int64      `json:"edited,omitempty"`
	State   news.State `json:"state,omitempty"`
	Points  int        `json:"points"`
	Replies int        `json:"replies,omitempty"`
	Flags   int        `json:"flags,omitempty"`
}

type MarkRecord struct {
	Name  string  `json:"name"`
	What  string  `json:"what"`
	Item  news.ID `json:"item"`
	Value int     `json:"value"`
	At    int64   `json:"at"`
}

const (
	exportUsers = `SELECT name, secret, password, created_at, karma, about, moderator, showdead FROM users WHERE name > $1 ORDER BY name LIMIT $2`
	exportItems = `SELECT seq, id, kind, parent, root, author, title, body, url, created_at, edited_at, state, points, replies, flags
		FROM items WHERE seq > $1 ORDER BY seq LIMIT $2`
	exportMarks = `SELECT name, what, item, value, at FROM marks WHERE (name, what, item) > ($1, $2, $3) ORDER BY name, what, item LIMIT $4`
	importUser  = `INSERT INTO users (name, secret, password, created_at, karma, about, moderator, showdead)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO NOTHING`
	importItem = `
		INSERT INTO items (seq, id, kind, parent, root, author, title, body, url, created_at, edited_at, state, points, replies, flags, heads, rank, best, site, link, shelf)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
		ON CONFLICT (id) DO NOTHING`
	importMark = `INSERT INTO marks (name, what, item, value, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name, what, item) DO NOTHING`
	countRows  = `SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM items) + (SELECT count(*) FROM marks)`
)

// exportPart is how many rows are read at once: between parts nobody is held up.
const exportPart = 1000

// Export gives every row to write, in order, and goes on after the record
// given; the zero Record begins. What is changed meanwhile may be in its old
// or its new state; for one moment of everything there is Backup.
func (s *Store) Export(ctx context.Context, after Record, write func(Record) error) error {
	var name string
	var seq int64
	mark := MarkRecord{}
	switch {
	case after.Mark != nil:
		mark = *after.Mark
	case after.Item != nil:
		seq = after.Item.Seq
	case after.User != nil:
		name = after.User.Name
	}
	if after.Item == nil && after.Mark == nil {
		err := s.exportTable(ctx, write, func() ([]Record, error) {
			rows, err := many(ctx, at{base: s.r}, "export users", func(rows *sql.Rows) (r Record, err error) {
				u := &UserRecord{}
				err = rows.Scan(&u.Name, &u.Secret, &u.Password, &u.Created, &u.Karma, &u.About, &u.Moderator, &u.ShowDead)
				name = u.Name
				return Record{User: u}, err
			}, exportUsers, name, exportPart)
			return rows, err
		})
		if err != nil {
			return err
		}
	}
	if after.Mark == nil {
		err := s.exportTable(ctx, write, func() ([]Record, error) {
			return many(ctx, at{base: s.r}, "export items", func(rows *sql.Rows) (r Record, err error) {
				i := &ItemRecord{}
				err = rows.Scan(&i.Seq, &i.ID, &i.Kind, &i.Parent, &i.Root, &i.By, &i.Title, &i.Body, &i.URL, &i.Created, &i.Edited,
					&i.State, &i.Points, &i.Replies, &i.Flags)
				seq = i.Seq
				return Record{Item: i}, err
			}, exportItems, seq, exportPart)
		})
		if err != nil {
			return err
		}
	}
	return s.exportTable(ctx, write, func() ([]Record, error) {
		return many(ctx, at{base: s.r}, "export marks", func(rows *sql.Rows) (r Record, err error) {
			m := &MarkRecord{}
			err = rows.Scan(&m.Name, &m.What, &m.Item, &m.Value, &m.At)
			mark = *m
			return Record{Mark: m}, err
		}, exportMarks, mark.Name, mark.What, mark.Item, exportPart)
	})
}

func (s *Store) exportTable(ctx context.Context, write func(Record) error, next func() ([]Record, error)) error {
	for {
		rows, err := next()
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := write(r); err != nil {
				return err
			}
		}
		if len(rows) < exportPart {
			return ctx.Err()
		}
	}
}

// Rows is how many rows an export has now.
func (s *Store) Rows(ctx context.Context) (n int64, err error) {
	_, err = one(ctx, at{base: s.r}, "count rows", countRows, into(&n))
	return n, err
}

// Import stores records in one transaction and says how many were new. One
// that is there already is left as it is, so an import that broke off is
// simply begun again. It is for an empty database: what waits there for a
// parent is not attached.
func (s *Store) Import(ctx context.Context, records []Record) (added int64, err error) {
	for _, r := range records {
		if err := r.check(); err != nil {
			return 0, err
		}
	}
	err = s.change(ctx, func(w *work) error {
		added = 0
		for _, r := range records {
			n, err := w.load(r)
			if err != nil {
				return err
			}
			added += n
		}
		return nil
	})
	return added, err
}

func (r Record) check() error {
	switch {
	case r.User != nil && r.Item == nil && r.Mark == nil && news.ValidName(r.User.Name):
		return nil
	case r.User == nil && r.Item != nil && r.Mark == nil && r.Item.ID > 0 && r.Item.ID <= news.MaxID && news.ValidName(r.Item.By):
		return nil
	case r.User == nil && r.Item == nil && r.Mark != nil && news.ValidName(r.Mark.Name):
		return nil
	}
	b, _ := json.Marshal(r)
	return fmt.Errorf("store: import: %.200s is neither a user nor an item nor a mark", b)
}

func (w *work) load(r Record) (int64, error) {
	switch {
	case r.User != nil:
		u := r.User
		return w.exec("import user", importUser, u.Name, u.Secret, u.Password, u.Created, u.Karma, u.About, u.Moderator, u.ShowDead)
	case r.Mark != nil:
		m := r.Mark
		return w.exec("import mark", importMark, m.Name, m.What, m.Item, m.Value, m.At)
	}
	i := r.Item
	st := news.Standing{Points: i.Points, Replies: i.Replies, Flags: i.Flags}
	heads, rank, best, site, link, shelf := 0, 0.0, 0.0, "", "", news.NoShelf
	if i.Kind.Heads() {
		made := time.UnixMilli(i.Created)
		heads, rank, best = 1, st.Rank(made), st.Best(made)
		site, link, shelf = news.SiteOf(i.URL), news.SameLink(i.URL), news.ShelfOf(i.Kind, i.Title)
	}
	seq, err := w.nextSeq()
	if err != nil {
		return 0, err
	}
	n, err := w.exec("import item", importItem, seq, i.ID, string(i.Kind), i.Parent, i.Root, i.By, i.Title, i.Body, i.URL, i.Created, i.Edited, i.State,
		i.Points, i.Replies, i.Flags, heads, rank, best, site, link, string(shelf))
	if n == 0 {
		w.seq-- // it was there
	}
	w.unfound = w.unfound || n > 0
	return n, err
}

// Backup writes a consistent copy of a SQLite database to a file that is not
// there yet, while others read and write. The copy is whole or not there.
func (s *Store) Backup(ctx context.Context, path string) (err error) {
	if s.r.postgres {
		return fmt.Errorf("store: backup is for SQLite; PostgreSQL has pg_dump")
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("store: backup: %s is there already", path)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".backup-") // 0700, on the same disk
	if err != nil {
		return fmt.Errorf("store: backup: %w", err)
	}
	defer os.RemoveAll(dir)
	part := filepath.Join(dir, "part")
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return unavailable("backup", err)
	}
	defer conn.Close()
	// A reader may not write, not even elsewhere; its connection is put back as it was.
	if _, err := conn.ExecContext(ctx, "PRAGMA query_only = 0"); err != nil {
		return unavailable("backup", err)
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA query_only = 1")
	if _, err := conn.ExecContext(ctx, "VACUUM INTO $1", part); err != nil {
		return unavailable("backup", err)
	}
	if err := errors.Join(os.Chmod(part, 0o600), synced(part)); err != nil {
		return fmt.Errorf("store: backup: %w", err)
	}
	if err := os.Link(part, path); err != nil { // unlike Rename, replaces nothing
		return fmt.Errorf("store: backup: %w", err)
	}
	return synced(filepath.Dir(path))
}

func synced(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
