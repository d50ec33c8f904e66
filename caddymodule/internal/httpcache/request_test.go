package httpcache

import (
	"slices"
	"testing"
	"time"
)

func TestDifferentTargetsNeverShareAKey(t *testing.T) { // 2, 4
	targets := []string{"/a/b", "/a%2Fb", "/a%2fb", "/a/b/", "/a//b", "/a/./b", "/a/c/../b", "/a;x/b", "/a/b;x", "/a/b?", "/a/b?x", "/a/b%3Fx",
		"/A/b", "/a/b.css", "/a/b%00", "/a\\b", "/a%5Cb", "/a/b?x=1&y=2", "/a/b?y=2&x=1", "/a/b?x=1&x=1", "/a%252Fb", "/a/b%20", "/a/b+"}
	seen := make(map[Key]string)
	for _, scheme := range []string{"http", "https"} {
		for _, host := range []string{"example.com", "example.com.", "example.com:8080", "www.example.com"} {
			for _, uri := range targets {
				k := NewKey(scheme, host, uri)
				if was, twice := seen[k]; twice {
					t.Errorf("%s://%s%s has the key of %s", scheme, host, uri, was)
				}
				seen[k] = scheme + "://" + host + uri
			}
		}
	}
}

func TestSameTargetsShareAKey(t *testing.T) { // 9110 4.2.3
	for _, pair := range [][2]Key{
		{NewKey("http", "Example.COM", "/a"), NewKey("http", "example.com:80", "/a")},
		{NewKey("https", "example.com:443", "/"), NewKey("https", "example.com", "")},
		{NewKey("http", "example.com", "?a"), NewKey("http", "example.com", "/?a")},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%v and %v", pair[0], pair[1])
		}
	}
	if NewKey("http", "e\u212a.com", "/") == NewKey("http", "ek.com", "/") {
		t.Error("the Kelvin sign is not a k")
	}
	if NewKey("http", "example.com:443", "/") == NewKey("http", "example.com", "/") {
		t.Error("the port of another scheme is not the default")
	}
}

func TestUnkeyedInputNeitherPoisonsNorIsServed(t *testing.T) { // 7.1
	for _, line := range slices.Concat(deceptive, rerouting, overwritten, a("X_forwarded_host", "X_Original-Url")) {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			evil := get("/", line+": evil")
			talk(t, c, Policy{TTL: time.Minute}, evil, ok("evil", "Cache-Control: max-age=60, public"))
			if x := talk(t, c, Policy{}, get("/"), ok("good", "Cache-Control: max-age=60")); x.body != "good" {
				t.Errorf("%s poisons", line)
			}
			if x := talk(t, c, Policy{}, evil, ok("own")); x.body != "own" {
				t.Errorf("%s is answered with the page of somebody else", line)
			}
		})
	}
}

func TestForwardedHeadersOfATrustedHopAreNoReasonToPass(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/", "X-Forwarded-Host: example.com", "X-Forwarded-Proto: https")
		r.Trusted = true
		talk(t, c, Policy{}, r, ok("x", "Cache-Control: max-age=60"))
		if x := talk(t, c, Policy{}, r, ok("")); !x.cached() {
			t.Error("passed")
		}
		r.Header = fields("X-Original-Url: /admin") // nobody is trusted with that
		if x := talk(t, c, Policy{}, r, ok("")); x.cached() {
			t.Error("served")
		}
	})
}

func TestForwardedHeadersThatAreOverwrittenAreNoReasonToPass(t *testing.T) {
	for line, want := range map[string]Verdict{"X-Forwarded-Host: evil": Hit, "X-Forwarded-Proto: x": Hit, "X_forwarded-Host: evil": Pass, "X-Forwarded-Prefix: /evil": Pass, "Forwarded: host=evil": Pass, "X-Original-Url: /evil": Pass} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok("x", "Cache-Control: max-age=60"))
			r := get("/", line)
			r.Overwrites = true
			if found := c.Lookup(&r, Policy{}); found.Verdict != want {
				t.Errorf("%s: %v", line, found.Verdict)
			}
		})
	}
}

func TestRequestsWithABodyAndUpgradesPass(t *testing.T) { // 3; 9110 9.3.1
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		body := get("/")
		body.Body = true
		for _, r := range []Request{body, get("/", "Upgrade: websocket"), request("POST", "/"), request("OPTIONS", "/")} {
			talk(t, c, Policy{TTL: time.Minute}, r, ok("own", "Cache-Control: max-age=60, public"))
			if found := c.Lookup(&r, Policy{}); found.Verdict != Pass {
				t.Errorf("%+v: %v", r, found.Verdict)
			}
		}
		if x := talk(t, c, Policy{}, get("/"), ok("x")); x.cached() {
			t.Error("one of them was stored")
		}
	})
}

func TestMicroCachingGivesATimeToTheSilentOnly(t *testing.T) {
	for _, row := range []struct {
		request, answer []string
		status          int
		cached          bool
	}{
		{nil, nil, 200, true},
		{nil, a("Cache-Control: public"), 200, true},
		{nil, a("Last-Modified: -1000"), 200, true},
		{nil, nil, 404, true},
		{nil, nil, 500, false},
		{nil, nil, 302, false},
		{nil, nil, 405, false},
		{nil, nil, 501, false},
		{nil, a("Cache-Control: no-store"), 200, false},
		{nil, a("Cache-Control: private"), 200, false},
		{nil, a("Cache-Control: private=\"X\""), 200, false},
		{nil, a("Cache-Control: no-cache"), 200, false},
		{nil, a("Cache-Control: max-age=0"), 200, false},
		{nil, a("Pragma: no-cache"), 200, false},
		{nil, a("Expires: 0"), 200, false},
		{nil, a("Set-Cookie: a=b"), 200, false},
		{nil, a("Vary: *"), 200, false},
		{nil, a("Date: -500"), 200, true}, // a clock that is wrong must not undo the operator's word
		{a("Cookie: a=b"), nil, 200, false},
		{a("Authorization: x"), nil, 200, false},
		{a("Cookie: a=b"), a("Cache-Control: public"), 200, false},
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			p := Policy{TTL: 2 * time.Second}
			talk(t, c, p, get("/account/x.css", row.request...), app{row.status, fields(row.answer...), "x"})
			time.Sleep(1900 * time.Millisecond)
			if x := talk(t, c, p, get("/account/x.css"), ok("")); x.cached() != row.cached {
				t.Errorf("%+v: cached: %v", row, x.cached())
			}
			time.Sleep(200 * time.Millisecond)
			if x := talk(t, c, p, get("/account/x.css"), ok("")); row.cached && x.cached() && row.answer == nil {
				t.Errorf("%+v: longer than its time", row)
			}
		})
	}
}

func TestWithoutATimeSilenceIsNotStored(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("x"))
		if x := talk(t, c, Policy{}, get("/"), ok("")); x.cached() {
			t.Error("stored")
		}
	})
}
