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
		if got, want := texts.html(text), markupOf(news.Text(text)); got != want {
			t.Fatalf("%d: %.80s, want %.80s", i, got, want)
		}
		texts.html("asked for again and again")
		size := 0
		for _, generation := range []map[string]template.HTML{texts.young, texts.old} {
			for text, made := range generation {
				size += len(text) + len(made)
			}
		}
		if size > 2*maxTexts {
			t.Fatalf("%d bytes after %d texts, at most %d", size, i+1, 2*maxTexts)
		}
	}
	_, young := texts.young["asked for again and again"]
	if _, old := texts.old["asked for again and again"]; !young && !old {
		t.Error("what is asked for all the time is not kept")
	}
	if _, kept := texts.young["0 "+strings.Repeat("<words> ", 1000)]; kept {
		t.Error("the first of three thousand is kept")
	}
}

func TestTextsAreMadeByManyAtOnce(t *testing.T) {
	texts := newTexts()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				text := fmt.Sprintf("*%d* %s", i%300, strings.Repeat("x", 10_000))
				if got := texts.html(text); !strings.HasPrefix(string(got), fmt.Sprintf("\n<p><em>%d</em> x", i%300)) {
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
		if got := summary(text); got != want {
			t.Errorf("%.40q: %q, want %q", text, got, want)
		}
	}
}
