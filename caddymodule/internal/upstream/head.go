package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"net/textproto"
	"strconv"
	"strings"
)

// Field is one field line of a message, its name in the canonical form of
// net/textproto.
type Field struct{ Name, Value string }

// ErrBroken is wrapped by every error about an answer that is no HTTP, or HTTP
// that two readers could understand in two ways (RFC 9112, sections 2.2, 5 and
// 6.3; RFC 9110, section 15.2.2). Such an answer is never passed on, and its
// connection is closed: what follows on it cannot be trusted.
var ErrBroken = errors.New("the application's answer is broken")

func broken(format string, args ...any) error {
	return fmt.Errorf("upstream: %w: %s", ErrBroken, fmt.Sprintf(format, args...))
}

// head is the first part of an answer, as it was framed.
type head struct {
	status int
	minor  int // of HTTP/1
	fields []Field
	length int64 // of the body; unknown: it is chunked or ends with the connection
	chunks bool
	close  bool // the connection ends with this answer
}

// unknown is the length of a body that tells its end in another way.
const unknown = -1

// headEnd finds the end of a message head in buf, of which the first seen bytes
// have been looked at before. It returns 0 when the end has not come yet. Lines
// end with CRLF and with nothing else (RFC 9112, section 2.2, allows a lone LF and
// does not ask for it; a lone CR is forbidden).
func headEnd(buf []byte, seen int) (end int, err error) {
	for at := max(seen-3, 0); ; {
		i := bytes.IndexByte(buf[at:], '\n')
		if i < 0 {
			return 0, nil
		}
		at += i
		if at == 0 || buf[at-1] != '\r' {
			return 0, broken("a line of its head ends without CR")
		}
		if at == 1 || buf[at-2] == '\n' {
			return at + 1, nil
		}
		at++
	}
}

// parse reads a whole head, with its empty line at the end. The fields' backing
// array is into's.
func (h *head) parse(text string, into []Field) error {
	line, rest, ok := strings.Cut(text, "\r\n")
	if !ok {
		return broken("it has no status line")
	}
	*h = head{length: unknown}
	if err := h.statusLine(line); err != nil {
		return err
	}
	var err error
	if h.fields, err = parseFields(rest, into); err != nil {
		return err
	}
	return h.frame()
}

// statusLine reads "HTTP/1.1 200 OK" (RFC 9112, section 4). The reason may be
// missing, and the space before it too.
func (h *head) statusLine(line string) error {
	version, rest, _ := strings.Cut(line, " ")
	switch version {
	case "HTTP/1.1":
		h.minor = 1
	case "HTTP/1.0":
	default:
		return broken("it begins with %.20q", line)
	}
	code, reason, _ := strings.Cut(rest, " ")
	if len(code) != 3 || !isDigits(code) || code[0] == '0' || !isFieldValue(reason) {
		return broken("its status line is %.40q", line)
	}
	h.status, _ = strconv.Atoi(code)
	return nil
}

// parseFields reads field lines up to the empty one (RFC 9112, section 5). A line
// that begins with a space is obs-fold or an attempt to hide something.
func parseFields(text string, into []Field) ([]Field, error) {
	fields := into[:0]
	for {
		line, rest, ok := strings.Cut(text, "\r\n")
		switch {
		case !ok:
			return nil, broken("its head has no end")
		case line == "" && rest == "":
			return fields, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) {
			return nil, broken("a field line is %.40q", line)
		}
		value = strings.Trim(value, " \t")
		if !isFieldValue(value) {
			return nil, broken("the value of %s has control characters", name)
		}
		fields = append(fields, Field{textproto.CanonicalMIMEHeaderKey(name), value})
		text = rest
	}
}

// frame finds out where the body ends (RFC 9112, section 6.3), and refuses what
// two readers could find in two places.
func (h *head) frame() error {
	var lengths, codings int
	keep := h.minor == 1
	for _, f := range h.fields {
		switch f.Name {
		case "Content-Length":
			n, err := strconv.ParseInt(f.Value, 10, 64)
			if lengths++; lengths > 1 || err != nil || !isDigits(f.Value) {
				return broken("its Content-Length is %.40q, the field number %d of that name", f.Value, lengths)
			}
			h.length = n
		case "Transfer-Encoding":
			if codings++; codings > 1 || h.minor == 0 || !strings.EqualFold(f.Value, "chunked") {
				return broken("its Transfer-Encoding is %.40q, the field number %d of that name, in HTTP/1.%d", f.Value, codings, h.minor)
			}
			h.chunks = true
		case "Connection":
			keep = keep && !hasToken(f.Value, "close") || h.minor == 0 && hasToken(f.Value, "keep-alive")
		}
	}
	if lengths > 0 && codings > 0 {
		return broken("it has both Content-Length and Transfer-Encoding")
	}
	h.close = !keep
	return nil
}

// drains reports whether the application, having answered, reads on until our end
// of the connection comes, and serves nobody meanwhile. Werkzeug, which is Flask's
// development server, does since 2.2, so that whoever still sends gets an answer and
// no reset.
func (h *head) drains() bool {
	if !h.close {
		return false
	}
	for _, f := range h.fields {
		if f.Name == "Server" {
			return strings.HasPrefix(f.Value, "Werkzeug/")
		}
	}
	return false
}

// hasToken finds a word in a comma-separated list, in any case.
func hasToken(list, word string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(item, " \t"), word) {
			return true
		}
	}
	return false
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || !tokenBytes[c] {
			return false
		}
	}
	return s != ""
}

var tokenBytes = func() (t [0x80]bool) {
	for c := range byte(0x80) {
		t[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' ||
			strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
	}
	return t
}()

// isFieldValue reports whether s may stand in a field (RFC 9110, section 5.5): no
// control characters but the tabulator.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
