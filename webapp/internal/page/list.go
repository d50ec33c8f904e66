package page

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

// perList is how many entries a page of a list shows; Hacker News shows as many.
const perList = store.FirstPart

// shelf is a list in the navigation.
type shelf struct {
	Path  string
	Name  string
	Feed  string // where its feeds are, without .rss or .json
	of    store.List
	about string
}

var shelves = []shelf{
	{"/", "Front page", "/front", store.Front, "What people talk about now."},
	{"/newest", "Newest", "/newest", store.Newest, "What has come in last."},
	{"/best", "Best", "/best", store.Best, "What people thought most of, this week and longer ago."},
	{"/ask", "Ask", "/ask", store.Ask, "Questions to everybody."},
	{"/show", "Show", "/show", store.Show, "What people have made themselves."},
	{"/jobs", "Jobs", "/jobs", store.Jobs, "Work to be had."},
	{"/polls", "Polls", "/polls", store.Polls, "What everybody is asked to choose from."},
	{"/comments", "Comments", "/comments", store.Said, "What has been said last, everywhere."},
}

// tag says what comes onto the list.
func (s shelf) tag() news.Tag { return news.ListTag(cmp.Or(string(s.of), "front")) }

type listView struct {
	view
	tag     news.Tag // of what comes onto it; "" for a list that nobody else keeps
	Heading string
	Quiet   bool   // the navigation says the heading already
	Intro   string // below the heading
	Entries []entry
	First   int    // rank of the first entry
	More    string // address of the next part; "" when there is none
	Start   string // address of the first part, when this is another one
	Empty   string // said when there is nothing
	Day     *dayView
	Search  *form
	Tabs    []tab
}

// tab leads to another list of the same user.
type tab struct {
	Name, Path string
	Here       bool
}

func (p *Pages) shelf(s shelf) echo.HandlerFunc {
	return func(c echo.Context) error {
		v := listView{view: p.view(c, s.Name, s.Path), Heading: s.Name, Quiet: true, Empty: "Nothing has arrived yet."}
		if s.Path == "/" {
			v.Title = ""
		}
		v.About, v.Feed, v.tag = s.about, s.Feed, s.tag()
		return p.list(c, v, store.Listing{Of: s.of})
	}
}

func (p *Pages) from(c echo.Context) error {
	site := parameter(c, "site")
	if site == "" || len(site) > maxSite {
		return fmt.Errorf("page: site %q: %w", site, store.ErrNoSuchList)
	}
	v := listView{view: p.view(c, "From "+site, ""), Heading: "From " + site, Empty: "Nothing from here has been posted."}
	v.tag = news.SiteTag(strings.ToLower(site))
	return p.list(c, v, store.Listing{Of: store.FromSite, Site: site})
}

// maxSite is the longest name of a host.
const maxSite = 255

// flagged and dead are for those who look after the site, and dead also for
// whoever has asked to see it.

func (p *Pages) flagged(c echo.Context, me *news.User) error {
	if !me.Moderator {
		return &news.Refusal{Why: "This list is for moderators."}
	}
	v := listView{view: p.view(c, "Flagged", "/flagged"), Heading: "Flagged", Intro: "What people have flagged, last first.", Empty: "Nobody has flagged anything."}
	return p.list(c, v, store.Listing{Of: store.Flagged})
}

func (p *Pages) dead(c echo.Context, me *news.User) error {
	if !me.Moderator && !me.ShowDead {
		return &news.Refusal{Why: "Switch on “Show the dead” in your settings to see this list."}
	}
	v := listView{view: p.view(c, "Dead", "/dead"), Heading: "Dead", Intro: "What flags or moderators have killed, last first.", Empty: "Nothing is dead."}
	return p.list(c, v, store.Listing{Of: store.Killed})
}

// list shows the part of a list that the query asks for.
func (p *Pages) list(c echo.Context, v listView, l store.Listing) error {
	l.Viewer, l.Limit, l.After, l.Texts = session.User(c), perList, c.QueryParam("after"), store.Brief
	if l.Of.Heads() { // of which the line is shown
		l.Texts = store.NoTexts
	}
	part, err := p.store.List(c.Request().Context(), l)
	if err != nil {
		return err
	}
	// Later parts of a list move with the ranks of all that is before them.
	if v.tag != "" && l.After == "" {
		dependsOn(c, append(tagsOf(part.Items), v.tag)...)
	}
	return p.showList(c, v, part)
}

func (p *Pages) showList(c echo.Context, v listView, part store.Part) (err error) {
	if v.First, err = number(c, "n"); err != nil {
		return err
	}
	if v.Entries, err = p.entries(c, part.Items); err != nil {
		return err
	}
	for i := range v.Entries {
		v.Entries[i].Rank = v.First + i
	}
	if part.Next != "" {
		v.More = address(c, "after", part.Next, "n", strconv.Itoa(v.First+len(part.Items)))
	}
	if c.QueryParam("after") != "" {
		v.Start = address(c, "after", "", "n", "")
		v.Unlisted = true // it moves
	}
	v.Address = address(c, "after", "", "n", "")
	return p.show(c, http.StatusOK, "list", v)
}

// kept are the parameters of a list that its other parts have as well.
var kept = []string{"site", "day", "q", "heads"}

// address is the path of this page with these parameters, "" for none.
func address(c echo.Context, pairs ...string) string {
	q := make(url.Values)
	for _, name := range kept {
		if value := c.QueryParam(name); value != "" {
			q.Set(name, value)
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	path := c.Request().URL.EscapedPath()
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// dayView leads from a past day to its neighbours.
type dayView struct {
	Day          string // 2026-01-31, or what was typed instead
	First, Last  string // there are
	Before, Next string // addresses; "" where there is none
	Wrong        string // with what was typed
}

const isoDay = "2006-01-02"

// firstDay ends the way back: no site of this kind is older, and a crawler
// would follow the days for ever.
var firstDay = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

// past shows a day of the past, yesterday when none is named.
func (p *Pages) past(c echo.Context) error {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	day := today.AddDate(0, 0, -1)
	if typed := parameter(c, "day"); typed != "" {
		var err error
		if day, err = time.Parse(isoDay, typed); err != nil || day.Before(firstDay) || day.After(today) {
			return p.noSuchDay(c, typed, today)
		}
	}
	said := day.Format("2 January 2006")
	v := listView{view: p.view(c, said, "/past"), Heading: said, Empty: "Nothing was posted on this day.",
		Day: &dayView{Day: day.Format(isoDay), First: firstDay.Format(isoDay), Last: today.Format(isoDay)}}
	v.tag = news.DayTag(day)
	if day.After(firstDay) {
		v.Day.Before = "/past?day=" + day.AddDate(0, 0, -1).Format(isoDay)
	}
	if day.Before(today) {
		v.Day.Next = "/past?day=" + day.AddDate(0, 0, 1).Format(isoDay)
	}
	return p.list(c, v, store.Listing{Of: store.OfDay, Day: day})
}

func (p *Pages) noSuchDay(c echo.Context, typed string, today time.Time) error {
	first, last := firstDay.Format(isoDay), today.Format(isoDay)
	v := listView{view: p.view(c, "Past", "/past"), Heading: "Past", Day: &dayView{Day: typed, First: first, Last: last,
		Wrong: "Day must be a day from " + first + " to " + last + "."}}
	v.Unlisted = true
	return p.show(c, http.StatusUnprocessableEntity, "list", v)
}

// search finds what holds all words. Its form sends a GET, so that a result
// has an address.
func (p *Pages) search(c echo.Context) error {
	words, heads := parameter(c, "q"), c.QueryParam("heads") == "true"
	f := &form{ID: "search", Action: "/search", Get: true, Button: "Search", Fields: []field{
		{Name: "q", Label: "Words", Type: "search", Value: words, Hint: "All of them must be there."},
		{Name: "heads", Label: "Leave comments out", Type: "checkbox", Checked: heads},
	}}
	v := listView{view: p.view(c, "Search", "/search"), Heading: "Search", Search: f}
	v.Unlisted = true
	if len(words) > maxQuery {
		f.Fields[0].Wrong = fmt.Sprintf("Please search for fewer words: this is longer than %d bytes.", maxQuery)
		return p.show(c, http.StatusUnprocessableEntity, "list", v)
	}
	if words == "" {
		return p.show(c, http.StatusOK, "list", v)
	}
	v.Title, v.Empty = "Search: "+words, "Nothing holds all these words."
	part, err := p.store.Search(c.Request().Context(), store.Query{Words: words, Heads: heads, Limit: perList, Texts: store.Brief, After: c.QueryParam("after")})
	if err != nil {
		return err
	}
	return p.showList(c, v, part)
}

const maxQuery = 500
