package news

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// form reads typed values from the members of an object and collects what is
// wrong with them, so that a sender hears everything at once.
type form struct {
	fields map[string]json.RawMessage
	wrongs []Wrong
}

func (f *form) wrong(field, why string, args ...any) {
	f.wrongs = append(f.wrongs, Wrong{field, fmt.Sprintf(why, args...)})
}

func (f *form) member(name string) (json.RawMessage, bool) {
	raw, ok := f.fields[name]
	if !ok {
		f.wrong(name, "is missing")
	}
	return raw, ok
}

// text reads a string of at most limit characters. Of the control characters
// only NUL is refused: real items carry others, C programs stop at this one.
func (f *form) text(name string, limit int) string {
	raw, ok := f.member(name)
	if !ok {
		return ""
	}
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		f.wrong(name, "must be a string")
		return ""
	}
	switch {
	case loneSurrogate(raw):
		f.wrong(name, "holds half of a surrogate pair")
	case strings.IndexByte(s, 0) >= 0:
		f.wrong(name, "holds a NUL character")
	case utf8.RuneCountInString(s) > limit:
		f.wrong(name, "is longer than %d characters", limit)
	}
	return s
}

// integer reads a JSON number that is written as an integer.
func (f *form) integer(name string) (int64, bool) {
	raw, ok := f.member(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		if integral(raw) {
			f.wrong(name, "must be at most %d", MaxID)
		} else {
			f.wrong(name, "must be an integer")
		}
		return 0, false
	}
	return n, true
}

func integral(raw []byte) bool {
	digits := bytes.TrimPrefix(raw, []byte("-"))
	return len(digits) > 0 && len(bytes.Trim(digits, "0123456789")) == 0
}

func (f *form) id(name string) ID {
	n, ok := f.integer(name)
	if ok && (n < 1 || ID(n) >= FirstOwnID) {
		f.wrong(name, "must be between 1 and %d", FirstOwnID-1)
	}
	return ID(n)
}

// parent reads an id or -1, which means none.
func (f *form) parent(name string) ID {
	n, ok := f.integer(name)
	if ok && n == -1 {
		return 0
	}
	if ok && (n < 1 || ID(n) > MaxID) {
		f.wrong(name, "must be -1 or between 1 and %d", MaxID)
	}
	return ID(n)
}

func (f *form) kind(name string) Kind {
	before := len(f.wrongs)
	k := Kind(f.text(name, maxSecret))
	for _, known := range Kinds {
		if k == known {
			return k
		}
	}
	if len(f.wrongs) == before {
		f.wrong(name, "must be one of story, comment, poll, pollopt, job")
	}
	return k
}

func (f *form) name(name string) string {
	before := len(f.wrongs)
	s := f.text(name, maxTitle)
	if len(f.wrongs) == before && !ValidName(s) {
		f.wrong(name, "must be 1 to %d letters, digits, '_' or '-'", MaxName)
	}
	return s
}

// together checks what fields say about each other. A comment or an option
// without a parent is kept, because the simulator's rule is that nothing is
// lost; a story below something else has no place where it could be shown.
func (f *form) together(p Post) {
	if p.Secret == "" {
		f.wrong("pwd_hash", "must not be empty")
	}
	if p.Parent == p.ID {
		f.wrong("post_parent", "must not be the item itself")
	}
	if p.Kind.Heads() && p.Parent != 0 {
		f.wrong("post_parent", "must be -1 for a %s", p.Kind)
	}
}

// loneSurrogate looks for \ud800 to \udfff escapes that are not a pair;
// encoding/json turns them into U+FFFD without a word. raw is a valid JSON
// string.
func loneSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // on the escaped character
		if raw[i] != 'u' {
			continue
		}
		unit := hex4(raw[i+1:])
		i += 4
		if unit < 0xd800 || unit > 0xdfff {
			continue
		}
		paired := unit < 0xdc00 && i+6 < len(raw) && raw[i+1] == '\\' && raw[i+2] == 'u' &&
			hex4(raw[i+3:])&0xfc00 == 0xdc00
		if !paired {
			return true
		}
		i += 6
	}
	return false
}

func hex4(b []byte) uint64 {
	n, _ := strconv.ParseUint(string(b[:4]), 16, 16) // the JSON decoder has checked the digits
	return n
}
