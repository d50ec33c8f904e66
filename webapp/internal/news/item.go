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

// ParseID reads an id as it stands in an address: decimal digits, no sign, no
// leading zero, so that an item has one address.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || ID(n) > MaxID || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("news: parse id %q: %w", s, ErrNoSuchItem)
	}
	return ID(n), nil
}

// Item is anything somebody posted. Its strings are kept as they came in;
// Line, Text and Link read them for people.
type Item struct {
	ID      ID
	Kind    Kind
	Parent  ID // 0: none
	Root    ID // the item that heads the thread; 0: an ancestor is not here yet
	By      string
	Title   string
	Body    string
	URL     string
	At      time.Time // taken in; the simulator sends no time of its own
	Replies int       // comments at any depth; counted for the head of a thread only
}
