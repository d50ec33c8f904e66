package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/portner/portner/webapp/internal/news"
)

// How items come in: numbered, placed in their threads, counted there, and
// made to be found. All of it happens in the transaction that stores them, but
// once for all of its items where that is possible.

const (
	lastSeq   = `SELECT coalesce(max(seq), 0) FROM items`
	findRoots = `SELECT id, root FROM items WHERE id IN ids($1)`
	addItem   = `
		INSERT INTO items (seq, id, kind, parent, root, author, title, body, url, created_at, heads, points, rank, best, site, link, shelf)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`
	// +root keeps SQLite from looking through all waiting items.
	findAwaited = `SELECT DISTINCT parent FROM items WHERE parent IN ids($1) AND +root = 0`
	// UNION, not UNION ALL: it visits a row once, even where replies form a ring.
	waitingFor = `
		WITH RECURSIVE waiting (id) AS (
			SELECT id FROM items WHERE parent = $1 AND +root = 0
			UNION
			SELECT i.id FROM items i JOIN waiting w ON i.parent = w.id WHERE +i.root = 0)
		`
	countWaiting = waitingFor + `SELECT count(*) FROM items WHERE id IN (SELECT id FROM waiting) AND kind = 'comment'`
	attach       = waitingFor + `UPDATE items SET root = $2 WHERE id IN (SELECT id FROM waiting)`

	standing      = `id, points, replies, flags, created_at, heads, shelf`
	readStandings = `SELECT ` + standing + ` FROM items WHERE id IN ids($1)`
	readStanding  = `SELECT ` + standing + ` FROM items WHERE id = $1`
	moveItem      = `UPDATE items SET points = $2, replies = $3, flags = $4, rank = $5, best = $6 WHERE id = $1`
	// A statement that names a column moves the row in every index of the
	// column, whether or not its value changes.
	moveReplied = `UPDATE items SET replies = $2, rank = $3 WHERE id = $1`
)

// nextSeq is the number of the next item. The lock that the transaction holds
// keeps other writers out, so the last number is read once.
func (w *work) nextSeq() (int64, error) {
	if w.seq == 0 {
		if _, err := w.one("read last number", lastSeq, into(&w.seq)); err != nil {
			return 0, err
		}
	}
	w.seq++
	return w.seq, nil
}

// rootsOf says of those of the ids that are there which item heads their thread.
func (w *work) rootsOf(ids []news.ID) (map[news.ID]news.ID, error) {
	roots := make(map[news.ID]news.ID, 2*len(ids))
	if len(ids) == 0 {
		return roots, nil
	}
	scan := func(rows *sql.Rows) (none struct{}, err error) {
		var id, root news.ID
		err = rows.Scan(&id, &root)
		roots[id] = root
		return none, err
	}
	return roots, w.each(ids, "read threads", scan, findRoots)
}

// each reads the rows of a statement about ids($1).
func (w *work) each(ids []news.ID, act string, scan func(*sql.Rows) (struct{}, error), text string) error {
	list, err := json.Marshal(ids)
	if err != nil {
		return fmt.Errorf("store: list ids: %w", err)
	}
	_, err = many(w.ctx, w.at, act, scan, text, string(list))
	return err
}

// placed completes a new item: here tells the threads of those it may answer,
// and learns its own.
func (w *work) placed(it news.Item, here map[news.ID]news.ID) news.Item {
	it.At, it.Root, it.Points = w.now, it.ID, 1
	if it.Kind == news.PollOption {
		it.Points = 0 // nobody has chosen it yet
	}
	if it.Parent != 0 {
		it.Root = here[it.Parent] // 0: it waits for its parent
	}
	if it.Kind.Heads() {
		it.Site, it.Shelf = news.SiteOf(it.URL), news.ShelfOf(it.Kind, it.Title)
	}
	here[it.ID] = it.Root
	return it
}

// insert stores new items and tells their threads. touched are the tags of
// each.
func (w *work) insert(items []news.Item) (touched [][]news.Tag, err error) {
	rows := make([][]any, len(items))
	for i, it := range items {
		seq, err := w.nextSeq()
		if err != nil {
			return nil, err
		}
		rank, best, link := 0.0, 0.0, ""
		if it.Kind.Heads() {
			rank, best, link = it.Rank(it.At), it.Best(it.At), news.SameLink(it.URL)
		}
		rows[i] = []any{seq, it.ID, string(it.Kind), it.Parent, it.Root, it.By, it.Title, it.Body, it.URL,
			it.At.UnixMilli(), number(it.Kind.Heads()), it.Points, rank, best, it.Site, link, string(it.Shelf)}
	}
	if err := w.execAll("add items", addItem, rows); err != nil {
		return nil, err
	}
	w.unfound = w.unfound || len(items) > 0
	risen, err := w.count(items)
	if err != nil {
		return nil, err
	}
	touched = make([][]news.Tag, len(items))
	for i, it := range items {
		if it.Kind.Heads() {
			lists, err := w.risen(it.Shelf, it.Rank(it.At), it.Best(it.At))
			if err != nil {
				return nil, err
			}
			risen[it.ID] = append(risen[it.ID], lists...)
		}
		touched[i] = append(arrival(it), risen[it.Root]...)
	}
	return touched, nil
}

// arrival are the tags of what a new item is on at once.
func arrival(it news.Item) []news.Tag {
	tags := append(it.Tags(), news.UserTag(it.By))
	switch {
	case it.Kind.Heads():
		tags = append(tags, news.ListTag(string(Newest)), news.DayTag(it.At))
		if it.Site != "" {
			tags = append(tags, news.SiteTag(it.Site))
		}
	case it.Kind == news.Comment:
		tags = append(tags, news.ListTag(string(Said)))
		if it.Root != 0 {
			tags = append(tags, news.HeadTag(it.Root)) // which counts it
		}
	}
	return tags
}

// count gives threads what new items bring: themselves, and the replies that
// have waited for them. risen are the tags of the lists on which that moves a
// thread.
func (w *work) count(items []news.Item) (risen map[news.ID][]news.Tag, err error) {
	ids := make([]news.ID, len(items))
	for i, it := range items {
		ids[i] = it.ID
	}
	awaited := make(map[news.ID]bool)
	scan := func(rows *sql.Rows) (none struct{}, err error) {
		var id news.ID
		err = rows.Scan(&id)
		awaited[id] = true
		return none, err
	}
	if err := w.each(ids, "look for waiting replies", scan, findAwaited); err != nil {
		return nil, err
	}
	waited := make(map[news.ID]bool)
	gained := make(map[news.ID]int)
	for _, it := range items {
		if it.Root == 0 {
			continue // it waits too, and with it whoever waits for it
		}
		if it.Kind == news.Comment && it.Root != it.ID {
			gained[it.Root]++
		}
		if awaited[it.ID] {
			n, err := w.attach(it)
			if err != nil {
				return nil, err
			}
			waited[it.Root] = true
			if n > 0 {
				gained[it.Root] += n
			}
		}
	}
	if risen, err = w.replied(gained); err != nil {
		return nil, err
	}
	for root := range waited {
		risen[root] = append(risen[root], news.ThreadTag(0), news.ThreadTag(root), news.HeadTag(root))
	}
	return risen, nil
}

// attach brings what has waited for an item into its thread, and says how many
// comments that were.
func (w *work) attach(it news.Item) (comments int, err error) {
	if _, err := w.one("count waiting replies", countWaiting, into(&comments), it.ID); err != nil {
		return 0, err
	}
	_, err = w.exec("attach waiting replies", attach, it.ID, it.Root)
	return comments, err
}

// replied counts new comments in the heads of their threads, which move up.
// risen are the tags of the lists that this shows on.
func (w *work) replied(gained map[news.ID]int) (risen map[news.ID][]news.Tag, err error) {
	risen = make(map[news.ID][]news.Tag, len(gained))
	if len(gained) == 0 {
		return risen, nil
	}
	heads := make([]head, 0, len(gained))
	scan := func(r *sql.Rows) (none struct{}, err error) {
		h, err := scanHead(r)
		heads = append(heads, h)
		return none, err
	}
	if err := w.each(slices.Sorted(maps.Keys(gained)), "read standings", scan, readStandings); err != nil {
		return nil, err
	}
	rows := make([][]any, len(heads))
	for i, h := range heads {
		h.Replies += gained[h.id]
		rank, _ := h.ranks()
		rows[i] = []any{h.id, h.Replies, rank}
		if !h.heads {
			continue
		}
		if risen[h.id], err = w.risen(h.shelf, rank, lowest); err != nil { // the best are those of votes
			return nil, err
		}
	}
	return risen, w.execAll("move items", moveReplied, rows)
}

// head is what ranks an item.
type head struct {
	id news.ID
	news.Standing
	at    int64
	heads bool
	shelf news.Shelf
}

func scanHead(rows *sql.Rows) (h head, err error) {
	return h, rows.Scan(&h.id, &h.Points, &h.Replies, &h.Flags, &h.at, &h.heads, &h.shelf)
}

func (h head) ranks() (rank, best float64) {
	if !h.heads {
		return 0, 0
	}
	at := time.UnixMilli(h.at)
	return h.Rank(at), h.Best(at)
}

// move changes an item's standing and with it its place in the lists, which it
// touches; the tags of the item itself are the caller's to touch.
func (w *work) move(id news.ID, how func(*news.Standing)) error {
	found, err := many(w.ctx, w.at, "read standing", scanHead, readStanding, id)
	if err != nil || len(found) == 0 {
		return err
	}
	h := found[0]
	was, wasBest := h.ranks()
	how(&h.Standing)
	rank, best := h.ranks()
	if _, err = w.exec("move item", moveItem, id, h.Points, h.Replies, h.Flags, rank, best); err != nil || !h.heads {
		return err
	}
	if rank < was || best < wasBest {
		clear(w.floors) // it makes room on its lists
	}
	risen, err := w.risen(h.shelf, rank, best)
	w.touch(risen...)
	return err
}

const (
	addWords  = `INSERT INTO items_words (rowid, title, body) SELECT id, title, body FROM items WHERE seq > (SELECT seq FROM words_upto)`
	addHeads  = `INSERT INTO heads_words (rowid, title, body) SELECT id, title, body FROM items WHERE heads = 1 AND seq > (SELECT heads FROM words_upto)`
	moveWords = `UPDATE words_upto SET (seq, heads) = (SELECT max(seq), max(seq) FROM items)`
)

// makeFound brings new items into the search. fts5 writes out what it has
// gathered whenever another statement begins, so this comes once, last of all.
// PostgreSQL does it by itself.
func (w *work) makeFound() error {
	if !w.unfound || w.base.postgres {
		return nil
	}
	w.unfound = false
	for _, text := range []string{addHeads, addWords, moveWords} {
		if _, err := w.exec("add to the search", text); err != nil {
			return err
		}
	}
	return nil
}

// makeAllFound comes before a text changes: the search forgets the old words
// by being told them, and would be damaged where it does not have them yet,
// because another process of an older version took the item in.
func (w *work) makeAllFound() error {
	w.unfound = true
	return w.makeFound()
}
