package httpcache

import (
	"testing"
	"time"
)

// TestUnsafeRequestsAreWrittenThrough: 4. Nothing that is stored answers them, and
// their conditions are the application's (4.3.2).
func TestUnsafeRequestsAreWrittenThrough(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "CONNECT", "BREW"} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok("x", "Cache-Control: max-age=60", "Etag: \"1\""))
			x := talk(t, c, Policy{}, request(method, "/", "Cache-Control: only-if-cached, max-stale", "If-None-Match: \"1\""), app{500, fields(), "own"})
			if x.cached() || x.body != "own" || field(x.sent, "If-None-Match") != `"1"` {
				t.Errorf("%s: %+v", method, x)
			}
		})
	}
}

// TestOtherTargetsAreNotAnswered: 2, 4.
func TestOtherTargetsAreNotAnswered(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/a?x"), ok("x", "Cache-Control: max-age=60"))
		for _, key := range []Key{NewKey("https", "example.com", "/a?x"), NewKey("http", "example.org", "/a?x"), NewKey("http", "example.com:8080", "/a?x"), NewKey("http", "example.com", "/a"), NewKey("http", "example.com", "/A?x")} {
			r := get("/")
			r.Key = key
			if x := talk(t, c, Policy{}, r, ok("")); x.cached() {
				t.Errorf("%v is answered with another", key)
			}
		}
	})
}

// TestLatestDateIsChosen: 4, of several that match; whichever came last.
func TestLatestDateIsChosen(t *testing.T) {
	for _, firstIsLater := range []bool{true, false} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			dates := a("Date: -50", "Date: -0")
			if firstIsLater {
				dates = a("Date: -0", "Date: -50")
			}
			talk(t, c, Policy{}, get("/", "Foo: 1", "Bar: 2"), ok("first", "Cache-Control: max-age=600", "Vary: Foo", dates[0]))
			talk(t, c, Policy{}, get("/", "Foo: 2", "Bar: 1"), ok("second", "Cache-Control: max-age=600", "Vary: Bar", dates[1]))
			want := map[bool]string{true: "first", false: "second"}[firstIsLater]
			if x := talk(t, c, Policy{}, get("/", "Foo: 1", "Bar: 1"), ok("")); x.body != want || !x.cached() {
				t.Errorf("%q, want %s", x.body, want)
			}
		})
	}
}

// TestAnswerThatVariesGoesFirst: 4.1. What is said to those who ask for nothing in
// particular came later, and without Vary.
func TestAnswerThatVariesGoesFirst(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/", "Accept-Language: da"), ok("dansk", "Cache-Control: max-age=60", "Vary: Accept-Language"))
		time.Sleep(time.Second)
		talk(t, c, Policy{}, get("/"), ok("english", "Cache-Control: max-age=120"))
		for language, want := range map[string]string{"da": "dansk", "fr": "english"} {
			if x := talk(t, c, Policy{}, get("/", "Accept-Language: "+language), ok("")); x.body != want || !x.cached() {
				t.Errorf("%s gets %+v", language, x)
			}
		}
		time.Sleep(61 * time.Second) // what is not fresh hides nothing that is
		if x := talk(t, c, Policy{}, get("/", "Accept-Language: da"), ok("")); x.body != "english" || !x.cached() {
			t.Errorf("later %+v", x)
		}
	})
}

// TestReaderDoesNotGoBackInTime: an application that varies no longer has said so
// to this very request.
func TestReaderDoesNotGoBackInTime(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/", "Foo: 1"), ok("old", "Cache-Control: max-age=600", "Vary: Foo"))
		talk(t, c, Policy{}, get("/", "Foo: 2"), ok("other", "Cache-Control: max-age=600", "Vary: Foo"))
		time.Sleep(time.Second)
		talk(t, c, Policy{}, get("/", "Foo: 1", "Cache-Control: no-cache"), ok("new", "Cache-Control: max-age=600"))
		for foo, want := range map[string]string{"1": "new", "2": "other", "3": "new"} {
			if x := talk(t, c, Policy{}, get("/", "Foo: "+foo), ok("")); x.body != want || !x.cached() {
				t.Errorf("%s: %+v", foo, x)
			}
		}
	})
}

// TestAllThatMatchAreUpdated: 4.3.4, 4.3.5. A question about one of them that the
// request could have got tells of the others with the same strong tag.
func TestAllThatMatchAreUpdated(t *testing.T) {
	for _, row := range []struct {
		method string
		answer app
		other  string // tag of the one that is not asked about
		field  string // of it afterwards
		cached bool
	}{
		{"GET", app{304, fields("Etag: \"1\"", "A: new", "Cache-Control: max-age=60"), ""}, `"1"`, "new", true},
		{"GET", app{304, fields("Etag: \"1\"", "A: new", "Cache-Control: max-age=60"), ""}, `"2"`, "old", true},
		{"HEAD", ok("", "Etag: \"1\"", "A: new", "Cache-Control: max-age=60"), `"1"`, "new", true},
		{"HEAD", ok("", "Etag: \"1\"", "A: new", "Cache-Control: max-age=60"), `"2"`, "", false},
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok("varied", "Cache-Control: max-age=20", "Vary: Foo", "A: old", "Etag: \"1\""))
			talk(t, c, Policy{}, get("/", "Foo: 1"), ok("plain", "Cache-Control: max-age=30", "A: old", "Etag: "+row.other))
			r := request(row.method, "/", "Cache-Control: no-cache")
			talk(t, c, Policy{}, r, row.answer)
			x := talk(t, c, Policy{}, get("/", "Foo: 2"), ok("")) // the plain one alone is for it
			if x.cached() != row.cached || row.cached && field(x.header, "A") != row.field {
				t.Errorf("%s, %s: %+v", row.method, row.other, x)
			}
			if x := talk(t, c, Policy{}, get("/"), ok("")); x.body != "varied" || field(x.header, "A") != "new" {
				t.Errorf("%s, %s: asked about: %+v", row.method, row.other, x)
			}
		})
	}
}

// TestStaleIsNeverServedWhereForbidden: 4.2.4, 5.2.2.2, 5.2.2.4, 5.2.2.8,
// 5.2.2.10. Neither the client nor the operator nor a failure overrides it.
func TestStaleIsNeverServedWhereForbidden(t *testing.T) {
	for control, forbidden := range map[string]bool{
		"max-age=1":                   false,
		"max-age=1, must-revalidate":  true,
		"max-age=1, proxy-revalidate": true,
		"max-age=1, no-cache":         true,
		"s-maxage=1":                  true,
	} {
		for name, ask := range map[string]func(t *testing.T, c *Cache) told{
			"max-stale": func(t *testing.T, c *Cache) told {
				return talk(t, c, Policy{}, get("/", "Cache-Control: max-stale"), app{500, fields(), ""})
			},
			"stale-if-error": func(t *testing.T, c *Cache) told {
				return talk(t, c, Policy{}, get("/", "Cache-Control: stale-if-error=60"), app{500, fields(), ""})
			},
			"operator": func(t *testing.T, c *Cache) told {
				return talk(t, c, Policy{Stale: time.Hour}, get("/"), app{503, fields(), ""})
			},
			"disconnected": func(t *testing.T, c *Cache) told {
				return talk(t, c, Policy{}, get("/"), app{})
			},
			"overloaded": func(t *testing.T, c *Cache) told {
				r, p := get("/"), Policy{Stale: time.Hour}
				f := c.Lookup(&r, p).Flight
				if _, _, ok := f.Instead(Overloaded); ok {
					return told{status: 200}
				}
				return told{status: 503}
			},
		} {
			inBubble(t, Config{}, func(t *testing.T, c *Cache) {
				talk(t, c, Policy{}, get("/"), ok("old", "Etag: \"1\"", "Cache-Control: "+control))
				time.Sleep(5 * time.Second)
				if x := ask(t, c); (x.status == 200) == forbidden {
					t.Errorf("%s, %s: %d", control, name, x.status)
				}
			})
		}
	}
}

// TestStaleNeedsAPermission: 4.2.4. A failure is none.
func TestStaleNeedsAPermission(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("old", "Cache-Control: max-age=1"))
		time.Sleep(5 * time.Second)
		for _, status := range []int{500, 502, 503, 504} {
			if x := talk(t, c, Policy{}, get("/"), app{status, fields(), ""}); x.status != status {
				t.Errorf("%d became %d", status, x.status)
			}
		}
		r := get("/")
		f := c.Lookup(&r, Policy{}).Flight
		if _, _, ok := f.Instead(Overloaded); ok {
			t.Error("overload is taken for a permission")
		}
		time.Sleep(disconnected)
		if x := talk(t, c, Policy{}, get("/"), app{}); x.status == 200 {
			t.Error("cut off, it is served for longer than it is said to be")
		}
	})
}
