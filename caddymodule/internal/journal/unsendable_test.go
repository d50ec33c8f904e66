package journal

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestUnsendableIsADeadLetterAtOnceAndItsLaneGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		mustAppend(t, j, write("lane", "unsendable")).Accept()
		mustAppend(t, j, write("lane", "behind")).Accept()
		app := application{judge: func(body string, _ int) Outcome {
			if body == "unsendable" {
				return Outcome{Kind: Unsendable}
			}
			return Outcome{Kind: Unavailable}
		}}
		j.Deliver(app.send)
		synctest.Wait()
		if n := j.answered.Load(); n != 0 {
			t.Errorf("the application, which answers nobody, has answered %d times", n)
		}
		app.mu.Lock()
		app.judge = nil
		app.mu.Unlock()
		time.Sleep(time.Second)
		if got := app.taken(); !slices.Equal(got, []string{"behind"}) {
			t.Fatalf("taken %v", got)
		}
		letters, err := j.List(Dead, 0, 10)
		if err != nil || len(letters) != 1 || letters[0].Reason != ReasonUnsendable || letters[0].Attempts != 1 || letters[0].Status != 0 {
			t.Fatalf("%+v, %v", letters, err)
		}
		if s := j.Stats(); s.Depth != 0 || s.Buried != 1 || s.Rejected != 0 || s.Delivered != 1 {
			t.Fatalf("%+v", s)
		}
		checkSums(t, j)
	})
}

// Whoever waits is told so, and nothing is kept; whoever was told "accepted" has a
// dead letter.
func TestUnsendableIsTheClientsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		for _, key := range []string{"", "of the client"} {
			w := write("lane", "shown")
			w.Key = key
			shown := mustAppend(t, j, w)
			if !shown.Begin() || !shown.End(Outcome{Kind: Unsendable}) {
				t.Fatal("it is for the client, who waits")
			}
			settleDown(j)
			if _, err := j.Find(shown.Entry().ID); !errors.Is(err, ErrNotFound) {
				t.Errorf("key %q: %v, want ErrNotFound", key, err)
			}
		}
		late := mustAppend(t, j, write("lane", "late"))
		if !late.Begin() || !late.Accept() || late.End(Outcome{Kind: Unsendable}) {
			t.Fatal("a client that was told heard of it")
		}
		settleDown(j)
		status, err := j.Find(late.Entry().ID)
		if err != nil || status.State != Dead || status.Reason != ReasonUnsendable {
			t.Fatalf("%+v, %v", status, err)
		}
		if s := j.Stats(); s.Depth != 0 || s.Delivered != 0 || s.Buried != 1 || s.Answers != 0 {
			t.Fatalf("%+v", s)
		}
		checkSums(t, j)
	})
}
