package httpcache

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestInvalidationByTagAndURL(t *testing.T) {
	for _, row := range []struct {
		answer string
		what   string
		gone   bool
	}{
		{"Cache-Tag: a, b", "tag=b", true},
		{"Surrogate-Key: a b", "tag=b", true},
		{"Cache-Tag: a, b", "tag=c", false},
		{"Cache-Tag: a", "url=/x", true},
		{"Cache-Tag: a", "url=\"http://Example.com/x\"", true},
		{"Cache-Tag: a", "url=/x?", false},
		{"Cache-Tag: a", "url=/y, tag=a;soft", true},
		{"Cache-Tag: a", "tag=, foo=a", false},
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/x"), ok("old", "Cache-Control: max-age=60", row.answer))
			talk(t, c, Policy{}, request("POST", "/other"), ok("", "Portner-Invalidate: "+row.what))
			if x := talk(t, c, Policy{}, get("/x"), ok("new")); x.cached() == row.gone {
				t.Errorf("%+v: cached: %v", row, x.cached())
			}
		})
	}
}

func TestSoftInvalidatedMayStandInAndHardMayNot(t *testing.T) {
	for _, soft := range []bool{true, false} {
		for _, what := range []Invalidation{{Tag: "a", Soft: soft}, {URL: "/", Soft: soft}} {
			inBubble(t, Config{}, func(t *testing.T, c *Cache) {
				talk(t, c, Policy{}, get("/"), ok("old", "Cache-Control: max-age=600, stale-if-error=60", "Cache-Tag: a"))
				r := get("/")
				before := c.Lookup(&r, Policy{}).Object
				time.Sleep(100 * time.Second)
				c.Invalidate(r.Key, what)
				if _, ok := c.StaleFor(&r, Policy{Stale: time.Hour}, before, Overloaded); ok != soft {
					t.Errorf("%+v: may stand in: %v", what, ok)
				}
				found := c.Lookup(&r, Policy{})
				if found.Verdict != Fetch || (found.Object != nil) != soft {
					t.Errorf("%+v: %+v", what, found)
				}
				found.Flight.Done()
				time.Sleep(61 * time.Second)
				if _, ok := c.StaleFor(&r, Policy{}, before, Overloaded); ok {
					t.Errorf("%+v: stands in beyond its stale time", what)
				}
			})
		}
	}
}

func TestAnswerToARequestSentBeforeIsNotStored(t *testing.T) { // 4.4
	for _, what := range []Invalidation{{Tag: "a"}, {URL: "/"}} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			r := get("/")
			f := c.Lookup(&r, Policy{}).Flight
			f.Sent()
			c.Invalidate(r.Key, what)
			f.Receive(200, fields("Cache-Control: max-age=60", "Cache-Tag: a"))
			f.Write([]byte("old"))
			if found := c.Lookup(&r, Policy{}); found.Verdict != Fetch {
				t.Errorf("%+v: a later reader may follow: %v", what, found.Verdict)
			} else {
				found.Flight.Done()
			}
			f.End(nil)
			if x := talk(t, c, Policy{}, r, ok("new")); x.body != "new" {
				t.Errorf("%+v: %+v", what, x)
			}
		})
	}
}

func TestRequestThatWaitedThroughAnInvalidationIsNew(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		f := c.Lookup(&r, Policy{}).Flight // waits for a slot
		c.Invalidate(r.Key, Invalidation{URL: "/"})
		f.Sent()
		f.Receive(200, fields("Cache-Control: max-age=60"))
		f.End(nil)
		if x := talk(t, c, Policy{}, r, ok("")); !x.cached() {
			t.Error("what was sent after the invalidation is not stored")
		}
	})
}

func TestFollowersGetNothingFromBeforeAnInvalidation(t *testing.T) { // 4.4
	for _, soft := range []bool{false, true} {
		for _, what := range []Invalidation{{Tag: "a", Soft: soft}, {URL: "/", Soft: soft}} {
			inBubble(t, Config{}, func(t *testing.T, c *Cache) {
				r := get("/")
				f := c.Lookup(&r, Policy{}).Flight
				f.Sent()
				waiting := c.Lookup(&r, Policy{})
				c.Invalidate(r.Key, what)
				f.Receive(200, fields("Cache-Control: max-age=60", "Cache-Tag: a"))
				if found := c.Lookup(&r, Policy{}); found.Verdict != Fetch {
					t.Errorf("%+v: who comes after it: %v", what, found.Verdict)
				} else {
					found.Flight.Done()
				}
				if found, err := c.Follow(t.Context(), &r, Policy{}, waiting); err != nil || found.Verdict != Fetch {
					t.Errorf("%+v: who came before: %+v, %v", what, found, err)
				}
			})
		}
	}
}

func TestInvalidationsWhileALeaderWaitsForItsSlotCostNothing(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		f := c.Lookup(&r, Policy{}).Flight
		for range 3 {
			c.Invalidate(r.Key, Invalidation{URL: "/"})
			if found := c.Lookup(&r, Policy{}); found.Verdict != Wait {
				t.Fatalf("%v: one more request, although nothing was sent yet", found.Verdict)
			}
		}
		f.Sent()
		c.Invalidate(r.Key, Invalidation{URL: "/"})
		if found := c.Lookup(&r, Policy{}); found.Verdict != Fetch {
			t.Errorf("%v", found.Verdict)
		}
	})
}

func TestInvalidateAllLeavesNothing(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		for i := range 10 {
			talk(t, c, Policy{}, get("/"+strconv.Itoa(i)), ok("", "Cache-Control: max-age=60"))
		}
		c.InvalidateAll()
		for i := range 10 {
			if x := talk(t, c, Policy{}, get("/"+strconv.Itoa(i)), ok("")); x.cached() {
				t.Errorf("/%d is still there", i)
			}
		}
	})
}

func TestOtherOriginsAreNotInvalidated(t *testing.T) { // 4.4: MUST NOT
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		other := get("/b")
		other.Key = NewKey("http", "other.com", "/b")
		talk(t, c, Policy{}, other, ok("", "Cache-Control: max-age=60"))
		talk(t, c, Policy{}, request("POST", "/a"), ok("", "Location: http://other.com/b"))
		if x := talk(t, c, Policy{}, other, ok("")); !x.cached() {
			t.Error("somebody else's page was invalidated")
		}
	})
}

func TestMoreTagsThanCanBeRememberedAreNotStored(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		answer := ok("", "Cache-Control: max-age=60")
		for i := range maxTags + 1 {
			answer.header["Cache-Tag"] = append(answer.header["Cache-Tag"], strconv.Itoa(i))
		}
		talk(t, c, Policy{}, get("/"), answer)
		if x := talk(t, c, Policy{}, get("/"), ok("")); x.cached() {
			t.Error("stored")
		}
	})
}

func TestParseInvalidations(t *testing.T) {
	got := ParseInvalidations(a(`tag=a, tag="b,c"; soft,url=/x?a=b ,, tag, TAG=d;soft, url=/y;softer`))
	want := []Invalidation{{Tag: "a"}, {Tag: "b,c", Soft: true}, {URL: "/x?a=b"}, {Tag: "d", Soft: true}, {URL: "/y;softer"}}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestNoReaderSeesWhatAWriteHasReplaced: writers change what the application
// shows, invalidate, and only then count as done. Whoever asks after that must
// not get an older version: not from the store, not by following, not because
// the application is overloaded. After a soft invalidation he may, but only of
// what is said to be stale.
func TestNoReaderSeesWhatAWriteHasReplaced(t *testing.T) {
	rounds := 10_000
	if testing.Short() {
		rounds = 500
	}
	c := mustNew(t, Config{Bytes: 1 << 20})
	var met meetings
	for round := range rounds {
		interleave(t, c, uint64(round), &met)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	s := c.Stats()
	t.Logf("%+v, %d overtaken, %d confirmed", s, met.overtaken.Load(), met.confirmed.Load())
	if met.overtaken.Load() == 0 || met.confirmed.Load() == 0 || s.Hits == 0 || s.Collapsed == 0 || s.Stale == 0 || s.Stored == 0 || s.Flights != 0 {
		t.Errorf("the rounds did not meet every case: %+v", s)
	}
}

// site is an application with one page, whose content is its version.
type site struct {
	version atomic.Int64 // what it shows
	done    atomic.Int64 // the newest write whose answer was given
	soft    atomic.Int64 // likewise; the older is stale, and may be of use

	met *meetings
}

// meetings are how often something happened that Stats do not have.
type meetings struct {
	overtaken atomic.Int64 // others were sent in the place of who waited for a slot
	confirmed atomic.Int64 // a stored page was still good
}

func interleave(t *testing.T, c *Cache, seed uint64, met *meetings) {
	uri := fmt.Sprint("/", seed%50)
	how := Invalidation{Tag: "page" + uri}
	if seed%2 == 0 {
		how = Invalidation{URL: uri}
	}
	c.Invalidate(get(uri).Key, how) // of the round before
	s := &site{met: met}
	var wg sync.WaitGroup
	for g := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, g))
		wg.Go(func() {
			for range 3 {
				if g == 0 {
					v := s.version.Add(1)
					pause(rng)
					how, done := how, &s.done
					if rng.IntN(4) == 0 {
						how.Soft, done = true, &s.soft
					}
					c.Invalidate(get(uri).Key, how)
					done.Store(v)
				} else {
					s.read(t, c, get(uri), rng)
				}
				pause(rng)
			}
		})
	}
	wg.Wait()
}

func pause(rng *rand.Rand) {
	for range rng.IntN(4) {
		runtime.Gosched()
	}
}

func (s *site) read(t *testing.T, c *Cache, r Request, rng *rand.Rand) {
	least := s.bound()
	p := Policy{Stale: time.Hour}
	found, err := c.Follow(t.Context(), &r, p, c.Lookup(&r, p))
	for err == nil && found.Verdict == Fetch {
		var again Found
		pause(rng)
		if overtaken := false; rng.IntN(2) == 0 { // it waits for a slot
			if again, overtaken = found.Flight.Rejoin(found.Note); overtaken {
				s.met.overtaken.Add(1)
				found, err = c.Follow(t.Context(), &r, p, again)
				continue
			}
		}
		s.lead(t, c, r, found.Flight, rng)
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	s.check(t, c, r, found.Object, least)
	if found.Flight != nil {
		s.lead(t, c, r, found.Flight, rng)
	}
}

// lead carries a flight out.
func (s *site) lead(t *testing.T, c *Cache, r Request, f *Flight, rng *rand.Rand) {
	defer f.Done()
	pause(rng)
	if rng.IntN(4) == 0 { // refused
		now := s.bound() // it may have waited for long
		if o, _, ok := f.Instead(Overloaded); ok {
			s.check(t, c, r, o, now)
		}
		return
	}
	least, asks := s.bound(), Header{}
	f.Prepare(asks)
	f.Sent()
	pause(rng)
	shown := strconv.FormatInt(s.version.Load(), 10)
	pause(rng)
	lines := a("Cache-Control: max-age=60", "Etag: \""+shown+"\"", "Cache-Tag: page"+r.Key.URI)
	switch rng.IntN(6) { // so that there is something stale
	case 0, 1:
		lines[0] = "Cache-Control: max-age=0, stale-if-error=60"
	case 2:
		lines[0] = "Cache-Control: max-age=60, stale-while-revalidate=60"
	}
	status := 200
	if field(asks, "If-None-Match") == `"`+shown+`"` {
		status = 304
	}
	got := f.Receive(status, fields(lines...))
	pause(rng)
	switch got.Use {
	case Keep:
		f.Write([]byte(shown))
		f.End(nil)
	case Replace:
		s.met.confirmed.Add(1)
		s.check(t, c, r, got.Object, least)
	}
}

// bound is the oldest that a reader may get: of anything, and of what is fresh.
type bound struct{ any, fresh int64 }

func (s *site) bound() bound { return bound{s.done.Load(), s.soft.Load()} }

// check looks at the object first: whether it is stale can only become true.
func (s *site) check(t *testing.T, c *Cache, r Request, o *Object, least bound) {
	fresh := o.state(time.Now(), c.epochs).stale < 0
	answer := c.Answer(&r, o)
	got, err := strconv.ParseInt(strings.Trim(field(o.header, "Etag"), `"`), 10, 64)
	switch {
	case err != nil || got < least.any:
		t.Errorf("%d %v: version %d after the write of %d was answered", answer.Status, err, got, least.any)
	case fresh && got < least.fresh:
		t.Errorf("version %d passes for fresh after the write of %d was answered", got, least.fresh)
	}
}
