package httpcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// client is one of many that ask at once; what it saw, and when.
type client struct {
	verdict     Verdict
	first, last time.Duration // of the first and the last byte, since the start
	body        string
	err         error
}

// slowApp answers after a second, and its body comes in pieces, a second each.
type slowApp struct {
	asked  atomic.Int32
	answer func(n int32) app // the n-th answer
	pieces []string
}

type stopwatch struct {
	bytes.Buffer
	start       time.Time
	first, last time.Duration
}

func (s *stopwatch) Write(p []byte) (int, error) {
	if s.Len() == 0 {
		s.first = time.Since(s.start)
	}
	s.last = time.Since(s.start)
	return s.Buffer.Write(p)
}

// ask is one client's request from end to end; a flight goes on without it.
func (s *slowApp) ask(ctx context.Context, c *Cache, r Request, wg *sync.WaitGroup) client {
	watch := &stopwatch{start: time.Now()}
	found, err := c.Follow(ctx, &r, Policy{}, c.Lookup(&r, Policy{}))
	if err != nil {
		return client{err: err, last: time.Since(watch.start)}
	}
	o := found.Object
	if found.Verdict == Fetch {
		got := make(chan Received, 1)
		wg.Go(func() { s.fetch(found.Flight, got) })
		x, ok := <-got
		if !ok {
			return client{verdict: Fetch, err: io.ErrUnexpectedEOF, last: time.Since(watch.start)}
		}
		if o = x.Object; o == nil {
			return client{verdict: Fetch, last: time.Since(watch.start)}
		}
	}
	a := c.Answer(&r, o)
	_, err = a.CopyBody(ctx, watch, nil)
	return client{found.Verdict, watch.first, watch.last, watch.String(), err}
}

func (s *slowApp) fetch(f *Flight, got chan<- Received) {
	defer f.Done()
	f.Sent()
	n := s.asked.Add(1)
	time.Sleep(time.Second)
	a := s.answer(n)
	if a.status == 0 {
		if o, note, ok := f.Instead(Overloaded); ok {
			got <- Received{Use: Replace, Object: o, Note: note}
		}
		close(got)
		return
	}
	x := f.Receive(a.status, a.header)
	got <- x
	if x.Use != Keep {
		return
	}
	for _, p := range s.pieces {
		time.Sleep(time.Second)
		f.Write([]byte(p))
	}
	f.End(nil)
}

// crowd lets many ask at once.
func (s *slowApp) crowd(c *Cache, clients int, request func(i int) Request) []client {
	all := make([]client, clients)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { all[i] = s.ask(context.Background(), c, request(i), &wg) })
	}
	wg.Wait()
	return all
}

func same(int) Request { return get("/") }

func TestStampedeAsksOnceAndStreamsToAll(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		s := &slowApp{answer: func(int32) app { return ok("", "Cache-Control: max-age=60") }, pieces: a("one", "two", "three")}
		for i, x := range s.crowd(c, 1000, same) {
			if x.err != nil || x.body != "onetwothree" || x.first != 2*time.Second || x.last != 4*time.Second {
				t.Fatalf("client %d: %+v, want the first byte after 2s and the last after 4s", i, x)
			}
		}
		if n := s.asked.Load(); n != 1 {
			t.Errorf("the application was asked %d times", n)
		}
		if n := c.Stats().Collapsed; n != 999 {
			t.Errorf("%d collapsed, want 999", n)
		}
	})
}

func TestWhatMayNotBeSharedIsFetchedSideBySide(t *testing.T) { // 4, 5.2.2.5
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		s := &slowApp{answer: func(int32) app { return ok("", "Cache-Control: private") }}
		for i, x := range s.crowd(c, 100, same) {
			if x.last > 2*time.Second {
				t.Fatalf("client %d waited %v: one answer of the leader and one of its own", i, x.last)
			}
		}
		if n := s.asked.Load(); n != 100 {
			t.Errorf("asked %d times, want once for each", n)
		}
		for i, x := range s.crowd(c, 100, same) { // remembered
			if x.last != time.Second {
				t.Fatalf("client %d waited %v for a leader in vain", i, x.last)
			}
		}
		time.Sleep(memory)
		s.asked.Store(0)
		s.answer = func(int32) app { return ok("", "Cache-Control: max-age=60") }
		s.crowd(c, 100, same)
		if n := s.asked.Load(); n != 1 {
			t.Errorf("asked %d times after the key was forgotten, want 1", n)
		}
	})
}

func TestNotModifiedThatIsForOneGoesToNobodyElse(t *testing.T) { // 4.3.4, 5.2.2.5, 5.2.2.7
	for _, row := range []struct{ line, why string }{
		{"Set-Cookie: session=his", "set-cookie"},
		{"Cache-Control: private, max-age=60", "private"},
		{"Cache-Control: no-store, max-age=60", "no-store"},
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok("page", "Cache-Control: max-age=1", "Etag: \"1\""))
			time.Sleep(2 * time.Second)
			r := get("/")
			leader, follower := c.Lookup(&r, Policy{}), c.Lookup(&r, Policy{})
			leader.Flight.Prepare(Header{})
			leader.Flight.Sent()
			got := leader.Flight.Receive(304, fields(row.line, "Etag: \"1\""))
			name, value, _ := strings.Cut(row.line, ": ")
			if x := give(t, c, r, got.Object, got.Note); x.body != "page" || field(x.header, name) != value {
				t.Errorf("%s: who has asked got %+v", row.line, x)
			}
			if note := got.Note; note.Stored || note.Detail != row.why {
				t.Errorf("%s: %s", row.line, note)
			}
			found, err := c.Follow(t.Context(), &r, Policy{}, follower)
			if err != nil || found.Verdict != Fetch {
				t.Fatalf("%s: who waited: %+v, %v", row.line, found, err)
			}
			found.Flight.Done()
			if x := talk(t, c, Policy{}, r, ok("")); x.cached() {
				t.Errorf("%s: who came later got %+v", row.line, x)
			}
		})
	}
}

func TestWhoWaitedIsToldHowLongItIsFresh(t *testing.T) { // 9211 2.5
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		for _, want := range []string{"Portner; fwd=uri-miss; collapsed; ttl=60", "Portner; fwd=stale; collapsed; ttl=60"} {
			leader, follower := c.Lookup(&r, Policy{}).Flight, c.Lookup(&r, Policy{})
			leader.Sent()
			leader.Receive(200, fields("Cache-Control: max-age=60"))
			found, err := c.Follow(t.Context(), &r, Policy{}, follower)
			if got := found.Note.String(); err != nil || got != want {
				t.Errorf("got %s, want %s; %v", got, want, err)
			}
			leader.Write([]byte("x"))
			leader.End(nil)
			time.Sleep(70 * time.Second)
		}
	})
}

func TestLonelyKeyIsSharedAgainWhenItsAnswerMayBe(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		talk(t, c, Policy{}, get("/"), ok("", "Cache-Control: private"))
		talk(t, c, Policy{}, get("/"), ok("", "Cache-Control: max-age=1"))
		time.Sleep(2 * time.Second)
		s := &slowApp{answer: func(int32) app { return ok("", "Cache-Control: max-age=60") }}
		s.crowd(c, 100, same)
		if n := s.asked.Load(); n != 1 {
			t.Errorf("asked %d times, want 1", n)
		}
	})
}

func TestLeaderThatFailsDoesNotFailItsFollowers(t *testing.T) {
	for name, failure := range map[string]app{"no answer": {}, "an error": {status: 503, header: Header{}}} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			s := &slowApp{pieces: a("x"), answer: func(n int32) app {
				if n == 1 {
					return failure
				}
				return ok("", "Cache-Control: max-age=60")
			}}
			failed := 0
			for _, x := range s.crowd(c, 100, same) {
				if x.body != "x" {
					failed++
				}
			}
			if failed != 1 || s.asked.Load() != 2 {
				t.Errorf("%s: %d failed, asked %d times; want 1 and 2", name, failed, s.asked.Load())
			}
		})
	}
}

func TestStaleStandsInForAllWhoWait(t *testing.T) {
	for name, row := range map[string]struct {
		failure app
		lines   []string // of the stale answer
		own     []string // of the first request
		asked   int32
	}{
		"refused":               {app{}, a("Cache-Control: max-age=1, stale-if-error=60"), nil, 1},
		"failing":               {app{status: 503, header: Header{}}, a("Cache-Control: max-age=1, stale-if-error=60"), nil, 1},
		"one of them allows it": {app{}, a("Cache-Control: max-age=1"), a("Cache-Control: stale-if-error=60"), 2},
	} {
		inBubble(t, Config{}, func(t *testing.T, c *Cache) {
			talk(t, c, Policy{}, get("/"), ok("old", row.lines...))
			time.Sleep(5 * time.Second)
			s := &slowApp{pieces: a("new"), answer: func(n int32) app {
				if n == 1 {
					return row.failure
				}
				return ok("", "Cache-Control: max-age=60")
			}}
			var wg sync.WaitGroup
			first := get("/", row.own...)
			var leader client
			wg.Go(func() { leader = s.ask(t.Context(), c, first, &wg) })
			synctest.Wait()
			for i, x := range s.crowd(c, 100, same) {
				if want := map[int32]string{1: "old", 2: "new"}[row.asked]; x.body != want {
					t.Fatalf("%s: client %d: %+v", name, i, x)
				}
			}
			wg.Wait()
			if leader.body != "old" || s.asked.Load() != row.asked {
				t.Errorf("%s: %+v, asked %d times", name, leader, s.asked.Load())
			}
		})
	}
}

func TestFollowersOfFailuresDoNotStandInLine(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		s := &slowApp{answer: func(int32) app { return app{} }}
		for i, x := range s.crowd(c, 100, same) {
			if x.last > (patience+1)*time.Second {
				t.Fatalf("client %d waited %v", i, x.last)
			}
		}
	})
}

func TestFlightGoesOnWithoutItsClient(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		s := &slowApp{answer: func(int32) app { return ok("", "Cache-Control: max-age=60") }, pieces: a("x")}
		var wg sync.WaitGroup
		r := get("/")
		wg.Go(func() { s.fetch(c.Lookup(&r, Policy{}).Flight, make(chan Received, 1)) })
		synctest.Wait()
		ctx, leave := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer leave()
		follower := s.ask(ctx, c, r, &wg)
		if !errors.Is(follower.err, context.DeadlineExceeded) || follower.last > 0 && follower.last != 1500*time.Millisecond {
			t.Errorf("follower: %+v", follower)
		}
		wg.Wait()
		if x := talk(t, c, Policy{}, r, ok("")); x.body != "x" || !x.cached() {
			t.Errorf("%+v", x)
		}
	})
}

func TestVariantsAreFetchedOnceEach(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		s := &slowApp{answer: func(int32) app { return ok("", "Cache-Control: max-age=60", "Vary: Foo") }, pieces: a("x")}
		s.crowd(c, 90, func(i int) Request { return get("/", "Foo: "+strings.Repeat("x", i%3)) })
		if n := s.asked.Load(); n != 3 {
			t.Errorf("asked %d times for 3 variants", n)
		}
	})
}

func TestStrangersDoNotWaitForPersonalFlights(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		mine, others := get("/", "Cookie: a=b"), get("/")
		for _, r := range []Request{mine, others} {
			if found := c.Lookup(&r, Policy{}); found.Verdict != Fetch {
				t.Errorf("%v: %v", r.Header, found.Verdict)
			}
			if found := c.Lookup(&r, Policy{}); found.Verdict != Wait {
				t.Errorf("%v: %v", r.Header, found.Verdict)
			}
		}
	})
}

func TestBrokenAnswerBreaksWhoFollows(t *testing.T) { // 3.3
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		f := c.Lookup(&r, Policy{}).Flight
		f.Receive(200, fields("Cache-Control: max-age=60"))
		found, err := c.Follow(t.Context(), &r, Policy{}, c.Lookup(&r, Policy{}))
		if err != nil || found.Verdict != Hit || !found.Note.Collapsed {
			t.Fatalf("%+v, %v", found, err)
		}
		f.Write([]byte("half"))
		f.Fail()
		var b bytes.Buffer
		answer := c.Answer(&r, found.Object)
		if _, err := answer.CopyBody(t.Context(), &b, nil); !errors.Is(err, ErrIncomplete) || b.String() != "half" {
			t.Errorf("%q, %v", b.String(), err)
		}
	})
}

func TestWhatOutgrowsTheLimitPassesAndIsNotStored(t *testing.T) {
	inBubble(t, Config{Object: 1000}, func(t *testing.T, c *Cache) {
		whole := strings.Repeat("0123456789", 500)
		s := &slowApp{answer: func(int32) app { return ok("", "Cache-Control: max-age=60") },
			pieces: slices.Collect(func(yield func(string) bool) {
				for i := range 50 {
					if !yield(whole[i*100 : (i+1)*100]) {
						return
					}
				}
			})}
		for i, x := range s.crowd(c, 10, same) {
			if x.body != whole || x.err != nil {
				t.Fatalf("client %d got %d bytes, %v", i, len(x.body), x.err)
			}
		}
		if s.asked.Load() != 1 || c.Stats().Keys != 0 {
			t.Errorf("asked %d times, %d stored", s.asked.Load(), c.Stats().Keys)
		}
		for range 2 { // the next ones do not hold each other up
			r := get("/")
			if found := c.Lookup(&r, Policy{}); found.Verdict != Fetch {
				t.Errorf("%v", found.Verdict)
			}
		}
	})
}

func TestAnnouncedLengthDecidesAtOnce(t *testing.T) {
	inBubble(t, Config{Object: 1000}, func(t *testing.T, c *Cache) {
		x := talk(t, c, Policy{}, get("/"), ok("", "Cache-Control: max-age=60", "Content-Length: 1001"))
		if field(x.header, "Cache-Status") != "Portner; fwd=uri-miss; detail=size" {
			t.Errorf("%v", x.header["Cache-Status"])
		}
	})
}

func TestSlowFollowerHoldsTheOthersUpForAWhileOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &body{limit: 10}
		stuck := b.follow()
		quick := make(chan string)
		go func() {
			var got bytes.Buffer
			b.copyTo(t.Context(), &got, nil)
			quick <- got.String()
		}()
		synctest.Wait()
		start := time.Now()
		b.write([]byte("0123456789abcdefghij"))
		b.end(nil, nil)
		if waited := time.Since(start); waited != stall {
			t.Errorf("the writer waited %v, want %v", waited, stall)
		}
		if got := <-quick; got != "0123456789abcdefghij" {
			t.Errorf("the quick one got %q", got)
		}
		if _, err := stuck.next(t.Context(), nil); !errors.Is(err, ErrTooSlow) {
			t.Errorf("the slow one got %v", err)
		}
	})
}

func TestSlowReaderWhoIsAloneIsNotCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &body{limit: 10}
		slow := b.follow()
		go func() {
			b.write([]byte("0123456789abcdefghij"))
			b.end(nil, nil)
		}()
		var got bytes.Buffer
		for {
			time.Sleep(3 * stall)
			p, err := slow.next(t.Context(), nil)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			n, _ := got.Write(p)
			slow.read(n)
		}
		if got.String() != "0123456789abcdefghij" {
			t.Errorf("got %q", got.String())
		}
	})
}

// TestWhoIsToldToFollowFindsTheBeginning: between that word and the first look at
// the body others may have read on, far beyond what is kept.
func TestWhoIsToldToFollowFindsTheBeginning(t *testing.T) {
	inBubble(t, Config{Object: 10}, func(t *testing.T, c *Cache) {
		r := get("/")
		f := c.Lookup(&r, Policy{}).Flight
		waiting := c.Lookup(&r, Policy{})
		got := f.Receive(200, fields("Cache-Control: max-age=60"))
		found, err := c.Follow(t.Context(), &r, Policy{}, waiting)
		if err != nil || found.Verdict != Hit {
			t.Fatalf("%+v, %v", found, err)
		}
		if f.Room() != 10 {
			t.Errorf("room for %d bytes", f.Room())
		}
		go func() {
			f.Write([]byte("0123456789abcdefghij"))
			f.End(nil)
		}()
		var wg sync.WaitGroup
		for late, o := range map[time.Duration]*Object{0: got.Object, stall / 2: found.Object} {
			wg.Go(func() {
				time.Sleep(late)
				var text bytes.Buffer
				answer := c.Answer(&r, o)
				if _, err := answer.CopyBody(t.Context(), &text, nil); err != nil || text.String() != "0123456789abcdefghij" {
					t.Errorf("after %v: %q, %v", late, text.String(), err)
				}
			})
		}
		wg.Wait()
	})
}

func TestLeaderWhoLooksLateFindsTheBeginning(t *testing.T) {
	inBubble(t, Config{Object: 10}, func(t *testing.T, c *Cache) {
		r := get("/")
		f := c.Lookup(&r, Policy{}).Flight
		got := f.Receive(200, fields("Cache-Control: max-age=60"))
		go func() {
			f.Write([]byte("0123456789abcdefghij"))
			f.End(nil)
		}()
		synctest.Wait()
		var text bytes.Buffer
		answer := c.Answer(&r, got.Object)
		if _, err := answer.CopyBody(t.Context(), &text, nil); err != nil || text.String() != "0123456789abcdefghij" {
			t.Errorf("%q, %v", text.String(), err)
		}
	})
}

// TestWhoNeedsNoBodyHoldsNobodyUp: a follower who has it already reads nothing.
func TestWhoNeedsNoBodyHoldsNobodyUp(t *testing.T) {
	inBubble(t, Config{Object: 10}, func(t *testing.T, c *Cache) {
		r, has := get("/"), get("/", `If-None-Match: "1"`)
		f := c.Lookup(&r, Policy{}).Flight
		waiting := c.Lookup(&has, Policy{})
		got := f.Receive(200, fields("Cache-Control: max-age=60", `Etag: "1"`))
		found, _ := c.Follow(t.Context(), &has, Policy{}, waiting)
		answer := c.Answer(&has, found.Object)
		if n, err := answer.CopyBody(t.Context(), io.Discard, nil); answer.Status != 304 || n != 0 || err != nil {
			t.Errorf("%d, %d bytes, %v", answer.Status, n, err)
		}
		leader := c.Answer(&r, got.Object)
		go leader.CopyBody(t.Context(), io.Discard, nil)
		start := time.Now()
		f.Write([]byte("0123456789abcdefghij"))
		f.End(nil)
		if waited := time.Since(start); waited > 0 {
			t.Errorf("the writer waited %v", waited)
		}
	})
}

func TestNewestIsWantedNewerThanWhatStreams(t *testing.T) { // 5.2.1.4
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r, fresh := get("/"), get("/", "Cache-Control: no-cache")
		f := c.Lookup(&r, Policy{}).Flight
		if found := c.Lookup(&fresh, Policy{}); found.Verdict != Wait {
			t.Errorf("%v: a request that is not answered yet is new enough", found.Verdict)
		}
		f.Receive(200, fields("Cache-Control: max-age=60"))
		found := c.Lookup(&fresh, Policy{})
		if found.Verdict != Fetch {
			t.Errorf("%v, want a flight of its own", found.Verdict)
		}
		found.Flight.Done()
		f.Done()
		if n := c.Stats().Flights; n != 0 {
			t.Errorf("%d flights are left", n)
		}
	})
}

func TestFirstByteComesThroughARealProxy(t *testing.T) {
	more := make(chan struct{})
	var asked atomic.Int32
	_, server := newProxy(t, Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "first")
		http.NewResponseController(w).Flush()
		<-more
		io.WriteString(w, "second")
	}))
	var all []io.ReadCloser
	for range 20 {
		res, err := http.Get(server.URL + "/x")
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 5)
		if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "first" {
			t.Fatalf("%q, %v", first, err)
		}
		all = append(all, res.Body)
	}
	close(more) // every client has had the first bytes before the application sends the rest
	for _, b := range all {
		if rest, err := io.ReadAll(b); string(rest) != "second" || err != nil {
			t.Fatalf("%q, %v", rest, err)
		}
		b.Close()
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// TestNobodyLeadsBehindAnAnswerThatHasLanded: between a look into the store and a
// look for a flight, a flight may have ended.
func TestNobodyLeadsBehindAnAnswerThatHasLanded(t *testing.T) {
	c := mustNew(t, Config{})
	for i := range 3000 {
		var fetched atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				r := Request{Key: NewKey("http", "localhost", fmt.Sprint("/", i)), Method: "GET", Header: Header{}}
				found, err := c.Follow(t.Context(), &r, Policy{}, c.Lookup(&r, Policy{}))
				if err != nil {
					t.Error(err)
				}
				if found.Verdict == Fetch {
					fetched.Add(1)
					found.Flight.Sent()
					found.Flight.Receive(200, Header{"Cache-Control": {"max-age=60"}})
					found.Flight.End(nil)
				}
			})
		}
		wg.Wait()
		if n := fetched.Load(); n != 1 {
			t.Fatalf("round %d: %d fetched it", i, n)
		}
	}
}
