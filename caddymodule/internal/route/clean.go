package route

import (
	"bytes"
	"strings"
)

// clean is what most applications make of a path before they look at it: escapes
// of characters that need none undone (RFC 3986, section 6.2.2.2), slashes in a
// row made one, and dot segments resolved (6.2.2.3), in that order. %2F and other
// escapes stay as they are. A clean path is given back as it is, and so is one with
// a broken escape: no URL has one, and undoing others may make it whole.
func clean(path string) string {
	if isClean(path) || !escapesAreWhole(path) {
		return path
	}
	out := make([]byte, 0, len(path))
	for rest := unescapeUnreserved(path); rest != ""; {
		text := rest[1:] // every segment begins with its slash
		end := strings.IndexByte(text, '/')
		if end < 0 {
			end = len(text)
		}
		text, rest = text[:end], text[end:]
		switch {
		case text == "..":
			out = out[:max(bytes.LastIndexByte(out, '/'), 0)]
		case text != "" && text != ".":
			out = append(append(out, '/'), text...)
			continue
		}
		if rest == "" {
			out = append(out, '/') // a last one names what is below
		}
	}
	return string(out)
}

// isClean looks for what clean would change. The path begins with a slash.
func isClean(path string) bool {
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '%':
			if c, ok := escaped(path[i:]); ok && isUnreserved(c) {
				return false
			}
		case path[i] == '/' && i+1 < len(path):
			next := path[i+1:]
			if next[0] == '/' || next[0] == '.' && isDots(next) {
				return false
			}
		}
	}
	return true
}

// isDots reports whether the first segment of s is . or .. with no escapes.
func isDots(s string) bool {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		s = s[:i]
	}
	return s == "." || s == ".."
}

func unescapeUnreserved(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return path
	}
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		if d, ok := escaped(path[i:]); ok && isUnreserved(d) {
			c = d
			i += 2
		}
		out = append(out, c)
	}
	return string(out)
}

// escaped is the byte that s begins with, if it begins with an escape.
func escaped(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' || !isHex(s[1]) || !isHex(s[2]) {
		return 0, false
	}
	return unhex(s[1])<<4 | unhex(s[2]), true
}

// isUnreserved: RFC 3986, section 2.3.
func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}
