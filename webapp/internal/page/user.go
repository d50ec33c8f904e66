package page

import (
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

// userShelf is a list of a user.
type userShelf struct {
	word, name string // in the address, on the page
	of         store.List
	private    bool // for himself
	empty      string
}

var ofUser = []userShelf{
	{"submissions", "Submissions", store.Submissions, false, "Nothing has been submitted yet."},
	{"comments", "Comments", store.Comments, false, "Nothing has been said yet."},
	{"favourites", "Favourites", store.Favourites, false, "There are no favourites yet."},
	{"upvoted", "Upvoted", store.Upvoted, true, "You have voted nothing up yet."},
	{"hidden", "Hidden", store.Hidden, true, "You have hidden nothing."},
}

// tabs leads to the lists of a user that the viewer may see.
func tabs(name string, viewer *news.User, here string) []tab {
	all := []tab{{"Profile", "/user/" + name, here == ""}}
	for _, s := range ofUser {
		if !s.private || viewer != nil && viewer.Name == name {
			all = append(all, tab{s.name, "/user/" + name + "/" + s.word, here == s.word})
		}
	}
	return all
}

type userView struct {
	view
	User   news.User
	Text   template.HTML
	Joined string
	Mine   bool
	Tabs   []tab
}

func (p *Pages) user(c echo.Context) error {
	u, err := p.store.User(c.Request().Context(), c.Param("name"))
	if err != nil {
		return err
	}
	v := userView{view: p.view(c, u.Name, ""), User: u, Text: p.texts.html(u.About, true), Joined: u.Joined.Format("2 January 2006")}
	v.Mine = v.Me != nil && v.Me.Name == u.Name
	v.Tabs = tabs(u.Name, v.Me, "")
	v.Type = "profile"
	v.Address, v.About = "/user/"+u.Name, summary(u.About, news.Typed)
	dependsOn(c, news.UserTag(u.Name))
	return p.show(c, http.StatusOK, "user", v)
}

// oldUser knows the addresses of Hacker News, /user?id=pg.
func (p *Pages) oldUser(c echo.Context) error {
	name := c.QueryParam("id")
	if !news.ValidName(name) {
		return store.ErrNoSuchUser
	}
	return c.Redirect(http.StatusMovedPermanently, "/user/"+url.PathEscape(name))
}

// oldLists are the addresses that Hacker News has for lists, and ours.
var oldLists = map[string]string{"/news": "/", "/newcomments": "/comments"}

// oldUserLists are those of a user, /submitted?id=pg, and our words for them.
var oldUserLists = map[string]string{"/submitted": "submissions", "/threads": "comments", "/favorites": "favourites"}

func oldList(path string) echo.HandlerFunc {
	return func(c echo.Context) error { return c.Redirect(http.StatusMovedPermanently, path) }
}

func (p *Pages) oldUserList(word string) echo.HandlerFunc {
	return func(c echo.Context) error {
		name := c.QueryParam("id")
		if !news.ValidName(name) {
			return store.ErrNoSuchUser
		}
		return c.Redirect(http.StatusMovedPermanently, "/user/"+url.PathEscape(name)+"/"+word)
	}
}

// oldDay is /front?day=2026-01-31 there; without a day it is yesterday, which is
// another one tomorrow.
func (p *Pages) oldDay(c echo.Context) error {
	said := c.QueryParam("day")
	if said == "" {
		return c.Redirect(http.StatusFound, "/past")
	}
	day, err := time.Parse(isoDay, said)
	if err != nil {
		return fmt.Errorf("page: day %q: %w", said, store.ErrNoSuchList)
	}
	return c.Redirect(http.StatusMovedPermanently, "/past?day="+day.Format(isoDay))
}

func (p *Pages) userList(s userShelf) echo.HandlerFunc {
	show := func(c echo.Context) error {
		u, err := p.store.User(c.Request().Context(), c.Param("name"))
		if err != nil {
			return err
		}
		viewer := session.User(c)
		if s.private && (viewer == nil || viewer.Name != u.Name) {
			return &news.Refusal{Why: "This list is its owner's."}
		}
		v := listView{view: p.view(c, s.name+" of "+u.Name, ""), Heading: s.name + " of " + u.Name, Empty: s.empty, Tabs: tabs(u.Name, viewer, s.word)}
		v.Unlisted = s.private
		v.tag = news.UserTag(u.Name)
		return p.list(c, v, store.Listing{Of: s.of, User: u.Name})
	}
	if s.private {
		return p.member(func(c echo.Context, _ *news.User) error { return show(c) })
	}
	return show
}
