package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/store"
)

// keeper is what the door is: it keeps pages under their tags, and drops those
// that an answer names.
type keeper struct {
	t     *testing.T
	store *store.Store
	srv   *Server
	pages map[string]keptPage // by path
}

type keptPage struct {
	tags map[string]bool
	body string
}

// ask asks for a page as a visitor, past the site's own memory where made is set.
func (k *keeper) ask(path string, made bool) *httptest.ResponseRecorder {
	k.t.Helper()
	r := httptest.NewRequestWithContext(k.t.Context(), "GET", path, nil)
	if made {
		r.Header.Set("Range", "bytes=0-") // which pages do not know
	}
	rec := httptest.NewRecorder()
	k.srv.Handler().ServeHTTP(rec, r)
	return rec
}

func (k *keeper) keep(paths ...string) {
	k.t.Helper()
	for _, path := range paths {
		if _, ok := k.pages[path]; ok {
			continue
		}
		rec := k.ask(path, true)
		if rec.Header().Get("Portner-Cache-Control") == "" {
			continue
		}
		tags := make(map[string]bool)
		for tag := range strings.SplitSeq(rec.Header().Get("Cache-Tag"), ", ") {
			tags[tag] = true
		}
		if len(tags) > 128 || len(tags) < 2 {
			k.t.Errorf("%s: %d tags", path, len(tags))
		}
		k.pages[path] = keptPage{tags, rec.Body.String()}
	}
}

// does makes a change, and drops what it has touched.
func (k *keeper) does(change func(ctx context.Context) error) (dropped []string, err error) {
	ctx, touched := store.WithTouched(k.t.Context())
	err = change(ctx)
	for _, tag := range touched.Tags() {
		for path, p := range k.pages {
			if p.tags[string(tag)] {
				dropped = append(dropped, path)
				delete(k.pages, path)
			}
		}
	}
	slices.Sort(dropped)
	return dropped, err
}

// startKeeper is a site with more stories than its front page shows.
func startKeeper(t *testing.T) *keeper {
	t.Helper()
	st, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "news.db"), zap.NewNop())
	must(t, err)
	t.Cleanup(func() { st.Close() })
	srv, err := New(st, zap.NewNop(), "")
	must(t, err)
	var users []store.Record
	for _, name := range []string{"ann", "bob", "eve"} {
		users = append(users, store.Record{User: &store.UserRecord{Name: name, Karma: 1000, Moderator: 1, Created: time.Now().UnixMilli()}})
	}
	_, err = st.Import(t.Context(), users)
	must(t, err)
	k := &keeper{t: t, store: st, srv: srv, pages: make(map[string]keptPage)}
	for id := news.ID(1); id <= 45; id++ {
		k.take(id, 0)
		time.Sleep(time.Hour)
	}
	return k
}

// take is a post of the simulator: a story, or an answer to parent.
func (k *keeper) take(id, parent news.ID) (dropped []string) {
	k.t.Helper()
	p := news.Post{ID: id, Kind: news.Story, By: "sim", Secret: "x", Title: fmt.Sprint("Story ", id), URL: fmt.Sprintf("https://site%d.example/%d", id%3, id)}
	if parent != 0 {
		p = news.Post{ID: id, Kind: news.Comment, By: "sim", Secret: "x", Parent: parent, Body: fmt.Sprint("Comment ", id)}
	}
	dropped, err := k.does(func(ctx context.Context) error { return k.store.Take(ctx, p) })
	must(k.t, err)
	return dropped
}

// Whatever happens, in whatever order: what is still kept afterwards is what
// would be made anew, at the door and in the site's own memory.
func TestPageThatIsStillKeptIsAsGoodAsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startKeeper(t)
		st, rnd := k.store, rand.New(rand.NewPCG(7, 8))
		last := news.ID(45)
		paths := []string{"/comments.rss", "/user/sim", "/user/ann", "/user/ann/favourites", "/user/ann/submissions", "/user/ann/comments", "/user/sim/comments",
			"/from?site=site1.example", "/from?site=moved.example", "/past?day=2000-01-01", "/past?day=2000-01-02", "/past?day=2000-01-03", "/front.rss", "/ask.json", "/past"}
		for _, list := range []string{"", "newest", "best", "ask", "show", "jobs", "polls", "comments"} {
			paths = append(paths, "/"+list)
		}
		users := []string{"ann", "bob", "eve"}
		done := make(map[string]int)
		for range 200 {
			rnd.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
			some := slices.Clone(paths[:6]) // not all, or the test would take minutes
			for range 4 {
				some = append(some, fmt.Sprint("/item/", 1+rnd.Int64N(int64(last))))
			}
			k.keep(some...)
			for _, path := range some {
				k.ask(path, false) // into the site's own memory
			}
			who, id := users[rnd.IntN(len(users))], 1+news.ID(rnd.Int64N(int64(last)))
			on := rnd.IntN(3) > 0
			acts := []struct {
				name string
				do   func(ctx context.Context) error
			}{
				{"vote", func(ctx context.Context) error { return st.Vote(ctx, who, id, rnd.IntN(3)-1) }},
				{"flag", func(ctx context.Context) error { return st.Flag(ctx, who, id, on) }},
				{"kill", func(ctx context.Context) error { return st.Kill(ctx, who, id, on) }},
				{"favourite", func(ctx context.Context) error { return st.Favourite(ctx, "ann", id, on) }},
				{"hide", func(ctx context.Context) error { return st.Hide(ctx, who, id, on) }},
				{"profile", func(ctx context.Context) error {
					return st.SetProfile(ctx, news.User{Name: who, About: fmt.Sprint(rnd.Int())})
				}},
				{"edit", func(ctx context.Context) error {
					title := []string{"Plain", "Ask HN: ", "Show HN: "}[rnd.IntN(3)] + fmt.Sprint(rnd.Int())
					return st.Edit(ctx, who, id, news.Draft{Title: title, Text: fmt.Sprint(rnd.Int()), URL: []string{"", "https://moved.example/" + fmt.Sprint(rnd.Int())}[rnd.IntN(2)]})
				}},
				{"delete", func(ctx context.Context) error {
					if rnd.IntN(3) > 0 {
						return nil
					}
					return st.Delete(ctx, who, id)
				}},
				{"story", func(ctx context.Context) error {
					_, err := st.Submit(ctx, who, news.Draft{Kind: news.Story, Title: []string{"", "Ask HN: ", "Show HN: "}[rnd.IntN(3)] + fmt.Sprint(rnd.Int()), Text: "x"})
					return err
				}},
				{"poll", func(ctx context.Context) error {
					_, err := st.Submit(ctx, who, news.Draft{Kind: news.Poll, Title: fmt.Sprint(rnd.Int()), Options: []string{"a", "b"}})
					return err
				}},
				{"reply", func(ctx context.Context) error {
					_, err := st.Submit(ctx, who, news.Draft{Kind: news.Comment, Parent: id, Text: fmt.Sprint(rnd.Int())})
					return err
				}},
				{"take a comment", func(context.Context) error { last++; k.take(last, id); return nil }},
				{"take a story", func(context.Context) error { last++; k.take(last, 0); return nil }},
				{"take an answer before what it answers", func(context.Context) error {
					last += 2
					k.take(last, last-1)
					k.keep(fmt.Sprint("/item/", last))
					last++
					k.take(last, last-1) // and one to that, which waits too
					return nil
				}},
				{"take what was waited for", func(context.Context) error {
					for id := news.ID(46); id < last; id++ {
						if _, err := st.Item(t.Context(), id); err != nil {
							k.take(id, 1+news.ID(rnd.Int64N(45)))
							return nil
						}
					}
					return nil
				}},
			}
			act := acts[rnd.IntN(len(acts))]
			if _, err := k.does(act.do); err == nil {
				done[act.name]++
			}
			for path, p := range k.pages {
				if now := k.ask(path, true).Body.String(); now != p.body {
					t.Fatalf("%s of %d by %s: %s is kept, and is another now\nkept %s\nnow  %s", act.name, id, who, path, p.body, now)
				}
			}
			for _, path := range some {
				if own, now := k.ask(path, false).Body.String(), k.ask(path, true).Body.String(); own != now {
					t.Fatalf("%s of %d by %s: the site itself remembers %s as it was", act.name, id, who, path)
				}
			}
			if rnd.IntN(4) == 0 {
				time.Sleep(20 * time.Minute)
				clear(k.pages) // ages are others now
			}
		}
		if len(done) < 15 {
			t.Errorf("not everything happened: %v", done)
		}
	})
}

// What a change does not show on stays: a site that takes in posts all day must
// not lose its front page to each.
func TestChangeDropsOnlyWhatItShowsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startKeeper(t) // 45 is the newest, and the 30th place has 16
		all := []string{"/", "/best", "/newest", "/comments", "/ask", "/front.rss", "/item/2", "/item/3", "/item/45", "/user/sim", "/user/bob", "/from?site=site1.example", "/past?day=2000-01-01", "/past?day=2000-01-02"}
		drops := func(what string, change func(ctx context.Context) error, want ...string) {
			t.Helper()
			k.keep(all...)
			if len(k.pages) != len(all) {
				t.Fatalf("%d of %d pages are kept", len(k.pages), len(all))
			}
			got, err := k.does(change)
			slices.Sort(want)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s drops %q, %v\nwant %q", what, got, err, want)
			}
		}
		ctx := func(do func(ctx context.Context) error) func(context.Context) error { return do }
		drops("a comment far below", ctx(func(ctx context.Context) error {
			return k.store.Take(ctx, news.Post{ID: 100, Kind: news.Comment, By: "other", Secret: "x", Parent: 3, Body: "x"})
		}), "/comments", "/item/3", "/past?day=2000-01-01") // the day shows how many there are
		drops("a comment on the front page", ctx(func(ctx context.Context) error {
			return k.store.Take(ctx, news.Post{ID: 101, Kind: news.Comment, By: "other", Secret: "x", Parent: 45, Body: "x"})
		}), "/", "/front.rss", "/newest", "/best", "/comments", "/item/45", "/past?day=2000-01-02")
		drops("a vote for a comment", ctx(func(ctx context.Context) error { return k.store.Vote(ctx, "bob", 101, 1) }), "/comments", "/item/45")
		drops("a vote far below", ctx(func(ctx context.Context) error { return k.store.Vote(ctx, "bob", 2, 1) }),
			"/item/2", "/past?day=2000-01-01", "/user/sim", "/best") // one point makes it one of the best
		drops("a favourite", ctx(func(ctx context.Context) error { return k.store.Favourite(ctx, "bob", 2, true) }), "/user/bob")
		drops("what is hidden", ctx(func(ctx context.Context) error { return k.store.Hide(ctx, "bob", 2, true) }))
		drops("a post that was here", ctx(func(ctx context.Context) error {
			return k.store.Take(ctx, news.Post{ID: 3, Kind: news.Story, By: "sim", Secret: "x", Title: "x"})
		}))
		drops("a newcomer", ctx(func(ctx context.Context) error { _, err := k.store.Register(ctx, "carl", password); return err }))
		drops("a login", ctx(func(ctx context.Context) error {
			_, err := k.store.StartSession(ctx, "bob", store.Web, time.Hour)
			return err
		}))
		drops("a story", ctx(func(ctx context.Context) error {
			return k.store.Take(ctx, news.Post{ID: 102, Kind: news.Story, By: "other", Secret: "x", Title: "x", URL: "https://site1.example/x"})
		}), "/", "/front.rss", "/newest", "/best", "/from?site=site1.example", "/past?day=2000-01-02")
		time.Sleep(24 * time.Hour)
		for id := news.ID(200); id < 240; id++ { // a day on which 30 do not show all
			k.take(id, 0)
		}
		all = append(all, "/past?day=2000-01-03")
		drops("a vote for what the page of its day does not show", ctx(func(ctx context.Context) error { return k.store.Vote(ctx, "bob", 200, 1) }),
			"/", "/front.rss", "/best", "/past?day=2000-01-03", "/user/sim")
		drops("flags that are cleared", ctx(func(ctx context.Context) error { return k.store.Kill(ctx, "bob", 1, false) }), "/past?day=2000-01-01", "/from?site=site1.example")
		drops("what has come back to life", ctx(func(ctx context.Context) error {
			if err := k.store.Kill(ctx, "bob", 2, true); err != nil {
				return err
			}
			return k.store.Kill(ctx, "bob", 2, false)
		}), all...)
	})
}

// Who has a page is not sent it again, whoever made it.
func TestPageThatSomebodyHasIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := startKeeper(t)
		ask := func(path, have string) *httptest.ResponseRecorder {
			r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
			if have != "" {
				r.Header.Set("If-None-Match", have)
			}
			rec := httptest.NewRecorder()
			k.srv.Handler().ServeHTTP(rec, r)
			return rec
		}
		for _, path := range []string{"/", "/newest", "/item/3", "/user/sim", "/rss", "/login"} {
			first := ask(path, "")
			tag := first.Header().Get("ETag")
			if tag == "" || first.Code != 200 {
				t.Fatalf("%s: %d, ETag %q", path, first.Code, tag)
			}
			for _, when := range []string{"remembered", "made anew"} {
				for have, code := range map[string]int{tag: 304, `"x", W/` + tag: 304, "*": 304, `"x"`: 200} {
					if when == "made anew" {
						time.Sleep(2 * keptFor)
						if path != "/login" && have == tag {
							k.take(1, 0) // nothing
						}
					}
					got := ask(path, have)
					if h := got.Header(); got.Code != code || code == 304 && got.Body.Len() > 0 || h.Get("ETag") != tag || h.Get("Vary") != "Cookie" ||
						h.Get("Portner-Cache-Control") != first.Header().Get("Portner-Cache-Control") || h.Get("Cache-Tag") != first.Header().Get("Cache-Tag") {
						t.Errorf("%s, %s, who has %s: %d, %d bytes, %v", path, when, have, got.Code, got.Body.Len(), h)
					}
					if again := ask(path, ""); again.Code != 200 || again.Body.String() != first.Body.String() {
						t.Errorf("%s: the next one gets %d, %d bytes", path, again.Code, again.Body.Len())
					}
				}
			}
		}
		before := ask("/item/3", "").Header().Get("ETag")
		k.take(100, 3)
		if got := ask("/item/3", before); got.Code != http.StatusOK {
			t.Errorf("a page that has changed: %d", got.Code)
		}
	})
}
