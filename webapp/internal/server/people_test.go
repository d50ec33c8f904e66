package server

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/portner/portner/webapp/internal/store"
)

func TestPersonDoesEverythingWithoutAScript(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, bob, nobody := visit().register("ann"), visit().register("bob"), visit()

		story := ann.submit("A porter", "https://example.com/porter?utm_source=x", "It *opens* doors.")
		ann.sees("A porter", "example.com", "It opens doors.", "1 point by ann", "No comments yet")
		nobody.open("/newest").sees("A porter", "Log in")

		said := bob.say(story, "First!\n\nhttps://example.org/")
		bob.sees("1 comment", "First!", "https://example.org/")
		ann.say(said, "Second.")
		nobody.open("/item/"+story).sees("2 comments", "First!", "Second.", "level 2")

		bob.open("/").press("Vote up A porter").sees("2 points by ann")
		ann.open("/").sees("ann 2 karma")
		bob.press("Unvote A porter").sees("1 point by ann")
		bob.open("/item/" + story).press("Vote up A porter")
		ann.open("/item/" + story).press("Vote up the comment by bob").sees("2 points")
		nobody.open("/best").sees("2 points by ann")

		bob.open("/item/" + story).press("Vote up the comment by ann").press("Unvote the comment by ann")
		ann.open("/item/"+story+"/edit").fill("edit", "title", "A better porter")
		ann.sees("A better porter", "(edited)", "It opens doors.")
		nobody.open("/search?q=better").sees("A better porter")
		nobody.open("/search").fill("search", "q", "second").sees("Second.", "on A better porter")
		nobody.open("/search?heads=true&q=second").sees("Nothing holds all these words.")
		nobody.open("/from?site=example.com").sees("A better porter")
		nobody.open("/comments").sees("First!", "Second.")

		bob.open("/item/" + story).press("Favourite A better porter")
		nobody.open("/user/bob/favourites").sees("A better porter")
		bob.open("/item/" + story).press("Unfavourite A better porter")
		nobody.open("/user/bob/favourites").sees("There are no favourites yet.")
		bob.open("/user/bob/upvoted").sees("A better porter")

		bob.open("/").press("Hide A better porter").seesNot("A better porter")
		bob.open("/user/bob/hidden").press("Unhide A better porter").sees("You have hidden nothing.")
		bob.open("/").sees("A better porter")

		bob.open("/submit?kind=poll").fill("submit", "title", "Tabs?", "options", "Yes\r\nNo")
		poll := bob.itemOf()
		ann.open("/item/" + poll).press("Choose Yes").sees("1 vote").press("Unchoose Yes").seesNot("1 vote").press("Choose No").sees("1 vote")
		nobody.open("/polls").sees("Tabs?")

		ann.open("/settings").fill("profile", "about", "I build doors.", "showdead", "true").sees("It has been saved.", "Dead")
		nobody.open("/user/ann").sees("I build doors.", "Karma")
		ann.open("/settings").fill("profile", "showdead", "").seesNot("Dead Profile")

		ann.open("/item/"+story+"/delete").fill("delete").sees("[deleted]", "This was deleted")
		nobody.open("/item/"+story).sees("[deleted]", "First!").seesNot("A better porter", "It opens doors.")

		ann.press("Log out").sees("Log in").seesNot("Log out")
		ann.open("/login?goto=%2Fask").fill("login", "name", "ann", "password", password).sees("Log out")
		if ann.at != "/ask" {
			t.Errorf("after the login: %s", ann.at)
		}
	})
}

func TestPasswordChangeLogsOutElsewhere(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		here := visit().register("ann")
		there := visit().open("/login").fill("login", "name", "ann", "password", password).sees("Log out")
		here.open("/settings").fill("secret", "old", "wrong", "password", "another long one")
		if here.wrong("old") != "Old password is wrong." || here.status != 422 {
			t.Errorf("%s: %q", here.answered(), here.wrong("old"))
		}
		here.open("/settings").fill("secret", "old", password, "password", "another long one").sees("It has been saved.", "Log out")
		there.open("/").sees("Log in").seesNot("Log out")
		there.open("/login").fill("login", "name", "ann", "password", password).sees("Name or password is wrong.")
		there.fill("login", "password", "another long one").sees("Log out")
	})
}

func TestModeratorSeesFlagsAndKills(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, mod, nobody := visit().register("ann"), visit().register("mod"), visit()
		must(t, st.SetModerator(t.Context(), "mod", true))
		story := ann.submit("Buy this", "", "At once")
		said := ann.say(story, "And that")
		ann.open("/flagged").sees("This list is for moderators.")
		ann.open("/dead").sees("Show the dead")
		if nobody.open("/flagged").at != "/login?goto=%2Fflagged" {
			t.Errorf("a visitor gets to %s", nobody.at)
		}
		mod.open("/item/" + story).press("Flag Buy this").press("Unflag Buy this").press("Flag Buy this")
		mod.open("/flagged").sees("Buy this", "1 flag").press("Kill Buy this")
		nobody.open("/").seesNot("Buy this")
		nobody.open("/item/"+story).sees("[dead]", "killed").seesNot("Buy this")
		if nobody.open("/item/" + story); strings.Contains(nobody.body, "At once") || !strings.Contains(nobody.body, "noindex") {
			t.Errorf("what is dead is told to machines:\n%s", nobody.body)
		}
		ann.open("/item/"+story).sees("dead", "Buy this", "At once")
		mod.open("/dead").sees("Buy this").press("Revive Buy this")
		nobody.open("/item/" + story).sees("Buy this")
		mod.open("/item/" + story).press("Kill the comment by ann")
		nobody.open("/item/" + story).sees("[dead]").seesNot("And that")
		nobody.open("/item/" + said).seesNot("And that")
		mod.press("Revive the comment by ann")
		nobody.open("/item/" + story).sees("And that")
		mod.open("/submit?kind=job").fill("submit", "title", "We look for porters", "url", "https://jobs.example/")
		nobody.open("/jobs").sees("We look for porters")
	})
}

func TestFlagsAreClearedAndWhatIsDeletedIsNotFlagged(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, mod := visit().register("ann"), visit().register("mod")
		must(t, st.SetModerator(t.Context(), "mod", true))
		story := ann.submit("A good one", "", "x")
		said := ann.say(story, "And that")
		gone := ann.submit("Regretted", "", "x")
		mod.open("/item/" + story).press("Flag A good one")
		mod.open("/item/" + said).press("Flag the comment by ann")
		mod.open("/item/" + gone).press("Flag Regretted")
		mod.open("/flagged").sees("A good one", "And that", "Regretted")
		ann.open("/item/" + gone + "/delete").fill("delete")
		mod.open("/flagged").sees("A good one", "And that").seesNot("deleted", "Regretted")
		if ann.open("/item/" + story); ann.button("Clear flags of A good one") != nil {
			t.Error("the author clears flags")
		}
		if mod.press("Clear flags of A good one"); mod.button("Kill A good one") != nil {
			t.Errorf("%s still shows it:\n%s", mod.at, mod.body)
		}
		mod.open("/item/" + story).press("Clear flags of the comment by ann")
		if mod.button("Clear flags of the comment by ann") != nil {
			t.Error("nothing is left to clear")
		}
		mod.open("/flagged").sees("Nobody has flagged anything.")
		visit().open("/item/"+story).sees("A good one", "And that")
	})
}

func TestButtonsOfAnAnswerThatWasRefusedLeadBack(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, bob := visit().register("ann"), visit().register("bob")
		story := ann.submit("Mine", "", "x")
		bob.open("/item/"+story).fill("reply", "text", "").press("Vote up Mine").sees("2 points")
		if bob.itemOf() != story {
			t.Errorf("leads to %s", bob.at)
		}
		bob.open("/submit").fill("submit", "title", "").press("Log out")
		if bob.status != 200 {
			t.Errorf("%s", bob.answered())
		}
	})
}

func TestKarmaOpensButtons(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann := visit().register("ann")
		story := ann.submit("Mine", "", "x")
		said := ann.say(story, "Something")
		for karma, opened := range map[int][]string{1: nil, 30: {"Flag"}, 500: {"Flag", "Vote down"}} {
			name := fmt.Sprintf("has-%d", karma)
			_, err := st.Import(t.Context(), []store.Record{{User: &store.UserRecord{Name: name, Karma: karma, Created: 1}}})
			must(t, err)
			key, err := st.StartSession(t.Context(), name, store.Web, time.Hour)
			must(t, err)
			v := visit()
			v.cookie = "__Host-session=" + key
			v.open("/item/" + said)
			for _, act := range []string{"Flag", "Vote down"} {
				if has := v.button(act+" the comment by ann") != nil; has != slices.Contains(opened, act) {
					t.Errorf("with %d karma %s: %v", karma, act, has)
				}
			}
			if karma == 500 {
				v.press("Vote down the comment by ann").sees("0 points", "Unvote")
				v.open("/item/" + story).press("Unvote the comment by ann").press("Vote down the comment by ann").sees("0 points")
				ann.open("/").sees("ann 0 karma")
				v.open("/item/" + said).press("Flag the comment by ann").press("Unflag the comment by ann")
			}
		}
	})
}

func TestAddressThatIsHereLeadsToItsDiscussion(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, bob := visit().register("ann"), visit().register("bob")
		story := ann.submit("Mine", "https://example.com/x", "")
		bob.open("/submit").fill("submit", "title", "Mine too", "url", "http://www.example.com/x/").sees("already", "Mine")
		if bob.itemOf() != story {
			t.Errorf("leads to %s, not %s", bob.at, story)
		}
	})
}

func TestWhatIsWrongIsSaidBesideItAndNothingIsStored(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, nobody := visit().register("ann"), visit()
		story := ann.submit("Mine", "", "x")
		said := ann.say(story, "Something")
		other := ann.submit("Other", "https://taken.example/", "")
		long, tried := strings.Repeat("x", 81), make(attempts)
		for _, row := range []struct {
			who       *visitor
			path, id  string
			typed     []string
			status    int
			field     string // "" when it is said above the form
			words     string
			forgotten []string
		}{
			{ann, "/submit", "submit", []string{"title", "", "text", "Words"}, 422, "title", "Title must not be empty.", nil},
			{ann, "/submit", "submit", []string{"title", "\u200b\u2060", "url", "https://a.org/"}, 422, "title", "Title holds nothing that can be seen.", nil},
			{ann, "/item/" + story, "reply", []string{"text", "&nbsp;"}, 422, "text", "Your comment holds nothing that can be seen.", nil},
			{ann, "/submit", "submit", []string{"title", long, "url", "https://a.org/"}, 422, "title", "Title is 81 characters long; the longest is 80.", nil},
			{ann, "/submit", "submit", []string{"title", "x", "url", "javascript:alert(1)"}, 422, "url", "Address must begin with http:// or https:// and name a host.", nil},
			{ann, "/submit", "submit", []string{"title", "a\x00b"}, 422, "title", "Title holds a NUL character.", []string{"title"}},
			{ann, "/submit", "submit", []string{"title", "x", "text", strings.Repeat("é", 40_001)}, 422, "text", "Text is 40001 characters long; the longest is 40000.", nil},
			{ann, "/submit?kind=poll", "submit", []string{"title", "x", "options", "one"}, 422, "options", "Options must be 2 to 20, one on a line.", nil},
			{ann, "/submit?kind=job", "submit", []string{"title", "Work"}, 403, "", "Jobs are posted by moderators.", nil},
			{ann, "/item/" + story, "reply", []string{"text", " \n "}, 422, "text", "Your comment must not be empty.", nil},
			{ann, "/item/" + said, "reply", []string{"text", strings.Repeat("x", 40_001)}, 422, "text", "Your answer is 40001 characters long; the longest is 40000.", nil},
			{ann, "/item/" + story + "/edit", "edit", []string{"title", "", "text", "More"}, 422, "title", "Title must not be empty.", nil},
			{ann, "/item/" + said + "/edit", "edit", []string{"text", ""}, 422, "text", "Text must not be empty.", nil},
			{ann, "/item/" + story + "/edit", "edit", []string{"title", "x", "url", "https://taken.example/?utm_source=x", "text", "y"}, 422, "url", "Address is discussed already, at /item/" + other + ".", nil},
			{ann, "/settings", "profile", []string{"about", strings.Repeat("x", 5001)}, 422, "about", "About is 5001 characters long; the longest is 5000.", nil},
			{ann, "/settings", "secret", []string{"old", password, "password", "short"}, 422, "password", "New password must have at least 10 characters.", []string{"old", "password"}},
			{nobody, "/register", "register", []string{"name", "a b", "password", password}, 422, "name", "Name must be 2 to 32 letters, digits, '_' or '-'.", []string{"password"}},
			{nobody, "/register", "register", []string{"name", "bob", "password", "bobbobbob"}, 422, "password", "Password must have at least 10 characters.", []string{"password"}},
			{nobody, "/register", "register", []string{"name", "ANN", "password", password}, 409, "name", "Name is somebody else's already.", []string{"password"}},
			{nobody, "/login", "login", []string{"name", "ann", "password", "wrong"}, 403, "", "Name or password is wrong.", []string{"password"}},
			{nobody, "/login", "login", []string{"name", "nobody", "password", ""}, 403, "", "Name or password is wrong.", []string{"password"}},
			{ann, "/item/" + story + "/edit", "edit", []string{"title", "x", "url", "//a.org/"}, 422, "url", "Address must begin with http:// or https:// and name a host.", nil},
			{ann, "/item/" + story + "/edit", "edit", []string{"title", "x", "text", strings.Repeat("x", 40_001)}, 422, "text", "Text is 40001 characters long; the longest is 40000.", nil},
			{ann, "/settings", "secret", []string{"old", "wrong wrong wrong", "password", password + "2"}, 422, "old", "Old password is wrong.", []string{"old", "password"}},
			{nobody, "/past", "past", []string{"day", "1999-12-31"}, 422, "day", "Day must be a day from 2000-01-01 to 2000-01-01.", nil},
			{nobody, "/past", "past", []string{"day", "yesterday"}, 422, "day", "Day must be a day from 2000-01-01 to 2000-01-01.", nil},
			{nobody, "/search", "search", []string{"q", strings.Repeat("x", 501)}, 422, "q", "Please search for fewer words: this is longer than 500 bytes.", nil},
		} {
			before := everything(t, st)
			v := row.who.open(row.path)
			tried.form(v, row.id, row.field)
			v.fill(row.id, row.typed...)
			what := fmt.Sprintf("%s of %s with %.40q", row.id, row.path, row.typed)
			if v.status != row.status {
				t.Errorf("%s: %s, want %d", what, v.answered(), row.status)
			}
			if row.field == "" {
				v.sees(row.words)
			} else if got := v.wrong(row.field); got != row.words {
				t.Errorf("%s: beside %s stands %q, want %q", what, row.field, got, row.words)
			}
			for i := 0; i < len(row.typed); i += 2 {
				want := row.typed[i+1]
				for _, name := range row.forgotten {
					if name == row.typed[i] {
						want = ""
					}
				}
				if got := v.value(row.typed[i]); got != want && !strings.Contains(want, "\x00") && strings.TrimLeft(got, "\n") != strings.TrimLeft(want, "\n") {
					if len(row.forgotten) == 1 && row.forgotten[0] == "title" {
						continue // a NUL cannot be shown
					}
					t.Errorf("%s: in %s stands %.60q, want %.60q", what, row.typed[i], got, want)
				}
			}
			if everything(t, st) != before {
				t.Errorf("%s: something was stored", what)
			}
			if h := v.header; h.Get("Cache-Control") == "" && h.Get("Portner-Cache-Control") != "" || h.Get("Cache-Control") == "" && v.cookie != "" {
				t.Errorf("%s: a cache may keep the answer", what)
			}
		}
		tried.all(t, ann, story)
	})
}

// attempts are the fields of forms that somebody filled in wrongly, by the
// address that they are sent to; "" is a form that is wrong as a whole.
type attempts map[string]map[string]bool

func (a attempts) form(v *visitor, id, field string) {
	v.t.Helper()
	form := v.find(func(n *html.Node) bool { return n.Data == "form" && attr(n, "id") == id })
	if form == nil {
		v.t.Fatalf("%s has no form %q", v.at, id)
	}
	action := attr(form, "action")
	if a[action] == nil {
		a[action] = make(map[string]bool)
	}
	a[action][field] = true
	for n := range form.Descendants() {
		asks := n.Data == "textarea" || n.Data == "select" || n.Data == "input" && attr(n, "type") != "hidden" && !hasAttr(n, "hidden")
		if name := attr(n, "name"); asks && !a[action][name] && attr(n, "type") != "checkbox" { // a box is ticked or not
			a[action][name] = false
		}
	}
}

// all fails the test where a field was left out, or a form: what the site takes
// is asked of its routes.
func (a attempts) all(t *testing.T, v *visitor, story string) {
	t.Helper()
	for action, fields := range a {
		for name, tried := range fields {
			if !tried && !fields[""] {
				t.Errorf("%s: nobody has typed anything wrong into %q", action, name)
			}
		}
	}
	// Those that ask nothing. A value that no button has is tried by TestWhatOthersPostedStaysTheirs.
	buttons := []string{"/logout", "/delete", "/vote", "/flag", "/favourite", "/hide", "/kill"}
	for _, path := range posts(t, v, story) {
		if button := slices.ContainsFunc(buttons, func(b string) bool { return strings.HasSuffix(path, b) }); !button && a[path] == nil {
			t.Errorf("nobody has filled in wrongly what is sent to %s", path)
		}
	}
}

func TestWhoeverIsTooFastKeepsWhatHeTyped(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann := visit().register("ann")
		ann.submit("One", "", "")
		ann.submit("Two", "", "")
		ann.open("/submit").fill("submit", "title", "Three").sees("That was too fast. Please try again in an hour.")
		if ann.status != 429 || ann.header.Get("Retry-After") == "" || ann.value("title") != "Three" {
			t.Errorf("%s, %v, %q", ann.answered(), ann.header, ann.value("title"))
		}
		time.Sleep(time.Hour + time.Second)
		ann.fill("submit").sees("Three", "1 point")
		eve := visit()
		for range 5 {
			eve.open("/login").fill("login", "name", "ann", "password", "guess guess").sees("Name or password is wrong.")
		}
		eve.fill("login", "password", password).sees("That was too fast. Please try again in 15 minutes.")
		if eve.status != 429 || eve.value("name") != "ann" || eve.value("password") != "" {
			t.Errorf("%s", eve.answered())
		}
	})
}

func TestWhatWasTypedInAnEndedSessionIsShown(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann := visit().register("ann")
		form := ann.open("/submit")
		cookie := form.cookie
		other := &visitor{t: t, handler: ann.handler, cookie: cookie}
		other.open("/").press("Log out")
		form.fill("submit", "title", "Long thought about", "text", "A & B")
		if form.status != 401 || form.value("") != "Long thought about\n\nA & B" {
			t.Errorf("%s: %q", form.answered(), form.body)
		}
		form.open("/login").fill("login", "name", "ann", "password", password)
		for site, kept := range map[string]bool{"same-origin": true, "cross-site": false, "": false} {
			form.send("POST", "/submit", filled("csrf", "old", "text", "Thought"), "Sec-Fetch-Site", site)
			if form.status != 403 || strings.Contains(form.body, "Thought") != kept {
				t.Errorf("%q: %s %s", site, form.answered(), form.body)
			}
		}
	})
}

// What somebody has typed is shown to him whatever is wrong, so that he can take
// it along; but never what another site has made his browser send.
func TestWhatWasTypedIsShownWhateverIsWrong(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, bob := visit().register("ann"), visit().register("bob")
		story := ann.submit("Mine", "", "x")
		dead := ann.submit("Killed meanwhile", "", "x")
		csrf := func(v *visitor) string { return v.open("/submit").value("csrf") }
		must(t, st.SetModerator(t.Context(), "bob", true))
		bob.open("/item/" + dead).press("Kill Killed meanwhile")
		must(t, st.SetModerator(t.Context(), "bob", false))
		time.Sleep(3 * time.Hour)
		tokens := map[*visitor]string{ann: csrf(ann), bob: csrf(bob)}
		tried := func(v *visitor, path string, status int, why string) {
			t.Helper()
			for from, kept := range map[string]bool{"same-origin": true, "": true, "cross-site": false, "same-site": false} {
				v.send("POST", path, url.Values{"csrf": {tokens[v]}, "title": {"A title"}, "text": {"Long thought about & typed"}}, "Sec-Fetch-Site", from)
				v.follow()
				if !kept { // refused before anything is asked, where that is possible
					if v.status != 403 && v.status != 503 || strings.Contains(v.body, "thought") {
						t.Errorf("%s, from %q: %d %s", why, from, v.status, v.body)
					}
					continue
				}
				if v.status != status || v.find(func(n *html.Node) bool { return attr(n, "id") == "kept" }) == nil ||
					v.value("") != "A title\n\nLong thought about & typed" {
					t.Errorf("%s, from %q: %s %s", why, from, v.answered(), v.body)
				}
			}
		}
		tried(bob, "/item/"+dead+"/reply", 403, "an answer to what has been killed meanwhile")
		tried(bob, "/item/999/reply", 404, "an answer to nothing")
		tried(ann, "/item/"+story+"/edit", 403, "an edit after two hours")
		tried(bob, "/item/"+story+"/edit", 403, "an edit of another's")
		must(t, st.Close())
		tried(ann, "/submit", 503, "a story while the database is away")
		tried(bob, "/item/"+story+"/reply", 503, "an answer while the database is away")
	})
}

// What a person types is what others read, everywhere; the simulator sends HTML.
func TestPeopleReadWhatWasTyped(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		const typed = `Use the <p> tag, <code>x</code> &lt;b&gt; and <a href="http://evil.example">bank</a>`
		const html = `Use the &lt;p&gt; tag, &lt;code&gt;x&lt;/code&gt; &amp;lt;b&amp;gt; and &lt;a href=`
		ann, nobody := visit().register("ann"), visit()
		story := ann.submit("How &lt;b&gt; works", "", typed)
		said := ann.say(story, typed)
		poll := ann.open("/submit?kind=poll").fill("submit", "title", "Which?", "options", "<p>\n&lt;").itemOf()
		ann.open("/settings").fill("profile", "about", typed)
		for path, words := range map[string]string{
			"/item/" + story: typed, "/item/" + said: typed, "/user/ann": typed, "/comments": typed, "/item/" + story + "/edit": typed,
			"/newest": "How &lt;b&gt; works", "/item/" + poll: "&lt; 0 of 1",
		} {
			who := nobody
			if strings.HasSuffix(path, "/edit") {
				who = ann
			}
			who.open(path).sees(words)
			if strings.Contains(who.body, ">bank<") {
				t.Errorf("%s has a link that lies", path)
			}
		}
		for path, words := range map[string]string{
			"/api/v1/items/" + said: html, "/api/v1/items/" + story: `"title":"How &lt;b&gt; works"`, "/v0/item/" + said + ".json": html, "/v0/user/ann.json": html,
			"/v0/item/" + story + ".json": `"title":"How &lt;b&gt; works"`, "/newest.json": html, "/comments.json": html,
		} {
			nobody.send("GET", path, nil)
			body := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(nobody.body)
			if nobody.status != 200 || !strings.Contains(body, words) {
				t.Errorf("%s: %d %s\nlacks %s", path, nobody.status, body, words)
			}
		}
	})
}

func TestTextOfTwoHoursStays(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann := visit().register("ann")
		story := ann.submit("Mine", "", "x")
		time.Sleep(2*time.Hour - time.Minute)
		ann.open("/item/" + story).sees("Edit")
		time.Sleep(2 * time.Minute)
		ann.open("/item/" + story).seesNot("Edit")
		for _, act := range []string{"/edit", "/delete"} {
			if ann.open("/item/" + story + act); ann.status != 403 {
				t.Errorf("%s", ann.answered())
			}
			ann.sees("older than two hours")
		}
	})
}

func TestPlacesForMembersLeadVisitorsThroughTheLogin(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		visit().register("ann")
		for _, path := range []string{"/submit?title=x", "/settings", "/flagged", "/dead", "/user/ann/hidden", "/user/ann/upvoted"} {
			v := visit().open(path)
			if !strings.HasPrefix(v.at, "/login?goto=") {
				t.Errorf("%s leads to %s", path, v.at)
			}
			if v.fill("login", "name", "ann", "password", password); v.at != path {
				t.Errorf("after the login: %s, not %s", v.at, path)
			}
		}
	})
}

func TestOwnersListsAreTheirs(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, bob := visit().register("ann"), visit().register("bob")
		story := ann.submit("Mine", "", "x")
		bob.open("/item/" + story).press("Vote up Mine")
		other := ann.submit("Mine as well", "", "x")
		bob.open("/item/" + other).press("Hide Mine as well")
		for _, list := range []string{"hidden", "upvoted"} {
			if ann.open("/user/bob/" + list); ann.status != 403 {
				t.Errorf("%s", ann.answered())
			}
			ann.seesNot("Mine")
			bob.open("/user/bob/" + list).sees("Mine")
		}
		for path, status := range map[string]int{"/user/nobody": 404, "/user/nobody/comments": 404, "/user/%00": 404, "/user?id=//evil.org": 404} {
			if ann.open(path); ann.status != status {
				t.Errorf("%s, want %d", ann.answered(), status)
			}
		}
	})
}

func TestDaysLeadToTheirNeighbours(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann := visit().register("ann")
		ann.submit("Of the first day", "", "x")
		time.Sleep(24 * time.Hour)
		v := visit().open("/past").sees("1 January 2000", "Of the first day", "The day after →").seesNot("The day before")
		v.open("/past?day=2000-01-02").sees("← The day before").seesNot("Of the first day", "The day after")
		for _, day := range []string{"2000-01-03", "1999-12-31", "2000-02-30", "x", "0000-00-00"} {
			if v.open("/past?day=" + day); v.status != 422 {
				t.Errorf("%s", v.answered())
			}
		}
	})
}
