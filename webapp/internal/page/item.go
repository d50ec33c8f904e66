package page

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/store"
)

const (
	// perThread is how many replies a page shows. A few hundred kilobytes of
	// HTML are as much as a phone lays out at once.
	perThread = 1000
	// maxIndent is the deepest indentation; what is deeper says its level.
	maxIndent = 10
)

type itemView struct {
	view
	Item    headView
	Text    []news.Block
	Head    *headView // of the thread, when the item is a reply
	Waiting bool      // a reply whose thread is not here yet
	Options []optionView
	Replies []replyView
	Total   int
	First   int    // number of the first reply shown
	Next    string // address of the next part
	Back    string // address of the part before
}

type optionView struct {
	ID   news.ID
	Line string
	Text []news.Block
}

type replyView struct {
	store.Reply
	Text   []news.Block
	Age    age
	Indent int
	Author bool   // wrote the head of the thread, too
	Up     string // where the parent is; "" when it is the item of the page
}

func (p *Pages) item(c echo.Context) error {
	id, err := news.ParseID(c.Param("id"))
	if err != nil {
		return err
	}
	n, err := part(c)
	if err != nil {
		return err
	}
	skip := (n - 1) * perThread
	t, err := p.store.Thread(c.Request().Context(), id, perThread, skip)
	if err != nil {
		return err
	}
	if len(t.Replies) == 0 && n > 1 {
		return fmt.Errorf("page: part %d of item %d: %w", n, id, news.ErrNoSuchItem)
	}
	v := thread(t, time.Now())
	v.First = skip + 1
	v.Next, v.Back = around(v.Item.Page(), n, skip+len(t.Replies) < t.Total)
	return p.show(c, http.StatusOK, "item", v)
}

// oldItem knows the addresses of Hacker News, /item?id=1.
func (p *Pages) oldItem(c echo.Context) error {
	id, err := news.ParseID(c.QueryParam("id"))
	if err != nil {
		return err
	}
	return c.Redirect(http.StatusMovedPermanently, fmt.Sprintf("/item/%d", id))
}

func thread(t store.Thread, now time.Time) itemView {
	v := itemView{
		Item:    head(t.Item, now),
		Text:    news.Text(t.Item.Body),
		Waiting: t.Item.Root == 0,
		Total:   t.Total,
	}
	v.Title = v.Item.Line
	author := t.Item.By
	if !t.Item.Kind.Heads() {
		v.Title = kindName(t.Item.Kind) + " by " + t.Item.By
		author = ""
	}
	if t.Head.ID != 0 {
		h := head(t.Head, now)
		v.Head = &h
		v.Title += " on " + h.Line
		author = h.By
	}
	for _, o := range t.Options {
		v.Options = append(v.Options, optionView{ID: o.ID, Line: news.Line(o.Title), Text: news.Text(o.Body)})
	}
	here := make(map[news.ID]bool, len(t.Replies))
	for _, r := range t.Replies {
		here[r.ID] = true
		v.Replies = append(v.Replies, replyView{
			Reply:  r,
			Text:   replyText(r.Item),
			Age:    age{r.At, now},
			Indent: min(r.Depth, maxIndent),
			Author: r.By == author,
			Up:     up(r, here),
		})
	}
	return v
}

// replyText is what a reply says. Options of polls, and old comments, carry
// their words in the title.
func replyText(it news.Item) []news.Block {
	if text := news.Text(it.Body); len(text) > 0 {
		return text
	}
	if line := news.Line(it.Title); line != "" {
		return []news.Block{{Spans: []news.Span{{Text: line}}}}
	}
	return nil
}

// up leads to the parent, on this page where it stands there.
func up(r store.Reply, here map[news.ID]bool) string {
	switch {
	case r.Depth == 0:
		return ""
	case here[r.Parent]:
		return fmt.Sprintf("#item-%d", r.Parent)
	}
	return fmt.Sprintf("/item/%d", r.Parent)
}

func kindName(k news.Kind) string {
	if k == news.PollOption {
		return "Option"
	}
	return "Comment"
}

// KindName is what the item is called above its text.
func (v itemView) KindName() string { return kindName(v.Item.Kind) }

// Level counts from 1, as people do.
func (v replyView) Level() int { return v.Depth + 1 }
