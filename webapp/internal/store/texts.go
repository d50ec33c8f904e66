package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/portner/portner/webapp/internal/news"
)

// Texts says how much of the texts is read with the items. A text is bounded by
// the body of a request alone, so a hundred of them may be 100 MiB.
type Texts int

const (
	Whole   Texts = iota // all of each
	Brief                // of a long one its beginning, and the item says Cut
	NoTexts              // none, for who wants ids or titles
)

// Bounds in bytes. They do nothing to what people write: of the real comments one
// in forty is longer than shortText, the longest has 2.5 KB, and a thousand of
// them have 40 KB of long texts.
const (
	maxBrief  = 16 << 10  // of one text beside others
	maxOption = 2 << 10   // of an option beside the others of its poll; it may have maxOptions, and no next part
	shortText = 1 << 10   // a text that only the number of items bounds
	maxTexts  = 256 << 10 // of the longer texts of one part together
)

// room is what is left of a part for its texts. The first long text always has
// room, so that every part leads on; nil has no end. It is for one query.
type room struct {
	used int  // bytes of long texts
	full bool // there was no room for one
}

func (r *room) takes(size int) bool {
	if r == nil || size <= shortText {
		return true
	}
	first := r.used == 0
	r.used += size
	r.full = !first && r.used > maxTexts
	return !r.full
}

// errEnough ends a query: the row that was read, and what follows, is not wanted.
var errEnough = errors.New("enough")

var bodyColumn = regexp.MustCompile(`\b(i\.)?body\b`)

// of are columns with so much of the body. One character more than is wanted
// tells whether there is more; a character has a byte at least.
func (t Texts) of(columns string) string {
	switch t {
	case Brief:
		return bodyColumn.ReplaceAllString(columns, fmt.Sprintf("substr($0, 1, %d)", maxBrief+1))
	case NoTexts:
		return bodyColumn.ReplaceAllString(columns, "''")
	}
	return columns
}

// eachOf makes a statement for each kind of Texts; %columns are the items'.
func eachOf(text, columns string) (texts [NoTexts + 1]string) {
	for t := range texts {
		texts[t] = strings.Replace(text, "%columns", Texts(t).of(columns), 1)
	}
	return texts
}

// shorten leaves the beginning of a text that is longer than most.
func shorten(it *news.Item, most int) {
	if len(it.Body) > most {
		it.Body, it.Cut = strings.Clone(news.Beginning(it.Body, most)), true // a copy, or whoever keeps it would keep what follows
	}
}

const readLong = `SELECT id, octet_length(body) FROM items WHERE id IN ids($1) AND octet_length(body) > $2`

// fitting is how many of the ids, from the first, one part has room for. Lengths
// are read without the texts.
func fitting(ctx context.Context, a at, texts Texts, ids []news.ID) (n int, err error) {
	if texts == NoTexts || len(ids) == 0 {
		return len(ids), nil
	}
	list, err := listOf(ids)
	if err != nil {
		return 0, err
	}
	long := make(map[news.ID]int)
	scan := func(rows *sql.Rows) (none struct{}, err error) {
		var id news.ID
		var size int
		err = rows.Scan((*int64)(&id), &size)
		long[id] = size
		return none, err
	}
	if _, err := many(ctx, a, "read lengths", scan, readLong, list, shortText); err != nil {
		return 0, err
	}
	var r room
	for n, id := range ids {
		size := long[id]
		if texts == Brief {
			size = min(size, maxBrief)
		}
		if !r.takes(size) {
			return n, nil
		}
	}
	return len(ids), nil
}
