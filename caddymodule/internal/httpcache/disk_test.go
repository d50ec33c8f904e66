package httpcache

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// restart saves a cache and loads it into another one.
func restart(t *testing.T, c *Cache, bytes int64) *Cache {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cache")
	if err := c.Save(path, bytes); err != nil {
		t.Fatal(err)
	}
	next := mustNew(t, Config{})
	if _, err := next.Load(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file is still there: after a crash it would be used again")
	}
	return next
}

func TestCacheSurvivesARestart(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		control := "Cache-Control: max-age=600"
		talk(t, c, Policy{}, get("/", "Foo: 1"), ok(prose, control, "Vary: Foo", "Etag: \"1\"", "Content-Type: text/html", "Cache-Tag: a", "Age: 5"))
		talk(t, c, Policy{}, get("/part", "Range: bytes=2-4"), part206("234", "bytes 2-4/10", "Etag: \"1\""))
		talk(t, c, Policy{TTL: time.Minute}, get("/micro"), ok("x"))
		talk(t, c, Policy{}, get("/gone"), ok("x", control, "Cache-Tag: gone"))
		talk(t, c, Policy{}, get("/soft"), ok("x", control, "Cache-Tag: soft"))
		c.Invalidate(Key{}, Invalidation{Tag: "gone"}, Invalidation{Tag: "soft", Soft: true})
		time.Sleep(10 * time.Second)
		c = restart(t, c, 1<<20)

		if x := talk(t, c, Policy{}, get("/", "Foo: 1", "Accept-Encoding: gzip"), ok("")); !x.cached() || unpress(t, "gzip", x.body) != prose || field(x.header, "Age") != "15" {
			t.Errorf("%+v", x)
		}
		if x := talk(t, c, Policy{}, get("/part", "Range: bytes=3-4"), ok("")); !x.cached() || x.body != "34" {
			t.Errorf("%+v", x)
		}
		if x := talk(t, c, Policy{}, get("/micro"), ok("")); !x.cached() {
			t.Errorf("%+v", x)
		}
		for _, r := range []Request{get("/", "Foo: 2"), get("/gone"), get("/soft")} {
			if x := talk(t, c, Policy{}, r, ok("")); x.cached() {
				t.Errorf("%s %v: %+v", r.Key.URI, r.Header, x)
			}
		}
		c.Invalidate(Key{}, Invalidation{Tag: "a"}) // it still knows its tags
		if x := talk(t, c, Policy{}, get("/", "Foo: 1"), ok("")); x.cached() {
			t.Errorf("%+v", x)
		}
	})
}

func TestWhatIsSavedIsBounded(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		for i := range 100 {
			talk(t, c, Policy{}, get("/"+strconv.Itoa(i)), ok(strings.Repeat("x", 1000), "Cache-Control: max-age=600"))
		}
		synctest.Wait()
		if n := restart(t, c, 20_000).Stats().Keys; n < 5 || n > 13 {
			t.Errorf("%d pages of 1000 bytes in 20000", n)
		}
	})
}

func TestDamagedFileIsUsedUpToTheDamage(t *testing.T) {
	c := mustNew(t, Config{})
	for i := range 3 {
		talk(t, c, Policy{}, get("/"+strconv.Itoa(i)), ok("x", "Cache-Control: max-age=600"))
	}
	c.store.entries.CleanUp()
	path := filepath.Join(t.TempDir(), "cache")
	if err := c.Save(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut < len(file); cut += 7 {
		for _, damaged := range [][]byte{file[:cut], flip(file, cut)} {
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			next := mustNew(t, Config{Bytes: 1 << 20})
			n, err := next.Load(path)
			whole := (cut-len(diskVersion))*3 == (len(file)-len(diskVersion))*n && len(damaged) == cut
			if n >= 3 || err == nil && !whole {
				t.Fatalf("damage at byte %d of %d, %d bytes: %d objects, %v", cut, len(file), len(damaged), n, err)
			}
		}
	}
	if n, err := mustNew(t, Config{}).Load(filepath.Join(t.TempDir(), "none")); n != 0 || err != nil {
		t.Errorf("no file: %d, %v", n, err)
	}
}

func FuzzRecord(f *testing.F) {
	c := mustNew(f, Config{Bytes: 1 << 20})
	for _, x := range []record{
		{Key: NewKey("http", "a", "/"), Status: 200, Header: fields("Cache-Control: max-age=60", "Cache-Tag: a"), Body: []byte("x")},
		{Status: 206, Part: []int64{0, 1, 5}, Body: []byte("ab")}, {Status: 206, Part: []int64{1, 0, 5}}, {},
	} {
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(x); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var head [8]byte
		binary.BigEndian.PutUint32(head[:4], uint32(len(payload)))
		binary.BigEndian.PutUint32(head[4:], crc32.Checksum(payload, castagnoli))
		o, err := c.readRecord(bytes.NewReader(append(head[:], payload...)))
		if err != nil {
			return
		}
		for _, lines := range [][]string{nil, {"Range: bytes=0-9"}, {"Range: bytes=1-1"}, {"Range: bytes=0-0,-1"}} {
			r := get("/", lines...)
			answer := c.Answer(&r, o)
			answer.CopyHeader(Header{}, time.Now())
			answer.CopyBody(t.Context(), io.Discard, nil)
		}
	})
}

func flip(file []byte, i int) []byte {
	damaged := append([]byte(nil), file...)
	damaged[i] ^= 0x40
	return damaged
}
