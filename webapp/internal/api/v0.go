package api

import (
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/store"
)

// The read side of Hacker News' own API, so that programs made for it work
// here: /v0/item/8863.json, /v0/topstories.json and so on. As there, what is
// not here is null with status 200.

// v0Lists are its lists and how many ids they have at most, as documented.
var v0Lists = map[string]struct {
	of   store.List
	most int
}{
	"topstories": {store.Front, 500}, "newstories": {store.Newest, 500}, "beststories": {store.Best, 500},
	"askstories": {store.Ask, 200}, "showstories": {store.Show, 200}, "jobstories": {store.Jobs, 200},
}

func (a *API) registerV0(e *echo.Echo) {
	reads := []string{http.MethodGet, http.MethodHead}
	e.Match(reads, "/v0/item/:file", a.v0Item)
	e.Match(reads, "/v0/user/:file", a.v0User)
	e.Match(reads, "/v0/maxitem.json", a.v0MaxItem)
	e.Match(reads, "/v0/updates.json", a.v0Updates)
	for name := range v0Lists {
		e.Match(reads, "/v0/"+name+".json", a.v0List(name))
	}
}

type itemV0 struct {
	By          string    `json:"by,omitempty"`
	Dead        bool      `json:"dead,omitempty"`
	Deleted     bool      `json:"deleted,omitempty"`
	Descendants *int      `json:"descendants,omitempty"`
	ID          news.ID   `json:"id"`
	Kids        []news.ID `json:"kids,omitempty"`
	Parent      news.ID   `json:"parent,omitempty"`
	Parts       []news.ID `json:"parts,omitempty"`
	Poll        news.ID   `json:"poll,omitempty"`
	Score       *int      `json:"score,omitempty"`
	Text        string    `json:"text,omitempty"`
	Time        int64     `json:"time"`
	Title       string    `json:"title,omitempty"`
	Type        news.Kind `json:"type"`
	URL         string    `json:"url,omitempty"`
}

// named is the name in an address that ends with .json.
func named(c echo.Context) (string, error) {
	name, ok := strings.CutSuffix(c.Param("file"), ".json")
	if !ok {
		return "", echo.ErrNotFound
	}
	return name, nil
}

func (a *API) v0Item(c echo.Context) error {
	name, err := named(c)
	if err != nil {
		return err
	}
	id, err := news.ParseID(name)
	if err != nil {
		return answer(c, nil)
	}
	ctx := c.Request().Context()
	it, err := a.store.Item(ctx, id)
	if errors.Is(err, news.ErrNoSuchItem) {
		return answer(c, nil)
	}
	if err != nil {
		return err
	}
	v := itemV0{ID: it.ID, Type: it.Kind, Time: it.At.Unix(), By: it.By, Dead: it.State == news.Dead, Deleted: it.State == news.Deleted}
	if it.Kind == news.PollOption {
		v.Poll = it.Parent
	} else {
		v.Parent = it.Parent
	}
	if v.Kids, err = a.store.Kids(ctx, id, news.Comment); err != nil {
		return err
	}
	if it.State == news.Deleted {
		v.By = ""
		return answer(c, v)
	}
	if it.Kind != news.Comment {
		v.Score = &it.Points
	}
	if it.Kind == news.Story || it.Kind == news.Poll {
		v.Descendants = &it.Replies
	}
	if it.Kind == news.Poll {
		if v.Parts, err = a.store.Kids(ctx, id, news.PollOption); err != nil {
			return err
		}
	}
	if it.VisibleTo(nil) {
		v.Title, v.Text = it.Line(), news.HTML(it.Text())
		if link, ok := news.ParseLink(it.URL); ok {
			v.URL = link.Href
		}
		if it.Kind == news.PollOption && v.Text == "" { // its words are its text there
			v.Title, v.Text = "", v.Title
		}
	}
	return answer(c, v)
}

// mostSubmitted bounds the list of what a user posted.
const mostSubmitted = 1000

func (a *API) v0User(c echo.Context) error {
	name, err := named(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	u, err := a.store.User(ctx, name)
	if errors.Is(err, store.ErrNoSuchUser) {
		return answer(c, nil)
	}
	if err != nil {
		return err
	}
	submitted := make([]news.ID, 0)
	for _, of := range []store.List{store.Submissions, store.Comments} {
		p, err := a.store.List(ctx, store.Listing{Of: of, User: name, Limit: mostSubmitted, Texts: store.NoTexts})
		if err != nil {
			return err
		}
		submitted = append(submitted, idsOf(p.Items)...)
	}
	return answer(c, map[string]any{
		"id": u.Name, "karma": u.Karma, "created": u.Joined.Unix(), "about": news.HTML(news.Typed(u.About)), "submitted": submitted,
	})
}

func idsOf(items []news.Item) []news.ID {
	ids := make([]news.ID, len(items))
	for i, it := range items {
		ids[i] = it.ID
	}
	return ids
}

func (a *API) v0List(name string) echo.HandlerFunc {
	l := v0Lists[name]
	return func(c echo.Context) error {
		p, err := a.store.List(c.Request().Context(), store.Listing{Of: l.of, Limit: l.most, Texts: store.NoTexts})
		if err != nil {
			return err
		}
		return answer(c, idsOf(p.Items))
	}
}

func (a *API) v0MaxItem(c echo.Context) error {
	id, err := a.store.MaxID(c.Request().Context())
	if err != nil {
		return err
	}
	return answer(c, id)
}

// v0Updates are the last items and who wrote them.
func (a *API) v0Updates(c echo.Context) error {
	items, names := make([]news.ID, 0), make([]string, 0)
	seen := make(map[string]bool)
	for _, of := range []store.List{store.Newest, store.Said} {
		p, err := a.store.List(c.Request().Context(), store.Listing{Of: of, Texts: store.NoTexts})
		if err != nil {
			return err
		}
		items = append(items, idsOf(p.Items)...)
		for _, it := range p.Items {
			if !seen[it.By] {
				seen[it.By] = true
				names = append(names, it.By)
			}
		}
	}
	return answer(c, map[string]any{"items": items, "profiles": names})
}
