package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

// The API of this site, /api/v1. What it gives is described in openapi.json,
// which a test compares with the routes and the answers.

func (a *API) registerV1(e *echo.Echo) {
	g := func(path string) string { return "/api/v1" + path }
	reads := []string{http.MethodGet, http.MethodHead}
	e.Match(reads, g("/openapi.json"), a.openAPI)
	e.Match(reads, g("/items/:id"), a.item)
	e.Match(reads, g("/items/:id/replies"), a.replies)
	e.Match(reads, g("/lists/:list"), a.list)
	e.Match(reads, g("/users/:name"), a.user)
	e.Match(reads, g("/search"), a.search)
	e.Match(reads, g("/me"), a.me)
	e.POST(g("/tokens"), a.addToken)
	e.DELETE(g("/tokens/current"), a.endToken)
	e.POST(g("/items"), a.submit)
	e.PATCH(g("/items/:id"), a.edit)
	e.DELETE(g("/items/:id"), a.remove)
	e.PUT(g("/items/:id/vote"), a.vote)
	for what, mark := range map[string]marker{"flag": a.store.Flag, "favourite": a.store.Favourite, "hidden": a.store.Hide} {
		e.PUT(g("/items/:id/"+what), a.mark(mark, true))
		e.DELETE(g("/items/:id/"+what), a.mark(mark, false))
	}
}

// itemV1 is an item as /api/v1 shows it.
type itemV1 struct {
	ID      news.ID    `json:"id"`
	Kind    news.Kind  `json:"kind"`
	By      string     `json:"by"`
	At      time.Time  `json:"at"`
	Edited  *time.Time `json:"edited,omitempty"`
	Parent  news.ID    `json:"parent,omitempty"`
	Root    news.ID    `json:"root,omitempty"`
	Title   string     `json:"title,omitempty"`
	URL     string     `json:"url,omitempty"`
	Site    string     `json:"site,omitempty"`
	Text    string     `json:"text,omitempty"` // as it was written
	HTML    string     `json:"html,omitempty"` // safe to show
	Cut     bool       `json:"cut,omitempty"`  // both are the beginning of a longer text
	Points  int        `json:"points"`
	Replies int        `json:"replies"`
	Dead    bool       `json:"dead,omitempty"`
	Deleted bool       `json:"deleted,omitempty"`
	Depth   *int       `json:"depth,omitempty"`   // within the replies of another
	Options []itemV1   `json:"options,omitempty"` // of a poll
	Mine    *mineV1    `json:"mine,omitempty"`    // with a token
}

// mineV1 is what whoever asks has done with an item.
type mineV1 struct {
	Vote      int  `json:"vote"`
	Flag      bool `json:"flag"`
	Favourite bool `json:"favourite"`
	Hidden    bool `json:"hidden"`
}

// show leaves out what the viewer may not see.
func show(it news.Item, viewer *news.User) itemV1 {
	v := itemV1{
		ID: it.ID, Kind: it.Kind, By: it.By, At: it.At, Parent: it.Parent, Points: it.Points, Replies: it.Replies,
		Dead: it.State == news.Dead, Deleted: it.State == news.Deleted,
	}
	if it.Root != it.ID {
		v.Root = it.Root
	}
	if !it.VisibleTo(viewer) {
		return v
	}
	if !it.Edited.IsZero() {
		v.Edited = &it.Edited
	}
	v.Title, v.Text, v.Site = it.Line(), it.Body, it.Site
	v.HTML, v.Cut = news.HTML(it.Text()), it.Cut
	if link, ok := news.ParseLink(it.URL); ok {
		v.URL = link.Href
	}
	return v
}

// partV1 is a stretch of a list.
type partV1 struct {
	Items []itemV1 `json:"items"`
	Next  string   `json:"next,omitempty"` // give it as "after" for what follows
}

func (a *API) part(c echo.Context, p store.Part) error {
	viewer := session.User(c)
	out := partV1{Items: make([]itemV1, len(p.Items)), Next: p.Next}
	for i, it := range p.Items {
		out.Items[i] = show(it, viewer)
	}
	if err := a.addMarks(c, out.Items); err != nil {
		return err
	}
	return answer(c, out)
}

func (a *API) addMarks(c echo.Context, items []itemV1) error {
	viewer := session.User(c)
	if viewer == nil {
		return nil
	}
	ids := make([]news.ID, len(items))
	for i, it := range items {
		ids[i] = it.ID
	}
	marks, err := a.store.Marks(c.Request().Context(), viewer.Name, ids)
	if err != nil {
		return err
	}
	for i := range items {
		m := mineV1(marks[items[i].ID])
		items[i].Mine = &m
	}
	return nil
}

func (a *API) item(c echo.Context) error {
	t, err := a.thread(c, 0, 0)
	if err != nil {
		return err
	}
	viewer := session.User(c)
	all := []itemV1{show(t.Item, viewer)}
	for _, o := range t.Options {
		all = append(all, show(o, viewer))
	}
	if err := a.addMarks(c, all); err != nil {
		return err
	}
	all[0].Options = all[1:]
	return answer(c, all[0])
}

func (a *API) thread(c echo.Context, limit, offset int) (store.Thread, error) {
	id, err := news.ParseID(c.Param("id"))
	if err != nil {
		return store.Thread{}, err
	}
	return a.store.Thread(c.Request().Context(), id, store.Whole, limit, offset)
}

// replies are all below an item in reading order; the position is a count,
// because new replies may come in between.
func (a *API) replies(c echo.Context) error {
	q := asked(c)
	limit, offset := q.limit(), q.number("after", 0, 0, 1<<31-1)
	if err := q.err(); err != nil {
		return err
	}
	t, err := a.thread(c, limit, offset)
	if err != nil {
		return err
	}
	viewer := session.User(c)
	out := partV1{Items: make([]itemV1, len(t.Replies))}
	for i, r := range t.Replies {
		out.Items[i] = show(r.Item, viewer)
		out.Items[i].Depth = &r.Depth
	}
	if end := offset + len(t.Replies); end < t.Total && len(t.Replies) > 0 {
		out.Next = strconv.Itoa(end)
	}
	if err := a.addMarks(c, out.Items); err != nil {
		return err
	}
	return answer(c, out)
}

// lists are the names of lists as they stand in an address.
var lists = map[string]store.List{
	"front": store.Front, "newest": store.Newest, "best": store.Best, "ask": store.Ask, "show": store.Show, "jobs": store.Jobs,
	"polls": store.Polls, "comments": store.Said, "site": store.FromSite, "submissions": store.Submissions, "threads": store.Comments,
	"day": store.OfDay, "favourites": store.Favourites, "hidden": store.Hidden, "upvoted": store.Upvoted, "flagged": store.Flagged, "dead": store.Killed,
}

func (a *API) list(c echo.Context) error {
	of, ok := lists[c.Param("list")]
	if !ok {
		return store.ErrNoSuchList
	}
	q := asked(c)
	l := store.Listing{Of: of, Viewer: session.User(c), Limit: q.limit(), After: c.QueryParam("after")}
	switch of {
	case store.FromSite:
		l.Site = q.text("site", 255)
	case store.Submissions, store.Comments, store.Favourites, store.Hidden, store.Upvoted:
		l.User = q.text("user", news.MaxName)
	case store.OfDay:
		l.Day = q.day("day")
	}
	if err := q.err(); err != nil {
		return err
	}
	if err := mayList(l); err != nil {
		return err
	}
	p, err := q.part(a.store.List(c.Request().Context(), l))
	if err != nil {
		return err
	}
	return a.part(c, p)
}

// mayList keeps private lists to their owners.
func mayList(l store.Listing) error {
	private := l.Of == store.Hidden || l.Of == store.Upvoted
	moderated := l.Of == store.Flagged || l.Of == store.Killed
	switch {
	case !private && !moderated:
		return nil
	case l.Viewer == nil:
		return session.ErrLogin
	case private && l.Viewer.Name != l.User:
		return &news.Refusal{Why: "This list is its owner's."}
	case l.Of == store.Killed && l.Viewer.ShowDead:
		return nil
	case moderated && !l.Viewer.Moderator:
		return &news.Refusal{Why: "This list is for moderators."}
	}
	return nil
}

func (a *API) search(c echo.Context) error {
	q := asked(c)
	query := store.Query{Words: q.text("q", 500), Heads: q.flag("heads"), Limit: q.limit(), After: c.QueryParam("after")}
	if err := q.err(); err != nil {
		return err
	}
	p, err := q.part(a.store.Search(c.Request().Context(), query))
	if err != nil {
		return err
	}
	return a.part(c, p)
}

// userV1 is what everybody may know of somebody.
type userV1 struct {
	Name      string    `json:"name"`
	Karma     int       `json:"karma"`
	About     string    `json:"about,omitempty"`
	Joined    time.Time `json:"joined"`
	Moderator bool      `json:"moderator,omitempty"`
	ShowDead  *bool     `json:"show_dead,omitempty"` // at /me alone
}

func showUser(u news.User) userV1 {
	return userV1{Name: u.Name, Karma: u.Karma, About: u.About, Joined: u.Joined, Moderator: u.Moderator}
}

func (a *API) user(c echo.Context) error {
	u, err := a.store.User(c.Request().Context(), c.Param("name"))
	if err != nil {
		return err
	}
	return answer(c, showUser(u))
}

func (a *API) me(c echo.Context) error {
	u, err := session.Require(c)
	if err != nil {
		return err
	}
	v := showUser(*u)
	v.ShowDead = &u.ShowDead
	return answer(c, v)
}

func (a *API) addToken(c echo.Context) error {
	var in struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	if err := decode(c, &in); err != nil {
		return err
	}
	token, until, err := a.sessions.Token(c, in.Name, in.Password)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusCreated, map[string]any{"token": token, "expires": until.UTC()})
}

func (a *API) endToken(c echo.Context) error {
	if _, err := session.Require(c); err != nil {
		return err
	}
	if err := a.sessions.EndToken(c); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// draftV1 is what may be submitted; nothing else of an item is its author's
// to say.
type draftV1 struct {
	Kind    news.Kind `json:"kind"`
	Parent  news.ID   `json:"parent"`
	Title   string    `json:"title"`
	URL     string    `json:"url"`
	Text    string    `json:"text"`
	Options []string  `json:"options"`
}

func (a *API) submit(c echo.Context) error {
	u, err := session.Require(c)
	if err != nil {
		return err
	}
	var in draftV1
	if err := decode(c, &in); err != nil {
		return err
	}
	d := in.draft()
	d.Key = c.Request().Header.Get("Idempotency-Key")
	id, err := a.store.Submit(c.Request().Context(), u.Name, d)
	if err != nil {
		return err
	}
	return a.itemNow(c, http.StatusCreated, id)
}

func (d draftV1) draft() news.Draft {
	return news.Draft{Kind: d.Kind, Parent: d.Parent, Title: d.Title, URL: d.URL, Text: d.Text, Options: d.Options}
}

func (a *API) itemNow(c echo.Context, status int, id news.ID) error {
	it, err := a.store.Item(c.Request().Context(), id)
	if err != nil {
		return err
	}
	all := []itemV1{show(it, session.User(c))}
	if err := a.addMarks(c, all); err != nil {
		return err
	}
	if status == http.StatusCreated {
		c.Response().Header().Set("Location", "/api/v1/items/"+strconv.FormatInt(int64(id), 10))
	}
	return c.JSON(status, all[0])
}

// edit changes the fields that are given.
func (a *API) edit(c echo.Context) error {
	u, id, err := a.about(c)
	if err != nil {
		return err
	}
	var in struct {
		Title *string `json:"title"`
		URL   *string `json:"url"`
		Text  *string `json:"text"`
	}
	if err := decode(c, &in); err != nil {
		return err
	}
	it, err := a.store.Item(c.Request().Context(), id)
	if err != nil {
		return err
	}
	d := news.Draft{Title: it.Title, URL: it.URL, Text: it.Body}
	for _, f := range []struct {
		to   *string
		from *string
	}{{&d.Title, in.Title}, {&d.URL, in.URL}, {&d.Text, in.Text}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if err := a.store.Edit(c.Request().Context(), u.Name, id, d); err != nil {
		return err
	}
	return a.itemNow(c, http.StatusOK, id)
}

func (a *API) remove(c echo.Context) error {
	u, id, err := a.about(c)
	if err != nil {
		return err
	}
	if err := a.store.Delete(c.Request().Context(), u.Name, id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// about is who changes which item.
func (a *API) about(c echo.Context) (*news.User, news.ID, error) {
	u, err := session.Require(c)
	if err != nil {
		return nil, 0, err
	}
	id, err := news.ParseID(c.Param("id"))
	return u, id, err
}

func (a *API) vote(c echo.Context) error {
	u, id, err := a.about(c)
	if err != nil {
		return err
	}
	var in struct {
		Value *int `json:"value"`
	}
	if err := decode(c, &in); err != nil {
		return err
	}
	if in.Value == nil || *in.Value < -1 || *in.Value > 1 {
		return &news.Invalid{Wrongs: []news.Wrong{{Field: "value", Why: "must be 1, 0 or -1"}}}
	}
	if err := a.store.Vote(c.Request().Context(), u.Name, id, *in.Value); err != nil {
		return err
	}
	return a.itemNow(c, http.StatusOK, id)
}

func (a *API) mark(set marker, on bool) echo.HandlerFunc {
	return func(c echo.Context) error {
		u, id, err := a.about(c)
		if err != nil {
			return err
		}
		if err := set(c.Request().Context(), u.Name, id, on); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	}
}
