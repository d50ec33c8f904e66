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
// own words and the rules by which they are read, so an edited one is another one.
//
// There are two generations. What is found in the old one moves to the young
// one; when that is full, it becomes the old one, and what nobody asked for
// meanwhile is gone.
type texts struct {
	mu         sync.Mutex
	young, old map[written]template.HTML // mu
	size       int                       // mu; bytes in young
}

// written is a text; typed: by a person, and not of the simulator.
type written struct {
	text  string
	typed bool
}

// maxTexts bounds a generation in bytes; both together hold the texts of some
// 20,000 comments.
const maxTexts = 8 << 20

func newTexts() *texts { return &texts{young: make(map[written]template.HTML)} }

// of is the markup of an item's text.
func (t *texts) of(it news.Item) template.HTML { return t.html(it.Body, it.ID.Own()) }

// html is the markup of a text.
func (t *texts) html(words string, typed bool) template.HTML {
	if words == "" {
		return ""
	}
	text := written{words, typed}
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
	read := news.Text
	if typed {
		read = news.Typed
	}
	made = markupOf(read(words))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keepLocked(text, made)
	return made
}

func (t *texts) keepLocked(text written, made template.HTML) {
	cost := len(text.text) + len(made) + 64 // for the map
	if cost > maxTexts/8 {
		return // one text must not push out all others
	}
	if t.size+cost > maxTexts {
		t.old, t.young, t.size = t.young, make(map[written]template.HTML), 0
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

// summaryOf is the summary of an item's text.
func summaryOf(it news.Item) string {
	if it.ID.Own() {
		return summary(it.Body, news.Typed)
	}
	return summary(it.Body, news.Text)
}

// summary is the beginning of a text without its marks, for other sites.
func summary(text string, read func(string) []news.Block) string {
	var b strings.Builder
	for _, block := range read(text[:min(len(text), 4*maxSummary)]) {
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
