package httpcache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// onDisk is a cache with a folder.
func onDisk(t testing.TB, dir string, cfg Config, bytes int64) *Cache {
	t.Helper()
	c := mustNew(t, cfg)
	if err := c.OpenDisk(dir, bytes, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// killed is the folder as it is now, as another process finds it if this one is
// killed. A file that the writer takes away meanwhile is a reason to look again.
func killed(t testing.TB, dir string) string {
	t.Helper()
	for {
		now := filepath.Join(t.TempDir(), "cache")
		err := os.CopyFS(now, os.DirFS(dir))
		if err == nil {
			return now
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// withDisk runs a test in a bubble, with a cache on disk.
func withDisk(t *testing.T, cfg Config, bytes int64, f func(t *testing.T, c *Cache, dir string)) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "cache")
		c := onDisk(t, dir, cfg, bytes)
		f(t, c, dir)
		c.Close()
	})
}

const control = "Cache-Control: max-age=600"

func TestWhatIsOnDiskSurvivesAKill(t *testing.T) {
	withDisk(t, Config{}, 8<<20, func(t *testing.T, c *Cache, dir string) {
		talk(t, c, Policy{}, get("/", "Accept-Language: da"), ok(prose, control, "Vary: Accept-Language", "Etag: \"1\"", "Content-Type: text/html", "Cache-Tag: a", "Age: 5"))
		talk(t, c, Policy{}, get("/", "Accept-Language: en"), ok("english", control, "Vary: Accept-Language"))
		talk(t, c, Policy{TTL: time.Minute}, get("/micro"), ok("x"))
		talk(t, c, Policy{}, get("/stale"), ok("old", "Cache-Control: max-age=0, stale-if-error=600"))
		time.Sleep(11 * time.Second)
		synctest.Wait()
		c = onDisk(t, killed(t, dir), Config{}, 8<<20)
		defer c.Close()

		if x := talk(t, c, Policy{}, get("/", "Accept-Language: da", "Accept-Encoding: gzip"), ok("")); !x.cached() || unpress(t, "gzip", x.body) != prose || field(x.header, "Age") != "16" {
			t.Errorf("%+v", x)
		}
		if x := talk(t, c, Policy{}, get("/", "Accept-Language: en"), ok("")); !x.cached() || x.body != "english" {
			t.Errorf("%+v", x)
		}
		if x := talk(t, c, Policy{}, get("/micro"), ok("")); !x.cached() {
			t.Errorf("%+v", x)
		}
		if x := talk(t, c, Policy{}, get("/stale"), app{status: 503}); x.status != 200 || x.body != "old" {
			t.Errorf("%+v", x)
		}
		if x := talk(t, c, Policy{}, get("/", "Accept-Language: fr"), ok("")); x.cached() {
			t.Errorf("%+v", x)
		}
		c.Invalidate(Key{}, Invalidation{Tag: "a"}) // it still knows its tags
		if x := talk(t, c, Policy{}, get("/", "Accept-Language: da"), ok("")); x.cached() {
			t.Errorf("%+v", x)
		}
		if d := c.Stats().Disk; d.Hits != 3 || d.Damaged != 0 {
			t.Errorf("%+v", d)
		}
	})
}

func TestWhatIsOnDiskIsReplacedByWhatIsNewer(t *testing.T) {
	withDisk(t, Config{}, 8<<20, func(t *testing.T, c *Cache, dir string) {
		for i := range 5 {
			talk(t, c, Policy{}, get("/", "Cache-Control: no-cache"), ok("version "+strconv.Itoa(i), control))
			time.Sleep(time.Second)
		}
		talk(t, c, Policy{}, get("/short", "Cache-Control: no-cache"), ok("long", control))
		talk(t, c, Policy{}, get("/short", "Cache-Control: no-cache"), ok("short", "Cache-Control: max-age=5")) // not worth writing
		synctest.Wait()
		c = onDisk(t, killed(t, dir), Config{}, 8<<20)
		defer c.Close()
		if x := talk(t, c, Policy{}, get("/"), ok("")); !x.cached() || x.body != "version 4" {
			t.Errorf("%+v", x)
		}
		if x := talk(t, c, Policy{}, get("/short"), ok("")); x.cached() {
			t.Errorf("%+v", x)
		}
	})
}

func TestVariantThatHasEndedDoesNotComeBack(t *testing.T) {
	withDisk(t, Config{}, 8<<20, func(t *testing.T, c *Cache, dir string) {
		talk(t, c, Policy{}, get("/", "Accept-Language: da"), ok("old", control, "Vary: Accept-Language"))
		time.Sleep(time.Second)
		talk(t, c, Policy{}, get("/", "Accept-Language: da", "Cache-Control: no-cache"), ok("new", control))
		synctest.Wait()
		c = onDisk(t, killed(t, dir), Config{}, 8<<20)
		defer c.Close()
		if x := talk(t, c, Policy{}, get("/", "Accept-Language: da"), ok("")); !x.cached() || x.body != "new" {
			t.Errorf("%+v", x)
		}
	})
}

// TestWhatWasPurgedNeverComesBack invalidates at random, kills after each
// invalidation, and asks whoever comes next.
func TestWhatWasPurgedNeverComesBack(t *testing.T) {
	for seed := range uint64(10) {
		withDisk(t, Config{}, 8<<20, func(t *testing.T, c *Cache, dir string) {
			random := rand.New(rand.NewPCG(seed, 6))
			version := make(map[string]int) // pages as they are
			tag := func(p int) string { return "t" + strconv.Itoa(p%3) }
			for step := range 30 {
				p := random.IntN(9)
				path := "/" + strconv.Itoa(p)
				answer := func() app {
					return ok(fmt.Sprint(path, " ", version[path]), control, "Cache-Tag: "+tag(p))
				}
				switch random.IntN(8) {
				case 0:
					version[path]++
					c.Invalidate(get(path).Key, Invalidation{URL: path})
				case 1:
					for q := range 9 {
						if tag(q) == tag(p) {
							version["/"+strconv.Itoa(q)]++
						}
					}
					c.Invalidate(Key{}, Invalidation{Tag: tag(p)})
				case 2:
					for q := range 9 {
						version["/"+strconv.Itoa(q)]++
					}
					c.InvalidateAll()
				case 3: // an answer that is under way meanwhile
					r := get(path, "Cache-Control: no-cache")
					a := answer()
					f := c.Lookup(&r, Policy{}).Flight
					f.Sent()
					f.Receive(a.status, a.header)
					f.Write([]byte(a.body))
					version[path]++
					c.Invalidate(r.Key, Invalidation{URL: path})
					f.End(nil)
				default:
					talk(t, c, Policy{}, get(path), answer())
					continue
				}
				if random.IntN(2) == 0 {
					synctest.Wait() // else what is queued is lost
				}
				if random.IntN(3) > 0 {
					continue
				}
				dir = killed(t, dir)
				c.Close()
				c = onDisk(t, dir, Config{}, 8<<20)
				for q := range 9 {
					path := "/" + strconv.Itoa(q)
					if x := talk(t, c, Policy{}, get(path), app{status: 404}); x.cached() && x.body != fmt.Sprint(path, " ", version[path]) {
						t.Fatalf("seed %d, step %d: %s is %q, it was invalidated until version %d", seed, step, path, x.body, version[path])
					}
				}
			}
			c.Close()
		})
	}
}

func TestSoftlyInvalidatedStaysSoOverAKill(t *testing.T) {
	withDisk(t, Config{}, 8<<20, func(t *testing.T, c *Cache, dir string) {
		talk(t, c, Policy{}, get("/"), ok("old", "Cache-Control: max-age=600, stale-if-error=600", "Cache-Tag: a"))
		synctest.Wait()
		c.Invalidate(Key{}, Invalidation{Tag: "a", Soft: true})
		c = onDisk(t, killed(t, dir), Config{}, 8<<20)
		defer c.Close()
		if x := talk(t, c, Policy{}, get("/"), app{status: 503}); x.cached() || x.body != "old" {
			t.Errorf("%+v", x)
		}
	})
}

func TestDamagedFilesAreNeverServed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	c := onDisk(t, dir, Config{}, 8<<20)
	for i := range 4 {
		talk(t, c, Policy{}, get("/"+strconv.Itoa(i)), ok(strings.Repeat(strconv.Itoa(i), 100), control))
	}
	c.Invalidate(get("/").Key, Invalidation{URL: "/3"})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	hits := func(what string, damage func(file []byte) []byte) (n int) {
		at := killed(t, dir)
		names, err := filepath.Glob(filepath.Join(at, what))
		if err != nil || len(names) != 1 {
			t.Fatal(names, err)
		}
		file, err := os.ReadFile(names[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(names[0], damage(file), 0o600); err != nil {
			t.Fatal(err)
		}
		c := onDisk(t, at, Config{Bytes: 1 << 20}, 8<<20)
		defer c.Close()
		for i := range 4 {
			x := talk(t, c, Policy{}, get("/"+strconv.Itoa(i)), ok("new", control))
			if x.cached() && (i == 3 || x.body != strings.Repeat(strconv.Itoa(i), 100)) {
				t.Fatalf("%s: %+v", what, x)
			}
			if x.cached() {
				n++
			}
		}
		return n
	}
	if n := hits("*.objects", func(file []byte) []byte { return file }); n != 3 {
		t.Fatalf("%d hits without any damage", n)
	}
	for at := 0; at < 4*(labelSize+200); at += 97 {
		if n := hits("*.objects", func(file []byte) []byte { return flip(file, at%len(file)) }); n > 3 {
			t.Errorf("%d hits after damage at %d", n, at)
		}
		if n := hits("*.objects", func(file []byte) []byte { return file[:at%len(file)] }); n > 3 {
			t.Errorf("%d hits after a cut at %d", n, at)
		}
	}
	for _, at := range []int{0, 20, 60, 95, 100, bookHead - 150, bookHead, bookHead + 31, bookHead + 40000*bookEntry} {
		if n := hits("epochs", func(file []byte) []byte { return flip(file, at) }); n != 0 {
			t.Errorf("%d hits by epochs that are damaged at %d", n, at)
		}
	}
	if n := hits("epochs", func(file []byte) []byte { return file[:len(file)-1] }); n != 0 {
		t.Errorf("%d hits by epochs that end too early", n)
	}
	if n := hits("epochs", func(file []byte) []byte { return append(file[:bookHead:bookHead], make([]byte, len(file)-bookHead)...) }); n != 0 {
		t.Errorf("%d hits by epochs that were lost", n)
	}
}

// reboots lets the machine start anew whenever reboot is called, until the test ends.
func reboots(t *testing.T) (reboot func()) {
	was := bootID
	t.Cleanup(func() { bootID = was })
	n := byte(0)
	return func() {
		n++
		id := [bootSize]byte{n, 1}
		bootID = func() [bootSize]byte { return id }
	}
}

// unsynced is a file as a power cut leaves it: what was not synced is not there.
type unsynced struct {
	bookFile
	writes []func() error
}

func (u *unsynced) WriteAt(p []byte, at int64) (int, error) {
	p = bytes.Clone(p)
	u.writes = append(u.writes, func() error {
		_, err := u.bookFile.WriteAt(p, at)
		return err
	})
	return len(p), nil
}

func (u *unsynced) Sync() (err error) {
	for _, write := range u.writes {
		err = errors.Join(err, write())
	}
	u.writes = nil
	return errors.Join(err, u.bookFile.Sync())
}

func TestPowerCutBringsNothingBackThatWasPurged(t *testing.T) {
	reboot := reboots(t)
	for name, purge := range map[string]func(*Cache){
		"all":  (*Cache).InvalidateAll,
		"one":  func(c *Cache) { c.Invalidate(get("/").Key, Invalidation{URL: "/"}) },
		"soft": func(c *Cache) { c.Invalidate(get("/").Key, Invalidation{URL: "/", Soft: true}) },
	} {
		reboot()
		withDisk(t, Config{}, 8<<20, func(t *testing.T, c *Cache, dir string) {
			talk(t, c, Policy{}, get("/"), ok("old", control))
			if err := c.SyncDisk(); err != nil {
				t.Fatal(err)
			}
			b := c.store.disk.book
			b.file = &unsynced{bookFile: b.file}
			cut := killed(t, dir) // with the files of objects: that they were removed is lost as well
			purge(c)
			epochs, err := os.ReadFile(filepath.Join(dir, "epochs"))
			if err == nil {
				err = os.WriteFile(filepath.Join(cut, "epochs"), epochs, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			reboot()
			c = onDisk(t, cut, Config{}, 8<<20)
			defer c.Close()
			if x := talk(t, c, Policy{}, get("/"), ok("new")); x.cached() {
				t.Errorf("%s: %q is there again", name, x.body)
			}
		})
	}
}

func TestAfterAPowerCutOnlyWhatWasSyncedIsUsed(t *testing.T) {
	reboot := reboots(t)
	synctest.Test(t, func(t *testing.T) {
		reboot()
		dir := filepath.Join(t.TempDir(), "cache")
		next := func(c *Cache) *Cache {
			dir = killed(t, dir)
			c.Close()
			reboot()
			return onDisk(t, dir, Config{}, 8<<20)
		}
		cached := func(c *Cache, path string) bool {
			r := get(path)
			return c.Lookup(&r, Policy{}).Verdict == Hit
		}
		c := onDisk(t, dir, Config{}, 8<<20)
		talk(t, c, Policy{}, get("/1"), ok("x", control))
		synctest.Wait()
		if c = next(c); cached(c, "/1") {
			t.Error("used without an orderly end")
		}
		for range 2 {
			talk(t, c, Policy{}, get("/2"), ok("x", control))
			if err := c.SyncDisk(); err != nil {
				t.Fatal(err)
			}
			if c = next(c); !cached(c, "/2") {
				t.Error("not used after an orderly end")
			}
		}
		if err := c.SyncDisk(); err != nil {
			t.Fatal(err)
		}
		c.Invalidate(get("/2").Key, Invalidation{URL: "/other"})
		if c = next(c); cached(c, "/2") {
			t.Error("used although something has happened since the sync")
		}
		c.Close()
	})
}

func TestDiskStaysWithinItsBytes(t *testing.T) {
	const most = 2 << 20
	withDisk(t, Config{Bytes: 100 << 10}, most, func(t *testing.T, c *Cache, dir string) {
		body := strings.Repeat("x", 10<<10)
		for i := range 1000 {
			talk(t, c, Policy{}, get("/"+strconv.Itoa(i)), ok(body, control))
			talk(t, c, Policy{}, get("/front"), ok(body, control))
			synctest.Wait()
		}
		size := onlyFiles(t, dir)
		if s := c.Stats(); s.Disk.Bytes != size || size > most || size < most*3/4 || s.Disk.Keys > 200 || s.Disk.Keys < 120 || s.Evictions < 800 {
			t.Errorf("%d bytes in files; %+v, %+v", size, s, s.Disk)
		}
		dir = killed(t, dir)
		c.Close()
		c = onDisk(t, dir, Config{}, most/2)
		defer c.Close()
		if x := talk(t, c, Policy{}, get("/front"), ok("")); !x.cached() {
			t.Error("what memory always had was let go")
		}
		talk(t, c, Policy{}, get("/more"), ok(body, control))
		synctest.Wait()
		if size := onlyFiles(t, dir); size > most/2 {
			t.Errorf("%d bytes after less was allowed", size)
		}
	})
}

// onlyFiles is the size of the segments.
func onlyFiles(t *testing.T, dir string) (size int64) {
	names, err := filepath.Glob(filepath.Join(dir, "*.objects"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

func TestWhatMemoryLetsGoIsFoundOnDisk(t *testing.T) {
	withDisk(t, Config{Bytes: 64 << 10}, 8<<20, func(t *testing.T, c *Cache, _ string) {
		body := strings.Repeat("x", 2<<10)
		for i := range 200 {
			talk(t, c, Policy{}, get("/"+strconv.Itoa(i)), ok(body, control))
			synctest.Wait()
		}
		for range 3 { // some of them more than once: what memory does not want is found again
			for i := range 200 {
				if x := talk(t, c, Policy{}, get("/"+strconv.Itoa(i)), ok("new")); !x.cached() || x.body != body {
					t.Fatalf("%d: %+v", i, x)
				}
			}
		}
		if s := c.Stats(); s.Disk.Hits < 100 || s.Bytes > 96<<10 {
			t.Errorf("%+v %+v", s, s.Disk)
		}
	})
}

// TestWhatIsReadTwiceIsTheSame is about objects that memory has no room for: whoever
// looks twice must not take the second copy for a newer one, and look for ever.
func TestWhatIsReadTwiceIsTheSame(t *testing.T) {
	withDisk(t, Config{}, 8<<20, func(t *testing.T, c *Cache, _ string) {
		r := get("/")
		talk(t, c, Policy{}, r, ok("x", control))
		synctest.Wait()
		one, two := c.store.disk.fetch(r.Key, c.epochs)[0], c.store.disk.fetch(r.Key, c.epochs)[0]
		time.Sleep(time.Second)
		talk(t, c, Policy{}, get("/", "Cache-Control: no-cache"), ok("x", control))
		synctest.Wait()
		if next := c.store.disk.fetch(r.Key, c.epochs)[0]; !one.same(two) || one.same(next) {
			t.Errorf("%+v, %+v, %+v", one, two, next)
		}
	})
}

func TestWhatWaitsToBeWrittenIsReplacedToo(t *testing.T) {
	withDisk(t, Config{}, 8<<20, func(t *testing.T, c *Cache, _ string) {
		d := c.store.disk
		r := get("/")
		for _, full := range []bool{false, true} {
			hold := make(chan error)
			d.queue <- job{synced: hold} // the writer waits here
			old := newObject(r.Key, nil, 200, fields(control), Control{set: maxAge, maxAge: time.Hour}, time.Now(), time.Now())
			old.life, old.body = time.Hour, wholeBody([]byte("old"), nil)
			time.Sleep(time.Second)
			short := *old
			short.received, short.life = time.Now(), time.Second
			if full {
				d.behind = 0
			}
			d.add(old, time.Now())
			for full && d.put(job{gone: &label{kind: gone}}) {
			}
			d.add(&short, time.Now())
			<-hold
			synctest.Wait()
			if d.has(r.Key) {
				t.Errorf("full %t: what was superseded is there", full)
			}
		}
	})
}

func TestNoSecretIsWritten(t *testing.T) {
	withDisk(t, Config{}, 8<<20, func(t *testing.T, c *Cache, dir string) {
		const shared = "Cache-Control: public, max-age=600"
		for i, r := range []Request{get("/a", "Cookie: id=secret"), get("/b", "Authorization: secret"), get("/c", "X-Key: secret"), get("/f", "Accept-Token: secret")} {
			talk(t, c, Policy{}, r, ok("page", shared, "Vary: "+[]string{"Cookie", "Authorization", "X-Key", "Accept-Token"}[i]))
		}
		talk(t, c, Policy{}, get("/d"), ok("page", shared, "Set-Cookie: id=secret"))
		talk(t, c, Policy{}, get("/e", "Cookie: id=secret", "Authorization: secret"), ok("page", shared))
		synctest.Wait()
		if n := c.Stats().Disk.Written; n != 1 {
			t.Errorf("%d objects were written, want /e alone", n)
		}
		err := filepath.WalkDir(dir, func(path string, f fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := f.Info()
			if err != nil {
				return err
			}
			if mode := info.Mode().Perm(); mode&0o077 != 0 {
				t.Errorf("%s: mode %o", path, mode)
			}
			if f.IsDir() {
				return nil
			}
			if file, err := os.ReadFile(path); err != nil || bytes.Contains(file, []byte("secret")) {
				t.Errorf("%s has a secret, or %v", path, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestFolderBelongsToOneProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	c := onDisk(t, dir, Config{}, 8<<20)
	other := mustNew(t, Config{})
	if err := other.OpenDisk(dir, 8<<20, zap.NewNop()); !errors.Is(err, ErrDiskInUse) {
		t.Errorf("%v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	onDisk(t, dir, Config{}, 8<<20)
}

func TestInvalidationThatCannotBeWrittenEndsTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	c := onDisk(t, dir, Config{}, 8<<20)
	talk(t, c, Policy{}, get("/"), ok("old", control))
	if err := c.SyncDisk(); err != nil {
		t.Fatal(err)
	}
	c.store.disk.book.file.Close() // nothing can be written any more
	c.Invalidate(get("/").Key, Invalidation{URL: "/"})
	if err := c.SyncDisk(); err == nil {
		t.Error("it is not said")
	}
	next := onDisk(t, killed(t, dir), Config{}, 8<<20)
	r := get("/")
	if found := next.Lookup(&r, Policy{}); found.Verdict != Fetch {
		t.Errorf("it came back: %+v", found)
	}
}

func TestWhatWasDiscardedDoesNotComeBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	c := onDisk(t, dir, Config{}, 8<<20)
	talk(t, c, Policy{}, get("/"), ok("old", control))
	if err := errors.Join(c.SyncDisk(), c.Discard()); err != nil {
		t.Fatal(err)
	}
	talk(t, c, Policy{}, get("/2"), ok("old", control))
	c.InvalidateAll()
	next := onDisk(t, dir, Config{}, 8<<20)
	r := get("/")
	if found := next.Lookup(&r, Policy{}); found.Verdict != Fetch || onlyFiles(t, dir) != 0 {
		t.Errorf("%+v", found)
	}
}

func FuzzObjectOnDisk(f *testing.F) {
	c := mustNew(f, Config{Bytes: 1 << 20})
	r := get("/", "Accept: text/html")
	talk(f, c, Policy{}, r, ok("body", control, "Vary: Accept", "Cache-Tag: a"))
	o, _ := c.store.find(&r, c.epochs)
	f.Add(appendObject(nil, o))
	f.Fuzz(func(t *testing.T, payload []byte) {
		o, err := decodeObject(payload)
		if err != nil {
			return
		}
		for _, lines := range [][]string{nil, {"Range: bytes=0-9"}, {"Range: bytes=1-1"}, {"Range: bytes=0-0,-1"}} {
			r := get("/", lines...)
			answer := c.Answer(&r, o)
			answer.CopyHeader(Header{}, time.Now())
			answer.CopyBody(t.Context(), io.Discard, nil)
		}
		again, err := decodeObject(appendObject(nil, o))
		if err != nil || again.key != o.key || !again.received.Equal(o.received) || len(again.header) != len(o.header) {
			t.Errorf("%+v is read again as %+v, %v", o, again, err)
		}
	})
}

func flip(file []byte, i int) []byte {
	damaged := append([]byte(nil), file...)
	damaged[i] ^= 0x40
	return damaged
}
