package news

import (
	"strings"
	"testing"
)

// A comment as people write them: two paragraphs, an address, emphasis.
const usual = `I think that the door needs a porter, and that *everybody* who has run a server will agree with it.

There is more of it at https://example.com/porter?a=b and in the book: "two things go together" &amp; so on. ` +
	`Nobody asks where the queue ends; it just has to be shorter than people's patience, which is about a second.`

func BenchmarkText(b *testing.B) {
	for name, s := range map[string]string{
		"plain":  strings.Repeat("I think that things go together here. ", 8),
		"usual":  usual,
		"markup": `One<p>two <i>three</i> <a href="http:&#x2F;&#x2F;a.org">http:&#x2F;&#x2F;a.org</a><p><pre><code>  if x {` + "\n" + `    y` + "\n" + `  }` + "\n" + `</code></pre>don` + "\u0092" + `t`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				HTML(Text(s))
			}
		})
	}
}

func BenchmarkFlatten(b *testing.B) {
	nodes := make([]Node, 1000)
	for i := range nodes {
		nodes[i] = Node{ID: ID(i + 2), Parent: ID(i/3 + 1), Points: i % 7}
	}
	b.ReportAllocs()
	for b.Loop() {
		Flatten(1, nodes)
	}
}
