package route

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSegment is the longest segment that is kept as it is: longer ones are
// texts, and labels have an end.
const maxSegment = 32

// maxLook is the longest segment that is looked at: no id is longer.
const maxLook = 256

// Placeholders, by what a segment looks like.
const (
	anID    = "{id}"    // a number, or something with three digits or more
	aUUID   = "{uuid}"  // 8-4-4-4-12
	aHash   = "{hash}"  // hex
	aToken  = "{token}" // letters of both cases and digits in disorder
	aSlug   = "{slug}"  // a title with its words joined
	aName   = "{name}"  // @name, or one of too many at this place
	aText   = "{text}"  // long, or with characters that names do not have
	theRest = "{rest...}"
)

type extension struct {
	file  string // the placeholder
	asset bool   // a file that pages need: its name is never kept
}

// extensions of files. Names of assets carry hashes and versions of all kinds;
// of documents only the names that look like one are folded.
var extensions = func() map[string]extension {
	m := make(map[string]extension)
	for _, e := range strings.Fields("avif bmp css eot gif ico jpeg jpg js map mjs mp3 mp4 ogg otf png svg ttf wasm webm webp woff woff2") {
		m[e] = extension{"{file}." + e, true}
	}
	for _, e := range strings.Fields("asp aspx atom cgi csv doc docx gz htm html json jsp md pdf php rss tar txt webmanifest xls xlsx xml zip") {
		m[e] = extension{"{file}." + e, false}
	}
	return m
}()

// extensionOf is what is known of a file's extension.
func extensionOf(segment string) (extension, bool) {
	i := strings.LastIndexByte(segment, '.')
	if i < 0 || len(segment)-i-1 > 11 {
		return extension{}, false
	}
	var low [11]byte
	n := copy(low[:], segment[i+1:])
	for j := range low[:n] {
		if low[j] >= 'A' && low[j] <= 'Z' {
			low[j] |= 0x20
		}
	}
	e, ok := extensions[string(low[:n])]
	return e, ok
}

// fold is what stands for a segment in a template: the segment itself if it
// looks like a name that somebody gave to a part of the application, else a
// placeholder. It depends on nothing but the segment.
func fold(segment string) (token string, kept bool) {
	e, known := extensionOf(segment)
	if known && e.asset {
		return e.file, false
	}
	stem := segment
	if known {
		stem = segment[:strings.LastIndexByte(segment, '.')]
	}
	placeholder := foldStem(stem)
	switch {
	case placeholder == "" && len(segment) <= maxSegment:
		return segment, true
	case known:
		return e.file, false
	}
	return placeholder, false
}

// foldStem is the placeholder of a segment without its extension, empty if it
// stays.
func foldStem(s string) string {
	switch {
	case len(s) > maxLook:
		return aText
	case isUUID(s):
		return aUUID
	}
	l := look(s)
	switch {
	case s == "":
		return ""
	case l.strange:
		return aText
	case l.digits == len(s):
		return anID
	case l.hex && (l.digits > 0 && len(s) >= 7 || len(s) >= 16):
		return aHash
	case s[0] == '@' || s[0] == '~':
		return aName
	case l.words == 1 && (len(s) >= 8 && l.digits > 0 && l.turns >= len(s)/3 || len(s) >= 16 && l.turns >= len(s)/4):
		return aToken
	case l.words >= 4 && l.digits*2 < len(s), l.words >= 3 && isDigit(s[0]) && l.digits*2 < len(s):
		return aSlug
	case l.digits >= 3:
		return anID
	case len(s) > maxSegment:
		return aText
	}
	return ""
}

// looks is what can be seen of a segment in one pass.
type looks struct {
	digits  int
	words   int  // parts between - _ + .
	turns   int  // changes between small letters, capitals and digits
	hex     bool // nothing but hex digits
	strange bool // has characters that names do not have, or is no UTF-8
}

func look(s string) looks {
	const other, small, capital, digit = 0, 1, 2, 3
	l := looks{words: 1, hex: true}
	before := other
	for i := 0; i < len(s); i++ {
		c, class := s[i], other
		switch {
		case isDigit(c):
			l.digits++
			class = digit
		case isLower(c):
			l.hex = l.hex && c <= 'f'
			class = small
		case c >= 'A' && c <= 'Z':
			l.hex = l.hex && c <= 'F'
			class = capital
		default:
			l.hex = false
			switch {
			case c == '-' || c == '_' || c == '+' || c == '.':
				l.words++
			case c == '~' || c == '@':
			case c < utf8.RuneSelf:
				l.strange = true
			default:
				r, size := utf8.DecodeRuneInString(s[i:])
				l.strange = l.strange || !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r)
				i += size - 1
			}
		}
		if class != before && class != other && before != other {
			l.turns++
		}
		before = class
	}
	return l
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') || !dash && !isHex(s[i]) {
			return false
		}
	}
	return true
}

// decode unescapes a path but for what would not be one segment any more, or is
// broken: that keeps its %, and is strange.
func decode(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return path
	}
	var raw strings.Builder
	raw.Grow(len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' && i+2 < len(path) && isHex(path[i+1]) && isHex(path[i+2]) {
			if d := unhex(path[i+1])<<4 | unhex(path[i+2]); d != '/' {
				c = d
				i += 2
			}
		}
		raw.WriteByte(c)
	}
	return raw.String()
}
