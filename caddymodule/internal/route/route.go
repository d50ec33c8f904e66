// Package route says what a request is: which configured route it belongs to,
// which class it has where no route says so, and under which template its cost
// and its numbers are kept.
//
// A pattern has the syntax of the path of net/http's ServeMux: {name} is one
// segment, {name...} the rest, /x/ a subtree, /x/{$} exactly that path; the most
// specific pattern wins, and patterns of which none is are refused. Matching
// works on the escaped path, segment by segment: %2F stays inside its segment,
// and every segment is unescaped before it is compared with a literal one.
// Nothing redirects, and what is sent on is not changed. An empty segment, . and
// .. match a wildcard as every other segment does; that a path is matched a second
// time as an application would clean it is written at Match.
//
// Always: no input panics; Match allocates nothing for a path that is clean; what
// is remembered of requests is bounded, whatever they ask for.
//
// Table and Templates are safe for concurrent use. The package knows neither
// net/http nor Caddy: it takes methods, escaped paths and header lookups.
package route

import "time"

// Route is a pattern and what its block says.
type Route struct {
	Pattern Pattern
	Policy  Policy
	Place   string // where it was written, for errors; may be empty
}

// Policy is what a route's block says.
type Policy struct {
	// Wait is the longest time in the queue. 0: the pool's. Negative: refuse at
	// once when no slot is free.
	Wait time.Duration
	// Cost is what a request is declared to cost the application. 0: learned.
	Cost time.Duration
	// Class is the importance group. Empty: Guess.
	Class string
	// Cache is the time for answers that say nothing of their storage themselves.
	// 0: none. Negative: nothing of the route is kept.
	Cache time.Duration
	// Template is the label for metrics and the learned cost. NewTable fills it
	// with the pattern's text where it is empty.
	Template string
}

func (r *Route) String() string {
	if r.Place == "" {
		return r.Pattern.String()
	}
	return r.Pattern.String() + " (" + r.Place + ")"
}
