package news

import (
	"html"
	"strings"
	"unicode"
	"unicode/utf8"
)

// cp1252 are the characters that Windows keeps where Unicode has the control
// characters U+0080 to U+009F; 0 where it has none. Items of 2006 are full of
// them, and browsers read &#146; by the same table.
var cp1252 = [32]rune{
	'€', 0, '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', 0, 'Ž', 0,
	0, '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', 0, 'ž', 'Ÿ',
}

// readable makes a string of the simulator fit to be shown: entities decoded
// once, and repaired.
func readable(s string) string { return repaired(html.UnescapeString(s)) }

// repaired has Windows characters and UTF-8 that was decoded as Latin-1 as they
// were meant, line ends unified, every other control character dropped.
func repaired(s string) string {
	if !hasControl(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if fixed, width := undouble(s[i:]); width > 0 {
			b.WriteRune(fixed)
			i += width
			continue
		}
		i += n
		switch {
		case r == '\r':
			if !strings.HasPrefix(s[i:], "\n") {
				b.WriteByte('\n')
			}
		case 0x80 <= r && r <= 0x9f:
			if w := cp1252[r-0x80]; w != 0 {
				b.WriteRune(w)
			}
		case r == '\n' || r == '\t' || !unicode.IsControl(r):
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hasControl reports whether there is a control character but a line end or a
// tab. All of them are one byte, or begin with 0xC2.
func hasControl(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' && c != '\n' && c != '\t', c == 0x7f:
			return true
		case c == 0xc2 && i+1 < len(s) && s[i+1] <= 0x9f:
			return true
		}
	}
	return false
}

// undouble reads one character whose UTF-8 bytes were taken for Latin-1
// ("â\u0080\u009c" for a quotation mark). It acts only where one of the bytes
// became a control character: nobody types those, while "Ã©" may be meant.
func undouble(s string) (fixed rune, width int) {
	var raw [utf8.UTFMax]byte
	control := false
	for n := 0; n < len(raw) && width < len(s); n++ {
		r, w := utf8.DecodeRuneInString(s[width:])
		if r < 0x80 || r > 0xff {
			return 0, 0
		}
		control = control || r < 0xa0
		raw[n] = byte(r)
		width += w
		if got, size := utf8.DecodeRune(raw[:n+1]); size == n+1 && got != utf8.RuneError && control {
			return got, width
		}
	}
	return 0, 0
}

// Line reads a title: one line, entities decoded, runs of white space as one
// blank.
func Line(s string) string { return oneLine(readable(s)) }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Visible reports whether there is anything to see in a line that has been read:
// one character that is no space, no mark and no control of the format.
func Visible(line string) bool {
	return strings.ContainsFunc(line, func(r rune) bool {
		return unicode.IsGraphic(r) && !unicode.IsSpace(r) && !unicode.In(r, unicode.M, unicode.Zs) && !strings.ContainsRune(blanks, r)
	})
}

// blanks are letters and a symbol that have no ink: fillers of Hangul, and the
// pattern of Braille without dots.
const blanks = "\u115f\u1160\u3164\uffa0\u2800"
