package httpcache

import (
	"slices"
	"strings"
)

// Header is a header section as net/http has it: canonical names, one string
// per field line. The cache never changes one that it is handed, except where a
// function says so.
type Header = map[string][]string

func field(h Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func has(h Header, name string) bool { return len(h[name]) > 0 }

// list walks the members of a list-based field over all its lines (RFC 9110
// 5.6.1): whitespace around members and empty members are skipped, commas
// within quoted strings do not separate. It does not allocate.
type list struct {
	lines []string
	rest  string
}

func members(h Header, name string) list { return list{lines: h[name]} }

func (l *list) next() (member string, ok bool) {
	for {
		for l.rest == "" {
			if len(l.lines) == 0 {
				return "", false
			}
			l.rest, l.lines = l.lines[0], l.lines[1:]
		}
		end := memberEnd(l.rest)
		member = trim(l.rest[:end])
		l.rest = l.rest[min(end+1, len(l.rest)):]
		if member != "" {
			return member, true
		}
	}
}

// memberEnd is where the first member ends: at a comma outside of quotes. A
// quote that is never closed is an ordinary character, or one bad member would
// swallow the no-store behind it.
func memberEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ',':
			return i
		case '"':
			if n := quotedEnd(s[i:]); n > 0 {
				i += n - 1
			}
		}
	}
	return len(s)
}

// quotedEnd is the length of the quoted string at the beginning of s (RFC 9110
// 5.6.4), 0 when it is not closed.
func quotedEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// unquote is the value of a token or of a whole quoted string.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || quotedEnd(s) != len(s) {
		return s
	}
	s = s[1 : len(s)-1]
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// trim takes optional whitespace away (RFC 9110 5.6.3).
func trim(s string) string {
	for s != "" && blank(s[0]) {
		s = s[1:]
	}
	for s != "" && blank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// hasMember reports whether a list-based field has a member, whatever its case.
func hasMember(h Header, name, member string) bool {
	for l := members(h, name); ; {
		m, ok := l.next()
		if !ok {
			return false
		}
		if strings.EqualFold(m, member) {
			return true
		}
	}
}

// canonical writes a field name as net/http does.
func canonical(name string) string {
	b := []byte(name)
	upper := true
	for i, c := range b {
		switch {
		case upper && 'a' <= c && c <= 'z':
			b[i] = c - 'a' + 'A'
		case !upper && 'A' <= c && c <= 'Z':
			b[i] = c - 'A' + 'a'
		}
		upper = c == '-'
	}
	return string(b)
}

// filler writes fields to a header. One allocation holds all values: whoever
// changes them later, in place even, changes that header alone.
type filler struct {
	dst    Header
	values []string
}

// copyHeader adds all fields of src to dst, which keeps what it has under other
// names. The filler has room for so many values more.
func copyHeader(dst, src Header, more int) filler {
	for _, v := range src {
		more += len(v)
	}
	f := filler{dst, make([]string, 0, more)}
	for name, v := range src {
		f.set(name, v...)
	}
	return f
}

func (f *filler) set(name string, values ...string) {
	from := len(f.values)
	f.values = append(f.values, values...)
	f.dst[name] = f.values[from:len(f.values):len(f.values)]
}

func cloneHeader(src Header) Header {
	dst := make(Header, len(src)+2)
	copyHeader(dst, src, 0)
	return dst
}

// hopByHop are the fields that are not stored (RFC 9111 3.1), besides those
// that Connection names.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Transfer-Encoding", "Upgrade",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
}

// storedHeader is the part of an answer's header that is stored (RFC 9111 3.1):
// without the fields of one connection, without those that private="…" and
// no-cache="…" name (5.2.2.7, 5.2.2.4: the rest may be used without them), and
// without Age, which is computed anew each time.
func storedHeader(h Header, c Control) Header {
	kept := cloneHeader(h)
	for l := members(h, "Connection"); ; {
		name, ok := l.next()
		if !ok {
			break
		}
		delete(kept, canonical(name))
	}
	for _, names := range [][]string{hopByHop, c.privateFields, c.noCacheFields, {"Age"}} {
		for _, name := range names {
			delete(kept, name)
		}
	}
	for name := range kept {
		if strings.HasPrefix(name, ours) && name != targets[0] {
			delete(kept, name)
		}
	}
	return kept
}

// own are the fields of an answer that may not be used for anybody but the client
// that it is for (RFC 9111 5.2.2.4, 5.2.2.7: of a later use).
func (c *Control) own(h Header) []string {
	var names []string
	for _, name := range slices.Concat(c.privateFields, c.noCacheFields) {
		if has(h, name) && !slices.Contains(hopByHop, name) && !strings.HasPrefix(name, ours) {
			names = append(names, name)
		}
	}
	return names
}

// ours begins the fields by which the application talks to Portner. No client
// sees them; what it says of storage holds for later 304s as well, and is kept.
const ours = "Portner-"

// describesBody are fields that say what the stored bytes are; a 304 does not
// change the bytes (RFC 9111 3.2: fields that the stored response depends on,
// and Content-Length).
var describesBody = []string{"Content-Length", "Content-Encoding", "Content-Range", "Content-Md5", "Etag"}

// updatedHeader is a stored header after a 304 or an answer to HEAD brought new
// fields (RFC 9111 3.2).
func updatedHeader(stored, news Header, c Control) Header {
	h := cloneHeader(stored)
	for name, v := range storedHeader(news, c) {
		if len(v) > 0 && !slices.Contains(describesBody, name) { // none is net/http's word for a field that is not there
			h[name] = v
		}
	}
	return h
}
