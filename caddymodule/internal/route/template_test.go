package route

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestIDsAreFoldedAndNamesStay(t *testing.T) {
	var templates Templates
	for _, test := range []struct{ path, want string }{
		{"/", "/"},
		{"", "/"},
		{"/item/1", "/item/{id}"},
		{"/item/8863", "/item/{id}"},
		{"/item/", "/item/"},
		{"/item", "/item"},
		{"/item/1/comments", "/item/{id}/comments"},
		{"/api/v1/users", "/api/v1/users"},
		{"/oauth2/callback", "/oauth2/callback"},
		{"/oauth2Callback", "/oauth2Callback"},
		{"/orders/order-2024-118", "/orders/{id}"},
		{"/archive/2024-01-31", "/archive/{id}"},
		{"/user/user1234", "/user/{id}"},
		{"/o/123e4567-e89b-12d3-a456-426614174000", "/o/{uuid}"},
		{"/o/123E4567-E89B-12D3-A456-426614174000", "/o/{uuid}"},
		{"/commit/5f36b2e", "/commit/{hash}"},
		{"/commit/d41d8cd98f00b204e9800998ecf8427e", "/commit/{hash}"},
		{"/facade", "/facade"}, // a word, though hex
		{"/decaf", "/decaf"},
		{"/watch/dQw4w9WgXcQ", "/watch/{token}"},
		{"/t/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "/t/{token}"},
		{"/t/SGVsbG8gd29ybGQhIQ==", "/t/{text}"},
		{"/u/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/u/{token}"},
		{"/blog/how-we-built-a-proxy", "/blog/{slug}"},
		{"/blog/10-things-to-know", "/blog/{slug}"},
		{"/about-us", "/about-us"},
		{"/how-it-works", "/how-it-works"},
		{"/.env", "/.env"},
		{"/@alice", "/{name}"},
		{"/~bob/index.html", "/{name}/index.html"},
		{"/static/app.css", "/static/{file}.css"},
		{"/static/app.3f2a1b.min.CSS", "/static/{file}.css"},
		{"/static/js/chunk-vendors.8f3e2d1c.js", "/static/js/{file}.js"},
		{"/favicon.ico", "/{file}.ico"},
		{"/robots.txt", "/robots.txt"},
		{"/index.php", "/index.php"},
		{"/doc/4711.pdf", "/doc/{file}.pdf"},
		{"/feed/2024.xml", "/feed/{file}.xml"},
		{"/dir.d/x", "/dir.d/x"},
		{"/x/%C3%BCber-uns", "/x/über-uns"},
		{"/x/%41bout", "/x/About"},
		{"/x/a%2Fb", "/x/{text}"},
		{"/x/a%20b", "/x/{text}"},
		{"/x/%7Bid%7D", "/x/{text}"}, // nobody fakes a placeholder
		{"/x/%ff", "/x/{text}"},
		{"/x/%0a", "/x/{text}"},
		{"/x/%zz", "/x/{text}"},
		{"/x/100%", "/x/{text}"},
		{"/x/a;jsessionid=12", "/x/{text}"},
		{"/x/%F0%9F%98%80", "/x/{text}"},
		{"/x/" + strings.Repeat("long", 9), "/x/{text}"},
		{"/x/" + strings.Repeat("long", 7) + ".html", "/x/{file}.html"},
		{"/x/" + strings.Repeat("a", 5000) + "/y", "/x/{text}"}, // 2048 bytes are looked at
		{"/a//b", "/a//b"},
		{"/a/../b", "/a/../b"},
		{"/1/2/3/4/5/6", "/{id}/{id}/{id}/{id}/{id}/{id}"},
		{"/1/2/3/4/5/6/", "/{id}/{id}/{id}/{id}/{id}/{id}/{rest...}"},
		{"/1/2/3/4/5/6/7/8/9", "/{id}/{id}/{id}/{id}/{id}/{id}/{rest...}"},
	} {
		if got := templates.Of("GET", test.path); got != "GET "+test.want {
			t.Errorf("%.60s: got %s, want GET %s", test.path, got, test.want)
		}
	}
}

func TestMethodIsPartOfATemplate(t *testing.T) {
	var templates Templates
	for method, want := range map[string]string{
		"GET": "GET /x", "HEAD": "GET /x", "POST": "POST /x", "PUT": "PUT /x", "PATCH": "PATCH /x", "DELETE": "DELETE /x",
		"OPTIONS": "OPTIONS /x", "PROPFIND": "OTHER /x", "get": "OTHER /x", "": "OTHER /x", "\n": "OTHER /x",
	} {
		if got := templates.Of(method, "/x"); got != want {
			t.Errorf("%q: got %s, want %s", method, got, want)
		}
	}
	for _, path := range []string{"*", "example.com:443", "x"} {
		if got := templates.Of("OPTIONS", path); got != Other {
			t.Errorf("%s: got %s, want %s", path, got, Other)
		}
	}
}

// word is the nth of many different names that look like names.
func word(n int) string {
	var b strings.Builder
	for b.WriteByte('z'); n > 0 || b.Len() < 4; n /= 20 {
		b.WriteByte("abdefgiklmnoprstuvwy"[n%20])
	}
	return b.String()
}

func TestPlaceWithTooManyNamesBecomesAWildcard(t *testing.T) {
	var templates Templates
	templates.Of("GET", "/user/settings")
	templates.Of("GET", "/user/settings")
	for n := range 1000 {
		templates.Of("GET", "/user/"+word(n))
	}
	if got := templates.Of("GET", "/user/"+word(3)); got != "GET /user/{name}" {
		t.Errorf("got %s, want GET /user/{name}", got)
	}
	if got := templates.Of("GET", "/user/settings"); got != "GET /user/settings" {
		t.Errorf("got %s for the name that is used most", got)
	}
	if got := templates.Of("GET", "/user/"+word(4)+"/posts"); got != "GET /user/{name}/posts" {
		t.Errorf("got %s", got)
	}
	if known := templates.Known(); len(known) > 5 {
		t.Errorf("%d templates are left: %q", len(known), known)
	}
}

func TestMoreUsedHalfOfTheNamesStays(t *testing.T) {
	var templates Templates
	for n := range maxNames {
		for range 2 + n {
			templates.Of("GET", "/user/"+word(n))
		}
	}
	templates.Of("GET", "/user/"+word(maxNames)) // one too many
	for n := range maxNames {
		want := "GET /user/{name}"
		if n >= maxNames/2 {
			want = "GET /user/" + word(n)
		}
		if got := templates.Of("GET", "/user/"+word(n)); got != want {
			t.Errorf("name %d: got %s, want %s", n, got, want)
		}
	}
	checkTemplates(t, &templates)
}

func TestPagesInUseKeepTheirTemplatesThroughAScan(t *testing.T) {
	var templates Templates
	pages := []string{"/", "/about", "/login", "/forum/latest", "/forum/8863", "/api/v1/search"}
	want := make(map[string]string)
	for _, page := range pages {
		want[page] = templates.Of("GET", page)
		templates.Of("GET", page)
	}
	for n := range 20000 {
		switch n % 4 {
		case 0:
			templates.Of("GET", "/"+word(n))
		case 1:
			templates.Of("GET", "/forum/"+word(n))
		case 2:
			templates.Of("GET", "/"+word(n)+"/"+word(n+1))
		case 3:
			templates.Of([]string{"GET", "POST", "X"}[n%3], "/api/"+word(n)+"/"+word(n+1)+".php")
		}
		if n%2000 == 0 {
			for _, page := range pages {
				templates.Of("GET", page)
			}
		}
	}
	for _, page := range pages {
		if got := templates.Of("GET", page); got != want[page] {
			t.Errorf("%s: got %s, before the scan %s", page, got, want[page])
		}
	}
}

func TestPlaceTakesNewNamesWhenTheScanIsOver(t *testing.T) {
	var templates Templates
	for n := range 1000 {
		templates.Of("GET", "/"+word(n))
	}
	if got := templates.Of("GET", "/pricing"); got != "GET /{name}" {
		t.Fatalf("got %s, the place is wide", got)
	}
	for range 2 * window {
		templates.Of("GET", "/pricing")
		templates.Of("GET", "/jobs")
	}
	for _, page := range []string{"/pricing", "/jobs"} {
		if got := templates.Of("GET", page); got != "GET "+page {
			t.Errorf("got %s, want GET %s", got, page)
		}
	}
}

func TestPlaceWithManyNamesStaysWide(t *testing.T) {
	var templates Templates
	for n := range 10000 {
		templates.Of("GET", "/user/"+word(n%100))
	}
	for n := range 100 {
		got := templates.Of("GET", "/user/"+word(n))
		if n >= maxNames && got != "GET /user/{name}" {
			t.Errorf("%s: got %s", word(n), got)
		}
	}
}

func TestAtMost200TemplatesWhateverIsAsked(t *testing.T) {
	var templates Templates
	random := rand.New(rand.NewPCG(1, 2))
	given := make(map[string]bool)
	for range 200_000 {
		path := ""
		for range 1 + random.IntN(8) {
			path += "/" + word(random.IntN(1<<random.IntN(16)))
		}
		given[templates.Of([]string{"GET", "POST", "PUT", "DELETE", "X"}[random.IntN(5)], path)] = true
	}
	checkTemplates(t, &templates)
	if len(given) > 2*MaxTemplates {
		t.Errorf("%d different templates within ten minutes", len(given))
	}
}

// checkTemplates counts what the counters say, and the bounds.
func checkTemplates(t *testing.T, templates *Templates) {
	t.Helper()
	exact, coarse, spots := 0, 0, 0
	for i := range templates.trees {
		templates.trees[i].eachSpot(func(s *spot) {
			spots++
			names := 0
			for token, next := range s.next {
				if _, kept := fold(token); kept {
					names++
				}
				if next.exact == nil && next.coarse == nil && len(next.next) == 0 {
					t.Errorf("%s leads nowhere", token)
				}
			}
			if names != s.names || names > maxFirst || names > maxNames && s != &templates.trees[i] {
				t.Errorf("%d names at a place that counts %d", names, s.names)
			}
			if s.exact != nil {
				exact++
			}
			if s.coarse != nil {
				coarse++
			}
		})
	}
	if exact != templates.exact || exact > maxExact || coarse != templates.coarse || coarse > maxCoarse {
		t.Errorf("%d exact, %d coarse; counted as %d and %d", exact, coarse, templates.exact, templates.coarse)
	}
	if most := MaxTemplates * (maxDepth + 1); spots > most+len(methods) {
		t.Errorf("%d places for at most %d templates", spots, MaxTemplates)
	}
	known := make(map[string]bool)
	for _, label := range templates.Known() {
		if known[label] || len(label) > 256 || !isPrintable(label) {
			t.Errorf("template %q is twice there, too long, or cannot be printed", label)
		}
		known[label] = true
	}
	if len(known) >= MaxTemplates {
		t.Errorf("%d templates and Other", len(known))
	}
}

// fill takes all exact templates, each used often.
func fill(templates *Templates, uses int) {
	for n := 0; templates.exact < maxExact; n++ {
		for range uses {
			templates.Of("GET", fmt.Sprintf("/part%c/%s/%s", 'a'+n%10, word(n/10%20), word(n/200)))
		}
	}
}

func TestFullTableFallsBackToCoarserTemplatesAndThenOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var templates Templates
		fill(&templates, 100)
		if got := templates.Of("GET", "/parta/new/thing"); got != "GET /parta/{rest...}" {
			t.Errorf("got %s", got)
		}
		if got := templates.Of("GET", "/unheard/of"); got != Other {
			t.Errorf("got %s", got)
		}
		if got := templates.Of("POST", "/parta/new/thing"); got != Other {
			t.Errorf("got %s", got)
		}
		if got, want := templates.Of("GET", "/parta/"+word(0)+"/"+word(0)), "GET /parta/"+word(0)+"/"+word(0); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		checkTemplates(t, &templates)
	})
}

func TestTemplatesOutOfUseMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var templates Templates
		fill(&templates, 4)
		for range 2 {
			templates.Of("GET", "/unheard/of") // makes room for the first time, in vain
		}
		for n := range 6 {
			for range 4 {
				templates.Of("GET", "/parta/"+word(0)+"/"+word(0))
			}
			time.Sleep(period + time.Second)
			if got := templates.Of("GET", "/unheard/of"); n < 1 && got != Other {
				t.Errorf("got %s, what is in use was forgotten", got)
			}
		}
		if got := templates.Of("GET", "/unheard/of"); got != "GET /unheard/of" {
			t.Errorf("got %s, nothing was forgotten in an hour", got)
		}
		if known := templates.Known(); len(known) > maxExact*3/4 {
			t.Errorf("%d are still known", len(known))
		}
		if got, want := templates.Of("GET", "/parta/"+word(0)+"/"+word(0)), "GET /parta/"+word(0)+"/"+word(0); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		checkTemplates(t, &templates)
	})
}

func TestSecondHalfOfTheTemplatesIsForShapesThatComeAgain(t *testing.T) {
	var templates Templates
	for n := 0; templates.exact < maxFree; n++ {
		for range 2 {
			templates.Of("GET", fmt.Sprintf("/part%c/%s", 'a'+n%10, word(n/10)))
		}
	}
	for n := range 500 {
		templates.Of("GET", "/other"+"/"+word(n)+"/"+word(n))
	}
	if templates.exact != maxFree {
		t.Errorf("%d shapes were taken that were asked for once", templates.exact-maxFree)
	}
	templates.Of("GET", "/real/page")
	if got := templates.Of("GET", "/real/page"); got != "GET /real/page" {
		t.Errorf("got %s", got)
	}
}

func TestTemplatesAreSafeForConcurrentUse(t *testing.T) {
	var templates Templates
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 7))
			for range 5000 {
				templates.Of("GET", "/item/"+word(random.IntN(100)))
				templates.Of("GET", "/"+word(random.IntN(300))+"/"+word(random.IntN(300)))
				if random.IntN(100) == 0 {
					templates.Known()
				}
			}
		})
	}
	all.Wait()
	checkTemplates(t, &templates)
}

func FuzzTemplatesAreBoundedAndPrintable(f *testing.F) {
	f.Add("GET", "/item/1\n/user/alice\n/static/a.css")
	f.Add("X", "/%7Bid%7D\n/%zz/\xff/%C3%BC\n//../.\n*")
	f.Add("POST", "/a.b.c.html\n/.html\n/@\n/-\n/"+strings.Repeat("a.", 200))
	f.Fuzz(func(t *testing.T, method, paths string) {
		var templates Templates
		for i, path := range strings.Split(paths, "\n") {
			label := templates.Of(method, path)
			if len(label) > 256 || !isPrintable(label) {
				t.Errorf("%q: template %q", path, label)
			}
			if i < 20 { // nothing is wide or full yet
				if again := templates.Of(method, path); again != label {
					t.Errorf("%q: template %q, then %q", path, label, again)
				}
			}
		}
		checkTemplates(t, &templates)
	})
}

// wideTemplates has a wide place below /user.
func wideTemplates() *Templates {
	templates := new(Templates)
	for n := range 100 {
		templates.Of("GET", "/user/"+word(n))
	}
	return templates
}

func TestKnownShapeCostsAtMostOneAllocation(t *testing.T) {
	templates := wideTemplates()
	for path, most := range map[string]float64{
		"/item/4711": 0, "/user/somebody": 0, "/static/app.3f2a1b.css": 0, "/a/b/c/d/e/f/g/h": 0, "/caf%C3%A9/%C3%BCber/x": 1,
	} {
		templates.Of("GET", path)
		if n := testing.AllocsPerRun(100, func() { templates.Of("GET", path) }); n > most {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

func BenchmarkTemplate(b *testing.B) {
	templates := wideTemplates()
	for _, path := range []string{
		"/", "/item/4711", "/user/somebody", "/static/app.3f2a1b.css", "/api/v1/o/123e4567-e89b-12d3-a456-426614174000/lines/7",
		"/caf%C3%A9/%C3%BCber-uns",
	} {
		templates.Of("GET", path)
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				templates.Of("GET", path)
			}
		})
	}
	b.Run("unknown", func(b *testing.B) { // a scanner's, with a full table
		var templates Templates
		fill(&templates, 100)
		b.ReportAllocs()
		for b.Loop() {
			templates.Of("GET", "/unheard/of")
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				templates.Of("GET", "/item/4711")
			}
		})
	})
}
