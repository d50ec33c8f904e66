package route

import "strings"

const defaultUrgency = 3 // RFC 9218, 4.1

// urgency is the u of a Priority field (RFC 9218), the default where it says
// none. The field is a dictionary of RFC 9651: a part that is broken makes the
// whole of it worth nothing, and so does a length that no honest client needs.
func urgency(field string) int {
	u := defaultUrgency
	if len(field) > 256 {
		return u
	}
	p := &sfParser{left: strings.Trim(field, " ")}
	for p.left != "" {
		key, ok := p.key()
		if !ok {
			return defaultUrgency
		}
		// The last of several members counts. One of another type or out of
		// range says nothing (RFC 9218, 4).
		number, ok := p.member()
		if !ok {
			return defaultUrgency
		}
		if key == "u" {
			u = defaultUrgency
			if len(number) == 1 && number[0] >= '0' && number[0] <= '7' {
				u = int(number[0] - '0')
			}
		}
		p.ows()
		if p.left == "" {
			break
		}
		if !p.eat(',') {
			return defaultUrgency
		}
		p.ows()
		if p.left == "" {
			return defaultUrgency // a comma and nothing after it
		}
	}
	return u
}

// sfParser reads structured fields (RFC 9651, 4.2) to skip what they say.
type sfParser struct{ left string }

func (p *sfParser) eat(c byte) bool {
	if p.left == "" || p.left[0] != c {
		return false
	}
	p.left = p.left[1:]
	return true
}

func (p *sfParser) sp()  { p.left = strings.TrimLeft(p.left, " ") }
func (p *sfParser) ows() { p.left = strings.TrimLeft(p.left, " \t") }

// take cuts off what is made of ok bytes.
func (p *sfParser) take(ok func(c byte) bool) string {
	i := 0
	for i < len(p.left) && ok(p.left[i]) {
		i++
	}
	taken := p.left[:i]
	p.left = p.left[i:]
	return taken
}

func (p *sfParser) key() (string, bool) {
	if p.left == "" || !isLower(p.left[0]) && p.left[0] != '*' {
		return "", false
	}
	return p.take(func(c byte) bool { return isLower(c) || isDigit(c) || strings.IndexByte("_-.*", c) >= 0 }), true
}

// member reads what follows a dictionary's key. A bare integer without sign is
// returned as its digits, less leading zeros.
func (p *sfParser) member() (number string, ok bool) {
	if p.eat('=') {
		if p.eat('(') {
			ok = p.innerList()
		} else {
			number, ok = p.item()
		}
		if !ok {
			return "", false
		}
	}
	return number, p.params()
}

func (p *sfParser) innerList() bool {
	for {
		p.sp()
		if p.eat(')') {
			return true
		}
		if _, ok := p.item(); !ok || !p.params() {
			return false
		}
		if p.left == "" || p.left[0] != ' ' && p.left[0] != ')' {
			return false
		}
	}
}

func (p *sfParser) params() bool {
	for p.eat(';') {
		p.sp()
		if _, ok := p.key(); !ok {
			return false
		}
		if p.eat('=') {
			if _, ok := p.item(); !ok {
				return false
			}
		}
	}
	return true
}

func (p *sfParser) item() (number string, ok bool) {
	if p.left == "" {
		return "", false
	}
	switch c := p.left[0]; {
	case c == '-' || isDigit(c):
		return p.number()
	case c == '"':
		return "", p.quoted()
	case c == '*' || isLower(c|0x20):
		p.take(func(c byte) bool { return c == ':' || c == '/' || isToken(rune(c)) })
		return "", true
	case p.eat(':'):
		p.take(func(c byte) bool {
			return isLower(c|0x20) || isDigit(c) || c == '+' || c == '/' || c == '='
		})
		return "", p.eat(':')
	case p.eat('?'):
		return "", p.eat('0') || p.eat('1')
	case p.eat('@'):
		p.eat('-')
		digits := p.take(isDigit)
		return "", len(digits) >= 1 && len(digits) <= 15 && !strings.HasPrefix(p.left, ".")
	case p.eat('%'):
		return "", p.display()
	}
	return "", false
}

func (p *sfParser) number() (digits string, ok bool) {
	negative := p.eat('-')
	whole := p.take(isDigit)
	if p.eat('.') {
		fraction := p.take(isDigit)
		return "", len(whole) >= 1 && len(whole) <= 12 && len(fraction) >= 1 && len(fraction) <= 3
	}
	if len(whole) < 1 || len(whole) > 15 {
		return "", false
	}
	digits = strings.TrimLeft(whole[:len(whole)-1], "0") + whole[len(whole)-1:]
	if negative && digits != "0" {
		return "", true
	}
	return digits, true
}

func (p *sfParser) quoted() bool {
	p.eat('"')
	for p.left != "" {
		switch c := p.left[0]; {
		case c == '"':
			p.left = p.left[1:]
			return true
		case c == '\\':
			if len(p.left) < 2 || p.left[1] != '"' && p.left[1] != '\\' {
				return false
			}
			p.left = p.left[2:]
		case c < 0x20 || c >= 0x7f:
			return false
		default:
			p.left = p.left[1:]
		}
	}
	return false
}

// display reads a display string after its %. Whether its bytes are UTF-8 is
// of no use to anybody here.
func (p *sfParser) display() bool {
	if !p.eat('"') {
		return false
	}
	for p.left != "" {
		switch c := p.left[0]; {
		case c == '"':
			p.left = p.left[1:]
			return true
		case c == '%':
			if len(p.left) < 3 || !isLowerHex(p.left[1]) || !isLowerHex(p.left[2]) {
				return false
			}
			p.left = p.left[3:]
		case c < 0x20 || c >= 0x7f:
			return false
		default:
			p.left = p.left[1:]
		}
	}
	return false
}

func isLower(c byte) bool    { return c >= 'a' && c <= 'z' }
func isDigit(c byte) bool    { return c >= '0' && c <= '9' }
func isLowerHex(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' }
