package store

import (
	"context"
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/portner/portner/webapp/internal/news"
)

// What a change has changed is said as tags, so that whoever keeps pages knows
// which of them are old: to the caller (Touched), whose answer can tell the
// door, and to the process itself (Fresh).

// Touched are the tags of what the changes of a context have changed. Safe for
// concurrent use.
type Touched struct {
	mu   sync.Mutex
	tags []news.Tag // mu; sorted, each once
}

type touchedKey struct{}

// WithTouched returns a context that remembers what its changes touch. A change
// that was refused, or found nothing to do, touches nothing.
func WithTouched(ctx context.Context) (context.Context, *Touched) {
	t := new(Touched)
	return context.WithValue(ctx, touchedKey{}, t), t
}

// Tags are those so far, sorted.
func (t *Touched) Tags() []news.Tag {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.tags)
}

func touched(ctx context.Context, tags []news.Tag) {
	t, ok := ctx.Value(touchedKey{}).(*Touched)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tags = append(t.tags, tags...)
	slices.Sort(t.tags)
	t.tags = slices.Compact(t.tags)
}

// Mark is a place in the table of what was touched. Tags that share one are
// touched together, which costs a page and no truth.
type Mark uint16

var markSeed = maphash.MakeSeed()

// MarkOf is the place of a tag, the same until the process ends.
func MarkOf(tag news.Tag) Mark { return Mark(maphash.String(markSeed, string(tag))) }

// touches says of every place when something there was last touched: the number
// of changes that this process had committed. Half a megabyte, whatever is posted.
type touches [1 << 16]atomic.Int64

// note comes after the number of changes has grown and before any writer has
// his answer: who reads that number first and the database then has seen the
// change, or is told here that he may not have.
func (t *touches) note(tags []news.Tag, version int64) {
	for _, tag := range tags {
		t[MarkOf(tag)].Store(version)
	}
}

// Fresh reports whether this process has changed nothing of what has these
// marks since Shared gave that number of changes.
func (s *Store) Fresh(marks []Mark, changes int64) bool {
	for _, m := range marks {
		if s.touches[m].Load() > changes {
			return false
		}
	}
	return true
}

// touch adds to what the change that runs has touched.
func (w *work) touch(tags ...news.Tag) { w.touched = append(w.touched, tags...) }

// FirstPart is how many items begin a list: what the first page of it shows, and
// a feed. ListTag of a ranked list is about them alone.
const FirstPart = 30

// ranked are the lists whose order changes that readers look at from the top.
var ranked = []struct {
	list  List
	tag   news.Tag
	shelf news.Shelf // "": for all
	floor string     // reads the key of the last item of the first part
}{
	{Front, news.ListTag("front"), news.NoShelf, floorOf(Front)},
	{Best, news.ListTag(string(Best)), news.NoShelf, floorOf(Best)},
	{Ask, news.ListTag(string(Ask)), news.AskShelf, floorOf(Ask)},
	{Show, news.ListTag(string(Show)), news.ShowShelf, floorOf(Show)},
	{Jobs, news.ListTag(string(Jobs)), news.JobShelf, floorOf(Jobs)},
	{Polls, news.ListTag(string(Polls)), news.PollShelf, floorOf(Polls)},
}

// shelfList is the list of a shelf.
var shelfList = map[news.Shelf]List{news.AskShelf: Ask, news.ShowShelf: Show, news.JobShelf: Jobs, news.PollShelf: Polls}

// lowest is below every rank.
const lowest = -math.MaxFloat64

func floorOf(list List) string {
	o := orders[list]
	return `SELECT ` + o.key + ` FROM items i by(` + o.index + `) WHERE i.` + o.where + ` AND i.state = 0 ORDER BY ` + o.key + ` DESC, i.id DESC LIMIT 1 OFFSET $1`
}

// risen are the tags of the lists that a head with these ranks is in the first
// part of, or comes into.
func (w *work) risen(shelf news.Shelf, rank, best float64) (tags []news.Tag, err error) {
	for _, r := range ranked {
		if r.shelf != news.NoShelf && r.shelf != shelf {
			continue
		}
		floor, err := w.floor(r.list, r.floor)
		if err != nil {
			return nil, err
		}
		key := rank
		if r.list == Best {
			key = best
		}
		if key >= floor {
			tags = append(tags, r.tag)
		}
	}
	return tags, nil
}

// floor is read once in a transaction. What rises later only raises it; what
// falls out of the first part is on the page, which has its tag.
func (w *work) floor(list List, text string) (float64, error) {
	if floor, ok := w.floors[list]; ok {
		return floor, nil
	}
	floor := float64(lowest) // for a list that has room
	if _, err := w.one("read floor of "+string(list), text, into(&floor), FirstPart-1); err != nil {
		return 0, err
	}
	w.floors[list] = floor
	return floor, nil
}
