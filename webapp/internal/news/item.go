// Package news holds the rules of the site: what an item is, what a name or
// an id may look like, what the simulator may send, in which order things
// stand, and how a text is read.
//
// Always: every function is pure; time is an argument. A value that came out
// of a Parse function is valid everywhere else. Safe for concurrent use.
// It knows neither HTTP nor SQL.
package news

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind says what an item is. Story, Poll and Job head a thread of their own;
// Comment answers an item; PollOption is a choice of its poll.
type Kind string

const (
	Story      Kind = "story"
	Comment    Kind = "comment"
	Poll       Kind = "poll"
	PollOption Kind = "pollopt"
	Job        Kind = "job"
)

// Kinds are all kinds, in the order in which messages name them.
var Kinds = []Kind{Story, Comment, Poll, PollOption, Job}

// Heads reports whether items of this kind stand on the front page and head a
// thread.
func (k Kind) Heads() bool { return k == Story || k == Poll || k == Job }

// ID names an item: the simulator's hanesst_id.
type ID int64

// MaxID is the largest integer that every JSON reader keeps exact.
const MaxID ID = 1<<53 - 1

// ErrNoSuchItem is a string that cannot name an item, or an item that is not here.
var ErrNoSuchItem = errors.New("no such item")

// FirstOwnID divides the ids: the simulator's are below it, those of people
// who post here begin with it. Neither can take an id of the other, and both
// stay exact in every JSON reader. Hacker News is at 45 million.
const FirstOwnID ID = 1_000_000_000_000

// ParseID reads an id as it stands in an address: decimal digits, no sign, no
// leading zero, so that an item has one address.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || ID(n) > MaxID || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("news: parse id %q: %w", s, ErrNoSuchItem)
	}
	return ID(n), nil
}

// Own reports whether an item was posted here by a person.
func (id ID) Own() bool { return id >= FirstOwnID }

// Item is anything somebody posted. Its strings are kept as they came in; Line
// and Text read them for people, and ParseLink does.
type Item struct {
	ID     ID
	Kind   Kind
	Parent ID // 0: none
	Root   ID // the item that heads the thread; 0: an ancestor is not here yet
	By     string
	Title  string
	Body   string
	Cut    bool // Body is the beginning of a longer text
	URL    string
	At     time.Time // taken in; the simulator sends no time of its own
	Edited time.Time // by its author; zero: never
	Site   string    // of URL, as SiteOf gives it; "" without one
	Shelf  Shelf     // of a head
	State  State
	Standing
	Seq int64 // order of intake: 1, 2, 3 …
}

// Line is the title, by the rules of whoever wrote it: people's have no entities.
func (it Item) Line() string {
	if it.ID.Own() {
		return oneLine(repaired(it.Title))
	}
	return Line(it.Title)
}

// Text is the body, by the rules of whoever wrote it.
func (it Item) Text() []Block {
	if it.ID.Own() {
		return Typed(it.Body)
	}
	return Text(it.Body)
}

// State says who may read an item.
type State int

const (
	Alive   State = iota
	Dead          // killed by flags or by a moderator; for its author and whoever asks for the dead
	Deleted       // by its author: its texts are gone, its place in the thread stays
)

// VisibleTo reports whether the texts of the item may be shown to somebody;
// viewer is nil for a visitor.
func (it Item) VisibleTo(viewer *User) bool {
	switch it.State {
	case Alive:
		return true
	case Dead:
		return viewer != nil && (viewer.ShowDead || viewer.Moderator || viewer.Name == it.By)
	}
	return false
}

// Shelf is the list on which a head stands besides those of all heads.
type Shelf string

const (
	NoShelf   Shelf = ""
	AskShelf  Shelf = "ask"  // a question to everybody
	ShowShelf Shelf = "show" // somebody's own work
	JobShelf  Shelf = "job"
	PollShelf Shelf = "poll"
)

// ShelfOf reads the shelf from what was posted, as Hacker News does: titles
// that begin with "Ask HN", "Tell HN" or "Show HN" (here also "Ask:" and
// "Show:").
func ShelfOf(kind Kind, title string) Shelf {
	switch kind {
	case Job:
		return JobShelf
	case Poll:
		return PollShelf
	case Story:
	default:
		return NoShelf
	}
	title = strings.ToLower(Line(title[:min(len(title), 64)])) // what counts stands at the front
	for _, mark := range []struct {
		word  string
		shelf Shelf
	}{{"ask hn", AskShelf}, {"tell hn", AskShelf}, {"ask:", AskShelf}, {"show hn", ShowShelf}, {"show:", ShowShelf}} {
		if strings.HasPrefix(title, mark.word) {
			return mark.shelf
		}
	}
	return NoShelf
}
