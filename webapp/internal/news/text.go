package news

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Block is a paragraph, or code whose white space counts.
type Block struct {
	Code  bool
	Spans []Span
}

// Span is a run of plain text. Whoever shows it escapes it; Href, where there
// is one, has been through ParseLink.
type Span struct {
	Text     string
	Href     string
	Emphasis bool
}

// Typed reads what a person has typed, by the marks that people know: blank lines
// between paragraphs, *emphasis*, bare addresses, code behind two blanks. There
// are no tags and no entities: "<p>" and "&lt;" are what is talked about, and a
// link says where it leads.
func Typed(s string) []Block {
	r := textReader{typed: true}
	r.add(s)
	r.endBlock()
	return r.blocks
}

// Text reads a text of the simulator: Hacker News' own HTML (p, i, a, pre, code,
// br) and its markup for people (blank lines between paragraphs, *emphasis*,
// bare addresses, code behind two blanks). No other tag has a meaning; it is
// shown as it was typed.
func Text(s string) []Block {
	r := textReader{}
	for s != "" {
		at := strings.IndexByte(s, '<')
		if at < 0 {
			at = len(s)
		}
		r.add(s[:at])
		s = s[at:]
		if s == "" {
			break
		}
		tag, width := readTag(s)
		if width == 0 {
			r.add("<")
			s = s[1:]
			continue
		}
		r.apply(tag)
		s = s[width:]
	}
	r.endBlock()
	return r.blocks
}

type tag struct {
	name string // "p", "/p", …
	href string // of an a
}

// Bounds on how far a mark looks for its end: a text of a million opening
// marks must not cost a million times a million steps.
const (
	maxTag      = maxURL + 64 // bytes; the longest is an a with a long address
	maxEmphasis = 500         // bytes
)

// readTag reads a tag that has a meaning here; width 0 means that s begins
// with something else.
func readTag(s string) (t tag, width int) {
	end := strings.IndexByte(s[:min(len(s), maxTag)], '>')
	if end < 0 {
		return tag{}, 0
	}
	name, rest, _ := strings.Cut(strings.TrimSuffix(s[1:end], "/"), " ")
	if len(name) > len("/code") {
		return tag{}, 0
	}
	name = strings.ToLower(name)
	switch name {
	case "p", "/p", "i", "/i", "pre", "/pre", "code", "/code", "br", "/a":
		return tag{name: name}, end + 1
	case "a":
		return tag{name: name, href: attribute(rest, "href")}, end + 1
	}
	return tag{}, 0
}

func attribute(s, name string) string {
	at := strings.Index(strings.ToLower(s), name+`="`)
	if at < 0 || at+len(name)+2 > len(s) {
		return ""
	}
	value, _, _ := strings.Cut(s[at+len(name)+2:], `"`)
	return readable(value)
}

type textReader struct {
	blocks   []Block
	spans    []Span          // of the paragraph that is being read
	raw      string          // of the span that is being read
	more     strings.Builder // what raw was too, when it is not one piece of the text
	href     string
	emphasis bool
	pre      bool
	typed    bool // has no entities
}

// add copies only where a span has several pieces, which is rare.
func (r *textReader) add(piece string) {
	switch {
	case r.more.Len() > 0:
		r.more.WriteString(piece)
	case r.raw == "":
		r.raw = piece
	case piece != "":
		r.more.WriteString(r.raw)
		r.more.WriteString(piece)
	}
}

// take ends a span.
func (r *textReader) take() string {
	s := r.raw
	if r.more.Len() > 0 {
		s = r.more.String()
		r.more.Reset()
	}
	r.raw = ""
	return s
}

func (r *textReader) apply(t tag) {
	switch t.name {
	case "br":
		r.add("\n")
	case "i", "/i":
		r.endSpans()
		r.emphasis = t.name == "i"
	case "a", "/a":
		r.endSpans()
		r.href = ""
		if link, ok := ParseLink(t.href); ok {
			r.href = link.Href
		}
	case "p", "/p":
		r.endBlock()
	case "pre", "/pre":
		r.endBlock()
		r.pre = t.name == "pre"
	}
	// code inside pre adds nothing, and alone it is as good as text
}

// endSpans turns the text read so far into spans of the present paragraph,
// and closes paragraphs at blank lines.
func (r *textReader) endSpans() {
	s := r.take()
	if r.typed {
		s = repaired(s)
	} else {
		s = readable(s)
	}
	if r.pre || r.href != "" {
		if !Visible(s) {
			r.href = "" // nobody could tell where it is
		}
		if s != "" {
			r.spans = append(r.spans, Span{Text: s, Href: r.href, Emphasis: r.emphasis})
		}
		return
	}
	for i, part := range splitParagraphs(s) {
		if i > 0 {
			r.closeParagraph()
		}
		r.spans = inline(r.spans, part, r.emphasis)
	}
}

func (r *textReader) endBlock() {
	r.endSpans()
	r.closeParagraph()
	r.href, r.emphasis = "", false
}

func (r *textReader) closeParagraph() {
	b := Block{Spans: r.spans, Code: r.pre}
	r.spans = nil
	if !r.pre {
		b.Code = indented(b.Spans)
		if !b.Code {
			b.Spans = trimmed(b.Spans)
		}
	}
	if b.Code {
		b.Spans = asCode(b.Spans)
	}
	if len(b.Spans) > 0 {
		r.blocks = append(r.blocks, b)
	}
}

// splitParagraphs cuts at lines that hold nothing but white space.
func splitParagraphs(s string) []string {
	var parts []string
	start, lineStart, blank := 0, 0, false
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '\n' {
			continue
		}
		if strings.TrimSpace(s[lineStart:i]) != "" {
			if blank && lineStart > start {
				parts = append(parts, s[start:lineStart])
				start = lineStart
			}
			blank = false
		} else if i < len(s) && lineStart > 0 {
			blank = true
		}
		lineStart = i + 1
	}
	parts = append(parts, s[start:])
	if blank { // what follows begins a paragraph of its own
		parts = append(parts, "")
	}
	return parts
}

// indented reports whether every line of a paragraph begins with two blanks.
func indented(spans []Span) bool {
	if len(spans) == 0 {
		return false
	}
	for line := range strings.Lines(strings.Trim(joined(spans), "\n")) {
		if !strings.HasPrefix(line, "  ") || strings.TrimSpace(line) == "" {
			return false
		}
	}
	return strings.TrimSpace(joined(spans)) != ""
}

func joined(spans []Span) string {
	if len(spans) == 1 {
		return spans[0].Text
	}
	var b strings.Builder
	for _, s := range spans {
		b.WriteString(s.Text)
	}
	return b.String()
}

// asCode makes one span of code, moved left as far as its lines allow.
func asCode(spans []Span) []Span {
	text := strings.TrimRightFunc(strings.Trim(joined(spans), "\n"), unicode.IsSpace)
	margin := len(text)
	for line := range strings.Lines(text) {
		if words := strings.TrimLeft(line, " "); words != "\n" {
			margin = min(margin, len(line)-len(words))
		}
	}
	if margin > 0 {
		text = strings.ReplaceAll("\n"+text, "\n"+strings.Repeat(" ", margin), "\n")[1:]
	}
	if text == "" {
		return nil
	}
	return []Span{{Text: text}}
}

// Beginning is the first part of a text, at most so many bytes of it: up to white
// space, where there is some near, or half an address would lead elsewhere.
func Beginning(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	near := max(0, most-maxWord)
	if at := strings.LastIndexFunc(s[near:most], unicode.IsSpace); at >= 0 {
		return s[:near+at]
	}
	return s[:most]
}

// maxWord bounds what Beginning leaves out for the sake of a word, in bytes.
const maxWord = 200

// trimmed takes white space from both ends of a paragraph.
func trimmed(spans []Span) []Span {
	for len(spans) > 0 {
		spans[0].Text = strings.TrimLeftFunc(spans[0].Text, unicode.IsSpace)
		if spans[0].Text != "" {
			break
		}
		spans = spans[1:]
	}
	for len(spans) > 0 {
		last := &spans[len(spans)-1]
		last.Text = strings.TrimRightFunc(last.Text, unicode.IsSpace)
		if last.Text != "" {
			break
		}
		spans = spans[:len(spans)-1]
	}
	return spans
}

// inline appends the spans of plain text, with its addresses and *emphasis*.
func inline(spans []Span, s string, emphasis bool) []Span {
	plain := 0 // start of what is not in a span yet
	flush := func(to int) {
		if to > plain {
			spans = append(spans, Span{Text: s[plain:to], Emphasis: emphasis})
		}
	}
	for i := 0; i < len(s); {
		switch {
		case s[i] == 'h' && wordStart(s, i) && (strings.HasPrefix(s[i:], "http://") || strings.HasPrefix(s[i:], "https://")):
			end := i + addressLen(s[i:])
			if link, ok := ParseLink(s[i:end]); ok {
				flush(i)
				spans = append(spans, Span{Text: s[i:end], Href: link.Href, Emphasis: emphasis})
				plain = end
			}
			i = end
		case s[i] == '*' && !emphasis && wordStart(s, i):
			n := emphasisLen(s[i:])
			if n > 0 {
				flush(i)
				spans = inline(spans, s[i+1:i+n-1], true) // one level: emphasis is set
				plain = i + n
			}
			i += max(n, 1)
		default:
			i++
		}
	}
	flush(len(s))
	return spans
}

// wordStart reports whether no letter, digit or '*' stands right before i.
func wordStart(s string, i int) bool {
	r, _ := utf8.DecodeLastRuneInString(s[:i])
	return i == 0 || r != '*' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
}

// addressLen is the length of the address at the start of s, without the
// punctuation of the sentence around it.
func addressLen(s string) int {
	end := strings.IndexFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune("<>\"“”«»`", r)
	})
	if end < 0 {
		end = len(s)
	}
	surplus := strings.Count(s[:end], ")") - strings.Count(s[:end], "(") // closed here, opened before the address
	for end > 0 {
		switch c := s[end-1]; {
		case c == ')' && surplus > 0:
			surplus--
		case strings.IndexByte(".,;:!?'*]", c) < 0:
			return end
		}
		end--
	}
	return end
}

// emphasisLen is the length of "*some words*" at the start of s, or 0. Both
// stars touch a word, and the words stand on one line.
func emphasisLen(s string) int {
	line, _, _ := strings.Cut(s[:min(len(s), maxEmphasis)], "\n")
	for i := 2; i < len(line); i++ {
		if line[i] != '*' {
			continue
		}
		first, _ := utf8.DecodeRuneInString(line[1:])
		last, _ := utf8.DecodeLastRuneInString(line[:i])
		next, _ := utf8.DecodeRuneInString(line[i+1:])
		if unicode.IsSpace(first) || first == '*' || unicode.IsSpace(last) {
			return 0
		}
		if i+1 < len(line) && (next == '*' || unicode.IsLetter(next) || unicode.IsDigit(next)) {
			continue
		}
		return i + 1
	}
	return 0
}
