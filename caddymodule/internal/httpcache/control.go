package httpcache

import (
	"strings"
	"time"
)

// directive is one cache directive of RFC 9111 5.2, RFC 5861 or RFC 8246.
type directive uint32

const (
	noStore directive = 1 << iota
	noCache
	private
	public
	mustRevalidate
	proxyRevalidate
	mustUnderstand
	noTransform
	onlyIfCached
	maxAge
	sMaxAge
	maxStale
	minFresh
	staleWhileRevalidate
	staleIfError
)

// directives by name; those with a number of seconds are timed.
var directives = []struct {
	name string
	bit  directive
}{
	{"no-store", noStore}, {"no-cache", noCache}, {"private", private}, {"public", public},
	{"must-revalidate", mustRevalidate}, {"proxy-revalidate", proxyRevalidate},
	{"must-understand", mustUnderstand}, {"no-transform", noTransform}, {"only-if-cached", onlyIfCached},
	{"max-age", maxAge}, {"s-maxage", sMaxAge}, {"max-stale", maxStale}, {"min-fresh", minFresh},
	{"stale-while-revalidate", staleWhileRevalidate}, {"stale-if-error", staleIfError},
}

const timed = maxAge | sMaxAge | maxStale | minFresh | staleWhileRevalidate | staleIfError

// Control is what the cache directives of a request or an answer say.
type Control struct {
	set directive
	bad directive // of those with a time: it cannot be read, or there are two

	maxAge, sMaxAge, maxStale, minFresh time.Duration
	staleWhileRevalidate, staleIfError  time.Duration

	privateFields []string // of private="…"; canonical
	noCacheFields []string // of no-cache="…"
	targeted      bool     // from a targeted field: Cache-Control and Expires do not count
}

func (c *Control) has(d directive) bool { return c.set&d != 0 }

// answerControl are the directives of an answer: those of a targeted field, if
// there is a valid one, else of Surrogate-Control, else of Cache-Control.
func answerControl(h Header) Control {
	for _, name := range targets {
		if c, ok := parseTargeted(h[name]); ok {
			return c
		}
	}
	if c, ok := parseSurrogate(h[surrogateControl]); ok {
		return c
	}
	return parseControl(h["Cache-Control"])
}

// requestControl reads the directives of a request. A Pragma of old stands for
// Cache-Control where there is none (RFC 9111 5.4).
func requestControl(h Header) Control {
	if v := h["Cache-Control"]; len(v) > 0 {
		return parseControl(v)
	}
	if len(h["Pragma"]) > 0 && hasMember(h, "Pragma", "no-cache") {
		return Control{set: noCache}
	}
	return Control{}
}

// parseControl reads Cache-Control (RFC 9111 5.2). Names are case-insensitive,
// arguments may be tokens or quoted (5.2: both forms ought to be accepted),
// unknown directives are ignored (5.2.3). It does not allocate, except for
// field names.
func parseControl(lines []string) Control {
	var c Control
	for l := (list{lines: lines}); ; {
		member, ok := l.next()
		if !ok {
			return c
		}
		name, argument, valued := strings.Cut(member, "=")
		for i := range directives {
			// A sloppy space must not undo a no-store; it makes a number bad.
			if d := &directives[i]; strings.EqualFold(trim(name), d.name) {
				c.add(d.bit, argument, valued)
			}
		}
	}
}

func (c *Control) add(d directive, argument string, valued bool) {
	switch {
	case d&timed != 0:
		c.addTime(d, argument, valued)
	case d == private && c.addFields(&c.privateFields, argument, valued):
	case d == noCache && c.addFields(&c.noCacheFields, argument, valued):
	default:
		c.set |= d
	}
}

// addTime notes a directive with seconds. Where there are two with different
// values, or one that cannot be read, the time counts as bad: then an answer is
// stale (RFC 9111 4.2.1).
func (c *Control) addTime(d directive, argument string, valued bool) {
	seconds, ok := parseSeconds(unquote(argument))
	switch t := c.time(d); {
	case !valued && d == maxStale: // any staleness (5.2.1.2)
		*t = forever
	case !ok || c.has(d) && *t != seconds:
		c.bad |= d
	default:
		*t = seconds
	}
	c.set |= d
}

func (c *Control) time(d directive) *time.Duration {
	switch d {
	case maxAge:
		return &c.maxAge
	case sMaxAge:
		return &c.sMaxAge
	case maxStale:
		return &c.maxStale
	case minFresh:
		return &c.minFresh
	case staleWhileRevalidate:
		return &c.staleWhileRevalidate
	}
	return &c.staleIfError
}

// get is a directive's time; false when there is none or it is bad.
func (c *Control) get(d directive) (time.Duration, bool) {
	if !c.has(d) || c.bad&d != 0 {
		return 0, false
	}
	return *c.time(d), true
}

// addFields notes the field names of private="…" and no-cache="…" (RFC 9111
// 5.2.2.7, 5.2.2.4). Without a single name the directive counts as a whole.
func (c *Control) addFields(fields *[]string, argument string, valued bool) bool {
	if !valued {
		return false
	}
	any := false
	for l := (list{lines: []string{unquote(argument)}}); ; {
		name, ok := l.next()
		if !ok {
			return any
		}
		*fields = append(*fields, canonical(name))
		any = true
	}
}

// forever stands for times beyond 2^31 seconds (RFC 9111 1.2.2).
const forever = (1 << 31) * time.Second

// parseSeconds reads delta-seconds (RFC 9111 1.2.2): digits and nothing else.
func parseSeconds(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), 1<<31)
	}
	return time.Duration(n) * time.Second, true
}
