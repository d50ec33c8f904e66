package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
)

// openIn opens a journal, and closes it with the test unless that was done.
func openIn(t testing.TB, dir string, opts Options) *Journal {
	t.Helper()
	j, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// inMemory opens one on a disk of memory.
func inMemory(t testing.TB, opts Options) *Journal {
	t.Helper()
	if opts.fs == nil {
		opts.fs = vfs.NewMem()
	}
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	return openIn(t, "journal", opts)
}

func write(lane, body string) Write {
	return Write{Route: "POST /post", Lane: lane, Client: "somebody", Method: "POST", URI: "/post?x=1",
		Header: map[string][]string{"Content-Type": {"text/plain"}, "Cookie": {"session=1"}}, Body: []byte(body), KeepAnswer: 1e9 * 3600}
}

func mustAppend(t testing.TB, j *Journal, w Write) *Live {
	t.Helper()
	l, err := j.Append(context.Background(), w)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// application is a model of one: what it took, in which order, how often.
type application struct {
	mu     sync.Mutex
	bodies []string
	judge  func(body string, attempt int) Outcome
}

func (a *application) send(_ context.Context, e *Entry, attempt int) Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := Outcome{Kind: Taken, Answer: &Answer{Status: 200}}
	if a.judge != nil {
		o = a.judge(string(e.Body), attempt)
	}
	if o.Kind == Taken {
		a.bodies = append(a.bodies, string(e.Body))
	}
	return o
}

func (a *application) taken() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.bodies...)
}

// until waits for a condition that events bring about.
func until(t testing.TB, j *Journal, what string, ok func() bool) {
	t.Helper()
	for giveUp := time.Now().Add(time.Minute); time.Now().Before(giveUp); {
		if ok() {
			return
		}
		settleDown(j)
	}
	t.Fatalf("never: %s; %+v", what, j.Stats())
}

// settleDown passes through the committer: what was submitted before is done after it.
func settleDown(j *Journal) {
	done := make(chan struct{})
	j.store.(*pebbleStore).submit(&op{alone: true, stage: func(*group) error { return nil }, done: func(error) { close(done) }})
	select {
	case <-done:
	case <-j.store.failedC():
	}
}

func TestAcceptedWritesAreDeliveredInOrder(t *testing.T) {
	j := inMemory(t, Options{})
	var want []string
	for i := range 100 {
		body := fmt.Sprint(i)
		want = append(want, body)
		if l := mustAppend(t, j, write("lane", body)); !l.Accept() {
			t.Fatal("Accept: false")
		}
	}
	var app application
	j.Deliver(app.send)
	until(t, j, "all delivered", func() bool { return j.Stats().Depth == 0 })
	if got := app.taken(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v", got)
	}
	if s := j.Stats(); s.Bytes != 0 || s.Answers != 100 || s.Delivered != 100 || s.Oldest != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestLiveWriteIsItsOwnDeliveryWhileNothingIsAhead(t *testing.T) {
	j := inMemory(t, Options{})
	l := mustAppend(t, j, write("lane", "a"))
	if !l.Begin() {
		t.Fatal("nothing is ahead, and Begin said no")
	}
	if !l.End(Outcome{Kind: Taken, Answer: &Answer{Status: 200}}) {
		t.Fatal("the answer is the client's")
	}
	if l.Accept() {
		t.Fatal("accepted after its answer")
	}
	settleDown(j)
	if s := j.Stats(); s.Depth != 0 || s.Answers != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestWriteWaitsBehindThoseAcceptedEarlier(t *testing.T) {
	j := inMemory(t, Options{})
	first := mustAppend(t, j, write("lane", "1"))
	if !first.Begin() || !first.Accept() {
		t.Fatal("first")
	}
	second := mustAppend(t, j, write("lane", "2"))
	if second.Begin() {
		t.Fatal("sent beside one that was accepted earlier")
	}
	other := mustAppend(t, j, write("other lane", "3"))
	if !other.Begin() {
		t.Fatal("another lane has to wait")
	}
	second.Accept()
	var app application
	j.Deliver(app.send)
	for range 100 {
		settleDown(j)
	}
	if got := app.taken(); len(got) != 0 {
		t.Fatalf("sent %v while the first one runs", got)
	}
	if first.End(Outcome{Kind: Taken}) {
		t.Fatal("the client has been told already")
	}
	until(t, j, "the second delivered", func() bool { return len(app.taken()) == 1 })
}

func TestOfEndAndAcceptOneIsTold(t *testing.T) {
	j := inMemory(t, Options{})
	for range 200 {
		l := mustAppend(t, j, write("lane", "x"))
		if !l.Begin() {
			settleDown(j)
			l.Accept()
			continue
		}
		told := make(chan bool, 2)
		go func() { told <- l.Accept() }()
		go func() { told <- l.End(Outcome{Kind: Taken}) }()
		if a, b := <-told, <-told; a == b {
			t.Fatalf("both said %v", a)
		}
	}
	if errors.Is(j.Err(), ErrFailed) {
		t.Fatal(j.Err())
	}
}
