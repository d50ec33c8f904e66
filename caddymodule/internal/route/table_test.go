package route

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func mustTable(t testing.TB, patterns ...string) *Table {
	t.Helper()
	table, err := tableOf(patterns)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// tableOf makes a table of patterns written as "METHOD /path".
func tableOf(patterns []string) (*Table, error) {
	var routes []Route
	for _, text := range patterns {
		method, path, _ := strings.Cut(text, " ")
		p, err := ParsePattern(method, path)
		if err != nil {
			return nil, err
		}
		routes = append(routes, Route{Pattern: p})
	}
	return NewTable(routes)
}

func TestMostSpecificRouteWins(t *testing.T) {
	table := mustTable(t,
		"* /",
		"GET /{$}",
		"GET /item/{id}",
		"GET /item/new",
		"GET /item/{id}/comments",
		"HEAD /item/{id}/comments",
		"* /static/",
		"GET /static/{file}",
		"POST /post",
		"GET /files/{name...}",
		"GET /files/{$}",
		"GET /a/b/z",
		"GET /a/{x}/c",
		"GET /slash/a%2Fb",
		"GET /slash/{x}",
		"GET /café",
		"GET /one/{x}/two/{$}",
		"GET /docs/",
		"GET /docs/{page}",
	)
	for _, test := range []struct{ method, path, want string }{
		{"GET", "/", "GET /{$}"},
		{"GET", "", "GET /{$}"},
		{"POST", "/", "* /"},
		{"GET", "/item/1", "GET /item/{id}"},
		{"HEAD", "/item/1", "GET /item/{id}"},
		{"GET", "/item/new", "GET /item/new"},
		{"GET", "/item/n%65w", "GET /item/new"},
		{"GET", "/item/NEW", "GET /item/{id}"},
		{"GET", "/item/n%65wer", "GET /item/{id}"},
		{"GET", "/docs/a", "GET /docs/{page}"},
		{"GET", "/docs/a/", "GET /docs/"},
		{"GET", "/item/new/comments", "GET /item/{id}/comments"},
		{"HEAD", "/item/1/comments", "HEAD /item/{id}/comments"},
		{"GET", "/item/", "* /"},
		{"GET", "/item", "* /"},
		{"GET", "/static/a.css", "GET /static/{file}"},
		{"GET", "/static/", "* /static/"},
		{"GET", "/static", "* /"},
		{"GET", "/static/a/b", "* /static/"},
		{"PUT", "/static/a.css", "* /static/"},
		{"POST", "/post", "POST /post"},
		{"post", "/post", "* /"},
		{"GET", "/post/", "* /"},
		{"GET", "/files/", "GET /files/{$}"},
		{"GET", "/files/a/b/", "GET /files/{name...}"},
		{"GET", "/a/b/c", "GET /a/{x}/c"}, // a wrong turn is taken back
		{"GET", "/a/b/z", "GET /a/b/z"},
		{"GET", "/slash/a%2Fb", "GET /slash/a%2Fb"},
		{"GET", "/slash/a%2fb", "GET /slash/a%2Fb"},
		{"GET", "/slash/a/b", "* /"},
		{"GET", "/slash/%2F", "GET /slash/{x}"}, // a slash inside a segment does not end the path
		{"GET", "/slash/%2", "GET /slash/{x}"},
		{"GET", "/caf%C3%A9", "GET /café"},
		{"GET", "/caf%c3%a9", "GET /café"},
		{"GET", "/one/a/two/", "GET /one/{x}/two/{$}"},
		{"GET", "/one/a/two", "* /"},
		// Nothing is cleaned.
		{"GET", "/item//comments", "GET /item/{id}/comments"},
		{"GET", "//item/1", "* /"},
		{"GET", "/item/..", "GET /item/{id}"},
		{"GET", "/item/../post", "* /"},
		{"POST", "/./post", "* /"},
	} {
		if got := table.AsSent(test.method, test.path); got == nil || got.Pattern.String() != test.want {
			t.Errorf("%s %s: got %v, want %s", test.method, test.path, got, test.want)
		}
	}
}

func TestRequestWithoutRouteMatchesNothing(t *testing.T) {
	table := mustTable(t, "GET /item/{id}", "POST /x/")
	for _, test := range [][2]string{
		{"GET", "/"}, {"GET", ""}, {"GET", "*"}, {"OPTIONS", "*"}, {"GET", "item/1"}, {"POST", "/item/1"}, {"POST", "/x"}, {"GET", "/x/"},
		{"", "/item/1"}, {"GET", "/item/1/2"}, {"GET", "/item"},
	} {
		if got := table.AsSent(test[0], test[1]); got != nil {
			t.Errorf("%s %s: got %s, want nothing", test[0], test[1], got)
		}
	}
	if got := (*Table)(nil).Match("GET", "//"); got != nil {
		t.Errorf("a nil table matches %s", got)
	}
}

func TestRouteCarriesItsPolicyAndALabel(t *testing.T) {
	p, err := ParsePattern("GET", "/item/{id}")
	if err != nil {
		t.Fatal(err)
	}
	q, err := ParsePattern("*", "/admin/")
	if err != nil {
		t.Fatal(err)
	}
	routes := []Route{{Pattern: p, Policy: Policy{Class: Pages}}, {Pattern: q, Policy: Policy{Template: "admin"}}}
	table, err := NewTable(routes)
	if err != nil {
		t.Fatal(err)
	}
	if got := table.Match("GET", "/item/1").Policy; got.Template != "GET /item/{id}" || got.Class != Pages {
		t.Errorf("got %+v", got)
	}
	if got := table.Match("DELETE", "/admin/x").Policy; got.Template != "admin" {
		t.Errorf("got %+v", got)
	}
	if routes[0].Policy.Template != "" {
		t.Error("NewTable changed its caller's routes")
	}
}

func TestConflictingRoutesAreRefusedAndBothNamed(t *testing.T) {
	for _, test := range []struct{ first, second, like string }{
		{"GET /a/{x}", "GET /{y}/b", "/a/b"},
		{"HEAD /item/{id}", "GET /item/new", "/item/new"},
		{"GET /a/{x}", "GET /a/{y}", ""},
		{"* /a/", "* /a/{rest...}", ""},
		{"GET /x", "GET /%78", ""},
		{"GET /{x}", "* /x", "/x"}, // more methods, fewer paths
		{"HEAD /", "GET /x", "/x"},
		{"GET /{x}/", "GET /a/{y}/{z}/b", ""},
		{"GET /{a}/b/{c...}", "GET /a/{b}/c", "/a/b/c"},
		{"GET /a/{x}/{$}", "GET /{y}/b/", "/a/b/"},
		{"GET /{x}/a%2Fb", "GET /c/{y}", "/c/a%2Fb"},
	} {
		_, err := tableOf([]string{test.first, test.second})
		if test.like == "" && test.first == "GET /{x}/" { // a subtree is wider than what is in it
			if err != nil {
				t.Errorf("%s and %s: %v", test.first, test.second, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.first) || !strings.Contains(err.Error(), test.second) || !strings.Contains(err.Error(), test.like) {
			t.Errorf("%s and %s: got %v, want both named and %s", test.first, test.second, err, test.like)
		}
	}
	p, _ := ParsePattern("GET", "/x")
	_, err := NewTable([]Route{{Pattern: p, Place: "Caddyfile:3"}, {Pattern: p, Place: "Caddyfile:7"}})
	if err == nil || !strings.Contains(err.Error(), "Caddyfile:3") || !strings.Contains(err.Error(), "Caddyfile:7") {
		t.Errorf("got %v, want both places", err)
	}
	if _, err := NewTable([]Route{{}}); err == nil {
		t.Error("a route without a pattern was taken")
	}
}

func TestBadPatternIsAnErrorThatSaysWhatToWrite(t *testing.T) {
	for _, test := range []struct{ method, path, want string }{
		{"GET", "", "begins with a slash"},
		{"GET", "x", "begins with a slash"},
		{"GET", "example.com/x", "begins with a slash"},
		{"", "/", "expected a method"},
		{"G ET", "/", "expected a method"},
		{"GÉT", "/", "expected a method"},
		{"get", "/", "capitals: GET"},
		{"GET", "/a//b", "use one slash"},
		{"GET", "/a/../b", "write the path that it leads to"},
		{"GET", "/%2e/b", "write the path that it leads to"},
		{"GET", "/a?b=c", "leave out"},
		{"GET", "/a#b", "leave out"},
		{"GET", "/a\nb", "percent-encoded"},
		{"GET", "/a\xff", "percent-encoded"},
		{"GET", "/{", "whole segment"},
		{"GET", "/}", "whole segment"},
		{"GET", "/a{b}", "whole segment"},
		{"GET", "/{b}.css", "whole segment"},
		{"GET", "/{a}{b}", "whole segment"},
		{"GET", "/{}", "needs a name"},
		{"GET", "/{...}", "needs a name"},
		{"GET", "/{$}/a", "at the end"},
		{"GET", "/{a...}/b", "at the end"},
		{"GET", "/{a...}/", "at the end"},
		{"GET", "/{a-b}", "choose another wildcard name"},
		{"GET", "/{1a}", "choose another wildcard name"},
		{"GET", "/{a}/{a}", "choose another wildcard name"},
		{"GET", "/x/{http.request.uri.path}", "choose another wildcard name"},
		{"GET", "/x/{http.request.uuid}", "choose another wildcard name"},
		{"GET", "/x/{http.vars.client_ip}/y", "choose another wildcard name"},
	} {
		p, err := ParsePattern(test.method, test.path)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q %q: got %v, %v, want %s", test.method, test.path, p, err, test.want)
		}
	}
}

func FuzzBadPatternNeverPanics(f *testing.F) {
	for _, path := range []string{"/", "/{$}", "/a/{b}/{c...}", "/a%2Fb/", "/%", "/{http.request.uuid}", "/{é}", "/{{}}", "//", "/\xff"} {
		f.Add("GET", path, "/a/b")
	}
	f.Fuzz(func(t *testing.T, method, path, asked string) {
		p, err := ParsePattern(method, path)
		if err != nil {
			if !isPrintable(err.Error()) {
				t.Errorf("error %q cannot be printed", err)
			}
			return
		}
		if !isPrintable(p.String()) {
			t.Errorf("label %q cannot be printed", p)
		}
		table, err := NewTable([]Route{{Pattern: p}})
		if err != nil {
			t.Fatal(err)
		}
		table.Match(method, asked)
		if own := example(p.segments, p.segments); method != "*" && table.Match(method, own) == nil {
			t.Errorf("%s does not match its own example %s", p, own)
		}
		if _, err := NewTable([]Route{{Pattern: p}, {Pattern: p}}); err == nil {
			t.Errorf("%s does not conflict with itself", p)
		}
	})
}

// pieces are what the differential test makes patterns and paths of.
var (
	patternPieces = []string{"a", "b", "{x}", "{y}", "a%2Fb", "%61", "é"}
	patternEnds   = []string{"", "/", "/{$}", "/{r...}"}
	pathPieces    = []string{"a", "b", "c", "a%2Fb", "a%2fb", "%61", "%C3%A9", "", ".", "..", "%zz"}
	someMethods   = []string{"*", "GET", "HEAD", "POST"}
)

// FuzzMatchesWhatServeMuxMatches asks both for the same. Two differences are
// wanted: ServeMux takes a segment %2F for the end of the path, and cleans and
// redirects. Its CONNECT does not clean; what it would redirect is asked again
// without the route that it would lead to, which cannot match by itself.
func FuzzMatchesWhatServeMuxMatches(f *testing.F) {
	f.Add([]byte{3, 0, 1, 2, 0, 1, 1, 2, 1, 0, 2, 0, 2, 0, 1, 0, 1, 2, 3, 4, 5})
	f.Add([]byte("some patterns and some paths"))
	f.Fuzz(matchesWhatServeMuxMatches)
}

func TestMatchesWhatServeMuxMatches(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		data := make([]byte, 100)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		matchesWhatServeMuxMatches(t, data)
	}
}

func matchesWhatServeMuxMatches(t *testing.T, data []byte) {
	pick := func(n int) int {
		if len(data) == 0 {
			return 0
		}
		c := int(data[0])
		data = data[1:]
		return c % n
	}
	var kept []string
	for range 1 + pick(8) {
		next := someMethods[pick(len(someMethods))] + " "
		for depth := pick(4); depth > 0; depth-- {
			next += "/" + patternPieces[pick(len(patternPieces))]
		}
		end := patternEnds[pick(len(patternEnds))]
		if strings.HasSuffix(next, " ") && end == "" {
			end = "/"
		}
		next += end
		ours, theirs := err2(tableOf(append(slices.Clone(kept), next))), err2(muxOf(append(slices.Clone(kept), next)))
		if (ours == nil) != (theirs == nil) {
			t.Fatalf("%s added to %q: we say %v, ServeMux says %v", next, kept, ours, theirs)
		}
		if ours == nil {
			kept = append(kept, next)
		}
	}
	if len(kept) == 0 {
		return
	}
	table := mustTable(t, kept...)
	for range 8 {
		method, path := []string{"GET", "HEAD", "POST", "CONNECT", "PUT"}[pick(5)], ""
		for depth := 1 + pick(4); depth > 0; depth-- {
			path += "/" + pathPieces[pick(len(pathPieces))]
		}
		if method != "CONNECT" && isUnclean(path) {
			method = "CONNECT" // matches the routes for every method only
		}
		got := ""
		if r := table.AsSent(method, path); r != nil {
			got = r.Pattern.String()
		}
		if want := ask(t, kept, method, path); got != want {
			t.Fatalf("%s %s among %q: got %q, ServeMux says %q", method, path, kept, got, want)
		}
	}
}

func err2[T any](_ T, err error) error { return err }

func isUnclean(path string) bool {
	return strings.Contains(path, "//") || slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return s == "." || s == ".." })
}

func muxOf(patterns []string) (mux *http.ServeMux, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	mux = http.NewServeMux()
	for _, p := range patterns {
		mux.Handle(strings.TrimPrefix(p, "* "), http.NotFoundHandler())
	}
	return mux, nil
}

// ask is the pattern that ServeMux finds without redirecting.
func ask(t *testing.T, patterns []string, method, path string) string {
	for {
		mux, err := muxOf(patterns)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := url.PathUnescape(path)
		if err != nil {
			return ask(t, patterns, method, strings.ReplaceAll(path, "%zz", "%25zz")) // no request has it
		}
		r := &http.Request{Method: method, URL: &url.URL{Path: raw, RawPath: path}}
		h, pattern := mux.Handler(r)
		if !strings.Contains(fmt.Sprintf("%T", h), "redirect") {
			for _, p := range patterns {
				if strings.TrimPrefix(p, "* ") == pattern {
					return p
				}
			}
			return ""
		}
		// It may name the path that it redirects to instead of the pattern.
		patterns = slices.DeleteFunc(slices.Clone(patterns), func(p string) bool {
			only, err := tableOf([]string{p})
			return err == nil && only.AsSent(method, path+"/") != nil && only.AsSent(method, path) == nil
		})
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	table := mustTable(t, "GET /item/{id}", "POST /post", "GET /caf%C3%A9/{x...}", "* /static/")
	for _, path := range []string{"/item/4711", "/caf%C3%A9/a%2Fb", "/nothing/here", "/static/"} {
		if n := testing.AllocsPerRun(100, func() { table.Match("GET", path) }); n != 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	table := mustTable(b, "GET /{$}", "GET /item/{id}", "POST /post", "GET /newest", "GET /user/{name}", "* /static/", "GET /api/v1/items/{id}/comments")
	for _, path := range []string{"/", "/item/4711", "/static/app.css", "/api/v1/items/12/comments", "/user/caf%C3%A9", "/no/route"} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.Match("GET", path)
			}
		})
	}
}
