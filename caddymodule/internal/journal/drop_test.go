package journal

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A write that the application dies of blocks its lane: nothing ever answers it.
// The operator has to get past it while it is being tried.
func TestHeadOfALaneCanBeDroppedWhileItIsBeingSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		deadly := mustAppend(t, j, write("lane", "deadly"))
		head := deadly.Entry().ID
		if err := j.Drop(t.Context(), head); !errors.Is(err, ErrBusy) {
			t.Fatalf("%v, want ErrBusy: its client waits", err)
		}
		deadly.Accept() // before the second arrives: only then is their order promised
		mustAppend(t, j, write("lane", "second")).Accept()
		var app application
		var tries atomic.Int64
		j.Deliver(func(ctx context.Context, e *Entry, n int) Outcome {
			if string(e.Body) == "deadly" {
				tries.Add(1)
				select {
				case <-ctx.Done(): // waits for an application that does not come
				case <-time.After(30 * time.Second):
				}
				return Outcome{}
			}
			return app.send(ctx, e, n)
		})
		time.Sleep(10 * time.Minute) // the lane waits half a minute between attempts by now
		if len(app.taken()) != 0 {
			t.Fatalf("%d tries, %v taken", tries.Load(), app.taken())
		}
		if err := j.Drop(t.Context(), head); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := app.taken(); len(got) != 1 || got[0] != "second" {
			t.Fatalf("taken: %v", got)
		}
		if s := j.Stats(); s.Depth != 0 || s.Bytes != 0 || !j.Idle() {
			t.Fatalf("%+v", s)
		}
		checkSums(t, j)
	})
}

// Who comes late finds another journal in the place of his: that one has his write
// too, and may be sending it.
func TestNothingIsBegunWithAJournalThatIsNone(t *testing.T) {
	for name, end := range map[string]func(*Journal){
		"failed":  func(j *Journal) { j.store.(*pebbleStore).fail(errors.New("as a disk says")) },
		"retired": func(j *Journal) { _ = j.Retire() },
		"closed":  func(j *Journal) { _ = j.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			j := inMemory(t, Options{})
			l := mustAppend(t, j, write("lane", "x"))
			end(j)
			if l.Begin() || !j.Idle() {
				t.Error("an attempt beside those of the next journal")
			}
			if !l.Accept() {
				t.Error("its client is not told that it is kept")
			}
		})
	}
}

func TestDroppedEntryCallsItsRequestsAttemptOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		l := mustAppend(t, j, write("lane", "x"))
		if !l.Begin() || j.Idle() {
			t.Fatal("not begun")
		}
		if err := j.Drop(t.Context(), l.Entry().ID); !errors.Is(err, ErrBusy) {
			t.Fatalf("%v, want ErrBusy: its client waits", err)
		}
		l.Accept()
		ctx, cancel := context.WithCancel(t.Context())
		l.OnDrop(cancel)
		go func() {
			<-ctx.Done()
			time.Sleep(time.Second) // it takes a moment to stop
			l.End(Outcome{})
		}()
		start := time.Now()
		if err := j.Drop(t.Context(), l.Entry().ID); err != nil || time.Since(start) < time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		if _, err := j.Find(l.Entry().ID); !errors.Is(err, ErrNotFound) || !j.Idle() {
			t.Fatal(err)
		}
		checkSums(t, j)
	})
}

// An attempt that does not stop keeps its entry.
func TestDropGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		l := mustAppend(t, j, write("lane", "x"))
		l.Begin()
		l.Accept()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := j.Drop(ctx, l.Entry().ID); !errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if s := j.Stats(); s.Depth != 1 {
			t.Fatalf("%+v", s)
		}
		l.End(Outcome{Kind: Taken})
	})
}

func TestListTellsHowOftenAnOpenEntryWasTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		mustAppend(t, j, write("lane", "x")).Accept()
		app := application{judge: func(string, int) Outcome { return Outcome{} }}
		j.Deliver(app.send)
		time.Sleep(time.Second)
		if list, err := j.List(Undelivered, 0, 10); err != nil || len(list) != 1 || list[0].Attempts < 3 {
			t.Fatalf("%+v, %v", list, err)
		}
	})
}
