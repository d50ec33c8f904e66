package httpcache

import "strings"

// surrogateControl is the field by which applications have spoken to caches in
// front of them before there were targeted fields (Edge Architecture
// Specification, W3C Note of 2001, 2.2). It counts after those and before
// Cache-Control; frameworks write it for CDNs with the directives of Cache-Control
// in it.
const surrogateControl = "Surrogate-Control"

// device is what directives may be targeted at; it is announced with what the
// cache can do, which is to keep, and not to process (2.1).
const (
	device              = "portner"
	surrogateCapability = "Surrogate-Capability"
	capability          = device + `="Surrogate/1.0"`
)

// parseSurrogate reads Surrogate-Control. What is targeted at this cache comes
// before what is for all, and what is for others is none of its business. Without
// a directive that it knows there is nothing to obey.
func parseSurrogate(lines []string) (Control, bool) {
	c := Control{targeted: true}
	c.addSurrogate(lines, device, 0)
	c.addSurrogate(lines, "", c.set)
	return c, c.set != 0
}

// addSurrogate notes the directives for one target, but for those in except.
func (c *Control) addSurrogate(lines []string, target string, except directive) {
	for l := (list{lines: lines}); ; {
		member, ok := l.next()
		if !ok {
			return
		}
		member, to := cutTarget(member)
		name, argument, valued := strings.Cut(member, "=")
		for i := range directives {
			d := &directives[i]
			if except&d.bit != 0 || !strings.EqualFold(to, target) || !strings.EqualFold(trim(name), d.name) {
				continue
			}
			if d.bit == maxAge { // 600+60: a minute more while it is fetched again
				var more string
				var extended bool
				if argument, more, extended = strings.Cut(argument, "+"); extended {
					c.addTime(staleWhileRevalidate, more, true)
				}
			}
			c.add(d.bit, argument, valued)
		}
	}
}

// cutTarget takes the target off a directive: `max-age=60;portner`.
func cutTarget(member string) (directive, target string) {
	i := strings.LastIndexByte(member, ';')
	if i < 0 || strings.IndexByte(member[i:], '"') >= 0 {
		return member, ""
	}
	return trim(member[:i]), trim(member[i+1:])
}

// processed reports whether an answer is to be processed by a surrogate that has
// said that it can: `content="ESI/1.0"`. To others it is no page but its source.
func processed(h Header) bool {
	for l := members(h, surrogateControl); ; {
		member, ok := l.next()
		if !ok {
			return false
		}
		if name, _, _ := strings.Cut(member, "="); strings.EqualFold(trim(name), "content") {
			return true
		}
	}
}
