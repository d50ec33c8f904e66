package news

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Post is what the simulator sends to POST /post.
type Post struct {
	ID     ID
	Kind   Kind
	Parent ID // 0: none
	By     string
	Secret string // the simulator's password string; never logged, never shown
	Title  string
	Body   string
	URL    string
}

// Longest values, in characters. The longest of the real data are 139, 252
// and 10; a text is bounded by the request body alone.
const (
	maxTitle  = 1000
	maxURL    = 4000
	maxSecret = 256
)

// Wrong is one thing that is wrong with a post.
type Wrong struct {
	Field string // name of the field; "" for the document as a whole
	Why   string // completes a sentence that begins with the field's name
}

// Invalid is a post that cannot be taken in, with everything that is wrong
// with it. Malformed means that it could not be read as a JSON object at all.
type Invalid struct {
	Malformed bool
	Wrongs    []Wrong
}

func (e *Invalid) Error() string {
	said := make([]string, len(e.Wrongs))
	for i, w := range e.Wrongs {
		said[i] = strings.TrimSpace(w.Field + " " + w.Why)
	}
	return strings.Join(said, "; ")
}

func malformed(field, why string, args ...any) *Invalid {
	return &Invalid{Malformed: true, Wrongs: []Wrong{{field, fmt.Sprintf(why, args...)}}}
}

// ParsePost reads one post. It is stricter than encoding/json, which replaces
// bad UTF-8 and lone surrogates, takes "POST_TITLE" for "post_title" and lets
// the last of two equal names win: two readers of such a document may see two
// different posts. Fields it does not know are ignored, so that a newer
// simulator can talk to an older server. The error is always an *Invalid.
func ParsePost(body []byte) (Post, error) {
	fields, err := readObject(body)
	if err != nil {
		return Post{}, err
	}
	f := form{fields: fields}
	p := Post{
		Title:  f.text("post_title", maxTitle),
		Body:   f.text("post_text", len(body)),
		ID:     f.id("hanesst_id"),
		Kind:   f.kind("post_type"),
		Parent: f.parent("post_parent"),
		By:     f.name("username"),
		Secret: f.text("pwd_hash", maxSecret),
		URL:    f.text("post_url", maxURL),
	}
	if len(f.wrongs) == 0 {
		f.together(p)
	}
	if len(f.wrongs) > 0 {
		return Post{}, &Invalid{Wrongs: f.wrongs}
	}
	return p, nil
}

// readObject splits a JSON object into its members, undecoded.
func readObject(body []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(body) {
		return nil, malformed(fieldAt(body, firstInvalid(body)), "is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	open, err := dec.Token()
	if err != nil {
		return nil, malformed("", "the body is not JSON: %s", reason(err))
	}
	if open != json.Delim('{') {
		return nil, malformed("", "the body must be a JSON object")
	}
	fields := make(map[string]json.RawMessage, 8)
	key := "" // the member that was read last
	broken := func(err error) error {
		if key == "" {
			return malformed("", "the body is not JSON: %s", reason(err))
		}
		return malformed(clip(key), "is followed by what is not JSON: %s", reason(err))
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, broken(err)
		}
		key = name.(string) // the decoder takes nothing else for a name
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, malformed(clip(key), "is not JSON: %s", reason(err))
		}
		if _, twice := fields[key]; twice {
			return nil, malformed(clip(key), "stands there twice")
		}
		if known, ok := misspelt(key); ok {
			return nil, malformed(known, "is written %q; names are in small letters", clip(key))
		}
		fields[key] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, broken(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed("", "something follows the JSON object")
	}
	return fields, nil
}

// misspelt finds the field that some readers would take name for.
func misspelt(name string) (known string, ok bool) {
	for _, known := range fieldNames {
		if name != known && strings.EqualFold(name, known) {
			return known, true
		}
	}
	return "", false
}

// clip bounds what a message repeats of a name that the sender made up.
func clip(name string) string {
	if runes := []rune(name); len(runes) > 40 {
		return string(runes[:40]) + "…"
	}
	return name
}

func reason(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return err.Error()
}

func firstInvalid(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// fieldAt names the known field whose name stands last before position i, the
// best guess at where a broken byte belongs.
func fieldAt(b []byte, i int) string {
	found, at := "", -1
	for _, name := range fieldNames {
		if j := bytes.LastIndex(b[:i], []byte(`"`+name+`"`)); j > at {
			found, at = name, j
		}
	}
	return found
}

var fieldNames = []string{
	"post_title", "post_text", "hanesst_id", "post_type",
	"post_parent", "username", "pwd_hash", "post_url",
}
