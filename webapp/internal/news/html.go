package news

import (
	"html"
	"strings"
)

// HTML writes blocks as the HTML of Hacker News' API: paragraphs are divided
// by <p>, links are marked as their author's.
func HTML(blocks []Block) string {
	var b strings.Builder
	for i, block := range blocks {
		if i > 0 {
			b.WriteString("<p>")
		}
		if block.Code {
			b.WriteString("<pre><code>")
		}
		for _, s := range block.Spans {
			writeSpan(&b, s)
		}
		if block.Code {
			b.WriteString("</code></pre>")
		}
	}
	return b.String()
}

func writeSpan(b *strings.Builder, s Span) {
	if s.Emphasis {
		b.WriteString("<i>")
	}
	if s.Href != "" {
		b.WriteString(`<a href="` + html.EscapeString(s.Href) + `" rel="ugc nofollow">`)
	}
	b.WriteString(html.EscapeString(s.Text))
	if s.Href != "" {
		b.WriteString("</a>")
	}
	if s.Emphasis {
		b.WriteString("</i>")
	}
}
