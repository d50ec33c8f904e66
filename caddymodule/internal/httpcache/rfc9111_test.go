package httpcache

import (
	"strings"
	"testing"
	"time"
)

// reuse is a rule about whether a second request gets the first one's answer.
type reuse struct {
	section string // of RFC 9111, unless it names another
	rule    string
	first   []string // request fields
	status  int      // of the answer; 0: 200
	answer  []string // its fields
	after   time.Duration
	second  []string
	cached  bool
}

var reuses = []reuse{
	// 3: what may be stored.
	{section: "3", rule: "a final status with explicit freshness may be stored", answer: a("Cache-Control: max-age=60"), cached: true},
	{section: "3", rule: "no-store is not stored", answer: a("Cache-Control: no-store, max-age=60")},
	{section: "3", rule: "private is not for a shared cache", answer: a("Cache-Control: private, max-age=60")},
	{section: "3", rule: "without any of the permissions nothing is stored", status: 201, answer: a("Etag: \"1\"")},
	{section: "3", rule: "public is a permission", status: 201, answer: a("Cache-Control: public", "Last-Modified: -1000"), cached: true},
	{section: "3", rule: "Expires is a permission", status: 403, answer: a("Expires: +60"), cached: true},
	{section: "3", rule: "s-maxage is a permission", status: 502, answer: a("Cache-Control: s-maxage=60"), cached: true},
	{section: "3", rule: "max-age is a permission", status: 201, answer: a("Cache-Control: max-age=60"), cached: true},
	{section: "3", rule: "a cacheable status may be stored by heuristic", status: 404, answer: a("Last-Modified: -1000"), cached: true},
	{section: "3", rule: "other statuses may not", status: 403, answer: a("Last-Modified: -1000")},
	{section: "3", rule: "416 is about a Range, which is not in the key", status: 416, first: a("Range: bytes=9-"), answer: a("Cache-Control: max-age=60")},
	{section: "3", rule: "412 is about conditions", status: 412, answer: a("Cache-Control: max-age=60")},
	{section: "5.2.2.3", rule: "must-understand with an unknown status is not stored", status: 299, answer: a("Cache-Control: must-understand, max-age=60")},
	{section: "5.2.2.3", rule: "an unknown status without it is", status: 299, answer: a("Cache-Control: max-age=60"), cached: true},
	{section: "5.2.2.3", rule: "must-understand overrides no-store where the status is understood", answer: a("Cache-Control: must-understand, no-store, max-age=60"), cached: true},
	{section: "5.2.2.3", rule: "not where the status is unknown", status: 299, answer: a("Cache-Control: must-understand, no-store, max-age=60")},
	{section: "5.2.2.5", rule: "no-store wins over whatever allows it", answer: a("Cache-Control: no-store, public, s-maxage=60, must-revalidate", "Expires: +60")},
	{section: "5.2.1.5", rule: "no-store in the request: neither stored", first: a("Cache-Control: no-store"), answer: a("Cache-Control: max-age=60")},
	{section: "5.2.1.5", rule: "what is stored already may answer it", answer: a("Cache-Control: max-age=60"), second: a("Cache-Control: no-store"), cached: true},
	{section: "9110 14.4", rule: "Content-Range in a 200 means nothing", answer: a("Cache-Control: max-age=60", "Content-Range: bytes 0-1/5"), cached: true},

	// 3.5: Authorization.
	{section: "3.5", rule: "an answer to Authorization is not shared", first: a("Authorization: x"), answer: a("Cache-Control: max-age=60")},
	{section: "3.5", rule: "public lets it", first: a("Authorization: x"), answer: a("Cache-Control: max-age=60, public"), cached: true},
	{section: "3.5", rule: "s-maxage lets it", first: a("Authorization: x"), answer: a("Cache-Control: s-maxage=60"), cached: true},
	{section: "3.5", rule: "must-revalidate lets it", first: a("Authorization: x"), answer: a("Cache-Control: max-age=60, must-revalidate"), cached: true},
	{section: "3.5", rule: "proxy-revalidate does not", first: a("Authorization: x"), answer: a("Cache-Control: max-age=60, proxy-revalidate")},
	{section: "3.5", rule: "and what lets it is followed", first: a("Authorization: x"), answer: a("Cache-Control: max-age=1, must-revalidate, stale-while-revalidate=60"), after: 2 * time.Second},
	{section: "ours", rule: "who is authorized gets nobody else's answer", second: a("Authorization: x"), answer: a("Cache-Control: max-age=60")},
	{section: "ours", rule: "who has cookies gets nobody else's answer", second: a("Cookie: a=b"), answer: a("Cache-Control: s-maxage=60")},
	{section: "ours", rule: "an answer to a request with cookies is not shared", first: a("Cookie: a=b"), answer: a("Cache-Control: s-maxage=60")},
	{section: "ours", rule: "unless it says public", first: a("Cookie: a=b"), answer: a("Cache-Control: max-age=60, public"), cached: true},
	{section: "ours", rule: "an answer that sets cookies is not shared", answer: a("Cache-Control: max-age=60", "Set-Cookie: a=b")},
	{section: "ours", rule: "unless it says public as well", answer: a("Cache-Control: max-age=60, public", "Set-Cookie: a=b"), cached: true},

	// 4.1: Vary.
	{section: "4.1", rule: "the same selecting fields match", first: a("Foo: 1"), second: a("Foo: 1"), answer: a("Cache-Control: max-age=60", "Vary: foo"), cached: true},
	{section: "4.1", rule: "other values do not", first: a("Foo: 1"), second: a("Foo: 2"), answer: a("Cache-Control: max-age=60", "Vary: Foo")},
	{section: "4.1", rule: "an absent field matches an absent field only", second: a("Foo: 1"), answer: a("Cache-Control: max-age=60", "Vary: Foo")},
	{section: "4.1", rule: "an absent field is not an empty one", second: a("Foo:"), answer: a("Cache-Control: max-age=60", "Vary: Foo")},
	{section: "4.1", rule: "all fields count, on all lines", first: a("A: 1", "B: 1"), second: a("A: 1", "B: 2"), answer: a("Cache-Control: max-age=60", "Vary: A", "Vary: B")},
	{section: "4.1", rule: "Vary: * never matches", answer: a("Cache-Control: max-age=60", "Vary: *")},
	{section: "4.1", rule: "nor among others", answer: a("Cache-Control: max-age=60", "Vary: Foo, *")},
	{section: "4.1", rule: "lines may be combined", first: a("Foo: 1", "Foo: 2"), second: a("Foo: 1, 2"), answer: a("Cache-Control: max-age=60", "Vary: Foo"), cached: true},
	{section: "4.1", rule: "Accept-Encoding is a set", first: a("Accept-Encoding: gzip, br"), second: a("Accept-Encoding: br,GZIP;q=1"), answer: a("Cache-Control: max-age=60", "Vary: Accept-Encoding"), cached: true},
	{section: "4.1", rule: "of what is accepted", first: a("Accept-Encoding: gzip, br"), second: a("Accept-Encoding: gzip, br;q=0"), answer: a("Cache-Control: max-age=60", "Vary: Accept-Encoding")},
	{section: "4.1", rule: "weights keep it apart", first: a("Accept-Encoding: gzip, br"), second: a("Accept-Encoding: gzip;q=0.5, br"), answer: a("Cache-Control: max-age=60", "Vary: Accept-Encoding")},
	{section: "4.1", rule: "case and space of languages do not count", first: a("Accept-Language: en, de"), second: a("Accept-Language: EN,DE"), answer: a("Cache-Control: max-age=60", "Vary: Accept-Language"), cached: true},
	{section: "4.1", rule: "but those of fields that only begin so", first: a("Accept-Profile: Ann B"), second: a("Accept-Profile: annb"), answer: a("Cache-Control: max-age=60", "Vary: Accept-Profile")},
	{section: "4.1", rule: "nor those of a parameter", first: a("Accept: text/html;profile=\"A B\""), second: a("Accept: text/html;profile=\"a b\""), answer: a("Cache-Control: max-age=60", "Vary: Accept")},
	{section: "4.1", rule: "nor the space in its quotes", first: a("Accept: text/html;profile=\"A B\""), second: a("Accept: text/html;profile=\"AB\""), answer: a("Cache-Control: max-age=60", "Vary: Accept")},
	{section: "4.1", rule: "case and space of types do not count", first: a("Accept: text/html; q=0.5, text/*"), second: a("Accept: Text/HTML;q=0.5,text/*"), answer: a("Cache-Control: max-age=60", "Vary: Accept"), cached: true},
	{section: "4.1", rule: "their order does", first: a("Accept-Language: en, de"), second: a("Accept-Language: de, en"), answer: a("Cache-Control: max-age=60", "Vary: Accept-Language")},

	// 4.2.1, 4.2.2: lifetime.
	{section: "4.2.1", rule: "fresh until max-age", answer: a("Cache-Control: max-age=60"), after: 59 * time.Second, cached: true},
	{section: "4.2.1", rule: "not any longer", answer: a("Cache-Control: max-age=60"), after: 60 * time.Second},
	{section: "4.2.1", rule: "s-maxage is before max-age", answer: a("Cache-Control: max-age=10, s-maxage=60"), after: 30 * time.Second, cached: true},
	{section: "4.2.1", rule: "also when it is shorter", answer: a("Cache-Control: s-maxage=10, max-age=60"), after: 30 * time.Second},
	{section: "5.3", rule: "max-age is before Expires", answer: a("Cache-Control: max-age=60", "Expires: -10"), cached: true},
	{section: "5.3", rule: "a shorter max-age as well", answer: a("Cache-Control: max-age=0", "Expires: +60")},
	{section: "4.2.1", rule: "Expires counts from Date", answer: a("Expires: +60", "Date: -0"), after: 59 * time.Second, cached: true},
	{section: "4.2.1", rule: "Expires ends", answer: a("Expires: +60", "Date: -0"), after: 61 * time.Second},
	{section: "5.3", rule: "an invalid date is the past, above all 0", answer: a("Expires: 0", "Last-Modified: -10000")},
	{section: "5.3", rule: "or whatever is no date", answer: a("Expires: in an hour", "Last-Modified: -10000")},
	{section: "4.2", rule: "the case of a date does not count", answer: a("Expires: THU, 18 aug 2050 02:01:18 gmt"), cached: true},
	{section: "4.2", rule: "a zone other than GMT is no date", answer: a("Expires: Thu, 18 Aug 2050 02:01:18 UTC")},
	{section: "4.2.1", rule: "two times that differ are stale", answer: a("Cache-Control: max-age=60, max-age=70")},
	{section: "4.2.1", rule: "two that agree are one", answer: a("Cache-Control: max-age=60, max-age=60"), cached: true},
	{section: "4.2.1", rule: "two Expires that differ are stale", answer: a("Expires: +60", "Expires: +70")},
	{section: "4.2.1", rule: "a time that is not a number is stale", answer: a("Cache-Control: max-age=6x", "Expires: +60", "Last-Modified: -10000")},
	{section: "1.2.2", rule: "a time too large is as large as can be", answer: a("Cache-Control: max-age=99999999999999999999"), after: 1000 * time.Hour, cached: true},
	{section: "1.2.2", rule: "an age too large as well", answer: a("Cache-Control: max-age=60", "Age: 99999999999999999999")},
	{section: "1.2.2", rule: "even both", answer: a("Cache-Control: max-age=99999999999999999999", "Age: 99999999999999999999")},
	{section: "1.2.2", rule: "a Date before all time is an age as large as can be", answer: a("Cache-Control: max-age=60", "Date: Mon, 01 Jan 0001 00:00:00 GMT")},
	{section: "1.2.2", rule: "a time since the last change too large to be multiplied", answer: a("Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT"), after: 59 * time.Second, cached: true},
	{section: "1.2.2", rule: "an end of time is later than now", answer: a("Expires: Fri, 31 Dec 9999 23:59:59 GMT"), after: 1000 * time.Hour, cached: true},
	{section: "5.2", rule: "names are case-insensitive", answer: a("Cache-Control: MaX-aGe=60"), cached: true},
	{section: "5.2", rule: "arguments may be quoted", answer: a("Cache-Control: max-age=\"60\""), cached: true},
	{section: "5.2", rule: "a directive within a string is none", answer: a("Cache-Control: x=\"no-store\", max-age=60"), cached: true},
	{section: "5.2.3", rule: "unknown directives are ignored", answer: a("Cache-Control: foo=bar, max-age=60"), cached: true},
	{section: "5.2.3", rule: "and change nothing beside them", answer: a("Cache-Control: private, community=\"UCI\", max-age=60")},
	{section: "4.2.2", rule: "a tenth of the time since the last change", answer: a("Last-Modified: -100"), after: 9 * time.Second, cached: true},
	{section: "4.2.2", rule: "not more", answer: a("Last-Modified: -100"), after: 11 * time.Second},
	{section: "4.2.2", rule: "and a minute at most", answer: a("Last-Modified: -1000000"), after: 61 * time.Second},
	{section: "4.2.2", rule: "no heuristic where there is an explicit time", answer: a("Cache-Control: max-age=1", "Last-Modified: -1000"), after: 2 * time.Second},
	{section: "4.2.2", rule: "nothing without Last-Modified", answer: a("Etag: \"1\"")},

	// 4.2.3: age.
	{section: "4.2.3", rule: "Age counts", answer: a("Cache-Control: max-age=60", "Age: 50"), after: 11 * time.Second},
	{section: "4.2.3", rule: "an old Date counts", answer: a("Cache-Control: max-age=60", "Date: -50"), after: 11 * time.Second},
	{section: "4.2.3", rule: "a Date ahead does not", answer: a("Cache-Control: max-age=60", "Date: +500"), after: 59 * time.Second, cached: true},
	{section: "4.2.3", rule: "nor does a broken one", answer: a("Cache-Control: max-age=60", "Date: yesterday"), after: 59 * time.Second, cached: true},
	{section: "5.1", rule: "the first of several Ages counts", answer: a("Cache-Control: max-age=60", "Age: 0, 100"), cached: true},
	{section: "5.1", rule: "the first of several lines as well", answer: a("Cache-Control: max-age=60", "Age: 100", "Age: 0")},
	{section: "5.1", rule: "an Age that is no number is ignored", answer: a("Cache-Control: max-age=60", "Age: old"), cached: true},

	// 4.2.4: stale.
	{section: "4.2.4", rule: "a stale answer is not used without being allowed", answer: a("Cache-Control: max-age=0")},
	{section: "5861 3", rule: "stale-while-revalidate allows it", answer: a("Cache-Control: max-age=1, stale-while-revalidate=10"), after: 5 * time.Second, cached: true},
	{section: "5861 3", rule: "for its time", answer: a("Cache-Control: max-age=1, stale-while-revalidate=10"), after: 11 * time.Second},
	{section: "5.2.2.2", rule: "not where must-revalidate forbids it", answer: a("Cache-Control: max-age=1, stale-while-revalidate=10, must-revalidate"), after: 5 * time.Second},
	{section: "5.2.2.8", rule: "nor proxy-revalidate", answer: a("Cache-Control: max-age=1, stale-while-revalidate=10, proxy-revalidate"), after: 5 * time.Second},
	{section: "5.2.2.2", rule: "must-revalidate: nor for a client that would take it", answer: a("Cache-Control: max-age=1, must-revalidate"), after: 5 * time.Second, second: a("Cache-Control: max-stale")},
	{section: "5.2.2.2", rule: "fresh it is as good as others", answer: a("Cache-Control: max-age=60, must-revalidate"), after: 5 * time.Second, cached: true},
	{section: "5.2.2.8", rule: "proxy-revalidate: nor for a client that would take it", answer: a("Cache-Control: max-age=1, proxy-revalidate"), after: 5 * time.Second, second: a("Cache-Control: max-stale")},
	{section: "5.2.2.10", rule: "s-maxage is before Expires", answer: a("Cache-Control: s-maxage=60", "Expires: -10"), cached: true},
	{section: "5.2.2.10", rule: "s-maxage is before Expires, also when it is shorter", answer: a("Cache-Control: s-maxage=0", "Expires: +60")},
	{section: "5.2.2.10", rule: "s-maxage alone is not served stale, whoever would take it", answer: a("Cache-Control: s-maxage=1, max-age=60"), after: 5 * time.Second, second: a("Cache-Control: max-stale")},
	{section: "ours", rule: "s-maxage with stale-while-revalidate is", answer: a("Cache-Control: s-maxage=1, stale-while-revalidate=60"), after: 5 * time.Second, cached: true},

	// 5.2.1: the request's wishes.
	{section: "5.2.1.1", rule: "max-age wants none older", answer: a("Cache-Control: max-age=60"), after: 5 * time.Second, second: a("Cache-Control: max-age=4")},
	{section: "5.2.1.1", rule: "younger ones will do", answer: a("Cache-Control: max-age=60"), after: 5 * time.Second, second: a("Cache-Control: max-age=6"), cached: true},
	{section: "5.2.1.2", rule: "max-stale takes stale ones", answer: a("Cache-Control: max-age=1"), after: 5 * time.Second, second: a("Cache-Control: max-stale=5"), cached: true},
	{section: "5.2.1.2", rule: "up to its time", answer: a("Cache-Control: max-age=1"), after: 7 * time.Second, second: a("Cache-Control: max-stale=5")},
	{section: "5.2.1.2", rule: "without a time any", answer: a("Cache-Control: max-age=1"), after: time.Hour, second: a("Cache-Control: max-stale"), cached: true},
	{section: "4.2.4", rule: "not where s-maxage forbids it", answer: a("Cache-Control: s-maxage=1"), after: 5 * time.Second, second: a("Cache-Control: max-stale")},
	{section: "5.2.1.3", rule: "min-fresh wants it to last", answer: a("Cache-Control: max-age=60"), after: 5 * time.Second, second: a("Cache-Control: min-fresh=56")},
	{section: "5.2.1.3", rule: "what lasts is given", answer: a("Cache-Control: max-age=60"), after: 5 * time.Second, second: a("Cache-Control: min-fresh=54"), cached: true},
	{section: "5.2.1.4", rule: "no-cache asks the application", answer: a("Cache-Control: max-age=60"), second: a("Cache-Control: no-cache")},
	{section: "5.4", rule: "so does Pragma of old", answer: a("Cache-Control: max-age=60"), second: a("Pragma: no-cache")},
	{section: "5.4", rule: "but for Cache-Control beside it", answer: a("Cache-Control: max-age=60"), second: a("Pragma: no-cache", "Cache-Control: foo"), cached: true},
	{section: "5.4", rule: "in an answer it means nothing", answer: a("Cache-Control: max-age=60", "Pragma: no-cache"), cached: true},
	{section: "5.2.2.4", rule: "no-cache in the answer asks each time", answer: a("Cache-Control: no-cache, max-age=60", "Etag: \"1\"")},
	{section: "5.2.2.4", rule: "no-cache with fields is for those alone", answer: a("Cache-Control: no-cache=\"foo\", max-age=60"), cached: true},
	{section: "5.2.2.7", rule: "private with fields as well", answer: a("Cache-Control: private=\"foo\", max-age=60"), cached: true},
	{section: "5.2.2.7", rule: "private without a name in its list is private", answer: a("Cache-Control: private=\"\", max-age=60")},

	// RFC 9213.
	{section: "9213 2.2", rule: "a targeted field takes the place of Cache-Control", answer: a("Cache-Control: no-store", "Cdn-Cache-Control: max-age=60"), cached: true},
	{section: "9213 2.2", rule: "and of Expires", answer: a("Expires: +60", "Cdn-Cache-Control: max-age=0")},
	{section: "9213 2.2", rule: "ours comes first", answer: a("Portner-Cache-Control: max-age=60", "Cdn-Cache-Control: no-store"), cached: true},
	{section: "9213 2.1", rule: "an invalid one is ignored", answer: a("Cache-Control: max-age=60", "Cdn-Cache-Control: no-store, &&&"), cached: true},
	{section: "9213 2.1", rule: "an empty one as well", answer: a("Cache-Control: max-age=60", "Cdn-Cache-Control:"), cached: true},
	{section: "9213 2.1", rule: "a directive of the wrong type is ignored", answer: a("Cache-Control: no-store", "Cdn-Cache-Control: max-age=\"60\"")},
	{section: "9213 2.1", rule: "parameters are ignored", answer: a("Cdn-Cache-Control: max-age=60;a=b;c, foo=(1 2)"), cached: true},
	{section: "9213 2.1", rule: "a broken number is ignored, not rounded", answer: a("Cdn-Cache-Control: max-age=60.5")},
	{section: "9213 2.2", rule: "no-store there", answer: a("Cache-Control: max-age=60", "Cdn-Cache-Control: max-age=60, no-store")},
	{section: "9213 2.2", rule: "no-cache there", answer: a("Cache-Control: max-age=60", "Cdn-Cache-Control: max-age=60, no-cache")},
	{section: "9213 2.2", rule: "private there", answer: a("Cache-Control: max-age=60", "Cdn-Cache-Control: max-age=60, private")},
	{section: "9213 2.2", rule: "must-revalidate there", answer: a("Cdn-Cache-Control: max-age=1, must-revalidate, stale-while-revalidate=60"), after: 5 * time.Second},
	{section: "9213 2.2", rule: "and the others: stale-while-revalidate", answer: a("Cdn-Cache-Control: max-age=1, stale-while-revalidate=60"), after: 5 * time.Second, cached: true},
	{section: "9213 2.2", rule: "one that says nothing known is obeyed", answer: a("Cache-Control: max-age=60", "Cdn-Cache-Control: none")},
	{section: "9213 2.2", rule: "one for others changes nothing", answer: a("Cache-Control: max-age=60", "Examplecdn-Cache-Control: no-store"), cached: true},

	// Edge Architecture Specification (W3C Note, 2001) 2.2.
	{section: "edge 2.2", rule: "Surrogate-Control takes the place of Cache-Control", answer: a("Cache-Control: private, no-store", "Surrogate-Control: max-age=60"), cached: true},
	{section: "edge 2.2", rule: "also where it forbids more", answer: a("Cache-Control: max-age=60", "Expires: +60", "Surrogate-Control: no-store")},
	{section: "edge 2.2", rule: "or less long", answer: a("Cache-Control: max-age=60", "Surrogate-Control: max-age=1"), after: 2 * time.Second},
	{section: "edge 2.2", rule: "targeted fields are before it", answer: a("Cdn-Cache-Control: no-store", "Surrogate-Control: max-age=60")},
	{section: "edge 2.2", rule: "what others are told does not count", answer: a("Cache-Control: no-store", "Surrogate-Control: max-age=60;abc")},
	{section: "edge 2.2", rule: "nor does it forbid", answer: a("Cache-Control: max-age=60", "Surrogate-Control: no-store;abc"), cached: true},
	{section: "edge 2.2", rule: "what this cache is told comes first", answer: a("Surrogate-Control: max-age=60;portner, max-age=0, no-store;abc"), cached: true},
	{section: "edge 2.2", rule: "in whatever order", answer: a("Surrogate-Control: max-age=0, max-age=60; Portner"), cached: true},
	{section: "edge 2.2", rule: "what is for all counts beside it", answer: a("Surrogate-Control: no-store, max-age=60;portner")},
	{section: "edge 2.2", rule: "unknown words are nothing to obey", answer: a("Cache-Control: max-age=60", "Surrogate-Control: no-store-remote, foo"), cached: true},
	{section: "edge 2.2", rule: "a time there that is not a number is stale", answer: a("Cache-Control: max-age=60", "Surrogate-Control: max-age=6x")},
	{section: "edge 2.2", rule: "it may be extended", answer: a("Surrogate-Control: max-age=1+10"), after: 5 * time.Second, cached: true},
	{section: "edge 2.2", rule: "by so much", answer: a("Surrogate-Control: max-age=1+10"), after: 12 * time.Second},
	{section: "ours", rule: "a cookie is set for one, whatever is said", answer: a("Set-Cookie: a=b", "Surrogate-Control: max-age=60")},

	{section: "8941 3.2", rule: "the last of equal keys counts", answer: a("Cdn-Cache-Control: max-age=0, max-age=60"), cached: true},
}

func a(lines ...string) []string { return lines }

func TestAnswersAreReusedAsTheRFCsSay(t *testing.T) {
	for _, rule := range reuses {
		t.Run(rule.section+" "+rule.rule, func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, c *Cache) {
				status := max(rule.status, 200)
				first := talk(t, c, Policy{}, get("/", rule.first...), app{status, fields(rule.answer...), "one"})
				if first.cached() || first.body != "one" {
					t.Fatalf("the first request got %+v", first)
				}
				time.Sleep(rule.after)
				second := talk(t, c, Policy{}, get("/", rule.second...), ok("two"))
				if second.cached() != rule.cached {
					t.Fatalf("cached: %v, want %v: %+v", second.cached(), rule.cached, second)
				}
				if want := map[bool]string{true: "one", false: "two"}[rule.cached]; second.body != want {
					t.Errorf("body %q, want %q", second.body, want)
				}
			})
		})
	}
}

func TestStoredAnswerHasTheAgeItHas(t *testing.T) { // 4, 5.1: MUST generate Age
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("x", "Cache-Control: max-age=600", "Age: 30"))
		time.Sleep(12500 * time.Millisecond)
		if x := talk(t, c, Policy{}, get("/"), ok("")); field(x.header, "Age") != "42" {
			t.Errorf("Age %q, want 42", field(x.header, "Age"))
		}
	})
}

func TestDelayOnTheWayCountsAsAge(t *testing.T) { // 4.2.3
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		f := c.Lookup(&r, Policy{}).Flight
		f.Sent()
		h := fields("Cache-Control: max-age=10", "Age: 3")
		time.Sleep(5 * time.Second)
		f.Receive(200, h)
		f.End(nil)
		if x := talk(t, c, Policy{}, r, ok("")); field(x.header, "Age") != "8" {
			t.Errorf("Age %q, want 3 of the sender and 5 of the journey", field(x.header, "Age"))
		}
	})
}

func TestDateIsAddedWhereItIsMissing(t *testing.T) { // 9110 6.6.1
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		want := formatDate(time.Now())
		talk(t, c, Policy{}, get("/"), ok("x", "Cache-Control: max-age=600"))
		time.Sleep(time.Minute)
		if x := talk(t, c, Policy{}, get("/"), ok("")); field(x.header, "Date") != want {
			t.Errorf("Date %q, want %q", field(x.header, "Date"), want)
		}
	})
}

func TestFieldsOfOneConnectionAreNotStored(t *testing.T) { // 3.1; 5.2.2.4, 5.2.2.7
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("x", "Cache-Control: max-age=600, private=\"P\", no-cache=\"N, m\"", "Connection: a, B",
			"A: 1", "B: 1", "C: 1", "P: 1", "N: 1", "M: 1", "Keep-Alive: 1", "Te: 1", "Upgrade: 1", "Transfer-Encoding: chunked",
			"Proxy-Connection: 1", "Proxy-Authenticate: 1", "Proxy-Authentication-Info: 1", "Proxy-Authorization: 1"))
		x := talk(t, c, Policy{}, get("/"), ok(""))
		for _, name := range []string{"Connection", "A", "B", "P", "N", "M", "Keep-Alive", "Te", "Upgrade", "Transfer-Encoding",
			"Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization"} {
			if has(x.header, name) {
				t.Errorf("%s was stored", name)
			}
		}
		if field(x.header, "C") != "1" || !x.cached() {
			t.Errorf("C was not: %v", x.header)
		}
	})
}

// TestFieldsForOneReaderReachHim: 5.2.2.4 and 5.2.2.7 are about later uses.
func TestFieldsForOneReaderReachHim(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		answer := ok("x", "Cache-Control: public, max-age=1, private=\"Set-Cookie\", no-cache=\"N, Connection, portner-load\"",
			"Set-Cookie: a=b", "N: 1", "Connection: N2", "N2: 1", "Portner-Load: 1", "Etag: \"1\"")
		check := func(x told, mine bool) {
			t.Helper()
			if has(x.header, "Set-Cookie") != mine || has(x.header, "N") != mine || has(x.header, "Connection") || has(x.header, "Portner-Load") {
				t.Errorf("for him alone: %v; %v", mine, x.header)
			}
		}
		check(talk(t, c, Policy{}, get("/"), answer), true)
		check(talk(t, c, Policy{}, get("/"), ok("")), false)
		time.Sleep(2 * time.Second)
		check(talk(t, c, Policy{}, get("/"), app{304, answer.header, ""}), true)
		check(talk(t, c, Policy{}, get("/"), ok("")), false)
	})
}

func TestIncompleteAnswerIsNotStored(t *testing.T) { // 3.3, 9110 8.6
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		for name, end := range map[string]func(*Flight){
			"broken off":             func(f *Flight) { f.Fail() },
			"never ended":            func(f *Flight) { f.Done() },
			"shorter than announced": func(f *Flight) { f.End(nil) },
		} {
			r := get("/" + name)
			f := c.Lookup(&r, Policy{}).Flight
			f.Receive(200, fields("Cache-Control: max-age=60", "Content-Length: 10"))
			f.Write([]byte("12345"))
			end(f)
			if x := talk(t, c, Policy{}, r, ok("whole")); x.cached() {
				t.Errorf("%s: stored", name)
			}
		}
	})
}

func TestOnlyIfCachedIsNotSentOn(t *testing.T) { // 5.2.1.7: with the other wishes of the request
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/stale"), ok("x", "Cache-Control: max-age=1"))
		time.Sleep(5 * time.Second)
		for wish, status := range map[string]int{"": 504, ", max-stale=60": 200, ", max-stale=2": 504} {
			if x := talk(t, c, Policy{}, get("/stale", "Cache-Control: only-if-cached"+wish), ok("")); x.status != status || !x.cached() {
				t.Errorf("%q: %d, want %d", wish, x.status, status)
			}
		}
		if x := talk(t, c, Policy{}, get("/", "Cache-Control: only-if-cached"), ok("")); x.status != 504 {
			t.Errorf("%d, want 504", x.status)
		}
		talk(t, c, Policy{}, get("/"), ok("x", "Cache-Control: max-age=60"))
		if x := talk(t, c, Policy{}, get("/", "Cache-Control: only-if-cached"), ok("")); x.status != 200 || !x.cached() {
			t.Errorf("%+v", x)
		}
	})
}

// TestNotModifiedMakesTheStoredAnswerFresh: 4.3.1, 4.3.3, 4.3.4, 3.2.
func TestNotModifiedMakesTheStoredAnswerFresh(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		first := ok("body", "Cache-Control: max-age=10", "Etag: \"1\"", "Last-Modified: -1000", "A: old", "B: old", "Content-Type: text/x")
		talk(t, c, Policy{}, get("/"), first)
		time.Sleep(11 * time.Second)

		news := app{304, fields("Cache-Control: max-age=20", "Etag: \"1\"", "A: new", "C: new", "Content-Length: 999"), ""}
		x := talk(t, c, Policy{}, get("/", "If-None-Match: \"other\""), news)
		if field(x.sent, "If-None-Match") != `"1"` || field(x.sent, "If-Modified-Since") != field(first.header, "Last-Modified") {
			t.Errorf("asked with %v", x.sent)
		}
		for name, want := range map[string]string{"A": "new", "B": "old", "C": "new", "Content-Length": "4", "Age": "0"} {
			if field(x.header, name) != want {
				t.Errorf("%s: %q, want %q", name, field(x.header, name), want)
			}
		}
		if x.status != 200 || x.body != "body" {
			t.Errorf("%d %q", x.status, x.body)
		}
		time.Sleep(19 * time.Second)
		if x := talk(t, c, Policy{}, get("/"), ok("")); !x.cached() || x.body != "body" || field(x.header, "A") != "new" {
			t.Errorf("after: %+v", x)
		}
	})
}

func TestNotModifiedOfSomethingElseIsNotBelieved(t *testing.T) { // 4.3.4
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("body", "Cache-Control: max-age=1", "Etag: \"1\""))
		time.Sleep(2 * time.Second)
		x := talk(t, c, Policy{}, get("/"), app{304, fields("Cache-Control: max-age=1", "Etag: \"2\""), "again"})
		if x.body != "again" || len(x.sent["If-None-Match"]) != 0 {
			t.Errorf("%+v", x)
		}
	})
}

func TestFullAnswerReplacesTheStoredOne(t *testing.T) { // 4.3.3
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("one", "Cache-Control: max-age=1", "Etag: \"1\""))
		time.Sleep(2 * time.Second)
		if x := talk(t, c, Policy{}, get("/"), ok("two", "Cache-Control: max-age=60", "Etag: \"2\"")); x.body != "two" || field(x.header, "Etag") != `"2"` {
			t.Errorf("who asked got %+v", x)
		}
		if x := talk(t, c, Policy{}, get("/"), ok("")); x.body != "two" || !x.cached() {
			t.Errorf("%+v", x)
		}
	})
}

func TestServerErrorIsForwardedUnlessStaleMayStandIn(t *testing.T) { // 4.3.3, 5861 4
	for _, row := range []struct {
		control, request string
		operator         time.Duration
		status, want     int
	}{
		{"max-age=1", "", 0, 503, 503},
		{"max-age=1, stale-if-error=60", "", 0, 503, 200},
		{"max-age=1, stale-if-error=60", "", 0, 500, 200},
		{"max-age=1, stale-if-error=60", "", 0, 501, 501},
		{"max-age=1, stale-if-error=60", "", 0, 404, 404},
		{"max-age=1, stale-if-error=3", "", 0, 503, 503},
		{"max-age=1, stale-if-error=60, must-revalidate", "", 0, 503, 503},
		{"max-age=1", "Cache-Control: stale-if-error=60", 0, 503, 200},
		{"max-age=1", "", time.Minute, 503, 200},
		{"s-maxage=1", "", time.Minute, 503, 503},
		{"max-age=1", "", 0, 0, 200}, // 4.2.4: disconnected
		{"max-age=1, proxy-revalidate", "", 0, 0, 502},
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			p := Policy{Stale: row.operator}
			talk(t, c, p, get("/"), ok("one", "Cache-Control: "+row.control))
			time.Sleep(5 * time.Second)
			var lines []string
			if row.request != "" {
				lines = a(row.request)
			}
			if x := talk(t, c, p, get("/", lines...), app{row.status, fields(), ""}); x.status != row.want {
				t.Errorf("%+v: got %d", row, x.status)
			}
		})
	}
}

func TestStaleWhileRevalidateIsRefreshedBehind(t *testing.T) { // 5861 3
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("one", "Cache-Control: max-age=1, stale-while-revalidate=60"))
		time.Sleep(5 * time.Second)
		x := talk(t, c, Policy{}, get("/"), ok("two", "Cache-Control: max-age=60"))
		if x.body != "one" || !has(x.header, "Refreshed") {
			t.Errorf("%+v", x)
		}
		if x := talk(t, c, Policy{}, get("/"), ok("")); x.body != "two" || !x.cached() {
			t.Errorf("%+v", x)
		}
	})
}

func TestOneRefreshAtATime(t *testing.T) { // 5861 3
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("one", "Cache-Control: max-age=1, stale-while-revalidate=60"))
		time.Sleep(5 * time.Second)
		r := get("/")
		first, second := c.Lookup(&r, Policy{}), c.Lookup(&r, Policy{})
		if first.Flight == nil || second.Flight != nil || second.Verdict != Stale {
			t.Errorf("%+v, %+v", first, second)
		}
		first.Flight.Done()
		if again := c.Lookup(&r, Policy{}); again.Flight == nil {
			t.Error("nobody tries again after a refresh that failed")
		}
	})
}

func TestClientsConditionsAreAnsweredFromTheStore(t *testing.T) { // 4.3.2, 9110 13.2.2
	for _, row := range []struct {
		stored, request []string
		status          int
	}{
		{a("Etag: \"1\""), a("If-None-Match: \"1\""), 304},
		{a("Etag: \"1\""), a("If-None-Match: \"0\", W/\"1\""), 304},
		{a("Etag: W/\"1\""), a("If-None-Match: \"1\""), 304},
		{a("Etag: \"1\""), a("If-None-Match: *"), 304},
		{a("Etag: \"1\""), a("If-None-Match: \"2\""), 200},
		{a("Etag: \"1\"", "Last-Modified: -100"), a("If-None-Match: \"2\"", "If-Modified-Since: -0"), 200},
		{a("Etag: \"a,b\""), a("If-None-Match: \"x\",\"a,b\""), 304},
		{a("Last-Modified: -100"), a("If-Modified-Since: -100"), 304},
		{a("Last-Modified: -100"), a("If-Modified-Since: -50"), 304},
		{a("Last-Modified: -100"), a("If-Modified-Since: -101"), 200},
		{a("Last-Modified: -100"), a("If-Modified-Since: soon"), 200},
		{a("Date: -0"), a("If-Modified-Since: +1"), 304},
		{a("Date: -0"), a("If-Modified-Since: -10"), 200},
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok("body", append(row.stored, "Cache-Control: max-age=600", "Content-Type: text/x", "X: 1")...))
			x := talk(t, c, Policy{}, get("/", row.request...), ok(""))
			if x.status != row.status || !x.cached() || (x.body == "body") != (row.status == 200) {
				t.Errorf("%+v: got %d %q, cached: %v", row, x.status, x.body, x.cached())
			}
			if x.status == 304 && (has(x.header, "Content-Type") || has(x.header, "Content-Length") || !has(x.header, "Cache-Control") || field(x.header, "X") != "1") {
				t.Errorf("304 with %v", x.header) // 9110 15.4.5
			}
		})
	}
}

func TestConditionsForTheApplicationGoThere(t *testing.T) { // 4.3.2
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("x", "Cache-Control: max-age=600", "Etag: \"1\""))
		for _, line := range []string{"If-Match: \"1\"", "If-Unmodified-Since: -0"} {
			if x := talk(t, c, Policy{}, get("/", line), ok("")); x.cached() {
				t.Errorf("%s was evaluated", line)
			}
		}
	})
}

func TestHeadIsAnsweredFromGet(t *testing.T) { // 4: the method may be HEAD
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("body", "Cache-Control: max-age=60"))
		x := talk(t, c, Policy{}, request("HEAD", "/"), ok(""))
		if !x.cached() || x.body != "" || field(x.header, "Content-Length") != "4" {
			t.Errorf("%+v", x)
		}
	})
}

func TestHeadFreshensOrDoubts(t *testing.T) { // 4.3.5
	const day, dayAfter = "Last-Modified: Fri, 31 Dec 1999 00:00:00 GMT", "Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT"
	for _, row := range []struct {
		head   []string
		cached bool
	}{
		{a("Etag: \"1\"", day, "Content-Length: 4"), true},
		{a("Etag: \"1\""), true},
		{a(day), true},
		{nil, true},
		{a("Etag: \"1\"", "Content-Length: 5"), false},
		{a("Etag: \"2\"", "Content-Length: 4"), false},
		{a("Etag: \"1\"", dayAfter), false},
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok("body", "Cache-Control: max-age=1", "Etag: \"1\"", day, "Content-Length: 4", "A: old"))
			time.Sleep(2 * time.Second)
			talk(t, c, Policy{}, request("HEAD", "/"), ok("", append(row.head, "Cache-Control: max-age=60", "A: new")...))
			x := talk(t, c, Policy{}, get("/"), ok("new"))
			if x.cached() != row.cached || row.cached && (field(x.header, "A") != "new" || x.body != "body") {
				t.Errorf("%+v: %+v", row, x)
			}
			if !row.cached && has(x.sent, "If-None-Match") {
				t.Error("a doubtful answer was asked about")
			}
		})
	}
}

func TestHeadDoesNotAnswerGet(t *testing.T) { // 3, 4: the method
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, request("HEAD", "/"), ok("", "Cache-Control: max-age=60", "Content-Length: 4"))
		if x := talk(t, c, Policy{}, get("/"), ok("body")); x.cached() {
			t.Errorf("%+v", x)
		}
	})
}

func TestUnsafeMethodsInvalidate(t *testing.T) { // 4.4
	for _, row := range []struct {
		method string
		status int
		fields []string
		uri    string
		gone   bool
	}{
		{"POST", 200, nil, "/a", true},
		{"PUT", 204, nil, "/a", true},
		{"DELETE", 303, nil, "/a", true},
		{"M-SEARCH", 200, nil, "/a", true}, // unknown: may change anything
		{"POST", 500, nil, "/a", false},
		{"POST", 404, nil, "/a", false},
		{"OPTIONS", 200, nil, "/a", false},
		{"POST", 200, nil, "/b", false},
		{"POST", 201, a("Location: /b"), "/b", true},
		{"POST", 201, a("Location: http://example.com/b"), "/b", true},
		{"POST", 201, a("Location: http://EXAMPLE.com:80/b"), "/b", true},
		{"POST", 201, a("Content-Location: b"), "/b", true},
		{"POST", 201, a("Location: http://other.com/b"), "/b", false},
		{"POST", 201, a("Location: https://example.com/b"), "/b", false},
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get(row.uri), ok("old", "Cache-Control: max-age=60"))
			talk(t, c, Policy{}, request(row.method, "/a"), app{row.status, fields(row.fields...), ""})
			if x := talk(t, c, Policy{}, get(row.uri), ok("new")); x.cached() == row.gone {
				t.Errorf("%+v: cached: %v", row, x.cached())
			}
		})
	}
}

func TestTrailersAreKeptApart(t *testing.T) { // 3.1
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		f := c.Lookup(&r, Policy{}).Flight
		f.Receive(200, fields("Cache-Control: max-age=60", "Trailer: Sum"))
		f.Write([]byte("x"))
		f.End(fields("Sum: 1", "Cache-Control: no-store"))
		found := c.Lookup(&r, Policy{})
		if found.Verdict != Hit {
			t.Fatalf("%+v", found)
		}
		answer, h := c.Answer(&r, found.Object), Header{}
		answer.CopyHeader(h, time.Now())
		if has(h, "Sum") || field(answer.Trailer(), "Sum") != "1" {
			t.Errorf("header %v, trailer %v", h, answer.Trailer())
		}
	})
}

func TestCacheStatusTellsWhatHappened(t *testing.T) { // RFC 9211
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		status := func(r Request, x app) string {
			return strings.Join(talk(t, c, Policy{}, r, x).header["Cache-Status"], ", ")
		}
		for _, row := range []struct{ got, want string }{
			{status(get("/"), ok("x", "Cache-Control: max-age=60", "Cache-Status: inner; hit")), "inner; hit, Portner; fwd=uri-miss; stored; ttl=60"},
			{status(get("/"), ok("")), "inner; hit, Portner; hit; ttl=60"},
			{status(get("/p"), ok("", "Cache-Control: private")), "Portner; fwd=uri-miss; detail=private"},
		} {
			if row.got != row.want {
				t.Errorf("got  %s\nwant %s", row.got, row.want)
			}
		}
		talk(t, c, Policy{}, get("/v"), ok("x", "Cache-Control: max-age=60", "Vary: Foo"))
		for _, row := range []struct{ got, want string }{
			{status(get("/", "Cache-Control: no-cache"), app{304, fields("Cache-Control: max-age=60"), ""}), "inner; hit, Portner; fwd=request; fwd-status=304; stored; ttl=60"},
			{status(get("/v", "Foo: 1"), ok("")), "Portner; fwd=vary-miss; detail=no-freshness"},
			{status(get("/v", "Cookie: a=b"), ok("")), "Portner; fwd=miss; detail=credentials"},
		} {
			if row.got != row.want {
				t.Errorf("got  %s\nwant %s", row.got, row.want)
			}
		}
		talk(t, c, Policy{}, get("/part", "Range: bytes=0-4"), part206("01234", "bytes 0-4/10", "Etag: \"1\""))
		talk(t, c, Policy{}, get("/gone"), ok("x", "Cache-Control: max-age=60", "Cache-Tag: a"))
		c.Invalidate(Key{}, Invalidation{Tag: "a"})
		for _, row := range []struct{ got, want string }{ // 2.2: the most specific reason
			{status(get("/part"), ok("")), "Portner; fwd=partial; detail=no-freshness"},
			{status(get("/gone"), ok("")), "Portner; fwd=uri-miss; detail=no-freshness"},
		} {
			if row.got != row.want {
				t.Errorf("got  %s\nwant %s", row.got, row.want)
			}
		}
		r := get("/none", "Cache-Control: no-store")
		if got := c.Lookup(&r, Policy{}).Note.String(); got != "Portner; fwd=uri-miss" {
			t.Errorf("got %s", got)
		}
		time.Sleep(61 * time.Second)
		if got, want := status(get("/"), app{304, fields("Cache-Control: max-age=9"), ""}), "inner; hit, Portner; fwd=stale; fwd-status=304; stored; ttl=9"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestOurOwnFieldsHoldForLaterAnswersAndReachNobody(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		first := talk(t, c, Policy{}, get("/"), ok("x", "Portner-Cache-Control: max-age=5", "Portner-Load: 1", "Portner-Invalidate: tag=a", "Cache-Control: no-store", "Etag: \"1\""))
		time.Sleep(6 * time.Second)
		second := talk(t, c, Policy{}, get("/"), app{304, fields("Etag: \"1\""), ""})
		time.Sleep(4 * time.Second)
		third := talk(t, c, Policy{}, get("/"), ok(""))
		if !third.cached() {
			t.Error("after a 304 the time of the first answer no longer holds")
		}
		for _, x := range []told{first, second, third} {
			for name := range x.header {
				if strings.HasPrefix(name, "Portner-") {
					t.Errorf("the client sees %s", name)
				}
			}
		}
	})
}

func TestDirectivesArePassedOn(t *testing.T) { // 5.2
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		if x := talk(t, c, Policy{}, get("/asked", "Cache-Control: max-age=5, foo", "Pragma: x"), ok("")); field(x.sent, "Cache-Control") != "max-age=5, foo" || !has(x.sent, "Pragma") {
			t.Errorf("the application was asked with %v", x.sent)
		}
		for range 2 {
			x := talk(t, c, Policy{}, get("/"), ok("x", "Cache-Control: max-age=60, foo=bar", "Cache-Control: public", "Expires: +5", "Pragma: x", "Cdn-Cache-Control: max-age=60"))
			if strings.Join(x.header["Cache-Control"], "|") != "max-age=60, foo=bar|public" || !has(x.header, "Expires") || !has(x.header, "Pragma") || !has(x.header, "Cdn-Cache-Control") {
				t.Errorf("%v", x.header)
			}
		}
	})
}
