package route

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Pattern is a method and the shape of a path.
type Pattern struct {
	method   string // empty: any
	path     string // as written
	segments []segment
}

type segment struct {
	kind kind
	text string // literal: unescaped; one, rest: the name
}

type kind uint8

const (
	literal kind = iota
	one          // {name}: exactly one segment, which may be empty but not the end
	rest         // {name...} or a trailing slash: whatever follows the slash
	end          // {$}: nothing follows the slash
)

// ParsePattern parses a method, * for any, and a path pattern. GET includes
// HEAD, as in ServeMux. Unlike there, a pattern that could match only after the
// path was cleaned, or that holds a query, is refused for every method.
func ParsePattern(method, path string) (Pattern, error) {
	p := Pattern{method: method, path: path}
	if err := p.parse(); err != nil {
		return Pattern{}, fmt.Errorf("route: pattern %s %s: %w", printable(method), printable(path), err)
	}
	if method == "*" {
		p.method = ""
	}
	return p, nil
}

// String is the pattern as written: its method and its path.
func (p Pattern) String() string {
	if p.method == "" {
		return "* " + p.path
	}
	return p.method + " " + p.path
}

// Method is the pattern's method; empty: any.
func (p Pattern) Method() string { return p.method }

func (p *Pattern) parse() error {
	if err := checkMethod(p.method); err != nil {
		return err
	}
	switch {
	case !strings.HasPrefix(p.path, "/"):
		return errors.New("a path begins with a slash")
	case !utf8.ValidString(p.path) || strings.ContainsFunc(p.path, func(c rune) bool { return !unicode.IsPrint(c) }):
		return errors.New("write characters that cannot be printed percent-encoded, such as %0A")
	case strings.ContainsAny(p.path, "?#"):
		return errors.New("a pattern is a path only: leave out what follows the ? or #, or write %3F or %23")
	}
	texts := strings.Split(p.path[1:], "/")
	names := make(map[string]bool)
	for i, text := range texts {
		s, err := parseSegment(text, i == len(texts)-1)
		if err != nil {
			return err
		}
		if s.text != "" && s.kind != literal {
			if names[s.text] {
				return fmt.Errorf("two wildcards are called %s; choose another wildcard name", s.text)
			}
			names[s.text] = true
		}
		p.segments = append(p.segments, s)
	}
	return nil
}

func checkMethod(method string) error {
	switch {
	case method == "":
		return errors.New("expected a method, such as GET, or * for any")
	case method == "*":
		return nil
	case strings.ContainsFunc(method, func(c rune) bool { return !isToken(c) }):
		return errors.New("expected a method, such as GET, or * for any")
	case method != strings.ToUpper(method):
		return fmt.Errorf("methods are written in capitals: %s", strings.ToUpper(method))
	}
	return nil
}

// isToken: RFC 9110, 5.6.2.
func isToken(c rune) bool {
	return c < utf8.RuneSelf && (c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
}

func parseSegment(text string, last bool) (segment, error) {
	if text == "" && last {
		return segment{kind: rest}, nil
	}
	if !strings.ContainsAny(text, "{}") {
		if text == "" {
			return segment{}, errors.New("an empty segment (//) is never what clients ask for; use one slash")
		}
		raw := unescape(text)
		if raw == "." || raw == ".." {
			return segment{}, fmt.Errorf("a segment %s is resolved by clients before they ask; write the path that it leads to", text)
		}
		return segment{kind: literal, text: raw}, nil
	}
	name, ok := strings.CutPrefix(text, "{")
	if name, ok = cutSuffix(name, "}", ok); !ok || strings.ContainsAny(name, "{}") {
		return segment{}, fmt.Errorf("the wildcard in %s must be a whole segment, such as /{name}/", text)
	}
	if name == "$" {
		if !last {
			return segment{}, errors.New("{$} must be at the end")
		}
		return segment{kind: end}, nil
	}
	s := segment{kind: one, text: name}
	if name, ok := strings.CutSuffix(name, "..."); ok {
		if !last {
			return segment{}, fmt.Errorf("%s must be at the end", text)
		}
		s = segment{kind: rest, text: name}
	}
	return s, checkName(s.text)
}

func cutSuffix(s, suffix string, ok bool) (string, bool) {
	if !ok {
		return s, false
	}
	return strings.CutSuffix(s, suffix)
}

// checkName wants a Go identifier, as ServeMux does. Names with dots get a
// sentence of their own: the Caddyfile's reader has already replaced shorthands
// such as {path} and {uuid} by Caddy's placeholders when we see them.
func checkName(name string) error {
	if strings.Contains(name, ".") {
		return fmt.Errorf("{%s} is a placeholder of Caddy, perhaps written as a shorthand such as {path} or {uuid}; choose another wildcard name", name)
	}
	if name == "" {
		return errors.New("a wildcard needs a name, such as {id}")
	}
	for i, c := range name {
		if !unicode.IsLetter(c) && c != '_' && (i == 0 || !unicode.IsDigit(c)) {
			return fmt.Errorf("{%s}: a wildcard name has letters, digits and _ only, and begins with no digit; choose another wildcard name", name)
		}
	}
	return nil
}

// unescape gives back what is broken as it is, like ServeMux.
func unescape(s string) string {
	if raw, err := url.PathUnescape(s); err == nil {
		return raw
	}
	return s
}

func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '\uFFFD'
	}, s)
}

// relation is what one pattern matches compared with another. Both wider bits
// together: they overlap, and neither is more specific.
type relation uint8

const (
	same        relation = 0
	firstWider  relation = 1
	secondWider relation = 2
	overlap     relation = firstWider | secondWider
	apart       relation = 4 // no request matches both, whatever the other bits say
)

func (r relation) conflict() bool { return r == same || r == overlap }

func compare(a, b Pattern) relation {
	return compareMethods(a.method, b.method) | comparePaths(a.segments, b.segments)
}

func compareMethods(a, b string) relation {
	switch {
	case a == b:
		return same
	case a == "", a == "GET" && b == "HEAD":
		return firstWider
	case b == "", b == "GET" && a == "HEAD":
		return secondWider
	}
	return apart
}

func comparePaths(a, b []segment) (r relation) {
	for len(a) > 0 && len(b) > 0 {
		if a[0].kind == rest || b[0].kind == rest {
			return r | compareRest(a[0].kind, b[0].kind)
		}
		r |= compareSegments(a[0], b[0])
		a, b = a[1:], b[1:]
	}
	if len(a) > 0 || len(b) > 0 {
		return apart
	}
	return r
}

// compareRest compares two segments of which one is rest, and all that follows.
func compareRest(a, b kind) relation {
	switch {
	case a == b:
		return same
	case a == rest:
		return firstWider
	}
	return secondWider
}

func compareSegments(a, b segment) relation {
	switch {
	case a.kind == b.kind:
		if a.kind == literal && a.text != b.text {
			return apart
		}
		return same
	case a.kind == end || b.kind == end:
		return apart
	case a.kind == one:
		return firstWider
	}
	return secondWider
}

// example is a path that both patterns match; they are not apart.
func example(a, b []segment) string {
	var path strings.Builder
	for len(a) > 0 || len(b) > 0 {
		s := segment{kind: rest}
		if len(a) > 0 {
			s, a = a[0], a[1:]
		}
		if len(b) > 0 {
			if s.kind == rest || s.kind == one && b[0].kind != rest {
				s = b[0]
			}
			b = b[1:]
		}
		path.WriteByte('/')
		switch s.kind {
		case literal:
			path.WriteString(url.PathEscape(s.text))
		case one:
			path.WriteString(s.text)
		}
	}
	return path.String()
}
