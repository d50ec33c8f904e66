package page

import (
	"context"
	"flag"
	"fmt"
	"html"
	"image/png"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap/zaptest"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

var update = flag.Bool("update", false, "write the golden files")

type site struct {
	echo  *echo.Echo
	pages *Pages
	store *store.Store
}

// with runs test on a new site. Inside, time begins on 1 January 2000 and
// moves only when test sleeps.
func with(t *testing.T, test func(t *testing.T, s site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "news.db"), zaptest.NewLogger(t))
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		pages, err := New(st, session.New(st), "https://news.example.com")
		if err != nil {
			t.Fatal(err)
		}
		e := echo.New()
		e.Use(pages.sessions.ForPages)
		pages.Register(e)
		test(t, site{e, pages, st})
	})
}

func (s site) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	return s.getAs(t, "", path)
}

// getAs asks for a page as somebody who is logged in; "" is a visitor.
func (s site) getAs(t *testing.T, name, path string) (status int, body string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
	if name != "" {
		key, err := s.store.StartSession(t.Context(), name, store.Web, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Cookie", "__Host-session="+key)
	}
	rec := httptest.NewRecorder()
	s.echo.ServeHTTP(rec, r)
	return rec.Code, rec.Body.String()
}

func (s site) pageAs(t *testing.T, name, path string) string {
	t.Helper()
	status, body := s.getAs(t, name, path)
	if status != 200 {
		t.Fatalf("%s: %d %s", path, status, body)
	}
	return body
}

func (s site) page(t *testing.T, path string) string {
	t.Helper()
	status, body := s.get(t, path)
	if status != 200 {
		t.Fatalf("%s: %d %s", path, status, body)
	}
	return body
}

func (s site) take(t *testing.T, posts ...news.Post) {
	t.Helper()
	for _, p := range posts {
		if p.By == "" {
			p.By = "pg"
		}
		p.Secret = "of " + p.By
		if err := s.store.Take(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
}

var token = regexp.MustCompile(`name="csrf" value="[^"]+"`)

var version = regexp.MustCompile(`\?v=[0-9a-z]+`)

// golden compares a page with testdata/name.html.
func golden(t *testing.T, name, got string) {
	t.Helper()
	got = version.ReplaceAllString(got, "?v=0") // or every change of the stylesheet would change all pages
	got = token.ReplaceAllString(got, `name="csrf" value="0"`)
	path := filepath.Join("testdata", name)
	if filepath.Ext(name) == "" {
		path += ".html"
	}
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", path, firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			return fmt.Sprintf("line %d\ngot  %s\nwant %s", i+1, g[i], strings.Join(w[min(i, len(w)):min(i+1, len(w))], ""))
		}
	}
	return fmt.Sprintf("it ends after line %d, want %d lines", len(g), len(w))
}

// village is a small site with one of everything.
func village(t *testing.T, s site) {
	t.Helper()
	s.take(t,
		news.Post{ID: 1, Kind: news.Story, Title: "A Student's Guide to Startups", URL: "http://www.paulgraham.com/mit.html"},
		news.Post{ID: 2, Kind: news.Story, By: "phyllis", Title: "Ask: what\tdo you <b>read</b>? &#34;Books&#34;, I hope", Body: "One book a week.<p>See http://a.org/list?a=1&amp;b=2 (&#62; 100)"},
		news.Post{ID: 3, Kind: news.Job, Title: "We are hiring", URL: "javascript:alert(1)"})
	time.Sleep(time.Minute)
	s.take(t,
		news.Post{ID: 4, Kind: news.Comment, Parent: 2, By: "sama", Body: "Yes.\n\n*Not* one, two:\n1. <script>alert(1)</script>\n2. it\u0092s good"},
		news.Post{ID: 5, Kind: news.Comment, Parent: 4, By: "phyllis", Body: "<pre><code>  if a &lt; b {\n  }</code></pre>"},
		news.Post{ID: 6, Kind: news.Comment, Parent: 2, By: "jl", Body: ""})
	time.Sleep(2 * time.Hour)
	s.take(t,
		news.Post{ID: 7, Kind: news.Poll, Title: "Tabs or blanks?", Body: "For code."},
		news.Post{ID: 8, Kind: news.PollOption, Parent: 7, Title: "Tabs"},
		news.Post{ID: 9, Kind: news.PollOption, Parent: 7, Body: "Blanks &amp; more"},
		news.Post{ID: 10, Kind: news.Comment, Parent: 7, By: "sama", Body: "Both"},
		news.Post{ID: 12, Kind: news.Comment, Parent: 11, By: "jl", Body: "Too early"})
}

// The pages of the village, by the names of their golden files.
var (
	ofVisitors = map[string]string{
		"front": "/", "newest": "/newest", "item": "/item/2", "item-link": "/item/1", "job": "/item/3", "poll": "/item/7",
		"comment": "/item/4", "comment-below": "/item/5", "option": "/item/8", "waiting": "/item/12",
		"ask": "/ask", "jobs": "/jobs", "polls": "/polls", "comments": "/comments", "from": "/from?site=paulgraham.com",
		"past": "/past?day=2000-01-01", "search": "/search?q=read", "search-nothing": "/search?q=nothing+at+all&heads=true",
		"user": "/user/sama", "user-comments": "/user/sama/comments", "user-submissions": "/user/pg/submissions", "user-no-comments": "/user/pg/comments",
		"login": "/login?goto=%2Fitem%2F2", "register": "/register",
		"front.rss": "/rss", "ask.json": "/ask.json", "comments.rss": "/comments.rss", "sitemap.xml": "/sitemap.xml", "robots.txt": "/robots.txt",
	}
	ofMembers = map[string]string{
		"member-front": "/", "member-item": "/item/2", "member-poll": "/item/7", "member-comment": "/item/4", "member-own": "/item/1000000000001",
		"member-user": "/user/ann", "favourites": "/user/ann/favourites", "hidden": "/user/ann/hidden", "upvoted": "/user/ann/upvoted",
		"submit": "/submit?title=A+porter&url=https%3A%2F%2Fexample.com%2F", "submit-poll": "/submit?kind=poll", "edit": "/item/1000000000001/edit",
		"delete": "/item/1000000000001/delete", "settings": "/settings?saved=1",
	}
)

const password = "correct horse battery"

// people register, ann with karma, mod as a moderator, and do what people do.
func people(t *testing.T, s site) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"ann", "mod"} {
		_, err := s.store.Register(t.Context(), name, password)
		must(err)
	}
	must(s.store.SetModerator(t.Context(), "mod", true))
	id, err := s.store.Submit(t.Context(), "ann", news.Draft{Kind: news.Story, Title: "Show HN: My porter", URL: "https://ann.example/porter", Text: "It *opens* doors."})
	must(err)
	must(s.store.SetProfile(t.Context(), news.User{Name: "ann", About: "I build doors.\n\nhttps://ann.example/"}))
	must(s.store.Vote(t.Context(), "mod", id, 1))
	must(s.store.Vote(t.Context(), "ann", 4, 1))
	must(s.store.Vote(t.Context(), "ann", 8, 1))
	must(s.store.Vote(t.Context(), "ann", 2, 1))
	must(s.store.Favourite(t.Context(), "ann", 2, true))
	must(s.store.Favourite(t.Context(), "ann", 4, true))
	must(s.store.Hide(t.Context(), "ann", 3, true))
	must(s.store.Flag(t.Context(), "mod", 10, true))
	must(s.store.Kill(t.Context(), "mod", 1, true))
}

func TestPagesLookAsTheyWereApproved(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		golden(t, "empty", s.page(t, "/"))
		village(t, s)
		for name, path := range ofVisitors {
			golden(t, name, s.page(t, path))
		}
		people(t, s)
		for name, path := range ofMembers {
			golden(t, name, s.pageAs(t, "ann", path))
		}
		golden(t, "moderator", s.pageAs(t, "mod", "/item/2"))
		golden(t, "flagged", s.pageAs(t, "mod", "/flagged"))
		golden(t, "dead", s.pageAs(t, "mod", "/dead"))
		golden(t, "killed", s.page(t, "/item/1"))
		rec := httptest.NewRecorder()
		c := s.echo.NewContext(httptest.NewRequest("GET", "/nothing", nil), rec)
		if err := s.pages.WriteError(c, 404, news.ErrNoSuchItem); err != nil {
			t.Fatal(err)
		}
		golden(t, "error", rec.Body.String())
	})
}

var moreLink = regexp.MustCompile(`<a rel="next" href="([^"]*)"`)

// next is the address of the part after this one, "" after the last.
func next(body string) string {
	m := moreLink.FindStringSubmatch(body)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

func TestEveryPartOfAListShowsItsOwn(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		for id := range news.ID(2*perList + 1) {
			s.take(t, news.Post{ID: id + 1, Kind: news.Story, Title: "x", URL: "http://a.org/"})
			time.Sleep(time.Second)
		}
		for _, path := range []string{"/", "/newest", "/best", "/from?site=a.org", "/past?day=2000-01-01", "/user/pg/submissions", "/search?q=x"} {
			seen := make(map[string]int)
			parts := 0
			for at := path; at != ""; parts++ {
				body := s.page(t, at)
				if start := fmt.Sprintf(`start="%d"`, parts*perList+1); !strings.Contains(body, start) {
					t.Errorf("%s: part %d does not go on counting", path, parts+1)
				}
				if back := strings.Contains(body, "← From the start"); back != (parts > 0) {
					t.Errorf("%s: part %d leads to the start: %v", path, parts+1, back)
				}
				for _, m := range regexp.MustCompile(`id="item-(\d+)"`).FindAllStringSubmatch(body, -1) {
					seen[m[1]]++
				}
				at = next(body)
			}
			if len(seen) != 2*perList+1 || parts != 3 {
				t.Errorf("%s shows %d of %d on %d pages", path, len(seen), 2*perList+1, parts)
			}
			for id, n := range seen {
				if n != 1 {
					t.Errorf("%s shows %s %d times", path, id, n)
				}
			}
		}
		for _, path := range []string{"/?after=x", "/?n=0", "/?n=x", "/?after=WzEsMl0&n=99999999999999999999"} {
			if status, _ := s.get(t, path); status == 200 {
				t.Errorf("%s is a page", path)
			}
		}
	})
}

func TestDeepTreeStaysFlatAndInParts(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		const deep = perThread + 200
		s.take(t, news.Post{ID: 1, Kind: news.Story, Title: "x"})
		for id := news.ID(2); id <= deep+1; id++ {
			s.take(t, news.Post{ID: id, Kind: news.Comment, Parent: id - 1, Body: "deeper"})
		}
		first, second := s.page(t, "/item/1"), s.page(t, "/item/1?p=2")
		for body, want := range map[string]int{first: perThread, second: 200} {
			if got := strings.Count(body, `<li class="reply`); got != want {
				t.Errorf("%d replies, want %d", got, want)
			}
			if got := strings.Count(body, "<ol"); got != 1 {
				t.Errorf("%d lists, want one flat one", got)
			}
		}
		if !strings.Contains(first, `class="level">level 12<`) || !strings.Contains(first, `href="/item/1?p=2"`) {
			t.Error("the first part does not say levels, or where the next part is")
		}
		if !strings.Contains(second, fmt.Sprintf(`href="/item/%d">parent`, perThread+1)) || !strings.Contains(second, `start="1001"`) {
			t.Error("the second part does not lead to a parent in the first, or counts anew")
		}
		if status, _ := s.get(t, "/item/1?p=3"); status == 200 {
			t.Error("there is a third part")
		}
	})
}

// Twenty texts as long as a request's body were a hundred megabytes of markup, made
// anew for every view.
func TestLongTextsMakePagesThatEndEarlyAndLeadToAll(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		s.take(t, news.Post{ID: 1, Kind: news.Story, Title: "x"}, news.Post{ID: 2, Kind: news.Story, Title: "y"})
		const longest, many = 1_000_000, 650
		for id := news.ID(101); id <= 124; id++ {
			s.take(t, news.Post{ID: id, Kind: news.Comment, Parent: 1, Body: strings.Repeat("'", longest)})
		}
		reply, next, start := regexp.MustCompile(`<li class="[^"]*" id="item-(\d+)"`), regexp.MustCompile(`<a rel="next" href="([^"]+)"`), regexp.MustCompile(`<ol[^>]* start="(\d+)"`)
		walk := func(path string) (pages, replies int) {
			t.Helper()
			seen := make(map[string]bool)
			for path != "" {
				body := s.page(t, path)
				if len(body) > maxTree+maxTree/8 {
					t.Errorf("%s has %d bytes", path, len(body))
				}
				if first := start.FindStringSubmatch(body); first == nil || first[1] != fmt.Sprint(len(seen)+1) {
					t.Errorf("%s counts from %v, %d were before", path, first, len(seen))
				}
				for _, found := range reply.FindAllStringSubmatch(body, -1) {
					if seen[found[1]] {
						t.Fatalf("%s: item %s comes twice", path, found[1])
					}
					seen[found[1]] = true
					if len(found[1]) == 3 && !strings.Contains(body, `<a href="/item/`+found[1]+`">Read on`) {
						t.Errorf("%s does not lead to the rest of item %s", path, found[1])
					}
				}
				pages++
				if found := next.FindStringSubmatch(body); found != nil {
					path = html.UnescapeString(found[1])
				} else {
					path = ""
				}
			}
			return pages, len(seen)
		}
		for _, path := range []string{"/item/1", "/comments", "/user/pg/comments"} {
			if pages, replies := walk(path); pages != 2 || replies != 24 {
				t.Errorf("%s leads to %d replies on %d pages", path, replies, pages)
			}
		}
		if n := strings.Count(s.page(t, "/item/101"), "&#39;"); n != longest {
			t.Errorf("its own page shows %d of %d", n, longest)
		}
		if feed := s.page(t, "/comments.rss"); len(feed) > maxTree || !strings.Contains(feed, "Read on") {
			t.Errorf("a feed has %d bytes, or does not lead on", len(feed))
		}
		for id := news.ID(1001); id <= 1000+many; id++ { // short texts, but five times as long as markup
			s.take(t, news.Post{ID: id, Kind: news.Comment, Parent: 2, Body: strings.Repeat("'", 1000)})
		}
		if pages, replies := walk("/item/2"); pages != 2 || replies != many {
			t.Errorf("%d replies on %d pages", replies, pages)
		}
		if back := s.page(t, "/item/2?skip=100"); !strings.Contains(back, `rel="prev" href="/item/2"`) {
			t.Error("there is no way back")
		}
		if status, _ := s.get(t, fmt.Sprintf("/item/2?skip=%d", many)); status == 200 {
			t.Error("there is a part behind the last")
		}
	})
}

func TestNothingThatWasPostedBecomesMarkup(t *testing.T) {
	evil := []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'"--></style></title><svg onload=alert(1)>`,
		`&#60;script&#62;alert(1)&#60;/script&#62;`, `{{.}}`, `<a href="javascript:alert(1)">x</a>`, `<a href="http://a.org/" onclick="x">x</a>`,
		`<a href="http://a.org/&quot; onmouseover=&quot;alert(1)">x</a>`, "\u202eevil", `http://a.org/"onmouseover="alert(1)`,
		"http://a.org/'onmouseover='alert(1)", `<p onclick="x">`, `<pre onclick=x>`, `<i style="x">`, "<\u0092script>",
	}
	tags := regexp.MustCompile(`<[a-zA-Z/][^>]*>`)
	with(t, func(t *testing.T, s site) {
		s.take(t, news.Post{ID: 1, Kind: news.Poll, Title: "x", Body: "x"}, news.Post{ID: 2, Kind: news.Comment, Parent: 1, Title: "x", Body: "x"},
			news.Post{ID: 3, Kind: news.PollOption, Parent: 1, Title: "x", Body: "x"})
		allowed := make(map[string]bool)
		remember := func(body string) {
			for _, tag := range tags.FindAllString(body, -1) {
				allowed[shape(tag)] = true
			}
		}
		for _, path := range []string{"/", "/newest", "/item/1", "/item/2", "/item/3"} {
			remember(s.page(t, path))
		}
		remember(`<h2><a href="" rel=""><a class="" href=""></h2><h1><a href="" rel=""></h1><p><a href="" rel=""></p><em></em><p class=""><pre tabindex="0"><code></code></pre><a href=""></a><time datetime="" title="">`)
		id := news.ID(10)
		for _, e := range evil {
			s.take(t, news.Post{ID: id, Kind: news.Poll, Title: e, Body: e, URL: e},
				news.Post{ID: id + 1, Kind: news.Comment, Parent: id, Title: e, Body: e, URL: e},
				news.Post{ID: id + 2, Kind: news.PollOption, Parent: id, Title: e, Body: e, URL: e},
				news.Post{ID: id + 3, Kind: news.Comment, Parent: id, Title: e})
			for _, path := range []string{"/", "/newest", fmt.Sprintf("/item/%d", id), fmt.Sprintf("/item/%d", id+1), fmt.Sprintf("/item/%d", id+2)} {
				body := s.page(t, path)
				for _, tag := range tags.FindAllString(body, -1) {
					if !allowed[shape(tag)] {
						t.Errorf("%q becomes %s on %s", e, tag, path)
					}
				}
				if strings.Contains(body, `href="javascript`) {
					t.Errorf("%q becomes a link on %s", e, path)
				}
			}
			id += 10
		}
	})
}

var attributes = regexp.MustCompile(`([a-z-]+)="[^"]*"`)

// shape is a tag without the values of its attributes.
func shape(tag string) string { return attributes.ReplaceAllString(tag, "$1") }

func TestAddressesOfHackerNewsLeadToOurs(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		village(t, s)
		for path, want := range map[string]string{
			"/item?id=7": "/item/7", "/user?id=pg": "/user/pg", "/news": "/", "/news?p=2": "/", "/newcomments": "/comments",
			"/threads?id=sama": "/user/sama/comments", "/submitted?id=pg": "/user/pg/submissions", "/favorites?id=pg": "/user/pg/favourites",
			"/front?day=2000-01-01": "/past?day=2000-01-01", "/front": "/past",
		} {
			rec := httptest.NewRecorder()
			s.echo.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
			if to := rec.Header().Get("Location"); rec.Code/100 != 3 || to != want {
				t.Errorf("%s: %d to %q, want %q", path, rec.Code, to, want)
			} else if status, _ := s.get(t, to); status != 200 {
				t.Errorf("%s leads to %s: %d", path, to, status)
			}
		}
		for _, path := range []string{"/item?id=", "/user?id=", "/threads?id=", "/submitted?id=", "/favorites?id=", "/front?day="} {
			for _, evil := range []string{"//evil.org", "https://evil.org", "-1", "7%0d%0aX:y", "..%2f..%2fsettings", "a%2fb", "%5cevil.org", "pg&id=//evil.org%00", "2000-02-30"} {
				rec := httptest.NewRecorder()
				s.echo.ServeHTTP(rec, httptest.NewRequest("GET", path+evil, nil))
				to := rec.Header().Get("Location")
				if rec.Code/100 == 3 && (!regexp.MustCompile(`^/user/[\w-]+(/\w+)?$`).MatchString(to)) {
					t.Errorf("%s%s leads to %q", path, evil, to)
				}
			}
		}
		for _, path := range []string{"/item", "/user", "/threads", "/submitted", "/favorites"} {
			if status, _ := s.get(t, path); status/100 == 3 {
				t.Errorf("%s is redirected", path)
			}
		}
	})
}

// What other sites show of a link is said by og:; the picture is ours.
func TestOtherSitesAreToldWhatAPageIs(t *testing.T) {
	property := regexp.MustCompile(`<meta property="og:([a-z:_]+)" content="([^"]*)">`)
	with(t, func(t *testing.T, s site) {
		village(t, s)
		people(t, s)
		for path, want := range map[string][3]string{
			"/":                      {"website", SiteName, "What people talk about now."},
			"/newest":                {"website", "Newest", "What has come in last."},
			"/from?site=ann.example": {"website", "From ann.example", ""},
			"/past?day=2000-01-01":   {"website", "1 January 2000", ""},
			"/user/ann/submissions":  {"website", "Submissions of ann", ""},
			"/user/ann":              {"profile", "ann", "I build doors. https://ann.example/"},
			"/item/2":                {"article", "Ask: what do you &lt;b&gt;read&lt;/b&gt;? &#34;Books&#34;, I hope", "One book a week. See http://a.org/list?a=1&amp;b=2 (&gt; 100)"},
			"/item/4":                {"article", "Comment by sama on Ask: what do you &lt;b&gt;read&lt;/b&gt;? &#34;Books&#34;, I hope", "Yes. Not one, two: 1. &lt;script&gt;alert(1)&lt;/script&gt; 2. it’s good"},
			"/item/1":                {}, // dead
			"/search?q=x":            {},
			"/login":                 {},
		} {
			got := make(map[string]string)
			for _, m := range property.FindAllStringSubmatch(s.page(t, path), -1) {
				if _, twice := got[m[1]]; twice {
					t.Errorf("%s says og:%s twice", path, m[1])
				}
				got[m[1]] = m[2]
			}
			if want[0] == "" {
				if len(got) > 0 {
					t.Errorf("%s is not for other sites, and says %v", path, got)
				}
				continue
			}
			if said := [3]string{got["type"], got["title"], got["description"]}; said != want || got["site_name"] != SiteName || got["url"] != "https://news.example.com"+path {
				t.Errorf("%s says %q, want %q; %v", path, said, want, got)
			}
			picture, ours := strings.CutPrefix(got["image"], "https://news.example.com/")
			rec := httptest.NewRecorder()
			s.echo.ServeHTTP(rec, httptest.NewRequest("GET", "/"+picture, nil))
			shown, err := png.DecodeConfig(rec.Body)
			if !ours || rec.Code != 200 || rec.Header().Get("Content-Type") != "image/png" || err != nil || shown.Width < 200 || shown.Height < 200 {
				t.Errorf("%s: the picture %q: %d, %+v, %v", path, got["image"], rec.Code, shown, err)
			}
		}
	})
}

// The sitemap names the newest thousand, and the days lead a crawler to the rest:
// back from one to the other, and to an end.
func TestCrawlerReachesTheFirstStory(t *testing.T) {
	before := regexp.MustCompile(`<a href="([^"]*)">← The day before`)
	with(t, func(t *testing.T, s site) {
		village(t, s)
		time.Sleep(3 * 24 * time.Hour)
		path, days := "/past", 0
		for !strings.Contains(s.page(t, path), `href="/item/1"`) {
			m := before.FindStringSubmatch(s.page(t, path))
			if m == nil || days > 5 {
				t.Fatalf("%s leads no further:\n%s", path, s.page(t, path))
			}
			path, days = html.UnescapeString(m[1]), days+1
		}
		if !strings.Contains(s.page(t, "/sitemap.xml"), "/past</loc>") || strings.Contains(s.page(t, "/robots.txt"), "/past") {
			t.Error("nobody is led to the days")
		}
	})
}

func TestNothingIsLoadedFromAnotherHost(t *testing.T) {
	loaded := regexp.MustCompile(`(?:src|<link rel="(?:stylesheet|icon)" href)="([^"]*)"|url\(|@import|<iframe|style=|fetch|import`)
	with(t, func(t *testing.T, s site) {
		village(t, s)
		for _, path := range []string{"/", "/newest", "/item/1", "/item/2", "/static/style.css", "/static/fold.js"} {
			for _, m := range loaded.FindAllStringSubmatch(s.page(t, path), -1) {
				if !strings.HasPrefix(m[1], "/static/") {
					t.Errorf("%s loads %s", path, m[0])
				} else if status, _ := s.get(t, m[1]); status != 200 {
					t.Errorf("%s: %d", m[1], status)
				}
			}
		}
	})
}

func TestAgeIsSaidAsPeopleSayIt(t *testing.T) {
	now := time.Date(2026, 5, 17, 12, 0, 0, 0, time.UTC)
	for ago, want := range map[time.Duration]string{
		-time.Hour: "just now", 0: "just now", 59 * time.Second: "just now", time.Minute: "1 minute ago", 59 * time.Minute: "59 minutes ago",
		time.Hour: "1 hour ago", 23 * time.Hour: "23 hours ago", 24 * time.Hour: "1 day ago", 29 * 24 * time.Hour: "29 days ago",
		30 * 24 * time.Hour: "on 17 April 2026",
	} {
		if got := (age{now.Add(-ago), now}).String(); got != want {
			t.Errorf("%s: %q, want %q", ago, got, want)
		}
	}
}

func BenchmarkFront(b *testing.B)          { benchmark(b, "/", false) }
func BenchmarkThread(b *testing.B)         { benchmark(b, "/item/1", false) }
func BenchmarkThreadOfMember(b *testing.B) { benchmark(b, "/item/1", true) }

// benchmark reads a page of a site with 100 stories and 1000 comments on the
// first, as a visitor or as a member who has voted on half of them.
func benchmark(b *testing.B, path string, member bool) {
	st, err := store.Open(context.Background(), filepath.Join(b.TempDir(), "news.db"), zaptest.NewLogger(b))
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	pages, err := New(st, session.New(st), "https://news.example.com")
	if err != nil {
		b.Fatal(err)
	}
	s := site{echo.New(), pages, st}
	s.echo.Use(pages.sessions.ForPages)
	pages.Register(s.echo)
	for id := news.ID(1); id <= 1100; id++ {
		p := news.Post{ID: id, Kind: news.Story, By: "pg", Secret: "x", Title: "A title of the usual length", URL: "http://a.org/"}
		if id > 100 {
			p.Kind, p.Parent, p.Body = news.Comment, max(1, id%97*11%id), strings.Repeat("Some words that somebody wrote. ", 12)
			if p.Parent <= 100 {
				p.Parent = 1
			}
		}
		if err := st.Take(context.Background(), p); err != nil {
			b.Fatal(err)
		}
	}
	r := httptest.NewRequest("GET", path, nil)
	if member {
		if _, err := st.Register(b.Context(), "ann", password); err != nil {
			b.Fatal(err)
		}
		for id := news.ID(101); id <= 1100; id += 2 {
			if err := st.Vote(b.Context(), "ann", id, 1); err != nil {
				b.Fatal(err)
			}
		}
		key, err := st.StartSession(b.Context(), "ann", store.Web, time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Cookie", "__Host-session="+key)
	}
	b.ReportAllocs()
	for b.Loop() {
		rec := httptest.NewRecorder()
		s.echo.ServeHTTP(rec, r)
		if rec.Code != 200 {
			b.Fatal(rec.Code)
		}
	}
}
