package page

import (
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

// perThread is how many replies a page shows, where their texts are of the usual
// length. A few hundred kilobytes of HTML are as much as a phone lays out at once.
const perThread = 1000

type itemView struct {
	view
	Item    entry
	Waiting bool // a reply whose thread is not here yet
	Known   bool // somebody came here by submitting its address again
	Options []optionView
	Replies template.HTML
	Total   int
	shown   int    // of them on this page
	First   int    // number of the first reply shown
	Next    string // address of the next part
	Back    string // address of the part before
	Answer  *form  // nil where nothing can be answered
}

type optionView struct {
	entry
	Votes, Of int
	Called    string // for those who hear a button alone
}

func (p *Pages) item(c echo.Context) error {
	id, err := news.ParseID(c.Param("id"))
	if err != nil {
		return err
	}
	return p.showItem(c, http.StatusOK, id, nil)
}

// showItem shows an item with its replies and the form to answer it: answer,
// when that was filled in wrongly.
func (p *Pages) showItem(c echo.Context, status int, id news.ID, answer *form) error {
	skip, err := skipped(c)
	if err != nil {
		return err
	}
	t, err := p.store.Thread(c.Request().Context(), id, store.Brief, perThread, skip)
	if err != nil {
		return err
	}
	if len(t.Replies) == 0 && skip > 0 {
		return fmt.Errorf("page: item %d behind %d replies: %w", id, skip, news.ErrNoSuchItem)
	}
	v, err := p.thread(c, t)
	if err != nil {
		return err
	}
	v.First = skip + 1
	if end := skip + v.shown; end < t.Total {
		v.Next = partAt(v.Item.Page(), end)
	}
	if skip > 0 {
		v.Back = partAt(v.Item.Page(), max(0, skip-perThread))
	}
	v.Known = c.QueryParam("known") == "1"
	switch {
	case answer != nil:
		v.Answer, v.Path = answer, v.Item.Page()
	case v.Me != nil && v.Item.May.Reply:
		v.Answer = replyForm(t.Item)
	}
	dependsOn(c, news.ThreadTag(t.Item.Root))
	return p.show(c, status, "item", v)
}

// skipped is how many replies are before the part that is asked for.
func skipped(c echo.Context) (int, error) {
	if c.QueryParam("skip") != "" {
		return number(c, "skip")
	}
	n, err := number(c, "p")
	return (n - 1) * perThread, err
}

// partAt is the address of the part that begins behind so many replies: ?p=2 where
// whole parts are before it, ?skip=20 where one of them ended early because its
// texts are long.
func partAt(path string, skip int) string {
	switch {
	case skip == 0:
		return path
	case skip%perThread == 0:
		return fmt.Sprintf("%s?p=%d", path, skip/perThread+1)
	}
	return fmt.Sprintf("%s?skip=%d", path, skip)
}

// oldItem knows the addresses of Hacker News, /item?id=1.
func (p *Pages) oldItem(c echo.Context) error {
	id, err := news.ParseID(c.QueryParam("id"))
	if err != nil {
		return err
	}
	return c.Redirect(http.StatusMovedPermanently, fmt.Sprintf("/item/%d", id))
}

func (p *Pages) thread(c echo.Context, t store.Thread) (v itemView, err error) {
	viewer, now := session.User(c), time.Now()
	all := append([]news.Item{t.Item}, t.Options...)
	for _, r := range t.Replies {
		all = append(all, r.Item)
	}
	marks, err := p.marks(c, viewer, all)
	if err != nil {
		return itemView{}, err
	}
	v = itemView{view: p.view(c, "", ""), Item: entryOf(t.Item, viewer, marks[t.Item.ID], now), Waiting: t.Item.Root == 0, Total: t.Total}
	author := t.Item.By
	if t.Item.VisibleTo(viewer) {
		v.Item.Text = p.texts.of(t.Item)
		v.About = summaryOf(t.Item)
	}
	v.Type = "article"
	v.Title, v.Address, v.Unlisted = v.Item.Line, v.Item.Page(), t.Item.State != news.Alive
	if !t.Item.Kind.Heads() {
		v.Title = kindName(t.Item.Kind) + " by " + t.Item.By
		author = ""
	}
	if t.Head.ID != 0 {
		on := entryOf(t.Head, viewer, store.Marks{}, now)
		v.Item.On = &on
		v.Title += " on " + on.Line
		author = on.By
	}
	v.Options = p.options(t.Options, viewer, marks, now)
	w := tree{pages: p, viewer: viewer, now: now, author: author, marks: marks}
	v.Replies, v.shown = w.replies(t.Replies)
	return v, nil
}

// options are what a poll offers, with the share of each in all votes.
func (p *Pages) options(items []news.Item, viewer *news.User, marks map[news.ID]store.Marks, now time.Time) []optionView {
	all := 0
	for _, it := range items {
		all += it.Points
	}
	var options []optionView
	for _, it := range items {
		o := optionView{entry: entryOf(it, viewer, marks[it.ID], now), Votes: it.Points, Of: max(all, 1)}
		if it.VisibleTo(viewer) {
			o.Text = p.texts.of(it) + readOn(it)
		}
		if o.Called = o.Line; o.Called == "" {
			o.Called = summaryOf(it)
		}
		options = append(options, o)
	}
	return options
}

func kindName(k news.Kind) string {
	if k == news.PollOption {
		return "Option"
	}
	return "Comment"
}

// KindName is what the item is called above its text.
func (v itemView) KindName() string { return kindName(v.Item.Kind) }
