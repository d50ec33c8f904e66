package httpcache

import (
	"testing"
	"time"
)

// TestQuestionHasTheValidatorsThatThereAre: 4.3.1: the tag (MUST), and the date
// (SHOULD); never the client's own, nor its Range.
func TestQuestionHasTheValidatorsThatThereAre(t *testing.T) {
	const day = "Fri, 31 Dec 1999 00:00:00 GMT"
	for _, row := range []struct {
		stored    []string
		tag, date string
	}{
		{a("Etag: \"1\""), `"1"`, ""},
		{a("Etag: W/\"1\""), `W/"1"`, ""},
		{a("Last-Modified: " + day), "", day},
		{a("Etag: \"1\"", "Last-Modified: "+day), `"1"`, day},
		{a("Cache-Control: stale-if-error=60"), "", ""}, // there is nothing to ask about
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok("x", append(row.stored, "Cache-Control: max-age=1")...))
			time.Sleep(2 * time.Second)
			x := talk(t, c, Policy{}, get("/", "If-None-Match: \"mine\"", "If-Modified-Since: -0", "If-Range: \"mine\"", "Range: bytes=0-1"), ok("new"))
			if field(x.sent, "If-None-Match") != row.tag || field(x.sent, "If-Modified-Since") != row.date || has(x.sent, "Range") || has(x.sent, "If-Range") {
				t.Errorf("%v: asked with %v", row.stored, x.sent)
			}
		})
	}
}

// TestNotModifiedIsBelievedByItsValidator: 4.3.4, which of the answers confirm what
// was asked about. Two are believed that the RFC would have asked for again:
// docs/cache.md says why.
func TestNotModifiedIsBelievedByItsValidator(t *testing.T) {
	const day, dayAfter = "Last-Modified: Fri, 31 Dec 1999 00:00:00 GMT", "Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT"
	for _, row := range []struct {
		stored, news []string
		believed     bool
	}{
		{a("Etag: \"1\""), a("Etag: \"1\""), true},
		{a("Etag: \"1\""), a("Etag: \"2\""), false}, // MUST NOT
		{a("Etag: \"1\"", day), a("Etag: \"2\"", day), false},
		{a(day), a("Etag: \"1\"", day), false}, // a strong one that the stored has not
		{a("Etag: W/\"1\""), a("Etag: W/\"1\""), true},
		{a("Etag: \"1\""), a("Etag: W/\"1\""), true},
		{a("Etag: \"1\""), a("Etag: W/\"2\""), false},
		{a(day), a(day), true},
		{a(day), a(dayAfter), false},
		{a("Etag: W/\"1\""), a("Etag: \"1\""), true}, // ours
		{a("Etag: \"1\""), nil, true},                // ours
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok("old", append(row.stored, "Cache-Control: max-age=1", "A: old")...))
			time.Sleep(2 * time.Second)
			x := talk(t, c, Policy{}, get("/"), app{304, fields(append(row.news, "Cache-Control: max-age=60", "A: new")...), "again"})
			if (x.body == "old") != row.believed || row.believed && field(x.header, "A") != "new" {
				t.Errorf("%v by %v: %+v", row.stored, row.news, x)
			}
		})
	}
}

// TestOwnAnswerToAClientThatHasAnother: 4.3.2, the last MUST: the application has
// confirmed what is stored, and not what the client has.
func TestOwnAnswerToAClientThatHasAnother(t *testing.T) {
	for ask, status := range map[string]int{"If-None-Match: \"2\", \"3\"": 200, "If-None-Match: \"2\", \"1\"": 304, "If-None-Match: *": 304} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok("body", "Cache-Control: no-cache", "Etag: \"1\"", "A: old"))
			x := talk(t, c, Policy{}, get("/", ask), app{304, fields("Etag: \"1\"", "A: new"), ""})
			if x.status != status || (x.body == "body") != (status == 200) || field(x.header, "A") != "new" {
				t.Errorf("%s: %+v", ask, x)
			}
		})
	}
}

// TestConditionsWhereNothingIsStored: 4.3.2 wants them left to the application.
// It is asked for the whole, once for all who want it, and they are evaluated
// against what it has just said; docs/cache.md says why. What is not for the cache
// is the application's next time.
func TestConditionsWhereNothingIsStored(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		x := talk(t, c, Policy{}, get("/", "If-None-Match: \"1\""), ok("body", "Cache-Control: max-age=60", "Etag: \"1\""))
		if x.status != 304 || x.cached() || has(x.sent, "If-None-Match") {
			t.Errorf("%+v", x)
		}
		if x := talk(t, c, Policy{}, get("/"), ok("")); x.body != "body" || !x.cached() {
			t.Errorf("then %+v", x)
		}
		mine := ok("mine", "Cache-Control: private", "Etag: \"1\"")
		if x := talk(t, c, Policy{}, get("/mine", "If-None-Match: \"1\""), mine); x.status != 200 || x.body != "mine" {
			t.Errorf("%+v", x)
		}
		if x := talk(t, c, Policy{}, get("/mine", "If-None-Match: \"1\""), app{304, fields("Etag: \"1\""), ""}); x.status != 304 || field(x.sent, "If-None-Match") != `"1"` {
			t.Errorf("the second time %+v", x)
		}
	})
}

// TestConditionsAreForWhatIsThere: 4.3.2, 9110 13.1.3, 13.2.1: of stored 200 and 206
// alone, and none that cannot be read.
func TestConditionsAreForWhatIsThere(t *testing.T) {
	for _, row := range []struct {
		status int
		ask    []string
		want   int
	}{
		{404, a("If-None-Match: *"), 404},
		{404, a("If-None-Match: \"1\""), 404},
		{301, a("If-Modified-Since: +100"), 301},
		{200, a("If-Modified-Since: -0", "If-Modified-Since: -0"), 200},
		{200, a("If-Modified-Since: -0"), 304},
		{200, a("If-None-Match:"), 200},
		{200, a("If-Range: \"1\""), 200}, // without Range it is nothing (9110 13.1.5)
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), app{row.status, fields("Cache-Control: max-age=60", "Etag: \"1\"", "Last-Modified: -100"), "body"})
			if x := talk(t, c, Policy{}, get("/", row.ask...), ok("")); x.status != row.want || !x.cached() {
				t.Errorf("%d, %v: %+v", row.status, row.ask, x)
			}
		})
	}
}

// TestShortAnswersHaveTheFieldsOfTheLong: 9110 15.4.5 (304) and 15.3.7 (206): what
// 200 would have had of these. 304 has none of the body's.
func TestShortAnswersHaveTheFieldsOfTheLong(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok(digits, "Cache-Control: max-age=60", "Expires: +5", "Date: -0", "Etag: \"1\"", "Content-Location: /x", "Vary: Foo", "Content-Type: text/x"))
		whole := talk(t, c, Policy{}, get("/"), ok(""))
		for ask, status := range map[string]int{"If-None-Match: \"1\"": 304, "Range: bytes=0-1": 206} {
			x := talk(t, c, Policy{}, get("/", ask), ok(""))
			if x.status != status {
				t.Fatalf("%s: %d", ask, x.status)
			}
			for _, name := range []string{"Cache-Control", "Expires", "Date", "Etag", "Content-Location", "Vary", "Age"} {
				if field(x.header, name) == "" || field(x.header, name) != field(whole.header, name) {
					t.Errorf("%d: %s %q, want %q", status, name, field(x.header, name), field(whole.header, name))
				}
			}
			if has(x.header, "Content-Type") != (status == 206) || has(x.header, "Content-Range") != (status == 206) {
				t.Errorf("%d: %v", status, x.header)
			}
		}
	})
}

// TestRangeIsForGetOfWhatIsThere: 9110 14.2.
func TestRangeIsForGetOfWhatIsThere(t *testing.T) {
	for _, row := range []struct {
		method string
		status int
	}{{"HEAD", 200}, {"GET", 404}, {"HEAD", 404}, {"GET", 301}} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), app{row.status, fields("Cache-Control: max-age=60"), digits})
			x := talk(t, c, Policy{}, request(row.method, "/", "Range: bytes=0-1"), ok(""))
			if x.status != row.status || has(x.header, "Content-Range") || field(x.header, "Content-Length") != "10" || !x.cached() {
				t.Errorf("%+v: %+v", row, x)
			}
		})
	}
}
