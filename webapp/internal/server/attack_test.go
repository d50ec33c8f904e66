package server

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
	"golang.org/x/net/html"

	"github.com/portner/portner/webapp/internal/api"
	"github.com/portner/portner/webapp/internal/store"
)

// posts are the addresses to which forms are sent, with the story's id.
func posts(t *testing.T, v *visitor, id string) (paths []string) {
	t.Helper()
	for _, r := range v.handler.(*echo.Echo).Routes() {
		if r.Method == "POST" && !api.Owns(r.Path) {
			paths = append(paths, strings.Replace(r.Path, ":id", id, 1))
		}
	}
	if len(paths) < 12 {
		t.Fatalf("only %d forms: %q", len(paths), paths)
	}
	slices.Sort(paths)
	return paths
}

// filled is good for every form.
func filled(more ...string) url.Values {
	values := url.Values{
		"title": {"Forged"}, "text": {"Forged"}, "url": {""}, "kind": {"story"}, "value": {"1"}, "about": {"Forged"}, "goto": {"/"},
		"old": {password}, "password": {"forged forged forged"}, "name": {"forged"},
	}
	for i := 0; i < len(more); i += 2 {
		values.Set(more[i], more[i+1])
	}
	return values
}

func TestEveryFormNeedsTheTokenOfItsSession(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, eve := visit().register("ann"), visit().register("eve")
		story := ann.submit("Mine", "", "x")
		eves := attr(eve.open("/").find(func(n *html.Node) bool { return attr(n, "name") == "csrf" }), "value")
		mine := attr(ann.open("/").find(func(n *html.Node) bool { return attr(n, "name") == "csrf" }), "value")
		if eves == mine || len(mine) < 32 {
			t.Fatalf("tokens %q and %q", eves, mine)
		}
		before := everything(t, st)
		for _, path := range posts(t, ann, story) {
			for what, send := range map[string]func(){
				"without a token":                  func() { ann.send("POST", path, filled()) },
				"with an empty one":                func() { ann.send("POST", path, filled("csrf", "")) },
				"with one of another session":      func() { ann.send("POST", path, filled("csrf", eves)) },
				"from another site":                func() { ann.send("POST", path, filled("csrf", mine), "Sec-Fetch-Site", "cross-site") },
				"from another site, old browser":   func() { ann.send("POST", path, filled("csrf", mine), "Origin", "https://evil.example") },
				"from another site, of a visitor":  func() { visit().send("POST", path, filled(), "Sec-Fetch-Site", "cross-site") },
				"from a neighbour, of the session": func() { ann.send("POST", path, filled("csrf", mine), "Sec-Fetch-Site", "same-site") },
			} {
				cookie := ann.cookie
				ann.status = 403
				send()
				if ann.status != 403 {
					t.Errorf("%s %s: %d", path, what, ann.status)
				}
				if ann.cookie != cookie {
					t.Errorf("%s %s: the cookie was changed", path, what)
					ann.cookie = cookie
				}
			}
		}
		if everything(t, st) != before {
			t.Error("something was stored")
		}
		if ann.open("/").sees("Log out"); ann.status != 200 {
			t.Error("the session has ended")
		}
	})
}

func TestVisitorChangesNothing(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, v := visit().register("ann"), visit()
		story := ann.submit("Mine", "", "x")
		before := everything(t, st)
		for _, path := range posts(t, v, story) {
			if path == "/login" || path == "/register" || path == "/logout" {
				continue // are for visitors
			}
			if v.send("POST", path, filled()); v.status != 401 || v.cookie != "" {
				t.Errorf("%s: %d, cookie %q", path, v.status, v.cookie)
			}
		}
		if everything(t, st) != before {
			t.Error("something was stored")
		}
	})
}

func TestReadingChangesNothingAndGivesVisitorsNoCookie(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, v := visit().register("ann"), visit()
		story := ann.submit("Mine", "", "x")
		must(t, st.SetModerator(t.Context(), "ann", true))
		before := everything(t, st)
		for _, r := range v.handler.(*echo.Echo).Routes() {
			if r.Method != "GET" || api.Owns(r.Path) {
				continue
			}
			path := strings.NewReplacer(":id", story, ":name", "ann", ":file", "style.css").Replace(r.Path)
			for _, method := range []string{"GET", "HEAD"} {
				for _, query := range []string{"", "?value=1&csrf=x&title=x&text=x&known=1&saved=1&goto=%2F&q=mine"} {
					v.send(method, path+query, nil)
					if v.cookie != "" || len(v.header.Values("Set-Cookie")) > 0 {
						t.Errorf("%s %s sets a cookie", method, path)
					}
					ann.send(method, path+query, nil)
					if ann.status >= 500 || v.status >= 500 && path != "/ready" {
						t.Errorf("%s %s: %d, %d", method, path, v.status, ann.status)
					}
				}
			}
		}
		if everything(t, st) != before {
			t.Error("something was stored")
		}
	})
}

func TestNobodyIsLedToAnotherSite(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann := visit().register("ann")
		story := ann.submit("Mine", "", "x")
		for _, evil := range []string{
			"https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "/%09/evil.example", "/\t/evil.example", "javascript:alert(1)",
			"http:evil.example", " //evil.example", "/\r\nX: y", "evil.example", "///evil.example", "/\\/evil.example",
		} {
			leads := func(what, to string) {
				t.Helper()
				u, err := url.Parse(to)
				if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") {
					t.Errorf("%s with %q leads to %q", what, evil, to)
				}
			}
			v := visit()
			v.send("POST", "/login", url.Values{"name": {"ann"}, "password": {password}, "goto": {evil}})
			if v.status != 303 {
				t.Fatalf("%d %s", v.status, v.body)
			}
			leads("the login", v.header.Get("Location"))
			v.send("GET", "/login?goto="+url.QueryEscape(evil), nil)
			leads("a second login", v.header.Get("Location"))
			token := attr(ann.open("/item/"+story).find(func(n *html.Node) bool { return attr(n, "name") == "csrf" }), "value")
			ann.send("POST", "/item/"+story+"/favourite", filled("csrf", token, "goto", evil))
			leads("a button", ann.header.Get("Location"))
			visitor := visit().open("/login?goto=" + url.QueryEscape(evil))
			leads("the form of the login", visitor.value("goto"))
			if strings.Contains(visitor.body, "evil.example/") && strings.Contains(visitor.body, `href="https://evil`) {
				t.Errorf("%q becomes a link", evil)
			}
		}
		for _, path := range []string{"//evil.example/..", "/\\evil.example", "/login//evil.example", "//evil.example/%2e%2e"} {
			v := visit()
			v.send("GET", path, nil)
			if v.status >= 300 && v.status < 400 {
				t.Errorf("%s: %d to %q", path, v.status, v.header.Get("Location"))
			}
		}
	})
}

func TestWhatOthersPostedStaysTheirs(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, eve := visit().register("ann"), visit().register("eve")
		story := ann.submit("Mine", "https://a.example/", "Words")
		said := ann.say(story, "Something")
		token := attr(eve.open("/").find(func(n *html.Node) bool { return attr(n, "name") == "csrf" }), "value")
		before := everything(t, st)
		for _, id := range []string{story, said} {
			for _, act := range []string{"/edit", "/delete"} {
				if eve.send("GET", "/item/"+id+act, nil); eve.status != 403 || strings.Contains(eve.body, "Words") || strings.Contains(eve.body, "Something") {
					t.Errorf("GET %s%s: %d %s", id, act, eve.status, eve.body)
				}
				if eve.send("POST", "/item/"+id+act, filled("csrf", token)); eve.status != 403 {
					t.Errorf("POST %s%s: %d", id, act, eve.status)
				}
			}
			for _, act := range []string{"/kill", "/flag"} {
				for _, value := range []string{"1", "0"} {
					eve.send("POST", "/item/"+id+act, filled("csrf", token, "value", value))
					if eve.status != 403 && value == "1" || eve.status >= 500 {
						t.Errorf("%s%s %s: %d", id, act, value, eve.status)
					}
				}
			}
			for _, act := range []string{"/flag", "/favourite", "/hide", "/kill"} {
				if eve.send("POST", "/item/"+id+act, filled("csrf", token, "value", "x")); eve.status != 400 {
					t.Errorf("%s%s x: %d", id, act, eve.status)
				}
			}
			for _, value := range []string{"-1", "2", "", "x", "1e9"} {
				if eve.send("POST", "/item/"+id+"/vote", filled("csrf", token, "value", value)); eve.status < 400 || eve.status >= 500 {
					t.Errorf("vote %q: %d", value, eve.status)
				}
			}
		}
		if eve.send("POST", "/item/"+story+"/reply", url.Values{"csrf": {token}, "text": {""}}); eve.status != 422 {
			t.Errorf("%s", eve.answered())
		}
		for _, id := range []string{"0", "-1", "99", "x", "9007199254740993", "1%00"} {
			for _, act := range []string{"/edit", "/delete", "/vote", "/flag", "/hide", "/favourite", "/kill", "/reply"} {
				if eve.send("POST", "/item/"+id+act, filled("csrf", token)); eve.status != 404 {
					t.Errorf("%s%s: %d", id, act, eve.status)
				}
			}
		}
		if everything(t, st) != before {
			t.Error("something was stored")
		}
	})
}

func TestOnlyWhatAFormAsksForIsStored(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		eve, ann := visit(), visit().register("ann")
		more := []string{"karma", "9999", "moderator", "true", "by", "ann", "author", "ann", "points", "99", "id", "1", "state", "1", "joined", "1999-01-01", "parent", "1", "simulated", "true", "user", "ann", "secret", "x"}
		eve.send("POST", "/register?moderator=true&karma=9999", filled(append(more, "name", "eve", "password", password)...))
		u, err := st.User(t.Context(), "eve")
		must(t, err)
		if u.Karma != 1 || u.Moderator || u.Simulated || u.Joined.Year() != 2000 {
			t.Errorf("registered %+v", u)
		}
		token := attr(eve.open("/").find(func(n *html.Node) bool { return attr(n, "name") == "csrf" }), "value")
		eve.send("POST", "/settings?name=ann", filled(append(more, "csrf", token, "name", "ann", "about", "Me")...))
		u, err = st.User(t.Context(), "eve")
		must(t, err)
		if u.Karma != 1 || u.Moderator || u.About != "Me" {
			t.Errorf("set %+v", u)
		}
		if other, err := st.User(t.Context(), "ann"); err != nil || other.About != "" {
			t.Errorf("somebody else is %+v, %v", other, err)
		}
		eve.send("POST", "/submit", filled(append(more, "csrf", token, "kind", "comment", "title", "Story")...))
		eve.follow()
		eve.sees("Story", "1 point by eve")
		eve.send("POST", "/item/"+eve.itemOf()+"/edit", filled(append(more, "csrf", token, "title", "Changed", "kind", "job")...))
		eve.follow()
		eve.sees("Changed", "1 point by eve").seesNot("job ")
		// A value of the address is none of the form.
		if eve.send("POST", "/submit?title=Of+the+address&csrf="+token, url.Values{"csrf": {token}}); eve.status != 422 {
			t.Errorf("%s", eve.answered())
		}
		ann.open("/user/ann").seesNot("Forged")
	})
}

// evil is what somebody types who wants the page to run it.
var evil = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</textarea><script>alert(1)</script>`, `</title><svg onload=alert(1)>`,
	`<a href="javascript:alert(1)">x</a>`, `<a href="http://a.example/" onclick="alert(1)">x</a>`, `&#60;script&#62;alert(1)&#60;/script&#62;`, `{{.CSRF}}`, "`${alert(1)}`",
	`http://a.example/"onmouseover="alert(1)`, `<iframe src="//evil.example">`, `<form action="//evil.example"><button>x`, `<base href="//evil.example/">`, `--><script>alert(1)</script>`,
	"\u202etxt.exe", `<meta http-equiv="refresh" content="0;url=//evil.example">`, `<style>*{display:none}</style>`, `]]><script>alert(1)</script>`,
}

// foreign looks for what the site itself never makes.
func foreign(page *html.Node) (found []string) {
	for n := range page.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "iframe", "svg", "object", "embed", "base", "style", "math", "template", "frame":
			found = append(found, "<"+n.Data+">")
		case "script":
			if !strings.HasPrefix(attr(n, "src"), "/static/") || n.FirstChild != nil {
				found = append(found, "<script>")
			}
		case "form":
			if action := attr(n, "action"); action != "" && !strings.HasPrefix(action, "/") || strings.HasPrefix(action, "//") {
				found = append(found, "form to "+action)
			}
		case "meta":
			if hasAttr(n, "http-equiv") {
				found = append(found, "<meta http-equiv>")
			}
		case "img":
			if !strings.HasPrefix(attr(n, "src"), "/static/") {
				found = append(found, "<img>")
			}
		}
		for _, a := range n.Attr {
			value := strings.ToLower(strings.TrimSpace(a.Val))
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "srcdoc" || strings.HasPrefix(value, "javascript:") && a.Key != "value" || strings.HasPrefix(value, "data:") && a.Key != "value" {
				found = append(found, a.Key+"="+a.Val)
			}
		}
	}
	return found
}

func TestNothingThatIsTypedBecomesMarkup(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann, nobody := visit().register("ann"), visit()
		must(t, st.SetModerator(t.Context(), "ann", true)) // who may post as fast as he likes
		look := func(v *visitor) {
			t.Helper()
			if strings.HasPrefix(v.header.Get("Content-Type"), "text/html") {
				if found := foreign(v.page); len(found) > 0 {
					t.Errorf("%s: %q\n%s", v.at, found, v.body)
				}
			} else if strings.Contains(v.body, "<script") || strings.Contains(v.body, "<img src=x") {
				t.Errorf("%s: %s", v.at, v.body)
			}
		}
		for i, e := range evil {
			story := ann.submit(e, fmt.Sprintf("https://a.example/%d?%s", i, url.QueryEscape(e)), e)
			look(ann)
			said := ann.say(story, e)
			look(ann)
			ann.open("/submit?kind=poll").fill("submit", "title", e, "text", e, "options", e+"\n"+e)
			look(ann)
			ann.open("/settings").fill("profile", "about", e)
			look(ann)
			ann.open("/submit").fill("submit", "title", strings.Repeat(e, 50), "url", e, "text", e) // comes back
			if ann.status != 422 {
				t.Fatalf("%s", ann.answered())
			}
			look(ann)
			if got := ann.value("url"); got != e {
				t.Errorf("%q came back as %q", e, got)
			}
			q := url.QueryEscape(e)
			for _, path := range []string{
				"/item/" + story, "/item/" + said, "/item/" + said + "/edit", "/item/" + story + "/edit", "/user/ann", "/search?q=" + q, "/from?site=" + q, "/login?goto=/" + q, "/register?goto=" + q,
				"/past?day=" + q, "/?after=" + q, "/?" + q, "/submit?title=" + q + "&url=" + q, "/user/" + url.PathEscape(e), "/" + url.PathEscape(e),
			} {
				look(nobody.open(path))
				look(ann.open(path))
			}
		}
		for _, path := range []string{"/", "/newest", "/best", "/comments", "/polls", "/past?day=2000-01-01", "/user/ann/comments", "/user/ann/submissions", "/rss", "/comments.rss", "/newest.json", "/sitemap.xml"} {
			for v := nobody.open(path); ; {
				look(v)
				more := v.find(func(n *html.Node) bool { return attr(n, "rel") == "next" })
				if more == nil {
					break
				}
				v.open(attr(more, "href"))
			}
			look(ann.open(path))
		}
		for _, address := range []string{"javascript:alert(1)", "JaVaScRiPt:alert(1)", "\tjavascript:alert(1)", "data:text/html,<script>alert(1)</script>", "vbscript:x", "//evil.example", "https://", "file:///etc/passwd"} {
			if ann.open("/submit").fill("submit", "title", "x", "url", address); ann.wrong("url") == "" {
				t.Errorf("%q: %s", address, ann.answered())
			}
			look(ann)
		}
	})
}

func TestNoPageMayBeFramed(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		ann := visit().register("ann")
		story := ann.submit("Mine", "", "x")
		for _, path := range []string{"/", "/item/" + story, "/item/" + story + "/delete", "/login", "/settings", "/nothing", "/submit", "/static/style.css", "/rss"} {
			ann.send("GET", path, nil)
			policy := ann.header.Get("Content-Security-Policy")
			words, never := []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"}, "script-src"
			if mime := ann.header.Get("Content-Type"); mime == "" || strings.HasPrefix(mime, "text/html") {
				words, never = append(words, "form-action 'self'", "script-src 'self'", "require-trusted-types-for 'script'"), "unsafe"
			}
			for _, word := range words {
				if !strings.Contains(policy, word) {
					t.Errorf("%s: the policy lacks %s", path, word)
				}
			}
			if strings.Contains(policy, never) || ann.header.Get("X-Frame-Options") != "DENY" {
				t.Errorf("%s: %v", path, ann.header)
			}
			if cache := ann.header.Get("Cache-Control"); !strings.Contains(cache, "no-store") && !strings.HasPrefix(path, "/static/") {
				t.Errorf("%s of somebody who is logged in: Cache-Control %q", path, cache)
			}
		}
	})
}

func TestPageOfOneHostIsNotShownUnderAnother(t *testing.T) {
	inTown(t, func(t *testing.T, st *store.Store, visit func() *visitor) {
		v := visit()
		for _, row := range [][2]string{{"evil.example", "http"}, {"news.example", "http"}, {"news.example", "https"}} {
			v.send("GET", "/rss", nil, "Host", row[0], "X-Forwarded-Proto", row[1])
			if !strings.Contains(v.body, "<link>"+row[1]+"://"+row[0]+"/</link>") {
				t.Errorf("%s: %s", row, v.body)
			}
		}
		v.send("GET", "/rss", nil, "X-Forwarded-Proto", "javascript")
		if strings.Contains(v.body, "javascript") {
			t.Errorf("%s", v.body)
		}
	})
}
