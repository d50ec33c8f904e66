package store

import (
	"context"
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
	if s.trusted.knows(p.By, p.Secret) {
		return s.change(ctx, func(w *work) error { return s.take(w, p, "") })
	}
	leave, err := s.trusted.alone(ctx, p.By)
	if err != nil {
		return err
	}
	defer leave()
	fresh, err := s.authenticate(ctx, p.By, p.Secret)
	if err != nil {
		return err
	}
	if err := s.change(ctx, func(w *work) error { return s.take(w, p, fresh) }); err != nil {
		return err
	}
	s.trusted.add(p.By, p.Secret)
	return nil
}

// authenticate checks the secret of a known user, outside the transaction:
// it is slow on purpose. For an unknown one it returns what to store.
func (s *Store) authenticate(ctx context.Context, name, secret string) (fresh string, err error) {
	if s.trusted.knows(name, secret) { // since we wait for our turn
		return "", nil
	}
	stored, err := s.sealed(ctx, name)
	switch {
	case err != nil:
		return "", err
	case !stored.known:
		return s.sealString(ctx, secret)
	case stored.secret == "":
		return "", ErrWrongSecret // a person, who has a password and no string
	}
	return "", s.verify(ctx, stored.secret, secret)
}

const (
	hasItem  = `SELECT 1 FROM items WHERE id = $1`
	readSeal = `SELECT secret, password FROM users WHERE name = $1`
	addUser  = `INSERT INTO users (name, secret, password, created_at) VALUES ($1, $2, $3, $4)`
	rootOf   = `SELECT root FROM items WHERE id = $1`
	addItem  = `
		INSERT INTO items (seq, id, kind, parent, root, author, title, body, url, created_at, heads, points, rank, best, site, link, shelf)
		VALUES ((SELECT coalesce(max(seq), 0) + 1 FROM items), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`
	// UNION, not UNION ALL: it visits a row once, even where replies form a ring.
	// +root keeps SQLite from looking through all waiting items at every level.
	waitingFor = `
		WITH RECURSIVE waiting (id) AS (
			SELECT id FROM items WHERE parent = $1 AND +root = 0
			UNION
			SELECT i.id FROM items i JOIN waiting w ON i.parent = w.id WHERE +i.root = 0)
		`
	countWaiting = waitingFor + `SELECT count(*), count(*) FILTER (WHERE kind = 'comment') FROM items WHERE id IN (SELECT id FROM waiting)`
	attach       = waitingFor + `UPDATE items SET root = $2 WHERE id IN (SELECT id FROM waiting)`
	readStanding = `SELECT points, replies, flags, created_at, heads FROM items WHERE id = $1`
	moveItem     = `UPDATE items SET points = $2, replies = $3, flags = $4, rank = $5, best = $6 WHERE id = $1`
)

func (s *Store) take(w *work, p news.Post, fresh string) error {
	known, err := w.one("look for item", hasItem, into(new(int)), p.ID)
	if err != nil || known {
		return err
	}
	if fresh != "" {
		if err := s.newcomer(w, p, fresh); err != nil {
			return err
		}
	}
	return add(w, news.Item{ID: p.ID, Kind: p.Kind, Parent: p.Parent, By: p.By, Title: p.Title, Body: p.Body, URL: p.URL})
}

func (s *Store) newcomer(w *work, p news.Post, fresh string) error {
	var stored seals
	found, err := w.one("read user", readSeal, into(&stored.secret, &stored.password), p.By)
	if err != nil {
		return err
	}
	if found { // somebody was faster with the same name
		return s.verify(w.ctx, stored.secret, p.Secret)
	}
	_, err = w.exec("add user", addUser, p.By, fresh, "", w.now.UnixMilli())
	return err
}

// add stores an item and tells the thread.
func add(w *work, it news.Item) error {
	it.At, it.Root, it.Points = w.now, it.ID, 1
	if it.Kind == news.PollOption {
		it.Points = 0 // nobody has chosen it yet
	}
	if it.Parent != 0 {
		found, err := w.one("read parent", rootOf, into(&it.Root), it.Parent)
		if err != nil {
			return err
		}
		if !found {
			it.Root = 0
		}
	}
	heads, rank, best := 0, 0.0, 0.0
	if it.Kind.Heads() {
		heads, rank, best = 1, it.Rank(it.At), it.Best(it.At)
		it.Site, it.Shelf = news.SiteOf(it.URL), news.ShelfOf(it.Kind, it.Title)
	}
	link := ""
	if heads == 1 {
		link = news.SameLink(it.URL)
	}
	_, err := w.exec("add item", addItem, it.ID, it.Kind, it.Parent, it.Root, it.By, it.Title, it.Body, it.URL,
		it.At.UnixMilli(), heads, it.Points, rank, best, it.Site, link, it.Shelf)
	if err != nil {
		return err
	}
	if it.Root == 0 {
		return nil // the item waits too, and with it whoever waits for it
	}
	return count(w, it)
}

// count gives the thread what the new item brings: itself, and the replies
// that have waited for it.
func count(w *work, it news.Item) error {
	var waiting, gained int
	if _, err := w.one("look for waiting replies", countWaiting, into(&waiting, &gained), it.ID); err != nil {
		return err
	}
	if waiting > 0 {
		if _, err := w.exec("attach waiting replies", attach, it.ID, it.Root); err != nil {
			return err
		}
	}
	if it.Kind == news.Comment && it.Root != it.ID {
		gained++
	}
	if gained == 0 {
		return nil
	}
	return move(w, it.Root, func(st *news.Standing) { st.Replies += gained })
}

// move changes an item's standing and with it its place in the lists.
func move(w *work, id news.ID, how func(*news.Standing)) error {
	var st news.Standing
	var at int64
	var heads bool
	if _, err := w.one("read standing", readStanding, into(&st.Points, &st.Replies, &st.Flags, &at, &heads), id); err != nil {
		return err
	}
	how(&st)
	rank, best := 0.0, 0.0
	if heads {
		rank, best = st.Rank(time.UnixMilli(at)), st.Best(time.UnixMilli(at))
	}
	_, err := w.exec("move item", moveItem, id, st.Points, st.Replies, st.Flags, rank, best)
	return err
}
