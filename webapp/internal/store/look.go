package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/portner/portner/webapp/internal/news"
)

const columns = `id, kind, parent, root, author, title, body, url, created_at, edited_at, site, shelf, state, points, replies, flags, seq`

const (
	readLatest = `SELECT id FROM items ORDER BY seq DESC LIMIT 1`
	readItem   = `SELECT ` + columns + ` FROM items WHERE id = $1`
	readThread = `SELECT id, parent, kind, points FROM items WHERE root = $1 AND id <> $1 ORDER BY id`
	readBelow  = `
		WITH RECURSIVE below (id) AS (
			SELECT id FROM items WHERE parent = $1
			UNION
			SELECT i.id FROM items i JOIN below b ON i.parent = b.id)
		SELECT id, parent, kind, points FROM items WHERE id IN (SELECT id FROM below) ORDER BY id`
	readKids  = `SELECT id FROM items WHERE parent = $1 AND kind = $2 ORDER BY CASE WHEN kind = 'comment' THEN -points ELSE 0 END, id LIMIT $3`
	readMaxID = `SELECT coalesce(max(id), 0) FROM items`
)

var readItems = eachOf(`SELECT %columns FROM items WHERE id IN ids($1)`, columns)

// writeTexts and readTexts are what every site asks all the time; SQLite
// prepares them at the start.
var (
	writeTexts = []string{lastSeq, findRoots, readSeal, addUser, addItem, findAwaited, readStandings, moveReplied, addHeads, addWords, moveWords}
	readTexts  = []string{readLatest, readItem, readItems[Whole], readItems[Brief], readItems[NoTexts], readLong, readThread, readBelow, readSeal, readSession, readMarks}
)

// scanItems reads rows of columns with such texts, and what follows them into
// also, while there is room. It is for one query: all of its rows share what Scan
// needs. Whole numbers go through int64, because database/sql takes any other kind
// of them through a string.
func scanItems(texts Texts, left *room, also ...any) func(*sql.Rows) (news.Item, error) {
	var it news.Item
	var created, edited, state, points, replies, flags int64
	dest := append([]any{(*int64)(&it.ID), (*string)(&it.Kind), (*int64)(&it.Parent), (*int64)(&it.Root), &it.By, &it.Title, &it.Body, &it.URL,
		&created, &edited, &it.Site, (*string)(&it.Shelf), &state, &points, &replies, &flags, &it.Seq}, also...)
	return func(rows *sql.Rows) (news.Item, error) {
		err := rows.Scan(dest...)
		it.State, it.Standing = news.State(state), news.Standing{Points: int(points), Replies: int(replies), Flags: int(flags)}
		it.At, it.Edited = time.UnixMilli(created).UTC(), time.Time{}
		if edited != 0 {
			it.Edited = time.UnixMilli(edited).UTC()
		}
		it.Cut = false
		if texts == Brief {
			shorten(&it, maxBrief)
		}
		if err == nil && !left.takes(len(it.Body)) {
			err = errEnough
		}
		return it, err
	}
}

// Latest is the id of the item that was taken in last, by order of intake and
// not by size: ids may come in any order, and an item that is sent again does
// not become the latest. 0 before the first.
func (s *Store) Latest(ctx context.Context) (id news.ID, err error) {
	_, err = one(ctx, at{base: s.r}, "read latest", readLatest, into(&id))
	return id, err
}

// Item is one item. ErrNoSuchItem when there is none.
func (s *Store) Item(ctx context.Context, id news.ID) (news.Item, error) {
	return item(ctx, at{base: s.r}, id)
}

func item(ctx context.Context, a at, id news.ID) (news.Item, error) {
	found, err := many(ctx, a, "read item", scanItems(Whole, nil), readItem, id)
	if err != nil {
		return news.Item{}, err
	}
	if len(found) == 0 {
		return news.Item{}, fmt.Errorf("store: item %d: %w", id, news.ErrNoSuchItem)
	}
	return found[0], nil
}

// Items are those of the ids that are there, by id.
func (s *Store) Items(ctx context.Context, texts Texts, ids []news.ID) (map[news.ID]news.Item, error) {
	byID := make(map[news.ID]news.Item, len(ids))
	return byID, items(ctx, at{base: s.r}, texts, ids, func(it news.Item) { byID[it.ID] = it })
}

// items gives those of the ids that are there to take, in any order.
func items(ctx context.Context, a at, texts Texts, ids []news.ID, take func(news.Item)) error {
	if len(ids) == 0 {
		return nil
	}
	list, err := listOf(ids)
	if err != nil {
		return err
	}
	scanItem := scanItems(texts, nil)
	scan := func(rows *sql.Rows) (none struct{}, err error) {
		it, err := scanItem(rows)
		take(it)
		return none, err
	}
	_, err = many(ctx, a, "read items", scan, readItems[texts], list)
	return err
}

// listOf is the argument of ids($1).
func listOf(ids []news.ID) (string, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return "", fmt.Errorf("store: list ids: %w", err)
	}
	return string(list), nil
}

// inOrder gives those of the ids that are there to take, with their places among
// the ids.
func inOrder(ctx context.Context, a at, texts Texts, ids []news.ID, take func(int, news.Item)) error {
	place := make(map[news.ID]int, len(ids))
	for i, id := range ids {
		place[id] = i
	}
	return items(ctx, a, texts, ids, func(it news.Item) { take(place[it.ID], it) })
}

// maxKids bounds Kids: nobody reads more answers to one item.
const maxKids = 10_000

// Kids are the ids of one kind directly below an item: comments by points and
// then by age, options in their order.
func (s *Store) Kids(ctx context.Context, id news.ID, kind news.Kind) ([]news.ID, error) {
	return many(ctx, at{base: s.r}, "read kids", scanOne[news.ID], readKids, id, kind, maxKids)
}

// MaxID is the largest id of all items, 0 before the first.
func (s *Store) MaxID(ctx context.Context) (id news.ID, err error) {
	_, err = one(ctx, at{base: s.r}, "read largest id", readMaxID, into(&id))
	return id, err
}

// Thread is an item with what hangs below it.
type Thread struct {
	Item    news.Item   // with its whole text
	Head    news.Item   // heads the thread, without its text; zero when Item does, or when an ancestor is not here yet
	Options []news.Item // of a poll; long texts are cut
	Replies []Reply     // one part, in reading order
	Total   int         // replies at any depth, of all parts
}

// Reply is an item in a thread; direct replies to the thread's item have
// depth 0.
type Reply struct {
	news.Item
	Depth int
}

// Thread reads an item and at most limit of the replies below it, dead and
// deleted ones included, so that what answers them has its place: ask
// Item.VisibleTo before you show a text. They are fewer than limit where their
// texts are long; one at least, when there is one. ErrNoSuchItem when there is no
// item. The ids of all replies are read to put them in order, the texts only of
// those that are returned.
func (s *Store) Thread(ctx context.Context, id news.ID, texts Texts, limit, offset int) (t Thread, err error) {
	defer spend(ctx)()
	opts := &sql.TxOptions{ReadOnly: true} // one moment for all queries
	if s.r.postgres {
		opts.Isolation = sql.LevelRepeatableRead // SQLite has no other
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	tx, err := s.read.BeginTx(ctx, opts)
	if err != nil {
		return Thread{}, unavailable("begin", err)
	}
	defer tx.Rollback()
	a := at{base: s.r, tx: tx}
	if t.Item, err = item(ctx, a, id); err != nil {
		return Thread{}, err
	}
	if root := t.Item.Root; root != 0 && root != id {
		if err := items(ctx, a, NoTexts, []news.ID{root}, func(it news.Item) { t.Head = it }); err != nil {
			return Thread{}, err
		}
	}
	options, nodes, err := nodes(ctx, a, t.Item)
	if err != nil {
		return Thread{}, err
	}
	placed := news.Flatten(id, nodes)
	t.Total = len(placed)
	placed = placed[min(offset, len(placed)):]
	placed = placed[:min(limit, len(placed))]
	wanted := ids(placed)
	n, err := fitting(ctx, a, texts, wanted)
	if err != nil {
		return Thread{}, err
	}
	placed, wanted = placed[:n], wanted[:n]

	t.Options, t.Replies = make([]news.Item, len(options)), make([]Reply, len(placed))
	err = inOrder(ctx, a, Brief, options, func(i int, it news.Item) {
		shorten(&it, maxOption)
		t.Options[i] = it
	})
	if err != nil {
		return Thread{}, err
	}
	return t, inOrder(ctx, a, texts, wanted, func(i int, it news.Item) { t.Replies[i] = Reply{it, placed[i].Depth} })
}

func ids(placed []news.Placed) []news.ID {
	ids := make([]news.ID, len(placed))
	for i, p := range placed {
		ids[i] = p.ID
	}
	return ids
}

// maxOptions bounds what a poll shows above its replies.
const maxOptions = 100

// nodes reads what hangs below an item, the options of a poll apart from the
// rest, in order of their ids. An option that belongs to something else than
// a poll, or is one too many, is kept and stands among the replies.
func nodes(ctx context.Context, a at, top news.Item) (options []news.ID, nodes []news.Node, err error) {
	type row struct {
		news.Node
		kind news.Kind
	}
	text := readBelow
	if top.Root == top.ID {
		text = readThread // by index alone
	}
	var r row
	var points int64
	dest := []any{(*int64)(&r.ID), (*int64)(&r.Parent), (*string)(&r.kind), &points}
	scan := func(rows *sql.Rows) (row, error) {
		err := rows.Scan(dest...)
		r.Points = int(points)
		return r, err
	}
	all, err := many(ctx, a, "read thread", scan, text, top.ID)
	for _, r := range all {
		if r.kind == news.PollOption && top.Kind == news.Poll && r.Parent == top.ID && len(options) < maxOptions {
			options = append(options, r.ID)
		} else {
			nodes = append(nodes, r.Node)
		}
	}
	return options, nodes, err
}
