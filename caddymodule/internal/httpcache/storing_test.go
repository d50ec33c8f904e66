package httpcache

import (
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestOnlyGetIsStored: 3 (the method is understood); whatever the answer says.
func TestOnlyGetIsStored(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "BREW", "get"} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, request(method, "/"), ok("x", "Cache-Control: max-age=60, public"))
			for _, again := range []string{method, "GET"} {
				if x := talk(t, c, Policy{}, request(again, "/"), ok("")); x.cached() {
					t.Errorf("%s answers %s", method, again)
				}
			}
		})
	}
}

// TestOnlyFinalAnswersAreStored: 3. Nor is a 304 that nobody has asked for.
func TestOnlyFinalAnswersAreStored(t *testing.T) {
	for _, status := range []int{100, 103, 199, 304} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			r := get("/")
			f := c.Lookup(&r, Policy{}).Flight
			f.Sent()
			if got := f.Receive(status, fields("Cache-Control: max-age=60, public")); got.Use != Forward {
				t.Errorf("%d: %+v", status, got)
			}
			f.Done()
			if x := talk(t, c, Policy{}, r, ok("")); x.cached() {
				t.Errorf("%d was stored", status)
			}
		})
	}
}

// TestStatusesWithAHeuristic: 3, 4.2.2, 9110 15.1. 206 has tests of its own.
func TestStatusesWithAHeuristic(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		for status := 200; status < 600; status++ {
			if status == 206 || status == 304 {
				continue
			}
			r := get("/" + strconv.Itoa(status))
			talk(t, c, Policy{}, r, app{status, fields("Last-Modified: -1000"), ""})
			want := slices.Contains([]int{200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501}, status)
			if x := talk(t, c, Policy{}, r, ok("")); x.cached() != want {
				t.Errorf("%d: cached: %v", status, x.cached())
			}
		}
	})
}

// TestFieldsThatNobodyKnowsAreKept: 3.1, each line of them in its order.
func TestFieldsThatNobodyKnowsAreKept(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		answer := ok("x", "Cache-Control: max-age=60", "New: 1", "New: 3", "New: 2", "Link: <a>; rel=b", "Warning: 110 - x", "Empty:")
		talk(t, c, Policy{}, get("/"), answer)
		x := talk(t, c, Policy{}, get("/"), ok(""))
		for name, want := range answer.header {
			if !slices.Equal(x.header[name], want) {
				t.Errorf("%s: %q, want %q", name, x.header[name], want)
			}
		}
	})
}

// TestWarningIsNotMadeUp: 5.5 has done away with it; Age and Cache-Status say it.
func TestWarningIsNotMadeUp(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("x", "Cache-Control: max-age=1, stale-if-error=60", "Last-Modified: -1000000"))
		time.Sleep(5 * time.Second)
		x := talk(t, c, Policy{}, get("/"), app{503, fields(), ""})
		if x.status != 200 || has(x.header, "Warning") || field(x.header, "Age") != "5" {
			t.Errorf("%d %v", x.status, x.header)
		}
	})
}

// TestUpdateReplacesFieldsAndNothingElse: 3.2. The bytes stay what they are, and
// what may not be stored is not stored because a 304 brings it.
func TestUpdateReplacesFieldsAndNothingElse(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("body", "Cache-Control: max-age=1", "Etag: \"1\"", "Lines: 1", "Lines: 2", "Kept: old", "Content-Type: text/old", "Content-Encoding: x"))
		time.Sleep(2 * time.Second)
		talk(t, c, Policy{}, get("/"), app{304, fields("Cache-Control: max-age=60, private=\"Mine\"", "Etag: \"1\"", "Lines: 3", "Added: 1",
			"Content-Type: text/new", "Content-Length: 9", "Content-Encoding: y", "Content-Range: bytes 0-1/2", "Connection: Hop", "Hop: 1",
			"Keep-Alive: 1", "Proxy-Authenticate: 1", "Proxy-Authentication-Info: 1", "Mine: 1"), ""})
		x := talk(t, c, Policy{}, get("/"), ok(""))
		for name, want := range map[string][]string{
			"Lines": a("3"), "Added": a("1"), "Kept": a("old"), "Content-Type": a("text/new"),
			"Content-Length": a("4"), "Content-Encoding": a("x"), "Content-Range": nil,
			"Hop": nil, "Connection": nil, "Keep-Alive": nil, "Proxy-Authenticate": nil, "Proxy-Authentication-Info": nil, "Mine": nil,
		} {
			if !slices.Equal(x.header[name], want) {
				t.Errorf("%s: %q, want %q", name, x.header[name], want)
			}
		}
		if !x.cached() || x.body != "body" {
			t.Errorf("%+v", x)
		}
	})
}

// TestCombinedPartsHaveTheNewerFields: 3.4, 3.2.
func TestCombinedPartsHaveTheNewerFields(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/", "Range: bytes=0-4"), part206("01234", "bytes 0-4/10", "Etag: \"1\"", "A: old", "B: old", "Content-Length: 5"))
		talk(t, c, Policy{}, get("/", "Range: bytes=5-9"), part206("56789", "bytes 5-9/10", "Etag: \"1\"", "A: new", "C: new", "Content-Length: 5"))
		x := talk(t, c, Policy{}, get("/"), ok(""))
		for name, want := range map[string]string{"A": "new", "B": "old", "C": "new", "Content-Length": "10", "Content-Range": "", "Etag": `"1"`} {
			if field(x.header, name) != want {
				t.Errorf("%s: %q, want %q", name, field(x.header, name), want)
			}
		}
		if !x.cached() || x.body != digits {
			t.Errorf("%+v", x)
		}
	})
}

// TestNoStoreEndsWhatWasStored: 5.2.2.5, in the answer to a question about it.
func TestNoStoreEndsWhatWasStored(t *testing.T) {
	for _, forbids := range []string{"no-store", "private"} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok("x", "Cache-Control: max-age=1", "Etag: \"1\""))
			time.Sleep(2 * time.Second)
			talk(t, c, Policy{}, get("/"), app{304, fields("Etag: \"1\"", "Cache-Control: max-age=60, "+forbids), ""})
			if x := talk(t, c, Policy{}, get("/"), ok("new")); x.cached() || has(x.sent, "If-None-Match") {
				t.Errorf("%s: %+v", forbids, x)
			}
		})
	}
}

// TestDateBeforeAllTimeIsNotFreshForever: 1.2.2. An operator's time counts from
// now, whatever Date says, and ends.
func TestDateBeforeAllTimeIsNotFreshForever(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		p := Policy{TTL: 2 * time.Second}
		talk(t, c, p, get("/"), ok("x", "Date: Mon, 01 Jan 0001 00:00:00 GMT"))
		time.Sleep(time.Second)
		if x := talk(t, c, p, get("/"), ok("")); !x.cached() {
			t.Error("not fresh for its time")
		}
		time.Sleep(2 * time.Second)
		if x := talk(t, c, p, get("/"), ok("")); x.cached() {
			t.Error("fresh for longer")
		}
	})
}
