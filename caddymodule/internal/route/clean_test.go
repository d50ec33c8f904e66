package route

import (
	stdpath "path"
	"strings"
	"testing"
)

func TestNobodyGetsAroundARoute(t *testing.T) {
	alone := mustTable(t, "POST /post")
	sheltered := mustTable(t, "POST /post", "* /", "POST /{any}")
	for _, path := range []string{
		"/post", "//post", "///post", "/./post", "/x/../post", "/../post", "/post/", "/post//", "/post/.", "/post/x/..", "/%70ost", "/%2e/post",
		"/%2E%2e/post", "/x/%2e%2E//%70os%74/", "/.//post/./",
	} {
		for name, table := range map[string]*Table{"alone": alone, "below a catch-all": sheltered} {
			if got := table.Match("POST", path); got == nil || got.Pattern.String() != "POST /post" {
				t.Errorf("%s, %s: got %v", path, name, got)
			}
		}
	}
	for _, path := range []string{"", "/", "*", "post", "/post/x", "/POST", "/p%2Fost", "/post%2F", "/%2Fpost", "/post%20", "/...", "/.post", "/post/...", "/%2570ost", "/%7ost", "/post/%2"} {
		if got := alone.Match("POST", path); got != nil {
			t.Errorf("%s: got %v, want nothing", path, got)
		}
	}
}

// TestCleanPathOverrulesOnlyTheLessSpecific: what is said of the path as sent
// stays, unless the other pattern is a part of it.
func TestCleanPathOverrulesOnlyTheLessSpecific(t *testing.T) {
	table := mustTable(t, "GET /item/{id}", "GET /item/{id}/comments", "GET /static/", "GET /docs/", "GET /docs/{page}", "GET /{$}", "* /up/", "GET /admin/")
	for _, test := range []struct{ path, sent, want string }{
		{"/item//comments", "GET /item/{id}/comments", "GET /item/{id}/comments"},
		{"/item/..", "GET /item/{id}", "GET /item/{id}"},
		{"/static/../item/1", "GET /static/", "GET /static/"}, // neither is a part of the other
		{"/static//x", "GET /static/", "GET /static/"},
		{"/up/../static/x", "* /up/", "* /up/"},
		{"/docs/a/", "GET /docs/", "GET /docs/{page}"},
		{"/docs/", "GET /docs/", "GET /docs/"},
		{"//docs/a", "", "GET /docs/{page}"},
		{"/x/../admin/y", "", "GET /admin/"},
		{"//", "", "GET /{$}"},
	} {
		sent, got := "", ""
		if r := table.AsSent("GET", test.path); r != nil {
			sent = r.Pattern.String()
		}
		if r := table.Match("GET", test.path); r != nil {
			got = r.Pattern.String()
		}
		if sent != test.sent || got != test.want {
			t.Errorf("%s: as sent %q, want %q; got %q, want %q", test.path, sent, test.sent, got, test.want)
		}
	}
}

func FuzzCleanIsWhatThePathPackageSays(f *testing.F) {
	for _, path := range []string{"/", "//", "/a/./b", "/a/../..", "/a//b/", "/%61/%2e%2E/b", "/a%2Fb/..", "/%", "/%6%61", "/a/.", "/a/..", "/...//.x"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if path == "" || path[0] != '/' {
			return
		}
		got := clean(path)
		if !escapesAreWhole(path) {
			if got != path {
				t.Errorf("%q, which is broken, becomes %q", path, got)
			}
			return
		}
		if got != clean(got) || !isClean(got) {
			t.Errorf("%q: %q is not clean", path, got)
		}
		if isClean(path) != (got == path) {
			t.Errorf("%q: clean %v, but becomes %q", path, isClean(path), got)
		}
		raw := unescapeUnreserved(path)
		want := stdpath.Clean(raw)
		last := raw[strings.LastIndexByte(raw, '/')+1:]
		if want != "/" && (last == "" || last == "." || last == "..") {
			want += "/"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	})
}
