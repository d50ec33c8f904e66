package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Table finds the route of a request. It does not change once it is made.
type Table struct {
	methods map[string]*node
	any     *node // routes for every method; may be nil
	labels  []string
}

// node is what is left to decide after some segments.
type node struct {
	literals []branch // sorted by text
	one      *node    // may be nil
	rest     *Route   // may be nil
	end      *Route   // nothing follows the slash; may be nil
	route    *Route   // no slash follows; may be nil
}

type branch struct {
	text string
	to   *node
}

// NewTable makes a table of routes. Two routes that match the same request
// although none of them is more specific are an error that names both.
func NewTable(routes []Route) (*Table, error) {
	t := &Table{methods: make(map[string]*node)}
	kept := slices.Clone(routes)
	for i := range kept {
		r := &kept[i]
		if len(r.Pattern.segments) == 0 {
			return nil, fmt.Errorf("route: route %d has no pattern", i+1)
		}
		for j := range kept[:i] {
			if err := conflict(&kept[j], r); err != nil {
				return nil, err
			}
		}
		if r.Policy.Template == "" {
			r.Policy.Template = r.Pattern.String()
		}
		t.labels = append(t.labels, r.Policy.Template)
		t.add(r)
	}
	return t, nil
}

// Templates is the template of every route, in the order of the configuration.
func (t *Table) Templates() []string { return slices.Clone(t.labels) }

func conflict(a, b *Route) error {
	switch r := compare(a.Pattern, b.Pattern); {
	case !r.conflict():
		return nil
	case r == same:
		return fmt.Errorf("route: %s and %s match the same requests; keep one of them", a, b)
	default:
		return fmt.Errorf("route: %s and %s both match %s, and neither is more specific; make one of them so",
			a, b, example(a.Pattern.segments, b.Pattern.segments))
	}
}

func (t *Table) add(r *Route) {
	n := t.any
	if method := r.Pattern.method; method != "" {
		if n = t.methods[method]; n == nil {
			n = new(node)
			t.methods[method] = n
		}
	} else if n == nil {
		n = new(node)
		t.any = n
	}
	for _, s := range r.Pattern.segments {
		switch s.kind {
		case rest:
			n.rest = r
			return
		case end:
			n.end = r
			return
		case one:
			if n.one == nil {
				n.one = new(node)
			}
			n = n.one
		default:
			n = n.branch(s.text)
		}
	}
	n.route = r
}

func (n *node) branch(text string) *node {
	i, found := slices.BinarySearchFunc(n.literals, text, func(b branch, text string) int { return cmp.Compare(b.text, text) })
	if !found {
		n.literals = slices.Insert(n.literals, i, branch{text, new(node)})
	}
	return n.literals[i].to
}

// Match is the route of a request, nil if there is none: the route of the path as
// it was sent, unless an application that cleans its paths would see one that has
// a route of its own. Then that one counts, where the path as sent has no route or
// one that is less specific (a catch-all shelters nobody from POST /post). Clean
// means what clean says; last, a trailing slash is left out, as many applications
// do. So nobody gets around a route by writing //post, /./post or /post/, and what
// the operator has said of the path as sent is overruled by nothing but his word
// for a part of it.
//
// An empty path is the root, as RFC 9110, 4.2.3 says; * and what else begins with
// no slash has no route. A nil table has no routes.
func (t *Table) Match(method, escapedPath string) *Route {
	r := t.AsSent(method, escapedPath)
	if t == nil || len(escapedPath) < 2 || escapedPath[0] != '/' {
		return r
	}
	path := clean(escapedPath)
	if path != escapedPath {
		r = narrower(r, t.AsSent(method, path))
	}
	if last := len(path) - 1; last > 0 && path[last] == '/' {
		r = narrower(r, t.AsSent(method, path[:last]))
	}
	return r
}

// narrower is r, or other if all that it matches is matched by r too.
func narrower(r, other *Route) *Route {
	switch {
	case other == nil || r == other:
		return r
	case r == nil || compare(r.Pattern, other.Pattern) == firstWider:
		return other
	}
	return r
}

// AsSent is the route of the path as it was sent and nothing else. What a route
// permits, such as keeping the answer in a cache, is meant for its own paths:
// permit it where AsSent and Match are the same route.
func (t *Table) AsSent(method, escapedPath string) *Route {
	if t == nil {
		return nil
	}
	if escapedPath == "" {
		escapedPath = "/"
	}
	if escapedPath[0] != '/' {
		return nil
	}
	// The more specific method first; the same path under less specific ones
	// would have been a conflict unless it is less specific itself.
	if r := t.methods[method].match(escapedPath); r != nil {
		return r
	}
	if method == "HEAD" {
		if r := t.methods["GET"].match(escapedPath); r != nil {
			return r
		}
	}
	return t.any.match(escapedPath)
}

// match enters every node at most once, since each has one way to it. The more
// specific branch comes first: a wrong turn is taken back, a right one is never
// improved on, because routes that overlap otherwise are conflicts.
func (n *node) match(path string) *Route {
	switch {
	case n == nil:
		return nil
	case path == "":
		return n.route
	case path == "/":
		if n.end != nil {
			return n.end
		}
		return n.rest
	}
	text, left := path[1:], ""
	if i := strings.IndexByte(text, '/'); i >= 0 {
		text, left = text[:i], text[i:]
	}
	if len(n.literals) > 0 {
		if r := n.literal(text).match(left); r != nil {
			return r
		}
	}
	if r := n.one.match(left); r != nil {
		return r
	}
	return n.rest
}

func (n *node) literal(text string) *node {
	compare := cmp.Compare[string]
	if strings.IndexByte(text, '%') >= 0 && escapesAreWhole(text) {
		compare = compareUnescaped
	}
	low, high := 0, len(n.literals)
	for low < high {
		mid := int(uint(low+high) >> 1)
		switch c := compare(text, n.literals[mid].text); {
		case c == 0:
			return n.literals[mid].to
		case c < 0:
			high = mid
		default:
			low = mid + 1
		}
	}
	return nil
}

// compareUnescaped compares what escaped stands for with text, without making
// it. Every % in escaped is followed by two hex digits.
func compareUnescaped(escaped, text string) int {
	for i := 0; i < len(text); i++ {
		if escaped == "" {
			return -1
		}
		c := escaped[0]
		if c == '%' {
			c = unhex(escaped[1])<<4 | unhex(escaped[2])
			escaped = escaped[2:]
		}
		escaped = escaped[1:]
		if c != text[i] {
			return cmp.Compare(c, text[i])
		}
	}
	return min(len(escaped), 1)
}

func escapesAreWhole(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' {
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return false
			}
			i += 2
		}
	}
	return true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
