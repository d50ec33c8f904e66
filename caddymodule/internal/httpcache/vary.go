package httpcache

import (
	"slices"
	"strings"
)

// selector is a request field that an answer depends on, and what it was when
// the answer was made (RFC 9111 4.1).
type selector struct {
	name  string // canonical
	value string // normalised
}

func variesOnAll(h Header) bool { return hasMember(h, "Vary", "*") }

// selectors are the fields of Vary with the values of the request, each once,
// in an order that does not depend on the answer's.
func selectors(answer, request Header) []selector {
	var s []selector
	if processed(answer) { // those who cannot do that must not get it
		s = append(s, selector{surrogateCapability, string(normalise(nil, surrogateCapability, request))})
	}
	for l := members(answer, "Vary"); ; {
		name, ok := l.next()
		if !ok {
			break
		}
		name = canonical(name)
		if !slices.ContainsFunc(s, func(x selector) bool { return x.name == name }) {
			s = append(s, selector{name, string(normalise(nil, name, request))})
		}
	}
	slices.SortFunc(s, func(a, b selector) int { return strings.Compare(a.name, b.name) })
	return s
}

// selects reports whether a request gets the answer with these selectors. It
// does not allocate unless a field is longer than the buffer.
func selects(s []selector, request Header) bool {
	var buffer [256]byte
	for i := range s {
		if string(normalise(buffer[:0], s[i].name, request)) != s[i].value {
			return false
		}
	}
	return true
}

// normalise appends a field in a form in which values that mean the same are
// the same bytes (RFC 9111 4.1). A field that is absent is like no other, not
// even an empty one.
//
//   - Lines become one (RFC 9110 5.3).
//   - Accept-Encoding becomes the set of what is acceptable, unless weights rank it.
//   - In Accept, Accept-Charset and Accept-Language space does not count, nor the case
//     of what stands before a parameter (RFC 9110 12.5). Order does: RFC 9110 12.5.4
//     knows of applications that prefer the first. Other fields that begin with Accept
//     are somebody else's, and mean what he says.
func normalise(dst []byte, name string, h Header) []byte {
	lines := h[name]
	if len(lines) == 0 {
		return dst
	}
	if name == "Accept-Encoding" {
		if set, ok := codings(lines); ok {
			return append(dst, '=', byte(set))
		}
	}
	dst = append(dst, ':')
	switch name {
	case "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language":
		return appendList(dst, lines)
	}
	for i, line := range lines {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, line...)
	}
	return dst
}

func appendList(dst []byte, lines []string) []byte {
	from := len(dst)
	for l := (list{lines: lines}); ; {
		member, ok := l.next()
		if !ok {
			break
		}
		if len(dst) > from {
			dst = append(dst, ',')
		}
		parameter := false
		for i := 0; i < len(member); i++ {
			switch c := member[i]; {
			case c == '"' && quotedEnd(member[i:]) > 0:
				end := i + quotedEnd(member[i:])
				dst = append(dst, member[i:end]...)
				i = end - 1
			case c == ';':
				parameter = true
				dst = append(dst, c)
			case c == ' ' || c == '\t':
			case 'A' <= c && c <= 'Z' && !parameter:
				dst = append(dst, c+'a'-'A')
			default:
				dst = append(dst, c)
			}
		}
	}
	return dst
}

// coding is a set of content codings.
type coding byte

const (
	codedGzip coding = 1 << iota
	codedZstd
	codedBrotli
	codedDeflate
	codedIdentity
	codedAny
)

var codingNames = []struct {
	name string
	bit  coding
}{
	{"gzip", codedGzip}, {"x-gzip", codedGzip}, {"zstd", codedZstd}, {"br", codedBrotli}, {"deflate", codedDeflate},
	{"identity", codedIdentity}, {"*", codedAny},
}

// codings is the set of codings that Accept-Encoding accepts (RFC 9110 12.5.3).
// It reports false where a name is unknown or the weights say more than yes or
// no.
func codings(lines []string) (set coding, ok bool) {
	for l := (list{lines: lines}); ; {
		member, more := l.next()
		if !more {
			return set, true
		}
		name, weight, weighted := strings.Cut(member, ";")
		name = trim(name)
		i := slices.IndexFunc(codingNames, func(c struct {
			name string
			bit  coding
		}) bool {
			return strings.EqualFold(c.name, name)
		})
		if i < 0 {
			return 0, false
		}
		bit := codingNames[i].bit
		switch weight = trim(weight); {
		case !weighted || weight == "q=1" || weight == "q=1.0":
			set |= bit
		case zeroWeight(weight) && bit != codedIdentity && bit != codedAny:
		default:
			return 0, false
		}
	}
}

func zeroWeight(w string) bool { return w == "q=0" || w == "q=0.0" || w == "q=0.00" || w == "q=0.000" }

// accepts reports whether a client understands a coding. Other than codings it
// reads any weights: whatever is not refused is accepted.
func accepts(h Header, name string) bool {
	for l := members(h, "Accept-Encoding"); ; {
		member, ok := l.next()
		if !ok {
			return false
		}
		coding, weight, _ := strings.Cut(member, ";")
		if strings.EqualFold(trim(coding), name) {
			return !zeroWeight(strings.ToLower(trim(weight)))
		}
	}
}

// sameSelectors reports whether two answers are variants for the same requests.
func sameSelectors(a, b []selector) bool { return slices.Equal(a, b) }

// sameNames reports whether two answers vary on the same fields: then no request
// gets both, unless their values are the same too.
func sameNames(a, b []selector) bool {
	return slices.EqualFunc(a, b, func(x, y selector) bool { return x.name == y.name })
}
