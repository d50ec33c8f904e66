package page

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
)

// perList is how many heads a page of a list shows; Hacker News shows as many.
const perList = 30

type listView struct {
	view
	Heading string
	Entries []headView
	First   int    // rank of the first entry
	Older   string // address of the next part; "" when there is none
	Newer   string // address of the part before
}

// headView is the head of a thread, ready to be shown.
type headView struct {
	news.Item
	Line string // the title, readable
	news.Link
	Age  age
	Rank int // place in a list
}

func head(it news.Item, now time.Time) headView {
	v := headView{Item: it, Line: news.Line(it.Title), Age: age{it.At, now}}
	if v.Line == "" {
		v.Line = "Untitled"
	}
	v.Link, _ = news.ParseLink(it.URL)
	return v
}

// Page is the address of the discussion.
func (v headView) Page() string { return fmt.Sprintf("/item/%d", v.ID) }

// Target is where the title leads.
func (v headView) Target() string {
	if v.Href != "" {
		return v.Href
	}
	return v.Page()
}

func (p *Pages) front(c echo.Context) error {
	return p.list(c, listView{view: view{"", "/"}, Heading: "Front page"}, p.store.Front)
}

func (p *Pages) newest(c echo.Context) error {
	return p.list(c, listView{view: view{"Newest", "/newest"}, Heading: "Newest"}, p.store.Newest)
}

func (p *Pages) list(c echo.Context, v listView, read func(context.Context, int, int) ([]news.Item, error)) error {
	n, err := part(c)
	if err != nil {
		return err
	}
	skip := (n - 1) * perList
	items, err := read(c.Request().Context(), perList+1, skip) // one more tells whether there are more
	if err != nil {
		return err
	}
	if len(items) == 0 && n > 1 {
		return fmt.Errorf("page: part %d of %s: %w", n, v.Here, news.ErrNoSuchItem)
	}
	v.Older, v.Newer = around(v.Here, n, len(items) > perList)
	v.First = skip + 1
	now := time.Now()
	for i, it := range items[:min(len(items), perList)] {
		entry := head(it, now)
		entry.Rank = skip + 1 + i
		v.Entries = append(v.Entries, entry)
	}
	return p.show(c, http.StatusOK, "list", v)
}

// around gives the addresses of the parts after and before part n.
func around(path string, n int, more bool) (next, previous string) {
	if more {
		next = fmt.Sprintf("%s?p=%d", path, n+1)
	}
	switch {
	case n == 2:
		previous = path
	case n > 2:
		previous = fmt.Sprintf("%s?p=%d", path, n-1)
	}
	return next, previous
}
