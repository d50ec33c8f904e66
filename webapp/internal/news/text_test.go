package news

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// plain writes blocks so that a table can hold them: paragraphs in lines,
// code as `…`, emphasis as _…_, links as [text](address).
func plain(blocks []Block) string {
	var out []string
	for _, b := range blocks {
		var s strings.Builder
		for _, span := range b.Spans {
			text := span.Text
			if span.Href != "" {
				text = "[" + text + "](" + span.Href + ")"
			}
			if span.Emphasis {
				text = "_" + text + "_"
			}
			s.WriteString(text)
		}
		if b.Code {
			out = append(out, "`"+s.String()+"`")
		} else {
			out = append(out, s.String())
		}
	}
	return strings.Join(out, " | ")
}

func TestBeginningEndsBetweenWords(t *testing.T) {
	far := strings.Repeat("x", 2*maxWord)
	for _, row := range []struct {
		text string
		most int
		want string
	}{
		{"", 5, ""},
		{"short", 5, "short"},
		{"see http://a.org/b", 14, "see"},
		{"one two", 4, "one"},
		{far, maxWord, far[:maxWord]},
		{"a " + far, 2 * maxWord, "a " + far[:2*maxWord-2]}, // the blank is too far away
		{"日本語", 5, "日"},
		{"日本", 2, ""},
	} {
		if got := Beginning(row.text, row.most); got != row.want {
			t.Errorf("%d bytes of %.20q: %q, want %q", row.most, row.text, got, row.want)
		}
	}
}

func TestTextIsReadAsItWasMeant(t *testing.T) {
	rows := []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"white space", " \n\t\n ", ""},
		{"words", "hello", "hello"},
		{"blank line", "one\n\ntwo", "one | two"},
		{"blank line with blanks", "one\n  \t\ntwo", "one | two"},
		{"Windows line ends", "one\r\n\r\ntwo\r\nthree", "one | two\nthree"},
		{"many blank lines", "\n\none\n\n\n\n\ntwo\n\n", "one | two"},
		{"single line end is kept", "1. a\n2. b", "1. a\n2. b"},
		{"paragraph tags", "one<p>two<p>three", "one | two | three"},
		{"closed paragraph tags", "<p>one</p><P>two</P>", "one | two"},
		{"entities", "&#34;a&#34; &#62; b &amp; &#8217;", `"a" > b & ’`},
		{"entities are decoded once", "&amp;lt;b&amp;gt;", "&lt;b&gt;"},
		{"decoded markup stays text", "&lt;p&gt;&#60;script&#62;", "<p><script>"},
		{"other tags stay text", "<script>alert(1)</script><img src=x>", "<script>alert(1)</script><img src=x>"},
		{"a lonely less-than", "a < b, 3<4 <", "a < b, 3<4 <"},
		{"italic", "an <i>important</i> word", "an _important_ word"},
		{"italic never closed", "an <i>important<p>word", "an _important_ | word"},
		{"stars", "you *shouldn't* do", "you _shouldn't_ do"},
		{"stars around words", "*so say we all*.", "_so say we all_."},
		{"multiplication", "a * b * c and 2*3*4", "a * b * c and 2*3*4"},
		{"bullets", "* one\n* two", "* one\n* two"},
		{"bold stars", "**x**", "**x**"},
		{"a star alone", "*", "*"},
		{"address", "see http://a.org/x_(y), ok", "see [http://a.org/x_(y)](http://a.org/x_(y)), ok"},
		{"address in parentheses", "(https://a.org/x)", "([https://a.org/x](https://a.org/x))"},
		{"address at the end of a sentence", "see http://a.org/x.", "see [http://a.org/x](http://a.org/x)."},
		{"address in emphasis", "*see http://a.org*", "_see __[http://a.org](http://a.org)_"},
		{"address with entity", "http://a.org/?a=1&amp;b=2", "[http://a.org/?a=1&b=2](http://a.org/?a=1&b=2)"},
		{"not an address", "http:// and xhttp://a.org", "http:// and xhttp://a.org"},
		{"link tag", `<a href="http://a.org/?a&amp;b" rel="nofollow">there</a>.`, "[there](http://a.org/?a&b)."},
		{"link tag with address", `<a href="http:&#x2F;&#x2F;a.org">http:&#x2F;&#x2F;a.org</a>`, "[http://a.org](http://a.org)"},
		{"javascript is no link", `<a href="javascript:alert(1)">x</a>`, "x"},
		{"hidden javascript is no link", "<a href=\"java\tscript:alert(1)\">x</a>", "x"},
		{"data is no link", `<a href="data:text/html,x">x</a>`, "x"},
		{"link without a host is no link", `<a href="//evil.org">x</a> <a href="/x">y</a>`, "x y"},
		{"link that nobody sees", `a <a href="http://a.org">&nbsp;</a><a href="http://a.org">&#8203;</a>b`, "a \u00a0\u200bb"},
		{"link tag never closed", `<a href="http://a.org">x<p>y`, "[x](http://a.org) | y"},
		{"code", "see<p><pre><code>  if x &lt; y {\n    z\n  }\n</code></pre>end", "see | `if x < y {\n  z\n}` | end"},
		{"code with an empty line", "<pre><code>  a\n\n   b</code></pre>", "`a\n\n b`"},
		{"code with no margin", "<pre>a\n  b</pre>", "`a\n  b`"},
		{"no markup in code", "<pre><code>*a* http://a.org</code></pre>", "`*a* http://a.org`"},
		{"indented code", "so:\n\n  if x {\n    y\n  }\n\nend", "so: | `if x {\n  y\n}` | end"},
		{"list that only begins indented", "  one\ntwo", "one\ntwo"},
		{"Windows characters", "it\u0092s \u0093good\u0094\u0085", "it’s “good”…"},
		{"UTF-8 taken for Latin-1", "â\u0080\u009cquoted,â\u0080\u009d said", "“quoted,” said"},
		{"Latin-1 that is meant", "Ã©t\u00e9, â la carte", "Ã©t\u00e9, â la carte"},
		{"Latin-1 that is meant beside Windows characters", "Ã©t\u00e9\u0092s", "Ã©t\u00e9’s"},
		{"other control characters", "a\x01\x1b[31mb\x7f\u0081", "a[31mb"},
		{"non-ASCII", "日本語 – naïve 😀", "日本語 – naïve 😀"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if got := plain(Text(row.text)); got != row.want {
				t.Errorf("\ngot  %q\nwant %q", got, row.want)
			}
		})
	}
}

func TestTypedIsReadAsItWasTyped(t *testing.T) {
	for typed, want := range map[string]string{
		"":  "",
		"a": "a",
		"Use the <p> tag and <code>x</code> &lt;b&gt;": "Use the <p> tag and <code>x</code> &lt;b&gt;",
		`<a href="http://evil.example">bank</a>`:       `<a href="[http://evil.example](http://evil.example)">bank</a>`,
		"<i>a</i><pre>b</pre><br>&nbsp;&#8203;":        "<i>a</i><pre>b</pre><br>&nbsp;&#8203;",
		"one\n\ntwo *three*":                           "one | two _three_",
		"so:\n\n  if x {\n    <p>\n  }\n\nend":         "so: | `if x {\n  <p>\n}` | end",
		"http://a.org/?a=1&amp;b=2":                    "[http://a.org/?a=1&amp;b=2](http://a.org/?a=1&amp;b=2)",
		"it\u0092s \x1b[31m":                           "it’s [31m",
	} {
		if got := plain(Typed(typed)); got != want {
			t.Errorf("%q\ngot  %q\nwant %q", typed, got, want)
		}
	}
	for id, want := range map[ID][2]string{1: {"A & B", "<"}, FirstOwnID - 1: {"A & B", "<"}, FirstOwnID: {"A &amp; B", "&lt;"}} {
		it := Item{ID: id, Title: " A  &amp;\nB", Body: "&lt;"}
		if got := [2]string{it.Line(), plain(it.Text())}; got != want {
			t.Errorf("item %d: %q, want %q", id, got, want)
		}
	}
}

func TestTitleIsOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"Plain":                     "Plain",
		"  Ask\tHN:\n why?  ":       "Ask HN: why?",
		"&#34;Quoted&#34; &#8217;":  `"Quoted" ’`,
		"<b>stays</b>":              "<b>stays</b>",
		"Google\u0092s":             "Google’s",
		"\x00\x01":                  "",
		"\u2028one\u00a0\u2029two ": "one two",
	} {
		if got := Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestOnlyWebAddressesAreLinks(t *testing.T) {
	for _, s := range []string{
		"", "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)", "data:text/html,x",
		"vbscript:x", "ftp://a.org", "//a.org", "/item/1", "http:", "http://", "https:///x", "http://:80/", "mailto:a@b.c",
		"http://a.org/\x00", "http://[::1", "http://a b.org/", "javascript://a.org/%0aalert(1)",
	} {
		if got, ok := ParseLink(s); ok {
			t.Errorf("ParseLink(%q) = %+v", s, got)
		}
	}
	for s, want := range map[string]Link{
		"http://www.paulgraham.com/mit.html": {"http://www.paulgraham.com/mit.html", "paulgraham.com"},
		" HTTPS://News.Example.com:8443/a?b": {"https://News.Example.com:8443/a?b", "news.example.com"},
		"http://trusted.org@evil.org/":       {"http://trusted.org@evil.org/", "evil.org"},
		`http://a.org/"><script>`:            {"http://a.org/%22%3E%3Cscript%3E", "a.org"},
	} {
		if got, ok := ParseLink(s); !ok || got != want {
			t.Errorf("ParseLink(%q) = %+v, %v, want %+v", s, got, ok, want)
		}
	}
}

// A million marks that never close must not cost a million times a million
// steps. Each takes well under a second; the old quadratic ones took minutes.
func TestHostileTextIsReadInTime(t *testing.T) {
	const size = 1 << 20
	for _, unit := range []string{"<", "<a", "<a href=\"", "*", "-*a*b", " *a", "http://a.org/", "(", "http://x/))", "â", "\u0080", "&", "&#", "\n", " \n", "<p>", "<i>", "<pre>", "\n  a", "<pre> \n", "<a href=\"http://a.org\">x"} {
		start := time.Now()
		Text(strings.Repeat(unit, size/len(unit)))
		Typed(strings.Repeat(unit, size/len(unit)))
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%q took %s", unit, took)
		}
	}
	start := time.Now()
	Text("http://a.org/" + strings.Repeat(")", size))
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("closing parentheses took %s", took)
	}
}

func FuzzText(f *testing.F) {
	f.Add("a <i>b</i> *c* http://d.org/e) <p><pre><code> x </code></pre> &#34;\u0092")
	f.Add("<a href=\"http://a.org\">x</a><a href=\"javascript:x\">y")
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			t.Skip("the store holds valid UTF-8")
		}
		for _, b := range Text(s) {
			if len(b.Spans) == 0 {
				t.Fatal("an empty paragraph")
			}
			for _, span := range b.Spans {
				checkShown(t, span.Text)
				if span.Href == "" {
					continue
				}
				if _, ok := ParseLink(span.Href); !ok {
					t.Fatalf("link to %q", span.Href)
				}
			}
		}
		for _, b := range Typed(s) {
			for _, span := range b.Spans {
				checkShown(t, span.Text)
				if span.Href != "" && !strings.HasPrefix(span.Text, "http") {
					t.Fatalf("%q leads to %q and does not say so", span.Text, span.Href)
				}
			}
		}
		line := Line(s)
		checkShown(t, line)
		if strings.ContainsAny(line, "\n\t") {
			t.Fatalf("title %q has more than one line", line)
		}
	})
}

func checkShown(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Fatalf("%q is not valid UTF-8", s)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
		t.Fatalf("%q has control characters", s)
	}
}
