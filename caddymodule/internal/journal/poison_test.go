package journal

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What an application looks like that restarts speaks against no entry: 502, 503,
// 504, a timeout, a refused dial, a connection that broke.
func TestUnavailableUsesUpNoTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		mustAppend(t, j, write("lane", "x")).Accept()
		tries := 0
		j.Deliver(func(context.Context, *Entry, int) Outcome {
			tries++
			j.Alive() // and others are answered
			return Outcome{Kind: Judge(502)}
		})
		time.Sleep(time.Hour)
		if s := j.Stats(); tries < 100 || s.Depth != 1 || s.DeadLetters != 0 {
			t.Fatalf("%d tries, %+v", tries, s)
		}
	})
}

// With more lanes that fail than are remembered, each is forgotten and found again
// all the time. That alone says nothing of their entries; the answers of others do.
func TestForgottenLanesAreNoWitnesses(t *testing.T) {
	for what, row := range map[string]struct {
		meanwhile func(*Journal)
		dead      int64
	}{
		"nobody is answered":  {func(*Journal) {}, 0},
		"others are answered": {(*Journal).Alive, 10},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := inMemory(t, Options{maxLanes: 4})
				for i := range 10 {
					mustAppend(t, j, write(fmt.Sprintf("lane%d", i), "x")).Accept()
				}
				j.Deliver(func(context.Context, *Entry, int) Outcome {
					time.Sleep(20 * time.Millisecond)
					return Outcome{Kind: Failed}
				})
				for start := time.Now(); time.Since(start) < 2*time.Minute; time.Sleep(10 * time.Millisecond) {
					row.meanwhile(j)
				}
				if s := j.Stats(); s.DeadLetters != row.dead || s.Attempts < 10*poisonTries {
					t.Fatalf("%+v, want %d dead letters", s, row.dead)
				}
				checkSums(t, j)
			})
		})
	}
}

func TestStartsAreNoWitnesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		for start := range 3 * poisonTries {
			j := inMemory(t, Options{fs: mem})
			if start == 0 {
				mustAppend(t, j, write("lane", "x")).Accept()
			}
			j.Deliver(func(context.Context, *Entry, int) Outcome { return Outcome{Kind: Failed} })
			time.Sleep(10 * time.Second)
			if s := j.Stats(); s.Depth != 1 || s.Attempts == 0 {
				t.Fatalf("start %d: %+v", start, s)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The sweep looks once a second; who sends looks each time.
func TestTooOldIsNotSentBeforeTheSweepHasSeenIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		w := write("lane", "x")
		w.MaxAge = 10 * time.Millisecond
		mustAppend(t, j, w).Accept()
		time.Sleep(20 * time.Millisecond)
		var app application
		j.Deliver(app.send)
		synctest.Wait()
		settleDown(j)
		if s := j.Stats(); len(app.taken()) != 0 || s.DeadLetters != 1 {
			t.Fatalf("taken %v, %+v", app.taken(), s)
		}
	})
}

func TestRetriedLetterGoesFirstAlsoBehindAnEntryThatIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		old := dead(t, j, write("lane", "old"))
		mustAppend(t, j, write("lane", "stuck")).Accept()
		app := application{judge: func(body string, _ int) Outcome {
			if body == "stuck" {
				return Outcome{}
			}
			return Outcome{Kind: Taken}
		}}
		j.Deliver(app.send)
		time.Sleep(time.Minute)
		if err := j.Retry(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if s := j.Stats(); s.Depth != 1 || s.DeadLetters != 0 || s.Delivered != 1 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestAgeOfARetriedLetterNoLongerCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		w := write("lane", "x")
		w.MaxAge = time.Second
		id := mustAppend(t, j, w)
		id.Accept()
		away := true
		app := application{judge: func(string, int) Outcome {
			if away {
				return Outcome{}
			}
			return Outcome{Kind: Taken}
		}}
		j.Deliver(app.send)
		time.Sleep(time.Minute)
		if s := j.Stats(); s.DeadLetters != 1 {
			t.Fatalf("%+v", s)
		}
		if err := j.Retry(t.Context(), id.Entry().ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if s := j.Stats(); s.Depth != 1 || s.DeadLetters != 0 {
			t.Fatalf("%+v", s)
		}
		checkSums(t, j)
		away = false
		j.Ready()
		time.Sleep(time.Second)
		if s := j.Stats(); s.Delivered != 1 {
			t.Fatalf("%+v", s)
		}
	})
}
