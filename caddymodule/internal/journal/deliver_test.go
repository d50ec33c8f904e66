package journal

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// attempts notes when each attempt was made, counted from the beginning.
type attempts struct {
	start time.Time
	mu    sync.Mutex
	at    []time.Duration
}

func (a *attempts) note() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Since(a.start))
	return len(a.at)
}

func (a *attempts) all() []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.at)
}

func TestAnswersMeanWhatTheyMean(t *testing.T) {
	for status, want := range map[int]Kind{
		0: Unavailable, 200: Taken, 201: Taken, 204: Taken, 302: Taken, 304: Taken, 400: Rejected, 401: Rejected, 403: Rejected, 404: Rejected, 408: Unavailable,
		409: Rejected, 413: Rejected, 422: Rejected, 425: Unavailable, 429: Unavailable, 500: Failed, 501: Rejected, 502: Unavailable, 503: Unavailable, 504: Unavailable, 507: Failed,
	} {
		if got := Judge(status); got != want {
			t.Errorf("%d: %v, want %v", status, got, want)
		}
		if final := want == Taken || want == Rejected; Judge(status).Final() != final {
			t.Errorf("%d: final %v", status, !final)
		}
	}
}

func TestBackoffGoesFromTenthsToHalfAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		mustAppend(t, j, write("lane", "x")).Accept()
		mustAppend(t, j, write("other", "y")).Accept() // keeps the application from being away
		tried := attempts{start: time.Now()}
		app := application{judge: func(body string, _ int) Outcome {
			if body == "y" {
				return Outcome{Kind: Failed}
			}
			tried.note()
			return Outcome{Kind: Unavailable}
		}}
		j.Deliver(app.send)
		time.Sleep(5 * time.Minute)
		last := time.Duration(0)
		for i, at := range tried.all()[1:] {
			want := min(100*time.Millisecond<<i, 30*time.Second)
			if gap := at - tried.all()[i]; gap < want || gap > want+want/10 {
				t.Fatalf("gap %d is %v, want %v", i+1, gap, want)
			}
			last = at - tried.all()[i]
		}
		if last < 30*time.Second {
			t.Fatalf("the last gap is %v", last)
		}
		if s := j.Stats(); s.Depth != 2 || s.DeadLetters != 0 {
			t.Fatalf("an application that is not there used up tries: %+v", s)
		}
	})
}

func TestReadyTriesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		for i := range 100 {
			mustAppend(t, j, write(fmt.Sprintf("lane%d", i%10), fmt.Sprint(i))).Accept()
		}
		up, tries := false, 0
		app := application{judge: func(string, int) Outcome {
			tries++
			if !up {
				return Outcome{Kind: Unavailable}
			}
			return Outcome{Kind: Taken}
		}}
		j.Deliver(app.send)
		time.Sleep(10 * time.Minute)
		app.mu.Lock()
		if tries > 60 {
			t.Errorf("%d tries of an application that was away for 10 minutes", tries)
		}
		up = true
		app.mu.Unlock()
		start := time.Now()
		j.Ready()
		synctest.Wait()
		for len(app.taken()) < 100 {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Fatalf("took %v after Ready", took)
		}
	})
}

func TestRetryAfterIsHeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		mustAppend(t, j, write("lane", "x")).Accept()
		tried := attempts{start: time.Now()}
		app := application{judge: func(string, int) Outcome {
			tried.note()
			return Outcome{Kind: Unavailable, After: 7 * time.Second}
		}}
		j.Deliver(app.send)
		time.Sleep(8 * time.Second)
		if at := tried.all(); len(at) != 2 || at[1] < 7*time.Second {
			t.Fatalf("%v", at)
		}
	})
}

func TestPoisonBecomesADeadLetterAndItsLaneGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		mustAppend(t, j, write("lane", "poison")).Accept()
		mustAppend(t, j, write("lane", "behind")).Accept()
		tried := attempts{start: time.Now()}
		app := application{judge: func(body string, attempt int) Outcome {
			if body != "poison" {
				return Outcome{Kind: Taken}
			}
			if n := tried.note(); attempt != n {
				t.Errorf("attempt %d is said to be %d", n, attempt)
			}
			return Outcome{Kind: Failed, Answer: &Answer{Status: 500, Body: []byte("oops")}}
		}}
		j.Deliver(app.send)
		for range 2 * 60 * 20 { // the application answers others meanwhile
			j.Alive()
			time.Sleep(50 * time.Millisecond)
		}
		tries := tried.all()
		if n := len(tries); n < 10 || tries[n-1] < time.Minute {
			t.Fatalf("given up after %v", tries)
		}
		if got := app.taken(); !slices.Equal(got, []string{"behind"}) {
			t.Fatalf("taken %v", got)
		}
		letters, err := j.List(Dead, 0, 10)
		if err != nil || len(letters) != 1 || letters[0].Reason != ReasonPoison || letters[0].Status != 500 || letters[0].Attempts != len(tries) {
			t.Fatalf("%+v, %v", letters, err)
		}
		checkSums(t, j)
	})
}

func TestAnApplicationThatFailsOnAllIsNotAnEntrysFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		for i := range 5 {
			mustAppend(t, j, write(fmt.Sprintf("lane%d", i), "x")).Accept()
		}
		app := application{judge: func(string, int) Outcome { return Outcome{Kind: Failed} }}
		j.Deliver(app.send)
		time.Sleep(time.Hour)
		if s := j.Stats(); s.Depth != 5 || s.DeadLetters != 0 || s.Attempts < 500 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestRejectedAfterItWasAcceptedIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		live := mustAppend(t, j, write("lane", "live"))
		if !live.Begin() || !live.Accept() || live.End(Outcome{Kind: Rejected, Answer: &Answer{Status: 422}}) {
			t.Fatal("a client that was told heard of it")
		}
		shown := mustAppend(t, j, write("other", "shown"))
		if !shown.Begin() || !shown.End(Outcome{Kind: Rejected, Answer: &Answer{Status: 400}}) {
			t.Fatal("a rejection in time is the client's")
		}
		mustAppend(t, j, write("third", "by worker")).Accept()
		app := application{judge: func(string, int) Outcome { return Outcome{Kind: Rejected, Answer: &Answer{Status: 501}} }}
		j.Deliver(app.send)
		time.Sleep(time.Second)
		letters, err := j.List(Dead, 0, 10)
		if err != nil || len(letters) != 2 || letters[0].Reason != ReasonRejected || letters[0].Status != 422 || letters[1].Status != 501 {
			t.Fatalf("%+v, %v", letters, err)
		}
		status, err := j.Find(live.Entry().ID)
		if err != nil || status.State != Dead || status.Answer.Status != 422 {
			t.Fatalf("%+v, %v", status, err)
		}
		if s := j.Stats(); s.Rejected != 2 || s.Buried != 2 || s.Depth != 0 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestAttemptThatFailedLiveIsTriedAgainAfterItsClientWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		tried := attempts{start: time.Now()}
		app := application{judge: func(_ string, attempt int) Outcome {
			tried.note()
			if attempt != 2 {
				t.Errorf("attempt %d, want 2", attempt)
			}
			return Outcome{Kind: Taken}
		}}
		j.Deliver(app.send)
		l := mustAppend(t, j, write("lane", "x"))
		if !l.Begin() || l.End(Outcome{Kind: Failed}) {
			t.Fatal("an answer that is not final was the client's")
		}
		time.Sleep(time.Minute)
		if len(tried.all()) != 0 {
			t.Fatal("sent by a worker while its request has it")
		}
		if !l.Accept() {
			t.Fatal("Accept: false")
		}
		time.Sleep(time.Second)
		if at := tried.all(); len(at) != 1 {
			t.Fatalf("%v", at)
		}
	})
}

func TestTooOldIsADeadLetterNeverADeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		old := write("lane", "old")
		old.MaxAge = time.Minute
		mustAppend(t, j, write("lane", "first")).Accept()
		mustAppend(t, j, old).Accept()
		mustAppend(t, j, write("lane", "ageless")).Accept()
		app := application{judge: func(string, int) Outcome { return Outcome{Kind: Unavailable} }}
		j.Deliver(app.send)
		time.Sleep(59 * time.Second)
		if s := j.Stats(); s.Depth != 3 || s.Oldest < 59*time.Second {
			t.Fatalf("%+v", s)
		}
		time.Sleep(3 * time.Second)
		letters, err := j.List(Dead, 0, 10)
		if err != nil || len(letters) != 1 || letters[0].Reason != ReasonAge {
			t.Fatalf("%+v, %v", letters, err)
		}
		if s := j.Stats(); s.Depth != 2 {
			t.Fatalf("%+v", s)
		}
		checkSums(t, j)
	})
}

func TestClockThatJumpsBackChangesNoOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		j := inMemory(t, Options{fs: mem})
		for i := range 20 {
			w := write("lane", fmt.Sprint(i))
			l := &Live{j: j, entry: newEntry(&w, time.Now().Add(-time.Duration(i)*time.Hour))} // each an hour before the last
			done := make(chan error, 1)
			j.store.append(l.entry, l.hold, func(err error) { l.committed(err); done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			l.Accept()
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = inMemory(t, Options{fs: mem})
		var app application
		j.Deliver(app.send)
		time.Sleep(time.Second)
		for i, body := range app.taken() {
			if body != fmt.Sprint(i) {
				t.Fatalf("%v", app.taken())
			}
		}
		if s := j.Stats(); s.Depth != 0 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestTriesFromTheFutureDelayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		j := inMemory(t, Options{fs: mem})
		l := mustAppend(t, j, write("lane", "x"))
		l.Accept()
		future := time.Now().Add(1000 * time.Hour) // the clock has been turned back since
		j.store.note(l.entry, tries{attempts: 3, failed: 3, first: future, last: future, next: future.Add(time.Second)}, func(error) {})
		settleDown(j)
		var app application
		j.Deliver(app.send)
		time.Sleep(time.Second)
		if len(app.taken()) != 1 {
			t.Fatal("waits for a time that was")
		}
	})
}

func TestWriteOfAClientThatLeftIsDelivered(t *testing.T) {
	j := inMemory(t, Options{})
	var app application
	j.Deliver(app.send)
	blocked, release := make(chan struct{}), make(chan struct{})
	j.store.(*pebbleStore).submit(&op{alone: true, done: func(error) {}, stage: func(*group) error { close(blocked); <-release; return nil }})
	<-blocked
	ctx, leave := context.WithCancel(context.Background())
	result := make(chan error)
	go func() {
		_, err := j.Append(ctx, write("lane", "x"))
		result <- err
	}()
	for len(j.store.(*pebbleStore).ops) == 0 {
		time.Sleep(time.Microsecond) // until it waits for the commit
	}
	leave()
	if err := <-result; err != context.Canceled {
		t.Fatal(err)
	}
	close(release)
	until(t, j, "delivered without its client", func() bool { return len(app.taken()) == 1 })
}

func TestMoreLanesThanAreRememberedAreAllDelivered(t *testing.T) {
	j := inMemory(t, Options{maxLanes: 8, Parallel: 4})
	const n = 2000
	for i := range n {
		mustAppend(t, j, write(fmt.Sprintf("lane%d", i%700), fmt.Sprintf("%03d %04d", i%700, i))).Accept()
	}
	j.mu.Lock()
	if known := len(j.lanes); known > 16 {
		t.Errorf("%d lanes are remembered", known)
	}
	j.mu.Unlock()
	var app application
	j.Deliver(app.send)
	until(t, j, "all delivered", func() bool { return j.Stats().Depth == 0 })
	last := make(map[string]string)
	for _, body := range app.taken() {
		if last[body[:3]] >= body[4:] {
			t.Fatalf("%s after %s", body, last[body[:3]])
		}
		last[body[:3]] = body[4:]
	}
	if len(app.taken()) != n {
		t.Fatalf("%d deliveries of %d", len(app.taken()), n)
	}
}
