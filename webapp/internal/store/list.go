package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/portner/portner/webapp/internal/news"
)

// Listing says which items are wanted. Its zero value is the front page as a
// visitor sees it. Every listing is a scan of an index that ends with its last
// row, however many items there are.
type Listing struct {
	// Of is the list; Front when empty.
	Of List
	// Site, User and Day narrow the lists that are called after them.
	Site string
	User string
	Day  time.Time // any moment of the day, in UTC
	// Viewer leaves out what he has hidden and, unless he wants to see them,
	// the dead. nil is a visitor.
	Viewer *news.User

	// Limit is how many; 30 when 0, at most 1000. They are fewer where their
	// texts are long; one at least, when there is one.
	Limit int
	Texts Texts
	// After continues where a Part ended; "" begins. Skip leaves out so many
	// from there: it is for page numbers and reads what it skips.
	After string
	Skip  int
}

// List is the name of a list.
type List string

const (
	Front       List = ""            // heads by rank
	Newest      List = "newest"      // heads, last first
	Best        List = "best"        // heads by votes, with a long memory
	Ask         List = "ask"         // by rank
	Show        List = "show"        // by rank
	Jobs        List = "jobs"        // by rank
	Polls       List = "polls"       // by rank
	Said        List = "comments"    // comments, last first
	FromSite    List = "site"        // heads whose address is on Site, last first
	Submissions List = "submissions" // heads by User, last first
	Comments    List = "threads"     // comments by User, last first
	OfDay       List = "day"         // heads of Day by points
	Favourites  List = "favourites"  // of User, last marked first
	Hidden      List = "hidden"      // of User, last marked first; for himself
	Upvoted     List = "upvoted"     // of User, last voted first; for himself
	Flagged     List = "flagged"     // with at least one flag and not deleted, last first; for moderators
	Killed      List = "dead"        // last first; for moderators and whoever shows the dead
)

// Heads reports whether a list has nothing but what heads a thread.
func (l List) Heads() bool {
	switch l {
	case Said, Comments, Favourites, Hidden, Upvoted, Flagged, Killed:
		return false
	}
	return true
}

// Part is a stretch of a list.
type Part struct {
	Items []news.Item
	Next  string // continues after the last of Items; "" at the end of the list
}

// order is how a list is read: what narrows it, and the key by which it goes
// down.
type order struct {
	index, where, key string
	whole             bool // the key is an integer
	all               bool // the dead and hidden too
	marks             bool // of User's marks
}

var orders = map[List]order{
	Front:       {index: `items_front`, where: `heads = 1`, key: `i.rank`},
	Newest:      {index: `items_newest`, where: `heads = 1`, key: `i.seq`, whole: true},
	Best:        {index: `items_best`, where: `heads = 1`, key: `i.best`},
	Ask:         {index: `items_shelf`, where: `heads = 1 AND i.shelf <> '' AND i.shelf = 'ask'`, key: `i.rank`},
	Show:        {index: `items_shelf`, where: `heads = 1 AND i.shelf <> '' AND i.shelf = 'show'`, key: `i.rank`},
	Jobs:        {index: `items_shelf`, where: `heads = 1 AND i.shelf <> '' AND i.shelf = 'job'`, key: `i.rank`},
	Polls:       {index: `items_shelf`, where: `heads = 1 AND i.shelf <> '' AND i.shelf = 'poll'`, key: `i.rank`},
	Said:        {index: `items_said`, where: `kind = 'comment'`, key: `i.seq`, whole: true},
	FromSite:    {index: `items_site`, where: `site <> '' AND i.site = $1`, key: `i.seq`, whole: true},
	Submissions: {index: `items_author`, where: `author = $1 AND i.heads = 1`, key: `i.seq`, whole: true},
	Comments:    {index: `items_author`, where: `author = $1 AND i.heads = 0 AND i.kind = 'comment'`, key: `i.seq`, whole: true},
	OfDay:       {index: `items_day`, where: `heads = 1 AND i.created_at >= $7 AND i.created_at < $8`, key: `i.points`, whole: true},
	Favourites:  {index: `marks_latest`, marks: true, where: `what = 'favourite'`, key: `m.at`, whole: true},
	Hidden:      {index: `marks_latest`, marks: true, where: `what = 'hidden'`, key: `m.at`, whole: true, all: true},
	Upvoted:     {index: `marks_latest`, marks: true, where: `what = 'vote' AND m.value = 1`, key: `m.at`, whole: true},
	Flagged:     {index: `items_flags`, where: `flags > 0 AND i.state <> 2`, key: `i.seq`, whole: true, all: true},
	Killed:      {index: `items_dead`, where: `state = 1`, key: `i.seq`, whole: true, all: true},
}

// listTexts are the statements of all lists. $1 is Site or User, $2 and $3 the
// position, $4 the viewer, $5 and $6 how many to skip and to read, $7 and $8
// the day. The position is compared by the key first, so that the index finds
// it, and then by the id among equals.
var listTexts = [...]map[List]listText{Whole: listTextsOf(Whole), Brief: listTextsOf(Brief), NoTexts: listTextsOf(NoTexts)}

func listTextsOf(t Texts) map[List]listText {
	texts := make(map[List]listText, len(orders))
	for list, o := range orders {
		from, where, id := `items i by(`+o.index+`)`, `i.`+o.where, `i.id`
		if o.marks {
			from, where, id = `marks m by(`+o.index+`) JOIN items i ON i.id = m.item`, `m.name = $1 AND m.`+o.where, `m.item`
		}
		seen := ` AND (i.state = 0 OR i.state = 1 AND $9 = 1)
			AND NOT EXISTS (SELECT 1 FROM marks h WHERE h.name = $4 AND h.what = 'hidden' AND h.item = i.id)`
		if o.all {
			seen = ""
		}
		texts[list] = numbered(`SELECT ` + t.of(prefixed("i.", columns)) + `, ` + o.key + ` FROM ` + from +
			` WHERE ` + where + ` AND ` + o.key + ` <= $2 AND (` + o.key + ` < $2 OR ` + id + ` < $3)` + seen +
			` ORDER BY ` + o.key + ` DESC, ` + id + ` DESC LIMIT $6 OFFSET $5`)
	}
	return texts
}

// listText is a statement and which of the arguments it wants.
type listText struct {
	text  string
	wants []int
}

const listArgs = 9

// numbered leaves out the arguments that a statement does not name, and
// numbers the others anew: PostgreSQL wants to know the type of each.
func numbered(text string) listText {
	var t listText
	for i := range listArgs {
		if name := fmt.Sprintf("$%d", i+1); strings.Contains(text, name) {
			t.wants = append(t.wants, i)
			text = strings.ReplaceAll(text, name, fmt.Sprintf("$%d", len(t.wants)))
		}
	}
	t.text = text
	return t
}

func prefixed(prefix, columns string) string {
	return prefix + strings.ReplaceAll(columns, ", ", ", "+prefix)
}

const (
	defaultLimit = 30
	maxLimit     = 1000
)

// ErrNoSuchList is a Listing of a name that is none.
var ErrNoSuchList = errors.New("no such list")

// ErrNoSuchPart is a position that no Part has given. It is an ErrNoSuchList.
var ErrNoSuchPart = fmt.Errorf("%w from there", ErrNoSuchList)

// List reads a part of a list. Who may see a list is for callers to decide:
// see the words beside the names.
func (s *Store) List(ctx context.Context, l Listing) (Part, error) {
	o, ok := orders[l.Of]
	if !ok {
		return Part{}, fmt.Errorf("store: list %q: %w", l.Of, ErrNoSuchList)
	}
	pos, err := parsePosition(l.After, o.whole)
	if err != nil {
		return Part{}, err
	}
	who, viewer, dead := l.User, "", 0
	if l.Of == FromSite {
		who = strings.ToLower(l.Site)
	}
	if l.Viewer != nil {
		viewer = l.Viewer.Name
		if l.Viewer.ShowDead {
			dead = 1
		}
	}
	if l.Limit <= 0 {
		l.Limit = defaultLimit
	}
	l.Limit = min(l.Limit, maxLimit)
	day := l.Day.UTC().Truncate(24 * time.Hour)

	type row struct {
		news.Item
		key any
	}
	var key any
	var left room
	scanItem := scanItems(l.Texts, &left, &key)
	scan := func(rows *sql.Rows) (row, error) {
		it, err := scanItem(rows)
		return row{it, key}, err
	}
	// One more than wanted tells whether there is more.
	all := [listArgs]any{who, pos.key, pos.id, viewer, l.Skip, l.Limit + 1, day.UnixMilli(), day.Add(24 * time.Hour).UnixMilli(), dead}
	t := listTexts[l.Texts][l.Of]
	args := make([]any, len(t.wants))
	for i, n := range t.wants {
		args[i] = all[n]
	}
	rows, err := many(ctx, at{base: s.r}, "list "+string(l.Of), scan, t.text, args...)
	if err != nil {
		return Part{}, err
	}
	var p Part
	for _, r := range rows[:min(len(rows), l.Limit)] {
		p.Items = append(p.Items, r.Item)
	}
	if len(rows) > l.Limit || left.full {
		last := rows[len(p.Items)-1]
		p.Next = position{last.key, last.ID}.String()
	}
	return p, nil
}

// Front is a part of the ranked heads, highest first.
func (s *Store) Front(ctx context.Context, limit, offset int) ([]news.Item, error) {
	p, err := s.List(ctx, Listing{Of: Front, Limit: limit, Skip: offset})
	return p.Items, err
}

// Newest is a part of the heads in order of intake, last first.
func (s *Store) Newest(ctx context.Context, limit, offset int) ([]news.Item, error) {
	p, err := s.List(ctx, Listing{Of: Newest, Limit: limit, Skip: offset})
	return p.Items, err
}

// position is a place in a list: the key and the id of the item above it.
type position struct {
	key any // int64 or float64
	id  news.ID
}

func (p position) String() string {
	b, err := json.Marshal([]any{p.key, p.id})
	if err != nil { // no list has such a key
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parsePosition(s string, whole bool) (position, error) {
	if s == "" {
		if whole {
			return position{int64(math.MaxInt64), news.MaxID}, nil
		}
		return position{math.MaxFloat64, news.MaxID}, nil
	}
	var parts [2]json.Number
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &parts)
	}
	if err != nil {
		return position{}, fmt.Errorf("store: position %q: %w", s, ErrNoSuchPart)
	}
	id, err := parts[1].Int64()
	p := position{id: news.ID(id)}
	var errKey error
	if whole {
		p.key, errKey = parts[0].Int64()
	} else {
		p.key, errKey = parts[0].Float64()
	}
	if err != nil || errKey != nil {
		return position{}, fmt.Errorf("store: position %q: %w", s, ErrNoSuchPart)
	}
	return p, nil
}
