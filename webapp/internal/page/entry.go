package page

import (
	"fmt"
	"html"
	"html/template"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

// entry is an item that stands in a list or heads a page, ready to be shown to
// one viewer.
type entry struct {
	news.Item
	Line string // the title, readable
	news.Link
	Age  age
	Rank int           // place in a list
	Text template.HTML // of a reply; of a head on its own page
	On   *entry        // head of the thread, of a reply
	Gone string        // "dead" or "deleted": why there is nothing to read
	Mine store.Marks
	May  rights
}

// rights are the buttons that a viewer gets.
type rights struct {
	Up, Down, Undo        bool // votes
	Reply, Edit           bool
	Flag, Favourite, Hide bool
	Kill, Clear           bool // also revive; the flags of what lives
}

func rightsOf(viewer *news.User, it news.Item, mine store.Marks, now time.Time) rights {
	if viewer == nil {
		return rights{Reply: news.MayReply(it) == nil}
	}
	return rights{
		Up:        mine.Vote == 0 && viewer.MayVote(it, 1) == nil,
		Down:      mine.Vote == 0 && viewer.MayVote(it, -1) == nil,
		Undo:      mine.Vote != 0 && viewer.MayVote(it, 0) == nil,
		Reply:     news.MayReply(it) == nil,
		Edit:      it.Kind != news.PollOption && viewer.MayEdit(it, now) == nil,
		Flag:      mine.Flag || viewer.MayFlag(it) == nil,
		Favourite: mine.Favourite || it.State != news.Deleted,
		Hide:      mine.Hidden || it.Kind.Heads() && it.State != news.Deleted,
		Kill:      viewer.Moderator && it.State != news.Deleted,
		Clear:     viewer.Moderator && it.State == news.Alive && it.Flags > 0,
	}
}

func entryOf(it news.Item, viewer *news.User, mine store.Marks, now time.Time) entry {
	v := entry{Item: it, Age: age{it.At, now}, Mine: mine, May: rightsOf(viewer, it, mine, now)}
	if !it.VisibleTo(viewer) {
		v.Gone = goneWord(it.State)
		v.Line = "[" + v.Gone + "]"
		return v
	}
	v.Line = it.Line()
	if it.Kind.Heads() && !news.Visible(v.Line) {
		v.Line = "Untitled"
	}
	v.Link, _ = news.ParseLink(it.URL)
	return v
}

func goneWord(s news.State) string {
	if s == news.Dead {
		return "dead"
	}
	return "deleted"
}

// entries makes what a list shows: replies get their text and the head of
// their thread.
func (p *Pages) entries(c echo.Context, items []news.Item) ([]entry, error) {
	viewer, now := session.User(c), time.Now()
	marks, err := p.marks(c, viewer, items)
	if err != nil {
		return nil, err
	}
	heads, err := p.headsOf(c, items)
	if err != nil {
		return nil, err
	}
	all := make([]entry, len(items))
	for i, it := range items {
		v := entryOf(it, viewer, marks[it.ID], now)
		if !it.Kind.Heads() {
			v.Text = p.replyText(it, viewer)
			if h, ok := heads[it.Root]; ok {
				on := entryOf(h, viewer, store.Marks{}, now)
				v.On = &on
			}
		}
		all[i] = v
	}
	return all, nil
}

func (p *Pages) marks(c echo.Context, viewer *news.User, items []news.Item) (map[news.ID]store.Marks, error) {
	if viewer == nil {
		return nil, nil
	}
	ids := make([]news.ID, len(items))
	for i, it := range items {
		ids[i] = it.ID
	}
	return p.store.Marks(c.Request().Context(), viewer.Name, ids)
}

func (p *Pages) headsOf(c echo.Context, items []news.Item) (map[news.ID]news.Item, error) {
	var ids []news.ID
	for _, it := range items {
		if it.Root != 0 && it.Root != it.ID {
			ids = append(ids, it.Root)
		}
	}
	return p.store.Items(c.Request().Context(), store.NoTexts, ids)
}

// replyText is what a reply says to a viewer. Options of polls, and old
// comments, carry their words in the title.
func (p *Pages) replyText(it news.Item, viewer *news.User) template.HTML {
	if !it.VisibleTo(viewer) {
		return ""
	}
	text := p.texts.of(it)
	if text == "" {
		if line := it.Line(); line != "" {
			text = markupOf([]news.Block{{Spans: []news.Span{{Text: line}}}})
		}
	}
	return text + readOn(it)
}

// readOn leads from the beginning of a long text to the page that has all of it.
func readOn(it news.Item) template.HTML {
	if !it.Cut {
		return ""
	}
	return template.HTML(fmt.Sprintf("\n<p><a href=\"/item/%d\">Read on<span class=\"hidden\"> in what %s wrote</span></a></p>", it.ID, html.EscapeString(it.By)))
}

// Page is the address of the discussion.
func (v entry) Page() string { return fmt.Sprintf("/item/%d", v.ID) }

// Target is where the title leads.
func (v entry) Target() string {
	if v.Href != "" {
		return v.Href
	}
	return v.Page()
}

// Votable tells whether points say anything about the item.
func (v entry) Votable() bool { return v.Kind != news.Job && v.Gone == "" }
