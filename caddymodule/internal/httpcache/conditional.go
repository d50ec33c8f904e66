package httpcache

import (
	"strings"
	"time"
)

// conditions are request fields that make it conditional (RFC 9110 13.1).
var conditions = []string{"If-None-Match", "If-Modified-Since", "If-Range"}

// originConditions are for the application alone (RFC 9111 4.3.2): the cache
// does not evaluate them, and forwards the request.
func originConditions(h Header) bool {
	return has(h, "If-Match") || has(h, "If-Unmodified-Since")
}

// notModified reports whether a client has what the stored answer is (RFC 9111
// 4.3.2). If-None-Match makes If-Modified-Since void (RFC 9110 13.2.2).
func notModified(request, stored Header, etag string, received time.Time) bool {
	if has(request, "If-None-Match") {
		return etagListed(request, etag)
	}
	lines := request["If-Modified-Since"]
	if len(lines) != 1 {
		return false
	}
	since, ok := parseDate(lines[0], received)
	if !ok { // a recipient MUST ignore it then (RFC 9110 13.1.3)
		return false
	}
	modified, ok := parseDate(field(stored, "Last-Modified"), received)
	if !ok { // then Date, and without it the time of arrival
		modified = date(stored, received).Truncate(time.Second)
	}
	return !modified.After(since)
}

// etagListed compares weakly (RFC 9110 13.1.2): `*` is whatever there is.
func etagListed(request Header, etag string) bool {
	for l := members(request, "If-None-Match"); ; {
		member, ok := l.next()
		if !ok {
			return false
		}
		if member == "*" || etag != "" && opaque(member) == opaque(etag) {
			return true
		}
	}
}

// opaque is an entity tag without its mark of weakness (RFC 9110 8.8.3).
func opaque(etag string) string { return strings.TrimPrefix(etag, "W/") }

// strong reports whether a tag promises the same bytes (RFC 9110 8.8.1).
func strong(etag string) bool {
	return len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"'
}

// rangeApplies evaluates If-Range (RFC 9110 13.1.5): without it, or if it names
// exactly this answer, the client may have a part.
func rangeApplies(request, stored Header, etag string, received time.Time) bool {
	if !has(request, "If-Range") {
		return true
	}
	want := trim(field(request, "If-Range"))
	if strings.HasPrefix(want, `"`) || strings.HasPrefix(want, "W/") {
		return strong(want) && want == etag
	}
	// A date is a strong validator only if the answer is older by enough (RFC
	// 9110 8.8.2.2), and must be the very same.
	since, ok := parseDate(want, received)
	if !ok || want != field(stored, "Last-Modified") {
		return false
	}
	made, ok := parseDate(field(stored, "Date"), received)
	return ok && !made.Before(since.Add(time.Second))
}

// revalidation makes a client's request ask about a stored answer (RFC 9111
// 4.3.1): h loses the client's own conditions and gets the answer's validators.
func revalidation(h Header, o *Object) {
	dropConditions(h)
	if etag := o.etag(); etag != "" {
		h["If-None-Match"] = []string{etag}
	}
	if modified := field(o.header, "Last-Modified"); modified != "" {
		h["If-Modified-Since"] = []string{modified}
	}
}

// dropConditions makes a request ask for the whole answer.
func dropConditions(h Header) {
	for _, name := range conditions {
		delete(h, name)
	}
	delete(h, "Range")
}

// confirms reports whether a 304 is about the stored answer (RFC 9111 4.3.4):
// it names the same validator, strong if it is strong, or none at all.
func confirms(news Header, o *Object) bool {
	if etag := field(news, "Etag"); etag != "" {
		if strong(etag) && strong(o.etag()) {
			return etag == o.etag()
		}
		return opaque(etag) == opaque(o.etag())
	}
	modified := field(news, "Last-Modified")
	return modified == "" || modified == field(o.header, "Last-Modified")
}

// sameAnswer reports whether the head of an answer to HEAD is that of the
// stored one (RFC 9111 4.3.5): all of the validators and the length that it has.
func sameAnswer(news Header, o *Object) bool {
	for _, name := range []string{"Etag", "Last-Modified", "Content-Length"} {
		if has(news, name) && field(news, name) != field(o.header, name) {
			return false
		}
	}
	return true
}
