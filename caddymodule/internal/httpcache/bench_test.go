package httpcache

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

func BenchmarkHit(b *testing.B) {
	for _, vary := range []string{"", "Accept-Encoding"} {
		b.Run("vary="+vary, func(b *testing.B) {
			c := mustNew(b, Config{})
			r := get("/x", "Accept-Encoding: gzip, deflate, br, zstd", "Accept: text/html", "User-Agent: x")
			answer := ok(strings.Repeat("x", 1000), "Cache-Control: max-age=600", "Cache-Tag: a, b")
			if vary != "" {
				answer.header["Vary"] = a(vary)
			}
			talk(b, c, Policy{}, r, answer)
			b.ReportAllocs()
			for b.Loop() {
				if found := c.Lookup(&r, Policy{}); found.Verdict != Hit {
					b.Fatal(found.Verdict)
				}
			}
		})
	}
}

// BenchmarkServe is a hit with all that a client gets of it, but for the
// network.
func BenchmarkServe(b *testing.B) {
	c := mustNew(b, Config{})
	r := get("/x", "Accept-Encoding: gzip, deflate, br, zstd")
	talk(b, c, Policy{}, r, ok(strings.Repeat("x", 10<<10), "Cache-Control: max-age=600", "Content-Type: text/html", "Etag: \"1\""))
	b.ReportAllocs()
	for b.Loop() {
		found := c.Lookup(&r, Policy{})
		answer := c.Answer(&r, found.Object)
		h := make(Header, 8)
		answer.CopyHeader(h, time.Now())
		found.Note.AddTo(h)
		if len(answer.Bytes()) == 0 {
			b.Fatal("empty")
		}
	}
}

// BenchmarkServeAll is the same page for everybody on all processors.
func BenchmarkServeAll(b *testing.B) {
	c := mustNew(b, Config{})
	r := get("/x", "Accept-Encoding: gzip")
	talk(b, c, Policy{}, r, ok(strings.Repeat("x", 10<<10), "Cache-Control: max-age=600", "Content-Type: text/html", "Etag: \"1\""))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			found := c.Lookup(&r, Policy{})
			answer := c.Answer(&r, found.Object)
			answer.CopyHeader(make(Header, 8), time.Now())
		}
	})
}

func BenchmarkStore(b *testing.B) {
	c := mustNew(b, Config{})
	body := []byte(strings.Repeat("x", 1000))
	h := fields("Cache-Control: max-age=600", "Content-Type: text/html", "Content-Length: 1000")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := Request{Key: NewKey("http", "example.com", "/"+strconv.Itoa(i)), Method: "GET"}
		f := c.Lookup(&r, Policy{}).Flight
		f.Receive(200, h)
		f.Write(body)
		f.End(nil)
	}
}

// BenchmarkZipf asks for 100,000 pages of 4 KiB, some often and most hardly
// ever, with room for a tenth of them.
func BenchmarkZipf(b *testing.B) {
	const pages = 100_000
	body := []byte(strings.Repeat("x", 4<<10))
	h := fields("Cache-Control: max-age=600", "Content-Length: 4096")
	c := mustNew(b, Config{Bytes: pages / 10 * (4<<10 + 700)})
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.01, 1, pages-1)
	uris := make([]string, pages)
	for i := range uris {
		uris[i] = "/" + strconv.Itoa(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		r := Request{Key: NewKey("http", "example.com", uris[zipf.Uint64()]), Method: "GET"}
		found := c.Lookup(&r, Policy{})
		if found.Verdict == Fetch {
			found.Flight.Receive(200, h)
			found.Flight.Write(body)
			found.Flight.End(nil)
		}
	}
	s := c.Stats()
	b.ReportMetric(100*float64(s.Hits)/float64(s.Hits+s.Misses), "%hits")
	b.ReportMetric(float64(s.Bytes)/(1<<20), "MiB")
}

func TestLookupOfAHitDoesNotAllocate(t *testing.T) {
	c := mustNew(t, Config{})
	r := get("/x", "Accept-Encoding: gzip, deflate, br", "Accept-Language: en, de", "Cache-Control: max-stale=5")
	talk(t, c, Policy{}, r, ok("x", "Cache-Control: max-age=600", "Vary: Accept-Encoding, Accept-Language", "Cache-Tag: a, b"))
	if n := testing.AllocsPerRun(1000, func() {
		r.Key = NewKey("http", "example.com:80", "/x")
		if found := c.Lookup(&r, Policy{}); found.Verdict != Hit {
			t.Fatal(found.Verdict)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestStoreStaysWithinItsBytes(t *testing.T) {
	const most = 1 << 20
	inBubble(t, Config{Bytes: most}, func(t *testing.T, c *Cache) {
		body := strings.Repeat("x", 10<<10)
		for i := range 1000 {
			talk(t, c, Policy{}, get("/"+strconv.Itoa(i)), ok(body, "Cache-Control: max-age=600"))
		}
		c.store.entries.CleanUp()
		if s := c.Stats(); s.Bytes > most || s.Bytes < most/2 {
			t.Errorf("%d bytes of %d", s.Bytes, most)
		}
		c.Configure(Config{Bytes: most / 4})
		c.store.entries.CleanUp()
		if s := c.Stats(); s.Bytes > most/4 || s.MaxBytes != most/4 {
			t.Errorf("after less was allowed: %+v", s)
		}
	})
}

func TestVariantsOfAKeyAreBounded(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		for i := range 10 * maxVariants {
			talk(t, c, Policy{}, get("/", "User-Agent: "+strconv.Itoa(i)), ok("x", "Cache-Control: max-age=600", "Vary: User-Agent"))
		}
		if e, _ := c.store.entries.GetIfPresent(get("/").Key); len(e.objects) != maxVariants {
			t.Errorf("%d variants", len(e.objects))
		}
	})
}
