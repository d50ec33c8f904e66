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
	Host   string // as browsers know it, in lower case, without the scheme's default port
	URI    string // path and query as sent; begins with '/'
	Way    string // what else the answer depends on; invalidation reaches all ways to a URI
}

// NewKey makes the key of a request. uri is the path and query exactly as they
// were sent. It does not allocate when host is in lower case.
func NewKey(scheme, host, uri string) Key {
	host = lowerASCII(host)
	switch scheme { // RFC 9110 4.2.3
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	if uri == "" || uri[0] == '?' {
		uri = "/" + uri
	}
	return Key{Scheme: scheme, Host: host, URI: uri}
}

// lowerASCII leaves other letters alone: Unicode has a K of its own that
// strings.ToLower turns into k.
func lowerASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for i, c := range b {
				if 'A' <= c && c <= 'Z' {
					b[i] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
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
	// Overwrites: the application sees X-Forwarded-Host and X-Forwarded-Proto of
	// the proxy's own making in place of those in Header, as with Caddy and a hop
	// that is not trusted.
	Overwrites bool
}

// deceptive are fields by which frameworks let a request be about something
// else than its method and target say. They are not part of the key: whoever
// sends one gets an answer of his own, which is not stored.
var deceptive = []string{
	"X-Original-Url", "X-Rewrite-Url", "X-Original-Uri", "X-Forwarded-Uri", "X-Forwarded-Path", "X-Original-Path",
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Forwarded-Method",
}

// rerouting are fields that name another host, scheme or folder, or another
// reader than a browser; proxies set them rightly, everybody else to poison what
// others are shown.
var rerouting = []string{
	"Forwarded", "X-Forwarded-Server", "X-Forwarded-Protocol", "X-Forwarded-Scheme",
	"X-Forwarded-Ssl", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Host", "X-Original-Host", "X-Http-Host-Override", "X-Url-Scheme",
	"Front-End-Https", "X-Script-Name",
	surrogateCapability, // a page for a surrogate is its source, to be put together there
}

// overwritten are those of them that Overwrites is about.
var overwritten = []string{"X-Forwarded-Host", "X-Forwarded-Proto"}

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
		if field == "" || field[0] != 'X' && field[0] != 'F' && field[0] != 'S' {
			continue
		}
		// CGI, WSGI and their like take '_' for '-'. No proxy sets it so.
		if strings.IndexByte(field, '_') >= 0 && misleading[canonical(strings.ReplaceAll(field, "_", "-"))] != 0 {
			return true
		}
		switch misleading[field] {
		case deceives:
			return true
		case reroutes:
			if !r.Trusted {
				return true
			}
		case replaced:
			if !r.Trusted && !r.Overwrites {
				return true
			}
		}
	}
	return false
}

// danger is what a field may do.
type danger int

const (
	deceives danger = iota + 1
	reroutes
	replaced
)

var misleading = func() map[string]danger {
	all := make(map[string]danger)
	for d, fields := range map[danger][]string{deceives: deceptive, reroutes: rerouting, replaced: overwritten} {
		for _, field := range fields {
			all[field] = d
		}
	}
	return all
}()
