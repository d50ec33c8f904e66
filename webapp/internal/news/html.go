package news

import "strings"

// escaper makes text safe between tags and within quotes, as html.EscapeString
// does, and writes it without a copy.
var escaper = strings.NewReplacer("&", "&amp;", "'", "&#39;", "<", "&lt;", ">", "&gt;", `"`, "&#34;")

// HTML writes blocks as the HTML of Hacker News' API: paragraphs are divided
// by <p>, links are marked as their author's.
func HTML(blocks []Block) string {
	var b strings.Builder
	size := 0
	for _, block := range blocks {
		for _, s := range block.Spans {
			size += len(s.Text) + len(s.Href) + 32 // the tags; what is escaped is little
		}
	}
	b.Grow(size)
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
		b.WriteString(`<a href="`)
		escaper.WriteString(b, s.Href)
		b.WriteString(`" rel="ugc nofollow">`)
	}
	escaper.WriteString(b, s.Text)
	if s.Href != "" {
		b.WriteString("</a>")
	}
	if s.Emphasis {
		b.WriteString("</i>")
	}
}
