package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/portner/portner/webapp/internal/news"
)

// Latest is the id of the item that was taken in last, by order of intake and
// not by size: ids may come in any order, and an item that is sent again does
// not become the latest. 0 before the first.
func (s *Store) Latest(ctx context.Context) (news.ID, error) {
	var id news.ID
	err := s.q.latest.QueryRowContext(ctx).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, unavailable("read latest", err)
	}
	return id, nil
}

// Front is a part of the ranked heads, highest first.
func (s *Store) Front(ctx context.Context, limit, offset int) ([]news.Item, error) {
	return collect(s.q.front.QueryContext(ctx, limit, offset))
}

// Newest is a part of the heads in order of intake, last first.
func (s *Store) Newest(ctx context.Context, limit, offset int) ([]news.Item, error) {
	return collect(s.q.newest.QueryContext(ctx, limit, offset))
}

// Thread is an item with what hangs below it.
type Thread struct {
	Item    news.Item
	Head    news.Item   // heads the thread; zero when Item does, or when an ancestor is not here yet
	Options []news.Item // of a poll
	Replies []Reply     // one part, in reading order
	Total   int         // replies at any depth, of all parts
}

// Reply is an item in a thread; direct replies to the thread's item have
// depth 0.
type Reply struct {
	news.Item
	Depth int
}

// Thread reads an item and at most limit of the replies below it.
// ErrNoSuchItem when there is no item. The ids of all replies are read to put
// them in order, the texts only of those that are returned.
func (s *Store) Thread(ctx context.Context, id news.ID, limit, offset int) (t Thread, err error) {
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // one moment for all queries
	if err != nil {
		return Thread{}, unavailable("begin", err)
	}
	defer tx.Rollback()
	if t.Item, err = s.item(ctx, tx, id); err != nil {
		return Thread{}, err
	}
	if root := t.Item.Root; root != 0 && root != id {
		if t.Head, err = s.item(ctx, tx, root); err != nil {
			return Thread{}, err
		}
	}
	options, nodes, err := s.nodes(ctx, tx, t.Item)
	if err != nil {
		return Thread{}, err
	}
	placed := news.Flatten(id, nodes)
	t.Total = len(placed)
	placed = placed[min(offset, len(placed)):]
	placed = placed[:min(limit, len(placed))]

	items, err := s.items(ctx, tx, append(options, ids(placed)...))
	if err != nil {
		return Thread{}, err
	}
	for _, id := range options {
		t.Options = append(t.Options, items[id])
	}
	for _, p := range placed {
		t.Replies = append(t.Replies, Reply{items[p.ID], p.Depth})
	}
	return t, nil
}

func ids(placed []news.Placed) []news.ID {
	ids := make([]news.ID, len(placed))
	for i, p := range placed {
		ids[i] = p.ID
	}
	return ids
}

func (s *Store) item(ctx context.Context, tx *sql.Tx, id news.ID) (news.Item, error) {
	found, err := collect(tx.StmtContext(ctx, s.q.item).QueryContext(ctx, id))
	if err != nil {
		return news.Item{}, err
	}
	if len(found) == 0 {
		return news.Item{}, fmt.Errorf("store: item %d: %w", id, news.ErrNoSuchItem)
	}
	return found[0], nil
}

// maxOptions bounds what a poll shows above its replies.
const maxOptions = 100

// nodes reads what hangs below an item, the options of a poll apart from the
// rest, in order of their ids. An option that belongs to something else than
// a poll, or is one too many, is kept and stands among the replies.
func (s *Store) nodes(ctx context.Context, tx *sql.Tx, top news.Item) (options []news.ID, nodes []news.Node, err error) {
	stmt := s.q.below
	if top.Root == top.ID {
		stmt = s.q.thread // by index alone
	}
	rows, err := tx.StmtContext(ctx, stmt).QueryContext(ctx, top.ID)
	if err != nil {
		return nil, nil, unavailable("read thread", err)
	}
	defer rows.Close()
	for rows.Next() {
		var n news.Node
		var kind news.Kind
		if err := rows.Scan(&n.ID, &n.Parent, &kind); err != nil {
			return nil, nil, unavailable("read thread", err)
		}
		if kind == news.PollOption && top.Kind == news.Poll && n.Parent == top.ID && len(options) < maxOptions {
			options = append(options, n.ID)
		} else {
			nodes = append(nodes, n)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, nil, unavailable("read thread", err)
	}
	return options, nodes, nil
}

func (s *Store) items(ctx context.Context, tx *sql.Tx, ids []news.ID) (map[news.ID]news.Item, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("store: list ids: %w", err)
	}
	found, err := collect(tx.StmtContext(ctx, s.q.rows).QueryContext(ctx, string(list)))
	if err != nil {
		return nil, err
	}
	byID := make(map[news.ID]news.Item, len(found))
	for _, it := range found {
		byID[it.ID] = it
	}
	return byID, nil
}

// collect takes both results of a query for columns.
func collect(rows *sql.Rows, err error) ([]news.Item, error) {
	if err != nil {
		return nil, unavailable("read items", err)
	}
	defer rows.Close()
	var items []news.Item
	for rows.Next() {
		var it news.Item
		var at int64
		err := rows.Scan(&it.ID, &it.Kind, &it.Parent, &it.Root, &it.By, &it.Title, &it.Body, &it.URL, &at, &it.Replies)
		if err != nil {
			return nil, unavailable("read items", err)
		}
		it.At = time.UnixMilli(at).UTC()
		items = append(items, it)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable("read items", err)
	}
	return items, nil
}
