package httpcache

import (
	"slices"
	"time"
)

// understood are the final status codes whose caching rules this cache knows
// and follows, as must-understand asks for (RFC 9111 3, 5.2.2.3).
var understood = []int{
	200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 307, 308,
	400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 425, 426, 428, 429, 431, 451,
	500, 501, 502, 503, 504, 505, 511,
}

// credentials are what makes a request somebody's own.
type credentials struct{ cookie, authorization bool }

func credentialsOf(h Header) credentials {
	return credentials{cookie: has(h, "Cookie"), authorization: has(h, "Authorization")}
}

func (c credentials) anonymous() bool { return !c.cookie && !c.authorization }

// shares reports whether an answer with these directives may go from one
// request to another if one of them has credentials. RFC 9111 3.5 has the rule
// for Authorization; cookies, and requests with credentials that want a stored
// answer, follow it here as well: an application that forgets to vary must not
// show one reader's page to another.
func (c *Control) shares(of credentials) bool {
	if c.has(public) {
		return true
	}
	return !of.cookie && (!of.authorization || c.has(mustRevalidate|sMaxAge))
}

// unstorable says why an answer to a GET must not be stored, in a word for
// Cache-Status; empty when it may be (RFC 9111 3).
func unstorable(req *Control, of credentials, status int, h Header, c *Control) string {
	switch {
	case req.has(noStore): // 5.2.1.5
		return "request-no-store"
	case status < 200 || status == 304 || status == 412 || status == 416:
		return "status" // not final, or about the request's conditions and ranges, which are not in the key
	case c.has(mustUnderstand) && !slices.Contains(understood, status): // 5.2.2.3
		return "must-understand"
	case c.has(noStore) && !c.has(mustUnderstand): // 5.2.2.5; 5.2.2.3 overrides
		return "no-store"
	case c.has(private): // 5.2.2.7
		return "private"
	case !c.shares(of): // 3.5
		return "credentials"
	case has(h, "Set-Cookie") && !c.has(public): // ours
		return "set-cookie"
	case status == 206 && !has(h, "Content-Range"): // 3.3; several parts at once
		return "range"
	case variesOnAll(h): // 4.1
		return "vary"
	case !c.has(public|maxAge|sMaxAge) && (c.targeted || !has(h, "Expires")) && !slices.Contains(byDefault, status):
		return "status"
	}
	return ""
}

// silent reports whether the answer says nothing about its storage, so that the
// operator may: micro-caching gives a time only then.
func silent(status int, h Header, c *Control) bool {
	const says = noStore | noCache | private | maxAge | sMaxAge | mustRevalidate | proxyRevalidate
	return !c.has(says) && (c.targeted || !has(h, "Expires")) && c.privateFields == nil &&
		!has(h, "Set-Cookie") && !hasMember(h, "Pragma", "no-cache") &&
		slices.Contains(unsurprising, status)
}

// unsurprising are the status codes that micro-caching is for. 405, 414 and 501
// are not among them: they say something of a request, and one strange request
// must not close a page to all.
var unsurprising = []int{200, 203, 204, 300, 301, 308, 404, 410}

// validator reports whether an answer can be asked about (RFC 9111 4.3.1).
func validator(h Header, received time.Time) bool {
	if has(h, "Etag") {
		return true
	}
	_, ok := parseDate(field(h, "Last-Modified"), received)
	return ok
}
