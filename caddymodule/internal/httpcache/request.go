package httpcache

import (
	"strings"
	"time"
)

// Key names what an application is asked for (RFC 9111 2). Nothing is decoded,
// folded or cleaned: whether /a%2Fb and /a/b, /x;y and /x, /p/../q and /q are the
// same is the application's secret, and whoever guesses wrong shows one page
// under the address of another.
type Key struct {
	Scheme string // http or https
	Host   string // in lower case, without the scheme's default port
	URI    string // path and query as sent; begins with '/'
}

// NewKey makes the key of a request. uri is the path and query exactly as they
// were sent. It does not allocate when host is in lower case.
func NewKey(scheme, host, uri string) Key {
	host = strings.ToLower(host)
	switch scheme { // RFC 9110 4.2.3
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	if uri == "" || uri[0] == '?' {
		uri = "/" + uri
	}
	return Key{scheme, host, uri}
}

// Policy is what the operator has said of a route.
type Policy struct {
	// TTL is the time that answers to anonymous GETs get which say nothing of
	// their storage themselves (micro-caching). 0: none.
	TTL time.Duration
	// Stale is how long beyond its lifetime an object may stand in for an error
	// or for a refusal, where the answer does not forbid it. 0: as the answer
	// allows (RFC 5861).
	Stale time.Duration
}

// Request is what the cache looks at. The cache changes none of it, and keeps
// nothing of it beyond a call except copies.
type Request struct {
	Key    Key
	Method string
	Header Header
	// Body: the request has one. Applications may answer by it, and it is not
	// part of the key.
	Body bool
	// Trusted: forwarded headers come from a hop that the operator trusts, and
	// what they say of host and scheme is in Key.
	Trusted bool
}

// deceptive are fields by which frameworks let a request be about something
// else than its method and target say. They are not part of the key: whoever
// sends one gets an answer of his own, which is not stored.
var deceptive = []string{
	"X-Original-Url", "X-Rewrite-Url", "X-Original-Uri", "X-Forwarded-Uri", "X-Forwarded-Path", "X-Original-Path",
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Forwarded-Method",
}

// rerouting are fields that name another host, scheme or folder; proxies set
// them rightly, everybody else to poison links in what others are shown.
var rerouting = []string{
	"Forwarded", "X-Forwarded-Host", "X-Forwarded-Server", "X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Scheme",
	"X-Forwarded-Ssl", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Host", "X-Original-Host", "X-Http-Host-Override", "X-Url-Scheme",
	"Front-End-Https", "X-Script-Name",
}

// passes reports whether a request is none of the cache's business, and says
// why in a word (RFC 9211 2.2).
func (r *Request) passes() (string, bool) {
	switch {
	case r.Method != "GET" && r.Method != "HEAD":
		return "method", true
	case r.Body, has(r.Header, "Upgrade"), originConditions(r.Header), r.misleads():
		return "bypass", true
	}
	return "", false
}

// misleads looks at each field once: there are fewer of them than of names to
// beware of.
func (r *Request) misleads() bool {
	for field := range r.Header {
		if field == "" || field[0] != 'X' && field[0] != 'F' {
			continue
		}
		if strings.IndexByte(field, '_') >= 0 { // CGI, WSGI and their like take '_' for '-'
			field = canonical(strings.ReplaceAll(field, "_", "-"))
		}
		if reroutes, found := misleading[field]; found && !(reroutes && r.Trusted) {
			return true
		}
	}
	return false
}

// misleading are the names of deceptive and, true, of rerouting.
var misleading = func() map[string]bool {
	all := make(map[string]bool)
	for _, field := range deceptive {
		all[field] = false
	}
	for _, field := range rerouting {
		all[field] = true
	}
	return all
}()
