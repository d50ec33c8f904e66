package page

import (
	"fmt"
	"math"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/portner/portner/webapp/internal/news"
)

// everyPage makes all pages of the golden files, those of visitors and members.
func everyPage(t *testing.T, s site, check func(path string, page *html.Node)) {
	t.Helper()
	village(t, s)
	people(t, s)
	parse := func(path, body string) {
		page, err := html.Parse(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		check(path, page)
	}
	for name, path := range ofVisitors {
		if !strings.Contains(name, ".") { // feeds are for programs
			parse(path, s.page(t, path))
		}
	}
	for _, path := range ofMembers {
		parse("ann's "+path, s.pageAs(t, "ann", path))
	}
	for _, path := range []string{"/", "/item/2", "/flagged", "/dead", "/submit?kind=job"} {
		parse("mod's "+path, s.pageAs(t, "mod", path))
	}
	rec := httptest.NewRecorder()
	if err := s.pages.WriteError(s.echo.NewContext(httptest.NewRequest("GET", "/nothing", nil), rec), 404, news.ErrNoSuchItem); err != nil {
		t.Fatal(err)
	}
	parse("/nothing", rec.Body.String())
}

func attribute(n *html.Node, name string) (value string, ok bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// spoken is what is read out of an element.
func spoken(n *html.Node) string {
	if label, ok := attribute(n, "aria-label"); ok {
		return label
	}
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
		if alt, ok := attribute(d, "alt"); ok && d.Data == "img" {
			b.WriteString(alt)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func TestPagesCanBeUsedByEverybody(t *testing.T) {
	with(t, func(t *testing.T, s site) {
		everyPage(t, s, func(path string, page *html.Node) {
			for _, fault := range faults(page) {
				t.Errorf("%s: %s", path, fault)
			}
		})
	})
}

func TestFaultsOfAPageAreFound(t *testing.T) {
	for markup, want := range map[string]string{
		`<main></main>`:                                   "0 h1",
		`<h1>a</h1><h1>b</h1>`:                            "2 h1",
		`<h1>a</h1><h3>b</h3>`:                            "h3 after h1",
		`<h1>a</h1><input type="text" name="x">`:          "input x has no label",
		`<h1>a</h1><textarea name="x"></textarea>`:        "textarea x has no label",
		`<h1>a</h1><button></button>`:                     "a button without a name",
		`<h1>a</h1><a href="/"></a>`:                      "a link without a name",
		`<h1>a</h1><img src="x">`:                         "an img without alt",
		`<h1 id="x">a</h1><p id="x"></p>`:                 `id "x" twice`,
		`<h1 aria-labelledby="y">a</h1>`:                  `aria-labelledby names "y"`,
		`<h1>a</h1><button form="f">x</button>`:           `form names "f"`,
		`<h1 style="color:red">a</h1>`:                    "style",
		`<h1 onclick="x">a</h1>`:                          "onclick",
		`<h1>a</h1><nav></nav>`:                           "a nav without a name",
		`<h1>a</h1><button aria-label="Up">Hide</button>`: `"Up" is called "Hide"`,
		`<h1>a</h1><button formaction="/logout">Log out</button><form method="post">`: "a form without a token",
		`<h1>a</h1><input type="password" id="p" name="p">`:                           "input p has no autocomplete",
		`<h1>a</h1><form method="post"><input type="hidden" name="csrf">`:             "with one for nobody",
	} {
		page, err := html.Parse(strings.NewReader(`<html lang="en"><head><title>x</title><body><a href="#main">Skip</a><main id="main">` + markup))
		if err != nil {
			t.Fatal(err)
		}
		if found := faults(page); !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("%s: %q, want %s", markup, found, want)
		}
	}
}

// faults are what keeps somebody from using a page, as far as the markup shows.
func faults(page *html.Node) (all []string) {
	fault := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	ids, labelled := make(map[string]bool), make(map[string]bool)
	count := make(map[string]int)
	visitor := true
	for n := range page.Descendants() {
		if id, ok := attribute(n, "id"); ok {
			if ids[id] {
				fault("id %q twice", id)
			}
			ids[id] = true
		}
		if of, ok := attribute(n, "for"); ok {
			labelled[of] = true
		}
		if v, _ := attribute(n, "formaction"); v == "/logout" {
			visitor = false
		}
	}
	heading, firstLink := 0, ""
	for n := range page.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		name, _ := attribute(n, "name")
		kind, _ := attribute(n, "type")
		_, unseen := attribute(n, "hidden")
		switch n.Data {
		case "html":
			if lang, _ := attribute(n, "lang"); lang == "" {
				fault("no language")
			}
		case "h1", "h2", "h3", "h4":
			level := int(n.Data[1] - '0')
			if level > heading+1 {
				fault("%s after h%d", n.Data, heading)
			}
			heading = level
		case "input", "textarea", "select":
			id, _ := attribute(n, "id")
			if kind != "hidden" && !unseen && !labelled[id] && n.Parent.Data != "label" {
				fault("%s %s has no label", n.Data, name)
			}
			if complete, _ := attribute(n, "autocomplete"); kind == "password" && complete == "" {
				fault("input %s has no autocomplete", name)
			}
		case "button", "a":
			what := map[string]string{"button": "button", "a": "link"}[n.Data]
			said := spoken(n)
			if said == "" {
				fault("a %s without a name", what)
			}
			if label, ok := attribute(n, "aria-label"); ok { // WCAG 2.5.3: whoever speaks to the machine says what he sees
				var seen strings.Builder
				for d := range n.Descendants() {
					if d.Type == html.TextNode {
						seen.WriteString(d.Data)
					}
				}
				if word := strings.TrimSpace(seen.String()); word != "▲" && word != "▼" && !strings.Contains(label, word) {
					fault("%q is called %q", label, word)
				}
			}
			if firstLink == "" && n.Data == "a" {
				firstLink, _ = attribute(n, "href")
			}
		case "img":
			if _, ok := attribute(n, "alt"); !ok {
				fault("an img without alt")
			}
		case "nav", "meter":
			if label, _ := attribute(n, "aria-label"); strings.TrimSpace(label) == "" {
				fault("a %s without a name", n.Data)
			}
		case "form":
			if method, _ := attribute(n, "method"); method == "post" && !visitor == (find(n, "csrf") == nil) {
				fault("a form without a token, or with one for nobody")
			}
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "style", strings.HasPrefix(a.Key, "on"):
				fault("%s on %s: the policy forbids it", a.Key, n.Data)
			case a.Key == "aria-labelledby", a.Key == "aria-describedby", a.Key == "form", a.Key == "for":
				for id := range strings.FieldsSeq(a.Val) {
					if !ids[id] {
						fault("%s names %q, which is not there", a.Key, id)
					}
				}
			}
		}
	}
	if count["h1"] != 1 || count["main"] != 1 || count["title"] != 1 {
		fault("%d h1, %d main, %d title", count["h1"], count["main"], count["title"])
	}
	if firstLink != "#main" || !ids["main"] {
		fault("the first link leads to %q, not behind the navigation", firstLink)
	}
	return all
}

func find(top *html.Node, name string) *html.Node {
	for n := range top.Descendants() {
		if v, _ := attribute(n, "name"); v == name {
			return n
		}
	}
	return nil
}

var declared = regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`)

// TestColoursCanBeTold computes the contrast of WCAG 2.2 (1.4.3, 1.4.11) for
// what the stylesheet puts on each other, in light and in dark.
func TestColoursCanBeTold(t *testing.T) {
	sheet, err := os.ReadFile("static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	light, dark, ok := strings.Cut(string(sheet), "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("there are no dark colours")
	}
	dark, _, _ = strings.Cut(dark, "* { box-sizing")
	for scheme, part := range map[string]string{"light": light, "dark": dark} {
		colours := make(map[string]string)
		for _, m := range declared.FindAllStringSubmatch(part, -1) {
			colours[m[1]] = m[2]
		}
		for _, row := range []struct {
			least    float64
			on       string
			ink      string
			sentence string
		}{
			{4.5, "page card tint", "ink soft accent", "text"},
			{4.5, "page card", "seen bad", "text"},
			{4.5, "bad-tint", "bad", "a message"},
			{4.5, "accent", "on-accent", "a button"},
			{4.5, "bad", "on-accent", "a button that deletes"},
			{3, "page card", "line", "the edge of a field"},
			{3, "page card tint", "accent", "the ring of the focus, the bar of a poll"},
		} {
			for _, on := range strings.Fields(row.on) {
				for _, ink := range strings.Fields(row.ink) {
					if colours[on] == "" || colours[ink] == "" {
						t.Fatalf("%s: no --%s or no --%s", scheme, on, ink)
					}
					if got := contrast(t, colours[on], colours[ink]); got < row.least {
						t.Errorf("%s: %s, --%s on --%s, has a contrast of %.2f, less than %.1f", scheme, row.sentence, ink, on, got, row.least)
					}
				}
			}
		}
	}
	// Colours stand in the variables and nowhere else.
	if _, rest, _ := strings.Cut(string(sheet), "* { box-sizing"); regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b|rgb\(|hsl\(`).MatchString(rest) {
		t.Error("a colour stands outside the variables")
	}
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + .05) / (min(x, y) + .05)
}

func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(colour[1:], 16, 24)
	if err != nil {
		t.Fatal(err)
	}
	linear := func(v uint64) float64 {
		c := float64(v&0xff) / 255
		if c <= .04045 {
			return c / 12.92
		}
		return math.Pow((c+.055)/1.055, 2.4)
	}
	return .2126*linear(n>>16) + .7152*linear(n>>8) + .0722*linear(n)
}

func TestContrastIsThatOfTheStandard(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want float64
	}{{"#000000", "#ffffff", 21}, {"#777777", "#ffffff", 4.48}, {"#123456", "#123456", 1}} {
		if got := contrast(t, row.a, row.b); math.Abs(got-row.want) > .005 {
			t.Errorf("%s on %s: %.3f, want %.2f", row.a, row.b, got, row.want)
		}
	}
}
