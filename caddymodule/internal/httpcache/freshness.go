package httpcache

import (
	"slices"
	"time"
)

// heuristicShare of the time since the last change is a typical lifetime where
// the answer names none (RFC 9111 4.2.2).
const heuristicShare = 10 // percent

// byDefault are the status codes that may be given a heuristic lifetime (RFC
// 9110 15.1). 206 is one as well, and has rules of its own.
var byDefault = []int{200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501}

// lifetime is how long an answer is fresh (RFC 9111 4.2.1), counted from when
// it was made. explicit: the answer itself says so; broken or contradicting
// information means that it is stale. longest bounds the heuristic.
func lifetime(status int, h Header, c *Control, received time.Time, longest time.Duration) (d time.Duration, explicit bool) {
	for _, d := range []directive{sMaxAge, maxAge} {
		if c.has(d) {
			t, _ := c.get(d)
			return t, true
		}
	}
	if v := h["Expires"]; len(v) > 0 && !c.targeted {
		if slices.ContainsFunc(v, func(s string) bool { return s != v[0] }) {
			return 0, true // two that differ (4.2.1)
		}
		expires, ok := parseDate(v[0], received)
		if !ok {
			return 0, true // above all "0" (5.3)
		}
		return max(0, expires.Sub(date(h, received))), true
	}
	if c.has(noCache) || !slices.Contains(byDefault, status) && !c.has(public) {
		return 0, false
	}
	modified, ok := parseDate(field(h, "Last-Modified"), received)
	if !ok {
		return 0, false
	}
	since := date(h, received).Sub(modified)
	return min(max(0, since)/100*heuristicShare, longest), false // in this order: it may be centuries (1.2.2)
}

// date is when the answer was made, as far as its sender knows; a missing or
// broken Date counts as now (RFC 9110 6.6.1).
func date(h Header, received time.Time) time.Time {
	if t, ok := parseDate(field(h, "Date"), received); ok {
		return t
	}
	return received
}

// initialAge is the age of an answer at its arrival (RFC 9111 4.2.3), at most
// forever: what is computed from it must not overflow (1.2.2).
func initialAge(h Header, sent, received time.Time) time.Duration {
	apparent := max(0, received.Sub(date(h, received)))
	corrected := ageValue(h) + max(0, received.Sub(sent))
	return min(max(apparent, corrected), forever)
}

// ageValue is the first member of Age; what is not a number is ignored (RFC
// 9111 5.1).
func ageValue(h Header) time.Duration {
	l := members(h, "Age")
	first, _ := l.next()
	age, _ := parseSeconds(first)
	return age
}

// prohibitsStale reports whether the answer itself forbids to use it stale
// without asking (RFC 9111 4.2.4). s-maxage does as well (5.2.2.10), unless its
// sender allows staleness in so many words.
func (c *Control) prohibitsStale() bool {
	switch {
	case c.has(noCache | mustRevalidate | proxyRevalidate):
		return true
	case c.has(sMaxAge):
		return !c.has(staleWhileRevalidate | staleIfError)
	}
	return false
}

// worth is what may be done with an object for a request, now.
type worth int

const (
	useless    worth = iota // ask the application
	revalidate              // may be served; somebody is to ask meanwhile (RFC 5861 3)
	usable                  // may be served as it is
)

// state is a moment of an object's life.
type state struct {
	age   time.Duration
	stale time.Duration // for how long; < 0: fresh for so long
}

// judge decides by the request's directives (RFC 9111 5.2.1) and the answer's.
// A request can ask for more freshness than the answer demands; for less only
// where the answer does not forbid it.
func judge(req, ans *Control, s state) worth {
	if req.has(noCache) || ans.has(noCache) { // 5.2.1.4, 5.2.2.4
		return useless
	}
	if req.has(maxAge) && s.age > req.maxAge { // 5.2.1.1; one that is bad is 0
		if stale, ok := req.get(maxStale); !ok || s.age > req.maxAge+stale || ans.prohibitsStale() {
			return useless
		}
	}
	if fresh, ok := req.get(minFresh); ok && -s.stale < fresh { // 5.2.1.3
		return useless
	}
	if s.stale < 0 {
		return usable
	}
	if ans.prohibitsStale() {
		return useless
	}
	if stale, ok := req.get(maxStale); ok && s.stale <= stale { // 5.2.1.2
		return usable
	}
	if window, ok := ans.get(staleWhileRevalidate); ok && s.stale < window {
		return revalidate
	}
	return useless
}

// Trouble is why an answer does not come from the application.
type Trouble int

const (
	// Overloaded: admission refuses. It is an error as RFC 5861 4 means it: the
	// client would get 503.
	Overloaded Trouble = iota
	// Failing: the application answered 500, 502, 503 or 504.
	Failing
	// Unreachable: the application cannot be reached, or did not answer.
	Unreachable
)

// disconnected is how long beyond its lifetime an answer is used while the
// application cannot be reached, as RFC 9111 4.2.4 allows without being asked.
// An hour is a deployment that went wrong; beyond it an honest error is better.
const disconnected = time.Hour

// staleOnError reports whether a stale answer may stand in for an error (RFC
// 5861 4): where the answer or the request allow it, or the operator does.
func staleOnError(req, ans *Control, s state, why Trouble, operator time.Duration) bool {
	if why == Unreachable {
		operator = max(operator, disconnected)
	}
	if s.stale < 0 && !ans.has(noCache) {
		return true // asked again at the client's wish only
	}
	if ans.prohibitsStale() {
		return false
	}
	for _, allows := range []struct {
		c *Control
		d directive
	}{{ans, staleIfError}, {ans, staleWhileRevalidate}, {req, staleIfError}, {req, maxStale}} {
		if window, ok := allows.c.get(allows.d); ok && s.stale < window {
			return true
		}
	}
	return s.stale < operator
}
