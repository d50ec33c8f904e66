package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/portner/portner/webapp/internal/news"
)

// SQLite reads its index in the order that is wanted, last first, and stops
// when there are enough. It has one of everything and one of what heads a
// thread, or a word of comments alone would be looked up in each of them. PostgreSQL's has no order: what it finds has to be
// fetched and sorted, which for a word of every other text is the whole table.
// So there the last items are looked through first, and searchIndex asks the
// index for a bounded part at a time. Nothing here is left to the planner, which
// takes a word that it has not counted for one of 200 texts.
//
// The index (migrations/postgres/00003_blocks.sql) knows of each item its block,
// 4096 ids and whether it heads a thread, so that of a word it reads only what
// is in the blocks that are asked for. "id + 0" keeps the primary key out.
const (
	searchSQLite = `SELECT %columns FROM %words w JOIN items i ON i.id = w.rowid
		WHERE %words MATCH $1 AND w.rowid < $2 AND i.state = 0
		ORDER BY w.rowid DESC LIMIT $3 OFFSET $4`
	searchLast = `SELECT %columns FROM (SELECT * FROM items WHERE id < $2 ORDER BY id DESC LIMIT 500) AS i
		WHERE i.words @@ plainto_tsquery('simple', $1) AND i.state = 0 AND ($3::bigint = 0 OR i.heads = 1)
		ORDER BY i.id DESC LIMIT $4 OFFSET $5`

	// Both give how many items have the words, $5 + 1 at most; the id below which
	// nothing has been looked at; and the last $4 ids of those found, as JSON.
	searchBlocks = `WITH RECURSIVE blocks (block, n) AS (
			SELECT max(id) >> 12, 1 FROM items WHERE id < $2
			UNION ALL
			SELECT (SELECT max(id) >> 12 FROM items WHERE id < block << 12), n + 1 FROM blocks WHERE n < $6 AND block IS NOT NULL),
		found AS MATERIALIZED (SELECT id, state, heads FROM items
			WHERE words @@ plainto_tsquery('simple', $1) AND id + 0 < $2 AND ARRAY[(id >> 12) * 2 + heads]
				&& ARRAY(SELECT block * 2 + head FROM blocks, generate_series($3::bigint, 1) AS head WHERE block IS NOT NULL)
			LIMIT $5::bigint + 1)
		SELECT (SELECT count(*) FROM found), (SELECT coalesce(min(block), 0) << 12 FROM blocks), ` + lastFound
	searchAll = `WITH found AS MATERIALIZED (SELECT id, state, heads FROM items
			WHERE words @@ plainto_tsquery('simple', $1) AND id + 0 < $2 LIMIT $5::bigint + 1)
		SELECT (SELECT count(*) FROM found), 0, ` + lastFound
	lastFound = `to_json(ARRAY(SELECT id FROM found WHERE state = 0 AND ($3::bigint = 0 OR heads = 1) ORDER BY id DESC LIMIT $4))::text`
)

// What is asked first, of PostgreSQL; of SQLite it is all, by what is wanted.
var (
	searchFirst = eachOf(searchLast, prefixed("i.", columns))
	searchItems = eachOf(strings.ReplaceAll(searchSQLite, "%words", "items_words"), prefixed("i.", columns))
	searchHeads = eachOf(strings.ReplaceAll(searchSQLite, "%words", "heads_words"), prefixed("i.", columns))
)

// Query is a search.
type Query struct {
	Words string // all of them must be there; everything but letters and digits divides words
	Heads bool   // only what heads a thread
	Limit int    // 30 when 0, at most 1000; fewer where texts are long, as in a Listing
	Texts Texts
	After string // continues where a Part ended
	Skip  int    // leaves out so many from there
}

// maxWords bounds the work of one search.
const maxWords = 16

// Search finds living items that hold all words, last first. Without a word
// it finds nothing. ErrBusy when too many search at once.
func (s *Store) Search(ctx context.Context, q Query) (Part, error) {
	words := strings.FieldsFunc(q.Words, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	if len(words) == 0 {
		return Part{}, nil
	}
	before := news.MaxID
	if q.After != "" {
		id, err := news.ParseID(q.After)
		if err != nil {
			return Part{}, fmt.Errorf("store: position %q: %w", q.After, ErrNoSuchPart)
		}
		before = id
	}
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	q.Limit = min(q.Limit, maxLimit)
	words = words[:min(len(words), maxWords)]
	leave, err := s.searchTurn(ctx)
	if err != nil {
		return Part{}, err
	}
	defer leave()
	find := s.findSQLite
	if s.r.postgres {
		find = s.findPostgres
	}
	items, more, err := find(ctx, q, words, before)
	if err != nil {
		return Part{}, err
	}
	p := Part{Items: items[:min(len(items), q.Limit)]}
	if n := len(p.Items); n > 0 && (more || len(items) > q.Limit) {
		p.Next = strconv.FormatInt(int64(p.Items[n-1].ID), 10)
	}
	return p, nil
}

// Bounds of all searches of a process. A search for common words reads much of
// an index, and SQLite has four readers, whom every page needs.
const (
	maxSearches  = 2
	maxSearching = 64          // wait: one takes milliseconds, and a crowd that is served in time is no flood
	searchWait   = time.Second // in vain; then who asks is told so, and the others get their turn
)

// searchTurn waits for one. ErrBusy when there are too many before.
func (s *Store) searchTurn(ctx context.Context) (leave func(), err error) {
	wait, cancel := context.WithTimeout(ctx, searchWait)
	defer cancel()
	leave, err = s.searches.enter(wait, false)
	if err != nil && ctx.Err() == nil {
		return nil, ErrBusy
	}
	return leave, err
}

// findSQLite gives one item more than is wanted, where there is one, or those
// whose texts have room, and says that there are more; as findPostgres does.
func (s *Store) findSQLite(ctx context.Context, q Query, words []string, before news.ID) (items []news.Item, more bool, err error) {
	text := searchItems
	if q.Heads {
		text = searchHeads
	}
	asked := `"` + strings.Join(words, `" "`) + `"` // quoted, or AND and NEAR would be operators
	var left room
	items, err = many(ctx, at{base: s.r}, "search", scanItems(q.Texts, &left), text[q.Texts], asked, before, q.Limit+1, q.Skip)
	return items, left.full, err
}

func (s *Store) findPostgres(ctx context.Context, q Query, words []string, before news.ID) (items []news.Item, more bool, err error) {
	asked := strings.Join(words, " ")
	var left room
	items, err = many(ctx, at{base: s.r}, "search", scanItems(q.Texts, &left), searchFirst[q.Texts], asked, before, number(q.Heads), q.Limit+1, q.Skip)
	if err != nil || left.full || len(items) > q.Limit {
		return items, left.full, err
	}
	return s.searchOn(ctx, wanted{words: asked, before: before, heads: number(q.Heads), most: q.Skip + q.Limit + 1}, q)
}

// wanted is what is asked of PostgreSQL's index.
type wanted struct {
	words  string
	before news.ID
	heads  int // 1: only what heads a thread
	most   int
}

// searchOn finds what the last items do not have enough of.
func (s *Store) searchOn(ctx context.Context, w wanted, q Query) (items []news.Item, more bool, err error) {
	ids, err := s.searchIndex(ctx, w)
	if err != nil {
		return nil, false, err
	}
	ids = ids[min(q.Skip, len(ids)):]
	n, err := fitting(ctx, at{base: s.r}, q.Texts, ids)
	if err != nil {
		return nil, false, err
	}
	byID, err := s.Items(ctx, q.Texts, ids[:n])
	if err != nil {
		return nil, false, err
	}
	items = make([]news.Item, 0, n)
	for _, id := range ids[:n] {
		if it := byID[id]; it.ID == id && it.State == news.Alive { // it may have been deleted meanwhile
			items = append(items, it)
		}
	}
	return items, n < len(ids), nil
}

// Bounds of one question to the index.
const (
	searchRows = 8192 // items fetched and sorted, some 10 ms of them in memory; more than a block has
	// Blocks at once. Each is a list of its own in the index, and every row that
	// is found is compared with all of them: half a million rows of 188 took 0.9 s.
	searchWide = 32
	// Blocks before the question is whether the words are rare everywhere.
	// Asked first it would read 100 ms of index for a word of every text; the
	// blocks of a million ids would be 10 ms for a word that three have.
	searchNear = 16
	// Blocks before all that is left is sorted after all. Only ids with gaps of
	// thousands, and a common word that the last ones lack, come so far.
	searchFar = 2048
)

// searchIndex finds the last ids, last first. It goes from block to block, more
// of them at a time while they have little, fewer when they have too much. So
// it does not matter where in the table the words are.
func (s *Store) searchIndex(ctx context.Context, w wanted) ([]news.ID, error) {
	var ids []news.ID
	rare := true // as far as we know
	for size, seen := 1, 0; w.before > 0 && len(ids) < w.most; {
		text, args := searchBlocks, []any{searchRows, size}
		switch {
		case seen >= searchFar:
			text, args = searchAll, []any{math.MaxInt32}
		case seen >= searchNear && rare:
			text, args = searchAll, []any{searchRows}
		}
		f, err := s.ask(ctx, w, w.most-len(ids), text, args...)
		if err != nil {
			return nil, err
		}
		switch {
		case f.n <= searchRows || seen >= searchFar:
			ids = append(ids, f.ids...)
			w.before, seen = f.rest, seen+size
		case text == searchAll:
			rare = false
		default:
			size = max(1, size/4)
			continue
		}
		if f.n <= searchRows/4 {
			size = min(4*size, searchWide)
		}
	}
	return ids, nil
}

type found struct {
	n    int       // items with the words among those looked at
	rest news.ID   // what is below has not been looked at
	ids  []news.ID // last first, of items that may be shown; not the last ones where n is above the bound
}

func (s *Store) ask(ctx context.Context, w wanted, most int, text string, args ...any) (f found, err error) {
	var list string
	args = append([]any{w.words, w.before, w.heads, most}, args...)
	if _, err := one(ctx, at{base: s.r}, "search", text, into(&f.n, (*int64)(&f.rest), &list), args...); err != nil {
		return f, err
	}
	if err := json.Unmarshal([]byte(list), &f.ids); err != nil {
		return f, fmt.Errorf("store: read ids that were found: %w", err)
	}
	return f, nil
}
