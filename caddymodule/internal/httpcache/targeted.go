package httpcache

import "strings"

// targets are the fields meant for caches like this one, the most specific
// first (RFC 9213 2.2). The first that is valid and not empty takes the place
// of Cache-Control and Expires.
var targets = []string{"Portner-Cache-Control", "Cdn-Cache-Control"}

// parseTargeted reads a targeted field (RFC 9213 2.1): a Dictionary of
// Structured Fields (RFC 8941 4.2.2). An error anywhere makes the whole field
// void; a directive whose value is of the wrong type is ignored; parameters are
// ignored; the last of several equal keys counts.
func parseTargeted(lines []string) (c Control, ok bool) {
	if len(lines) == 0 {
		return c, false
	}
	p := dictionary{rest: strings.Trim(strings.Join(lines, ","), " ")}
	if p.rest == "" {
		return c, false
	}
	c.targeted = true
	for {
		key, v := p.member()
		if p.bad {
			return Control{}, false
		}
		for _, d := range directives {
			if d.name == key {
				c.replace(d.bit, v)
			}
		}
		p.whitespace()
		if p.rest == "" {
			return c, true
		}
		if p.take() != ',' {
			return Control{}, false
		}
		if p.whitespace(); p.rest == "" {
			return Control{}, false // a trailing comma
		}
	}
}

// replace notes a member: only the last of equal keys counts.
func (c *Control) replace(d directive, v item) {
	c.set, c.bad = c.set&^d, c.bad&^d
	switch {
	case d == private:
		c.privateFields = nil
	case d == noCache:
		c.noCacheFields = nil
	}
	switch {
	case d&timed != 0 && v.kind == integer:
		c.addTime(d, v.text, true)
	case d == maxStale && v.kind == yes:
		c.addTime(d, "", false)
	case d&timed != 0 || v.kind == other || v.kind == integer:
	case v.kind == yes:
		c.set |= d
	default: // a string or token: field names
		c.add(d, v.text, true)
	}
}

// kind is the type of a bare item, as far as directives have one.
type kind int

const (
	other   kind = iota // a type that no directive has
	yes                 // Boolean true
	integer             // >= 0
	text                // String or Token
)

type item struct {
	kind kind
	text string
}

// dictionary parses RFC 8941 by hand: directives need a small part of it, but
// what is not valid must be known to the last byte.
type dictionary struct {
	rest string
	bad  bool
}

func (p *dictionary) peek() byte {
	if p.rest == "" {
		return 0
	}
	return p.rest[0]
}

func (p *dictionary) take() byte {
	c := p.peek()
	if c == 0 {
		p.bad = true
		return 0
	}
	p.rest = p.rest[1:]
	return c
}

func (p *dictionary) whitespace() { p.rest = strings.TrimLeft(p.rest, " \t") }

// while takes the bytes for which ok holds.
func (p *dictionary) while(ok func(c byte) bool) string {
	n := 0
	for n < len(p.rest) && ok(p.rest[n]) {
		n++
	}
	s := p.rest[:n]
	p.rest = p.rest[n:]
	return s
}

func lower(c byte) bool { return 'a' <= c && c <= 'z' }
func digit(c byte) bool { return '0' <= c && c <= '9' }
func alpha(c byte) bool { return lower(c | 0x20) }

func (p *dictionary) key() string { // RFC 8941 4.2.3.3
	if c := p.peek(); !lower(c) && c != '*' {
		p.bad = true
		return ""
	}
	return p.while(func(c byte) bool { return lower(c) || digit(c) || strings.IndexByte("_-.*", c) >= 0 })
}

func (p *dictionary) member() (string, item) {
	key, v := p.key(), item{kind: yes}
	if !p.bad && p.peek() == '=' {
		p.take()
		v = p.value()
	}
	p.parameters()
	return key, v
}

func (p *dictionary) value() item {
	if p.peek() != '(' {
		return p.item()
	}
	p.take() // an inner list (4.2.1.2)
	for !p.bad {
		p.rest = strings.TrimLeft(p.rest, " ")
		if p.peek() == ')' {
			p.take()
			break
		}
		p.item()
		p.parameters()
		if c := p.peek(); c != ' ' && c != ')' {
			p.bad = true
		}
	}
	return item{}
}

func (p *dictionary) parameters() { // 4.2.3.2
	for !p.bad && p.peek() == ';' {
		p.take()
		p.rest = strings.TrimLeft(p.rest, " ")
		p.key()
		if !p.bad && p.peek() == '=' {
			p.take()
			p.item()
		}
	}
}

func (p *dictionary) item() item { // 4.2.3.1
	switch c := p.peek(); {
	case c == '-' || digit(c):
		return p.number()
	case c == '"':
		return p.string()
	case c == '*' || alpha(c):
		return item{text, p.while(func(c byte) bool {
			return alpha(c) || digit(c) || strings.IndexByte("!#$%&'*+-.^_`|~:/", c) >= 0
		})}
	case c == ':':
		return p.bytes()
	case c == '?':
		p.take()
		switch p.take() {
		case '1':
			return item{kind: yes}
		case '0':
			return item{}
		}
	}
	p.bad = true
	return item{}
}

func (p *dictionary) number() item { // 4.2.4
	negative := p.peek() == '-'
	if negative {
		p.take()
	}
	whole := p.while(digit)
	if p.peek() != '.' {
		p.bad = p.bad || whole == "" || len(whole) > 15
		if negative {
			return item{}
		}
		return item{integer, whole}
	}
	p.take()
	fraction := p.while(digit)
	p.bad = p.bad || whole == "" || len(whole) > 12 || fraction == "" || len(fraction) > 3
	return item{}
}

func (p *dictionary) string() item { // 4.2.5
	p.take()
	var b strings.Builder
	for !p.bad {
		switch c := p.take(); {
		case c == '"':
			return item{text, b.String()}
		case c == '\\':
			e := p.take()
			p.bad = p.bad || e != '"' && e != '\\'
			b.WriteByte(e)
		case c < 0x20 || c > 0x7e:
			p.bad = true
		default:
			b.WriteByte(c)
		}
	}
	return item{}
}

func (p *dictionary) bytes() item { // 4.2.7
	p.take()
	p.while(func(c byte) bool { return alpha(c) || digit(c) || strings.IndexByte("+/=", c) >= 0 })
	p.bad = p.take() != ':' || p.bad
	return item{}
}
