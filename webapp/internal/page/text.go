package page

import (
	"html"
	"html/template"
	"strings"
	"sync"

	"github.com/portner/portner/webapp/internal/news"
)

// texts keeps the markup of texts that were shown lately: reading the marks of
// a text costs more than everything else of a comment. A text is found by its
// own words, so an edited one is another one.
//
// There are two generations. What is found in the old one moves to the young
// one; when that is full, it becomes the old one, and what nobody asked for
// meanwhile is gone.
type texts struct {
	mu         sync.Mutex
	young, old map[string]template.HTML // mu
	size       int                      // mu; bytes in young
}

// maxTexts bounds a generation in bytes; both together hold the texts of some
// 20,000 comments.
const maxTexts = 8 << 20

func newTexts() *texts { return &texts{young: make(map[string]template.HTML)} }

// html is the markup of a text.
func (t *texts) html(text string) template.HTML {
	if text == "" {
		return ""
	}
	t.mu.Lock()
	made, ok := t.young[text]
	if !ok {
		made, ok = t.old[text]
		if ok {
			t.keepLocked(text, made)
		}
	}
	t.mu.Unlock()
	if ok {
		return made
	}
	made = markupOf(news.Text(text))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keepLocked(text, made)
	return made
}

func (t *texts) keepLocked(text string, made template.HTML) {
	cost := len(text) + len(made) + 64 // for the map
	if cost > maxTexts/8 {
		return // one text must not push out all others
	}
	if t.size+cost > maxTexts {
		t.old, t.young, t.size = t.young, make(map[string]template.HTML), 0
	}
	t.young[text] = made
	t.size += cost
}

// markupOf writes blocks as HTML. Nothing of a user reaches it but through
// html.EscapeString; addresses have been through news.ParseLink.
func markupOf(blocks []news.Block) template.HTML {
	var b strings.Builder
	for _, block := range blocks {
		if block.Code {
			b.WriteString("\n<pre tabindex=\"0\"><code>")
		} else {
			b.WriteString("\n<p>")
		}
		for _, s := range block.Spans {
			writeSpan(&b, s)
		}
		if block.Code {
			b.WriteString("</code></pre>")
		} else {
			b.WriteString("</p>")
		}
	}
	return template.HTML(b.String())
}

func writeSpan(b *strings.Builder, s news.Span) {
	if s.Emphasis {
		b.WriteString("<em>")
	}
	if s.Href != "" {
		b.WriteString(`<a href="`)
		b.WriteString(html.EscapeString(s.Href))
		b.WriteString(`" rel="ugc nofollow">`)
	}
	b.WriteString(html.EscapeString(s.Text))
	if s.Href != "" {
		b.WriteString("</a>")
	}
	if s.Emphasis {
		b.WriteString("</em>")
	}
}

// summary is the beginning of a text without its marks, for other sites.
func summary(text string) string {
	var b strings.Builder
	for _, block := range news.Text(text[:min(len(text), 4*maxSummary)]) {
		for _, s := range block.Spans {
			b.WriteString(s.Text)
		}
		b.WriteByte(' ')
		if b.Len() > maxSummary {
			break
		}
	}
	words := strings.Join(strings.Fields(b.String()), " ")
	if len(words) <= maxSummary {
		return words
	}
	cut := strings.LastIndexByte(words[:maxSummary], ' ')
	if cut < 0 {
		return ""
	}
	return words[:cut] + " …"
}

const maxSummary = 200 // bytes; what is shown beside a link elsewhere
