package httpcache

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

var prose = strings.Repeat("the porter at the door ", 200)

func unpress(t *testing.T, coding, body string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(body)
	var err error
	switch coding {
	case "gzip":
		r, err = gzip.NewReader(r)
	case "zstd":
		r, err = zstd.NewReader(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHitsAreCompressedOncePerCoding(t *testing.T) { // 9110 8.8.3.3
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok(prose, "Cache-Control: max-age=60", "Content-Type: text/html; charset=utf-8", "Etag: \"1\""))
		for accept, coding := range map[string]string{"gzip": "gzip", "gzip, zstd": "zstd", "GZIP;q=0.5": "gzip", "gzip;q=0": "", "br": "", "": ""} {
			x := talk(t, c, Policy{}, get("/", "Accept-Encoding: "+accept), ok(""))
			if field(x.header, "Content-Encoding") != coding || unpress(t, coding, x.body) != prose || !hasMember(x.header, "Vary", "accept-encoding") {
				t.Errorf("%q: %v, %d bytes", accept, x.header, len(x.body))
			}
			if etag := field(x.header, "Etag"); etag != encodedTag(`"1"`, coding) {
				t.Errorf("%q: %s", accept, etag) // 9110 8.8.3.3
			}
			if y := talk(t, c, Policy{}, get("/", "Accept-Encoding: "+accept, "If-None-Match: "+field(x.header, "Etag")), ok("")); y.status != 304 {
				t.Errorf("%q: its own tag gets %d", accept, y.status)
			}
		}
		r := get("/", "Accept-Encoding: zstd")
		o := c.Lookup(&r, Policy{}).Object
		one, two := c.Answer(&r, o), c.Answer(&r, o)
		if &one.Bytes()[0] != &two.Bytes()[0] {
			t.Error("compressed twice")
		}
		synctest.Wait() // the store counts in the background
		if s := c.Stats(); s.Bytes < int64(len(prose)+len(one.Bytes())) {
			t.Errorf("%d bytes are counted: the forms are not", s.Bytes)
		}
	})
}

func TestRevalidationAsksForTheStoredTag(t *testing.T) { // 4.3.1
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok(prose, "Cache-Control: no-cache", "Content-Type: text/html", "Etag: \"1\""))
		x := talk(t, c, Policy{}, get("/", "Accept-Encoding: gzip", "If-None-Match: \"1-gzip\""), app{304, fields("Cache-Control: no-cache", "Etag: \"1\""), ""})
		if field(x.sent, "If-None-Match") != `"1"` || x.status != 304 {
			t.Errorf("%d, asked with %v", x.status, x.sent)
		}
	})
}

func TestSomeAnswersAreNeverCompressed(t *testing.T) { // 5.2.2.6, 9110 7.7
	for name, lines := range map[string][]string{
		"with cookies":       a("Set-Cookie: a=b"),
		"already compressed": a("Content-Encoding: br"),
		"no-transform":       a("Cache-Control: no-transform"),
		"with a digest":      a("Content-Digest: x"),
		"images":             a("Content-Type: image/png"),
		"event streams":      a("Content-Type: text/event-stream"),
		"targeted":           a("Cdn-Cache-Control: public, max-age=60", "Cache-Control: no-transform"),
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			h := fields(append(lines, "Cache-Control: max-age=60, public")...)
			if !has(h, "Content-Type") {
				h["Content-Type"] = a("text/html")
			}
			talk(t, c, Policy{}, get("/"), app{200, h, prose})
			if x := talk(t, c, Policy{}, get("/", "Accept-Encoding: gzip, zstd"), ok("")); x.body != prose || !x.cached() {
				t.Errorf("%s: %v", name, x.header)
			}
		})
	}
}

func TestShortAndStubbornBodiesStayPlain(t *testing.T) {
	noise := make([]byte, 0, 4096)
	for x := uint32(1); len(noise) < 4096; x = x*1664525 + 1013904223 {
		noise = append(noise, byte(x>>24))
	}
	for _, body := range []string{"short", string(noise)} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok(body, "Cache-Control: max-age=60", "Content-Type: text/html"))
			if x := talk(t, c, Policy{}, get("/", "Accept-Encoding: gzip, zstd"), ok("")); x.body != body || has(x.header, "Content-Encoding") {
				t.Errorf("%d bytes: %v", len(body), x.header)
			}
		})
	}
}

func TestPlainBodyKeepsItsTag(t *testing.T) { // 9110 15.4.5
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok(prose, "Cache-Control: max-age=60", "Content-Type: text/html", "Etag: \"1\""))
		x := talk(t, c, Policy{}, get("/", "Accept-Encoding: gzip", "If-None-Match: \"1\""), ok(""))
		if x.status != 304 || field(x.header, "Etag") != `"1"` {
			t.Errorf("%d %v", x.status, x.header)
		}
	})
}

func TestVaryNamesTheCodingOnlyWhereThereAreSeveral(t *testing.T) {
	for body, want := range map[string]bool{prose: true, "short": false} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			for range 2 { // as it comes in, and from the store
				x := talk(t, c, Policy{}, get("/"), ok(body, "Cache-Control: max-age=60", "Content-Type: text/html", "Content-Length: "+strconv.Itoa(len(body))))
				if hasMember(x.header, "Vary", "Accept-Encoding") != want {
					t.Errorf("%d bytes: %v", len(body), x.header)
				}
			}
		})
	}
}

func TestClientMayWantNothingChanged(t *testing.T) { // 5.2.1.6
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok(prose, "Cache-Control: max-age=60", "Content-Type: text/html"))
		if x := talk(t, c, Policy{}, get("/", "Accept-Encoding: gzip", "Cache-Control: no-transform"), ok("")); x.body != prose {
			t.Errorf("%v", x.header)
		}
	})
}

func TestPlainCachesDoNotCompress(t *testing.T) {
	inBubble(t, Config{Plain: true}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok(prose, "Cache-Control: max-age=60", "Content-Type: text/html"))
		if x := talk(t, c, Policy{}, get("/", "Accept-Encoding: gzip"), ok("")); x.body != prose {
			t.Errorf("%v", x.header)
		}
	})
}

func TestUpdatesShareTheBody(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		talk(t, c, Policy{}, r, ok(prose, "Cache-Control: no-cache", "Etag: \"1\""))
		synctest.Wait() // the store counts in the background
		before := c.Stats().Bytes
		for range 10 {
			talk(t, c, Policy{}, r, app{304, fields("Cache-Control: no-cache", "Etag: \"1\""), ""})
		}
		synctest.Wait()
		if after := c.Stats().Bytes; before == 0 || after > before+200 {
			t.Errorf("%d bytes, then %d", before, after)
		}
	})
}
