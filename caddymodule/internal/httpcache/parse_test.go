package httpcache

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// TestLocalTimeChangesNoDate: 9111 4.2.
func TestLocalTimeChangesNoDate(t *testing.T) {
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("CET", 3600), time.FixedZone("GMT", -7200)} {
		want := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
		for _, s := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"} {
			if got, ok := parseDate(s, noon.In(zone)); !ok || !got.Equal(want) {
				t.Errorf("%s in %v: %v", s, zone, got)
			}
		}
		if s := formatDate(want.In(zone)); s != "Sun, 06 Nov 1994 08:49:37 GMT" {
			t.Errorf("in %v: %s", zone, s)
		}
	}
}

func TestDatesInThreeForms(t *testing.T) { // 9110 5.6.7
	want := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
	for s, valid := range map[string]bool{
		"Sun, 06 Nov 1994 08:49:37 GMT":  true,
		"Sunday, 06-Nov-94 08:49:37 GMT": true,
		"Sun Nov  6 08:49:37 1994":       true,
		"Mon, 06 Nov 1994 08:49:37 GMT":  true, // a Sunday, but who counts
		"Sun, 6 Nov 1994 08:49:37 GMT":   false,
		"Sun, 06 Nov 1994 8:49:37 GMT":   false,
		"Sun, 06 Nov 1994 08:49:37 UTC":  false,
		"Sun, 06 Nov 1994 08:49:37 CET":  false,
		"Sun, 06 Nov 94 08:49:37 GMT":    false,
		"sUN, 06 nov 1994 08:49:37 gMt":  true, // 9111 4.2
		"SUNDAY, 06-NOV-94 08:49:37 GMT": true,
		"sun nov  6 08:49:37 1994":       true,
		"Sun, 31 Feb 1994 08:49:37 GMT":  false,
		"Sun, 06 Nov 1994 08:49:37":      false,
		"784111777":                      false,
		"0":                              false,
		"":                               false,
	} {
		got, ok := parseDate(s, noon)
		if ok != valid || ok && !got.Equal(want) {
			t.Errorf("%q: %v, %v", s, got, ok)
		}
	}
}

func TestYearsOfTwoDigitsAreNear(t *testing.T) { // 9110 5.6.7: more than 50 years ahead is the past
	for year, want := range map[string]int{"76": 2076, "77": 1977, "94": 1994, "26": 2026, "00": 2000, "69": 2069} {
		if got, ok := parseDate("Tuesday, 01-Jan-"+year+" 00:00:00 GMT", noon); !ok || got.Year() != want {
			t.Errorf("%s: %v, want %d", year, got, want)
		}
	}
}

func TestCacheControl(t *testing.T) { // 5.2, 4.2.1
	for line, want := range map[string]Control{
		"no-store":                      {set: noStore},
		" , No-Store ,,":                {set: noStore},
		"no-store=\"x\"":                {set: noStore},
		"no-store =x":                   {set: noStore}, // a slip must not undo it
		"max-age=5, public":             {set: maxAge | public, maxAge: 5 * time.Second},
		"max-age=\"5\"":                 {set: maxAge, maxAge: 5 * time.Second},
		"max-age=005":                   {set: maxAge, maxAge: 5 * time.Second},
		"max-age":                       {set: maxAge, bad: maxAge},
		"max-age=":                      {set: maxAge, bad: maxAge},
		"max-age='5'":                   {set: maxAge, bad: maxAge},
		"max-age=5.0":                   {set: maxAge, bad: maxAge},
		"max-age=-5":                    {set: maxAge, bad: maxAge},
		"max-age= 5":                    {set: maxAge, bad: maxAge},
		"max-age=5, max-age=6":          {set: maxAge, bad: maxAge, maxAge: 5 * time.Second},
		"max-age=99999999999999999":     {set: maxAge, maxAge: forever},
		"max-stale":                     {set: maxStale, maxStale: forever},
		"max-stale=5":                   {set: maxStale, maxStale: 5 * time.Second},
		`x="a, no-store", private`:      {set: private},
		`x="a\", no-store`:              {set: noStore}, // the quote is never closed
		`private="A, set-cookie"`:       {privateFields: a("A", "Set-Cookie")},
		`private=a`:                     {privateFields: a("A")},
		`private=""`:                    {set: private},
		`no-cache="a", no-cache`:        {set: noCache, noCacheFields: a("A")},
		"nostore, xno-store, no-storex": {},
		"stale-while-revalidate=1, stale-if-error=2, min-fresh=3, s-maxage=4": {
			set: staleWhileRevalidate | staleIfError | minFresh | sMaxAge, staleWhileRevalidate: time.Second,
			staleIfError: 2 * time.Second, minFresh: 3 * time.Second, sMaxAge: 4 * time.Second},
	} {
		if got := parseControl(a(line)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", line, got, want)
		}
	}
	if got, want := parseControl(a("max-age=1", "no-cache")), parseControl(a("max-age=1, no-cache")); !reflect.DeepEqual(got, want) {
		t.Errorf("two lines: %+v", got)
	}
}

func TestTargetedFields(t *testing.T) { // 9213 2.1, 8941 4.2.2
	for line, want := range map[string]string{
		"max-age=5":                   "max-age 5s",
		"max-age=5;a=1;b, public":     "max-age 5s public",
		"max-age=5,max-age=6":         "max-age 6s",
		"public, public=?0":           "",
		"public=?1":                   "public",
		"no-store, no-store=1":        "",
		"max-age=5.5":                 "",
		"max-age=\"5\"":               "",
		"max-age=-5":                  "",
		"max-age=token":               "",
		"max-age=:YQ==:, public":      "public",
		"private=\"a, b\"":            "fields [A B]",
		"x=(1 \"a\" b;q=1);y, public": "public",
		"*x=1.25, _y":                 "invalid", // keys do not begin with _
		"Max-Age=5":                   "invalid",
		"max-age=5,":                  "invalid",
		"max-age =5":                  "invalid",
		"max-age= 5":                  "invalid",
		"max-age=5 public":            "invalid",
		"max-age=1234567890123456":    "invalid",
		"x=\"a":                       "invalid",
		"x=\"\\a\"":                   "invalid",
		"x=(1 2":                      "invalid",
		"x=(1,2)":                     "invalid",
		"x=?2":                        "invalid",
		"x=1.":                        "invalid",
		"x=1.2345":                    "invalid",
		"x=:a":                        "invalid",
		"x=:?:":                       "invalid",
		"x;":                          "invalid",
		"&":                           "invalid",
		"":                            "invalid",
		"  ":                          "invalid",
	} {
		c, ok := parseTargeted(a(line))
		got := "invalid"
		if ok {
			var words []string
			if d, timed := c.get(maxAge); timed {
				words = append(words, "max-age "+d.String())
			}
			if c.has(public) {
				words = append(words, "public")
			}
			if c.has(noStore) {
				words = append(words, "no-store")
			}
			if c.privateFields != nil {
				words = append(words, fmt.Sprint("fields ", c.privateFields))
			}
			got = strings.Join(words, " ")
		}
		if got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

func FuzzControl(f *testing.F) {
	for _, s := range []string{"max-age=5, no-store", `private="a, b", x="\"`, "no-cache=,s-maxage=\"1\"", ",,=,\"", "max-stale"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := parseControl(a(s))
		for _, d := range []directive{maxAge, sMaxAge, maxStale, minFresh, staleWhileRevalidate, staleIfError} {
			if x, ok := c.get(d); ok && (x < 0 || x > forever) {
				t.Errorf("%q: %v", s, x)
			}
		}
		// What follows must not be lost, whatever stands before it.
		if after := parseControl(a(s, "no-store")); !after.has(noStore) {
			t.Errorf("%q hides the next line", s)
		}
	})
}

func FuzzTargeted(f *testing.F) {
	for _, s := range []string{"max-age=5;a=1, public", `x="a\\\"", y=:YQ==:, z=(1 b "c");d`, "a=?1, b=-1.5, *c", "a=1,", "a=tok/en:*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := parseTargeted(a(s))
		if !ok {
			return
		}
		if !c.targeted {
			t.Errorf("%q: not marked", s)
		}
		if _, again := parseTargeted(a(s + ", z9")); !again {
			t.Errorf("%q is valid, and with one more member it is not", s)
		}
	})
}

func FuzzDate(f *testing.F) {
	for _, s := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := parseDate(s, noon)
		if !ok {
			return
		}
		if again, ok := parseDate(formatDate(d), noon); !ok || !again.Equal(d) {
			t.Errorf("%q: %v, then %v", s, d, again)
		}
	})
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-4", "bytes=-5,7-", "bytes=1-2,2-3", "bytes=", "lines=1-2", "bytes=9223372036854775807-"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		if size < 0 {
			return
		}
		spans, ok := parseRange(s, size)
		if ok && len(spans) > maxSpans {
			t.Errorf("%q: %d spans", s, len(spans))
		}
		for _, x := range spans {
			if x.first < 0 || x.last >= size || x.first > x.last {
				t.Errorf("%q of %d: %+v", s, size, x)
			}
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-4/10", "bytes */10", "bytes 0-4/*", "bytes 4-0/10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, size, ok := parseContentRange(s); ok && (p.first < 0 || p.last < p.first || p.last >= size) {
			t.Errorf("%q: %+v of %d", s, p, size)
		}
	})
}

func FuzzInvalidations(f *testing.F) {
	for _, s := range []string{"tag=a, tag=b;soft, url=/x", `tag="a,b"`, "soft", ";soft", "url=http://x/y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, x := range ParseInvalidations(a(s)) {
			if (x.Tag == "") == (x.URL == "") {
				t.Errorf("%q: %+v", s, x)
			}
			resolve(NewKey("http", "example.com", "/"), x.URL)
		}
	})
}

func FuzzVary(f *testing.F) {
	for _, s := range []string{"gzip, br", "gzip;q=0.5", "*;q=0", "en, de;q=0.1", ""} {
		f.Add("Accept-Encoding", s)
	}
	f.Fuzz(func(t *testing.T, name, s string) {
		name = canonical(name)
		h := Header{name: a(s)}
		answer := Header{"Vary": a(name)}
		for _, x := range selectors(answer, h) {
			if !selects([]selector{x}, h) {
				t.Errorf("%q: %q does not select itself", name, s)
			}
			if x.name == name && selects([]selector{x}, Header{}) {
				t.Errorf("%q: %q selects a request without it", name, s)
			}
		}
	})
}
