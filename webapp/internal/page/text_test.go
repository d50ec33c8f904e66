package page

import (
	"fmt"
	"html/template"
	"strings"
	"sync"
	"testing"

	"github.com/portner/portner/webapp/internal/news"
)

func TestKeptTextsAreBounded(t *testing.T) {
	texts := newTexts()
	for i := range 3000 {
		text := fmt.Sprintf("%d %s", i, strings.Repeat("<words> ", 1000))
		if got, want := texts.html(text, false), markupOf(news.Text(text)); got != want {
			t.Fatalf("%d: %.80s, want %.80s", i, got, want)
		}
		texts.html("asked for again and again", false)
		size := 0
		for _, generation := range []map[written]template.HTML{texts.young, texts.old} {
			for text, made := range generation {
				size += len(text.text) + len(made)
			}
		}
		if size > 2*maxTexts {
			t.Fatalf("%d bytes after %d texts, at most %d", size, i+1, 2*maxTexts)
		}
	}
	_, young := texts.young[written{"asked for again and again", false}]
	if _, old := texts.old[written{"asked for again and again", false}]; !young && !old {
		t.Error("what is asked for all the time is not kept")
	}
	if _, kept := texts.young[written{"0 " + strings.Repeat("<words> ", 1000), false}]; kept {
		t.Error("the first of three thousand is kept")
	}
}

// The same words are two texts when a person and the simulator say them.
func TestKeptTextIsThatOfItsWriter(t *testing.T) {
	texts := newTexts()
	for range 2 {
		for typed, want := range map[bool]string{false: "\n<p>a</p>\n<p>b &amp;</p>", true: "\n<p>a&lt;p&gt;b &amp;amp;</p>"} {
			if got := texts.html("a<p>b &amp;", typed); string(got) != want {
				t.Errorf("typed %v: %q", typed, got)
			}
		}
	}
}

func TestTextsAreMadeByManyAtOnce(t *testing.T) {
	texts := newTexts()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				text := fmt.Sprintf("*%d* %s", i%300, strings.Repeat("x", 10_000))
				if got := texts.html(text, false); !strings.HasPrefix(string(got), fmt.Sprintf("\n<p><em>%d</em> x", i%300)) {
					t.Errorf("%d: %.60s", i, got)
				}
			}
		})
	}
	wg.Wait()
}

func TestSummaryIsPlainAndShort(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		"*One*.\n\n<p>Two":          "One. Two",
		"a &lt;b&gt; &amp;lt;":      "a <b> &lt;",
		strings.Repeat("x", 500):    "",
		strings.Repeat("word ", 90): strings.TrimSpace(strings.Repeat("word ", 40)) + " …",
		strings.Repeat("äöü ", 90):  strings.TrimSpace(strings.Repeat("äöü ", 28)) + " …",
	} {
		if got := summary(text, news.Text); got != want {
			t.Errorf("%.40q: %q, want %q", text, got, want)
		}
	}
}
