package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
)

// thread is a small site: story 1 with comments 2 and 3, on two pages.
var thread = []Item{
	{ID: 1, Parent: -1, Type: "story", User: "ann", Title: "A porter"},
	{ID: 2, Parent: 1, Type: "comment", User: "bob", Text: "first, finally"},
	{ID: 3, Parent: 2, Type: "comment", User: "cy", Text: "seconded & thirded"},
}

func inspecting(t *testing.T, change map[string]string) Findings {
	t.Helper()
	pages := map[string]string{
		"/item/1":     `<article id="item-1">A porter by ann</article><li id="item-2">bob: first, finally</li> <a rel="next" href="/item/1?a=b&amp;p=2">`,
		"/item/1?p=2": `<article id="item-1">A porter by ann</article><li class="x" id="item-3">cy: seconded &amp; thirded</li>`,
		"/item/2":     `<article id="item-2">bob: first, finally</article><li id="item-3">cy: seconded</li>`,
		"/item/3":     `<article id="item-3">cy: seconded &amp; thirded</article>`,
	}
	for path, page := range change {
		pages[path] = page
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if p := r.FormValue("p"); p != "" {
			path += "?p=" + p
		}
		switch pages[path] {
		case "":
			w.WriteHeader(http.StatusNotFound)
		case "503":
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(w, pages[path])
	}))
	defer server.Close()
	looked := 0
	found, err := inspect(t.Context(), server.Client(), server.URL, thread, func() { looked++ })
	if err != nil || looked != len(thread) {
		t.Fatalf("looked at %d: %v", looked, err)
	}
	return found
}

func TestInspectFindsNothingWrongOnAGoodSite(t *testing.T) {
	if found := inspecting(t, nil); !found.none() {
		t.Errorf("got %+v", found)
	}
}

func TestInspectFindsWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		what, path, page string
		want             Findings
	}{
		{"no page of its own", "/item/3", "", Findings{Missing: []int{3}}},
		{"not in its thread", "/item/1?p=2", `<article id="item-1">`, Findings{Missing: []int{3}}},
		{"twice in its thread", "/item/1?p=2", `<li id="item-2"><li id="item-3">`, Findings{Repeated: []int{2}}},
		{"somebody else's words", "/item/2", `<article id="item-2">bob: thirded</article>`, Findings{Wrong: []int{2}}},
		{"words lost", "/item/3", `<article id="item-3">cy: &amp;</article>`, Findings{Wrong: []int{3}}},
		{"author lost", "/item/2", `<article id="item-2">first, finally</article>`, Findings{Wrong: []int{2}}},
		{"the head is lost, the rest waits for it", "/item/1", "", Findings{Missing: []int{1}}},
		{"a page that fails", "/item/3", "503", Findings{Wrong: []int{3}}},
	} {
		if got := inspecting(t, map[string]string{c.path: c.page}); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.what, got, c.want)
		}
	}
}
