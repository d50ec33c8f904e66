package httpcache

import (
	"io"
	"mime"
	"mime/multipart"
	"slices"
	"strings"
	"testing"
)

const digits = "0123456789"

func TestRangesAreAnsweredFromAStoredWhole(t *testing.T) { // 9110 14.2
	for _, row := range []struct {
		ask    []string
		status int
		body   string
		of     string
	}{
		{a("Range: bytes=2-4"), 206, "234", "bytes 2-4/10"},
		{a("Range: bytes=7-"), 206, "789", "bytes 7-9/10"},
		{a("Range: bytes=-3"), 206, "789", "bytes 7-9/10"},
		{a("Range: bytes=-30"), 206, digits, "bytes 0-9/10"},
		{a("Range: bytes=8-99"), 206, "89", "bytes 8-9/10"},
		{a("Range: Bytes = 0-0"), 200, digits, ""}, // not the grammar
		{a("Range: bytes=10-"), 416, "", "bytes */10"},
		{a("Range: bytes=-0"), 416, "", "bytes */10"},
		{a("Range: bytes=4-2"), 200, digits, ""},
		{a("Range: bytes=x-2"), 200, digits, ""},
		{a("Range: lines=1-2"), 200, digits, ""},
		{a("Range: bytes=0-4,3-5"), 200, digits, ""}, // overlapping: 14.2 allows to ignore it
		{a("Range: bytes=99-,2-3"), 206, "23", "bytes 2-3/10"},
		{a("Range: bytes=2-4", "If-Range: \"1\""), 206, "234", "bytes 2-4/10"},
		{a("Range: bytes=2-4", "If-Range: \"2\""), 200, digits, ""},
		{a("Range: bytes=2-4", "If-Range: W/\"1\""), 200, digits, ""},
		{a("Range: bytes=2-4", "If-None-Match: \"1\""), 304, "", ""},
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok(digits, "Cache-Control: max-age=60", "Etag: \"1\"", "Content-Length: 10", "Accept-Ranges: bytes"))
			x := talk(t, c, Policy{}, get("/", row.ask...), ok(""))
			if x.status != row.status || x.body != row.body || field(x.header, "Content-Range") != row.of || !x.cached() {
				t.Errorf("%v: %d %q %v", row.ask, x.status, x.body, x.header)
			}
		})
	}
}

func TestIfRangeByDate(t *testing.T) { // 9110 13.1.5
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok(digits, "Cache-Control: max-age=60", "Date: -0", "Last-Modified: -100"))
		exact := field(fields("Date: -100"), "Date")
		for date, want := range map[string]int{exact: 206, field(fields("Date: -99"), "Date"): 200, "soon": 200} {
			if x := talk(t, c, Policy{}, get("/", "Range: bytes=0-1", "If-Range: "+date), ok("")); x.status != want {
				t.Errorf("%s: %d, want %d", date, x.status, want)
			}
		}
	})
}

func TestSeveralRangesAreOneMultipart(t *testing.T) { // 9110 14.6
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok(digits, "Cache-Control: max-age=60", "Content-Type: text/plain"))
		x := talk(t, c, Policy{}, get("/", "Range: bytes=7-8,0-1"), ok(""))
		media, params, err := mime.ParseMediaType(field(x.header, "Content-Type"))
		if x.status != 206 || media != "multipart/byteranges" || err != nil || has(x.header, "Content-Range") {
			t.Fatalf("%d %v %v", x.status, x.header, err)
		}
		var got []string
		for r := multipart.NewReader(strings.NewReader(x.body), params["boundary"]); ; {
			p, err := r.NextPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(p)
			got = append(got, p.Header.Get("Content-Range")+" "+p.Header.Get("Content-Type")+" "+string(b))
		}
		if want := a("bytes 7-8/10 text/plain 78", "bytes 0-1/10 text/plain 01"); !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
	})
}

func part206(body, of string, lines ...string) app {
	return app{206, fields(append(lines, "Cache-Control: max-age=60", "Content-Range: "+of)...), body}
}

func TestPartsAreStoredAndCombined(t *testing.T) { // 3.3, 3.4
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		first := talk(t, c, Policy{}, get("/", "Range: bytes=0-4"), part206("01234", "bytes 0-4/10", "Etag: \"1\""))
		if first.status != 206 || first.body != "01234" || field(first.sent, "Range") != "bytes=0-4" {
			t.Fatalf("%+v", first)
		}
		if x := talk(t, c, Policy{}, get("/", "Range: bytes=1-2"), ok("")); x.body != "12" || !x.cached() || field(x.header, "Content-Length") != "2" {
			t.Errorf("%+v", x)
		}
		// 3.3: MUST NOT answer what it does not have.
		if x := talk(t, c, Policy{}, get("/", "Range: bytes=3-6"), part206("3456", "bytes 3-6/10", "Etag: \"1\"")); x.cached() {
			t.Errorf("%+v", x)
		}
		if x := talk(t, c, Policy{}, get("/", "Range: bytes=0-6"), ok("")); x.body != "0123456" || !x.cached() {
			t.Errorf("not combined: %+v", x)
		}
		talk(t, c, Policy{}, get("/", "Range: bytes=7-"), part206("789", "bytes 7-9/10", "Etag: \"1\""))
		if x := talk(t, c, Policy{}, get("/"), ok("")); x.status != 200 || x.body != digits || !x.cached() || has(x.header, "Content-Range") {
			t.Errorf("not whole: %+v", x)
		}
	})
}

func TestPartsAreNotCombinedBeyondTheLargestObject(t *testing.T) { // ours
	inBubble(t, Config{Object: 8}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/", "Range: bytes=0-4"), part206("01234", "bytes 0-4/10", "Etag: \"1\""))
		talk(t, c, Policy{}, get("/", "Range: bytes=5-9"), part206("56789", "bytes 5-9/10", "Etag: \"1\""))
		if x := talk(t, c, Policy{}, get("/"), ok("asked")); x.cached() {
			t.Errorf("%+v", x)
		}
	})
	inBubble(t, Config{Object: 8}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/", "Range: bytes=0-4"), part206("01234", "bytes 0-4/10", "Etag: \"1\""))
		talk(t, c, Policy{}, get("/", "Range: bytes=5-9"), part206("56789", "bytes 5-9/10", "Etag: \"1\""))
		if x := talk(t, c, Policy{}, get("/", "Range: bytes=6-8"), ok("asked")); x.body != "678" || !x.cached() {
			t.Errorf("what came last is not kept: %+v", x)
		}
	})
}

func TestPartsOfDifferentAnswersAreNotCombined(t *testing.T) { // 3.4: MUST have the same strong validator
	for _, etag := range []string{`"2"`, `W/"1"`, ""} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/", "Range: bytes=0-4"), part206("01234", "bytes 0-4/10", "Etag: \"1\""))
			talk(t, c, Policy{}, get("/", "Range: bytes=5-9"), part206("56789", "bytes 5-9/10", "Etag: "+etag))
			if x := talk(t, c, Policy{}, get("/"), ok("asked")); x.cached() {
				t.Errorf("%s: %+v", etag, x)
			}
		})
	}
}

func TestPartIsNotTheWhole(t *testing.T) { // 3.3
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/", "Range: bytes=0-4"), part206("01234", "bytes 0-4/10", "Etag: \"1\""))
		for _, r := range []Request{get("/"), request("HEAD", "/"), get("/", "Range: bytes=0-4", "If-Range: \"2\""), get("/", "Range: bytes=0-1,3-4")} {
			found := c.Lookup(&r, Policy{})
			if found.Verdict != Fetch {
				t.Fatalf("%+v: %v", r, found.Verdict)
			}
			h := cloneHeader(r.Header)
			if found.Flight.Prepare(h); has(h, "If-None-Match") { // 4.3.2: MUST NOT
				t.Errorf("%+v: asked with %v", r, h)
			}
			found.Flight.Done()
		}
	})
}

func TestPartThatIsNotWhatItSaysIsNotStored(t *testing.T) { // 3.3, 9110 14.4
	for _, of := range []string{"bytes 0-5/10", "bytes 0-4/*", "bytes 0-4/3", "bytes 4-0/10", "lines 0-4/10"} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			r := get("/", "Range: bytes=0-4")
			fly(t, c.Lookup(&r, Policy{}).Flight, r, part206("01234", of, "Etag: \"1\""))
			if x := talk(t, c, Policy{}, r, ok("asked")); x.cached() {
				t.Errorf("%s: %+v", of, x)
			}
		})
	}
}
