package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/portner/portner/webapp/internal/news"
)

// SQLite reads its index in the order that is wanted, last first, and stops
// when there are enough. PostgreSQL's has no order: all that it finds is read
// and sorted, which for a word of every other text is the whole table. So there
// the last items are looked through first, and the index is asked about what
// they do not have enough of. (Left to choose, the planner takes a word that it
// has not counted for one of 200 texts.)
const (
	searchSQLite = `SELECT %columns FROM items_words w JOIN items i ON i.id = w.rowid
		WHERE items_words MATCH $1 AND w.rowid < $2 AND i.state = 0 AND ($3 = 0 OR i.heads = 1)
		ORDER BY w.rowid DESC LIMIT $4 OFFSET $5`
	searchLast = `SELECT %columns FROM (SELECT * FROM items WHERE id < $2 ORDER BY id DESC LIMIT 5000) AS i
		WHERE i.words @@ plainto_tsquery('simple', $1) AND i.state = 0 AND ($3::bigint = 0 OR i.heads = 1)
		ORDER BY i.id DESC LIMIT $4 OFFSET $5`
	searchAll = `SELECT %columns FROM items i
		WHERE i.words @@ plainto_tsquery('simple', $1) AND i.id + 0 < $2 AND i.state = 0 AND ($3::bigint = 0 OR i.heads = 1)
		ORDER BY i.id + 0 DESC LIMIT $4 OFFSET $5`
)

// searchTexts are asked in turn until one gives enough; by whether it is
// PostgreSQL.
var searchTexts = map[bool][]string{false: withColumns(searchSQLite), true: withColumns(searchLast, searchAll)}

func withColumns(texts ...string) []string {
	for i, text := range texts {
		texts[i] = strings.Replace(text, "%columns", prefixed("i.", columns), 1)
	}
	return texts
}

// Query is a search.
type Query struct {
	Words string // all of them must be there; everything but letters and digits divides words
	Heads bool   // only what heads a thread
	Limit int    // 30 when 0, at most 1000
	After string // continues where a Part ended
	Skip  int    // leaves out so many from there
}

// maxWords bounds the work of one search.
const maxWords = 16

// Search finds living items that hold all words, last first. Without a word
// it finds nothing.
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
	asked := strings.Join(words, " ")
	if !s.r.postgres {
		asked = `"` + strings.Join(words, `" "`) + `"` // quoted, or AND and NEAR would be operators
	}
	var items []news.Item
	var err error
	for _, text := range searchTexts[s.r.postgres] {
		items, err = many(ctx, at{base: s.r}, "search", scanItems(), text, asked, before, number(q.Heads), q.Limit+1, q.Skip)
		if len(items) > q.Limit {
			break
		}
	}
	if err != nil {
		return Part{}, err
	}
	p := Part{Items: items}
	if len(items) > q.Limit {
		p.Items = items[:q.Limit]
		p.Next = strconv.FormatInt(int64(p.Items[q.Limit-1].ID), 10)
	}
	return p, nil
}
