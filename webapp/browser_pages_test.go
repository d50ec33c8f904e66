package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// lookAfterTheSite is what a moderator does: flags, kills, revives, offers work.
// It is bob of useTheSite, and it happens to ann's story: one address may not make
// more accounts.
func lookAfterTheSite(t *testing.T, browser context.Context, site, db string, d device) {
	name, title := "bob-"+d.name, "A porter for "+d.name+", edited"
	ann, mod := sit(t, browser, site, "author", d), sit(t, browser, site, "mod", d)
	defer ann.leaves()
	defer mod.leaves()
	ann.open("/login").write(`input[name=name]`, "ann-"+d.name).write(`input[name=password]`, browserPassword+"!").press(`#login button`).sees("Log out")
	mod.open("/login?goto=/newest").write(`input[name=name]`, name).write(`input[name=password]`, browserPassword).press(`#login button`).sees("Log out", title)
	verb := exec.Command(os.Args[0], "moderator", "-db", db, name)
	verb.Env = append(os.Environ(), "TEST_IS_WEBAPP=1")
	if out, err := verb.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mod.open("/search?heads=true&q=porter+" + strings.ReplaceAll(d.name, "-", "+")).press(`.entry .count`).sees(title)
	mod.press(`button[aria-label^="Flag A porter"]`).sees("1 flag")
	mod.open("/flagged").sees(title, "1 flag").keep("flagged")
	mod.press(`button[aria-label^="Kill A porter"]`).open("/dead").sees(title).keep("dead")
	ann.open("/settings").run(chromedp.Click(chromedp.CSS(`input[name=showdead]`)))
	ann.press(`#profile button`).sees("It has been saved.").open("/dead").sees(title)
	visitor := sit(t, browser, site, "guest", d)
	defer visitor.leaves()
	visitor.open("/newest").seesNot(title)
	mod.open("/dead").press(`button[aria-label^="Revive A porter"]`).open("/flagged").seesNot(title)
	visitor.open("/newest").sees(title)

	mod.open("/submit?kind=job").write(`input[name=title]`, "A porter is wanted by "+d.name).keep("job").press(`#submit button`)
	mod.open("/jobs").sees("A porter is wanted by " + d.name).keep("jobs")
	mod.open("/submit").write(`input[name=title]`, "Ask HN: Which door, "+d.name+"?").press(`#submit button`).open("/ask").sees("Which door, " + d.name).keep("ask")
	mod.open("/submit").write(`input[name=title]`, "Show HN: My door, "+d.name).press(`#submit button`).open("/show").sees("My door, " + d.name).keep("show")
	mod.press(`button[aria-label^="Hide"]`).open("/show").seesNot("My door, " + d.name)
	for _, list := range []string{"submissions", "comments", "favourites", "upvoted", "hidden"} {
		mod.open("/user/" + name).press(`a[href$="/` + list + `"]`).keep("user-" + list)
	}
}

// readTheSite is what somebody sees who only looks, on every kind of page.
func readTheSite(t *testing.T, browser context.Context, site string, d device) {
	v := sit(t, browser, site, "visitor", d)
	defer v.leaves()
	for _, path := range []string{"/", "/newest", "/best", "/ask", "/show", "/jobs", "/polls", "/comments", "/from?site=example.com", "/login", "/register", "/search?q=porter"} {
		v.open(path).keep("visitor-" + strings.NewReplacer("?", "-", "=", "-").Replace(strings.Trim(path, "/")))
	}
	v.open("/").press(`a[href="/past"]`).sees("The day after").press(`a[href^="/past?day="]`).keep("past")
	v.press(`.days button`).sees("The day before")
	v.open("/past?day=1999-12-31").sees("Day must be a day from").refused(422).keep("past-wrong")
	v.open("/newest").press(`.entry h2 ~ .meta a.by`).sees("Joined").keep("visitor-user")
	v.open("/newest").press(`.entry .count`).press(`a[href^="/login?goto="]`).sees("Password")
	for _, path := range []string{"/rss", "/newest.rss", "/front.json", "/comments.json", "/sitemap.xml", "/robots.txt", "/api/v1/openapi.json", "/v0/topstories.json"} {
		v.open(path)
		if source := v.source(); len(source) < 20 {
			t.Errorf("%s: %s", path, source)
		}
	}
}
