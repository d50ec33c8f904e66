package journal

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// failSideBySide appends writes of one lane, and ends the attempts of their own
// requests, which ran at once, in the same way.
func failSideBySide(t *testing.T, j *Journal, n int, o Outcome) {
	t.Helper()
	var lives []*Live
	for i := range n {
		l := mustAppend(t, j, write("lane", fmt.Sprint(i)))
		if !l.Begin() {
			t.Fatalf("write %d may not be sent with the others", i)
		}
		lives = append(lives, l)
	}
	var left sync.WaitGroup
	for _, l := range lives {
		left.Go(func() { l.End(o); l.Accept() })
	}
	left.Wait()
}

// untilTaken is how long it takes until so many were taken.
func untilTaken(t *testing.T, app *application, n int) time.Duration {
	t.Helper()
	start := time.Now()
	for len(app.taken()) < n {
		if time.Sleep(time.Millisecond); time.Since(start) > time.Hour {
			t.Fatalf("%d taken in an hour, want %d", len(app.taken()), n)
		}
	}
	return time.Since(start)
}

// down is an application that says the same to all until it is up.
func down(start time.Time, d time.Duration, o Outcome) *application {
	return &application{judge: func(string, int) Outcome {
		if time.Since(start) < d {
			return o
		}
		return Outcome{Kind: Taken}
	}}
}

func TestMomentWithoutAnswersDelaysALaneByAMoment(t *testing.T) {
	for _, status := range []int{500, 502, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := inMemory(t, Options{})
				app := down(time.Now(), 500*time.Millisecond, Outcome{Kind: Judge(status)})
				j.Deliver(app.send)
				failSideBySide(t, j, 10, Outcome{Kind: Judge(status)})
				if took := untilTaken(t, app, 10); took > time.Second {
					t.Fatalf("the application was away for 500ms, and the ten were there after %v", took)
				}
			})
		})
	}
}

// Sixteen lanes that fail in one moment are one moment.
func TestMomentWithoutAnswersDelaysManyLanesByAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		for i := range 16 {
			mustAppend(t, j, write(fmt.Sprintf("lane%d", i), "x")).Accept()
		}
		app := down(time.Now(), 50*time.Millisecond, Outcome{Kind: Unavailable})
		j.Deliver(func(ctx context.Context, e *Entry, attempt int) Outcome {
			o := app.send(ctx, e, attempt)
			time.Sleep(10 * time.Millisecond)
			return o
		})
		if took := untilTaken(t, app, 16); took > time.Second {
			t.Fatalf("the application was away for 50ms, and the sixteen were there after %v", took)
		}
	})
}

func TestAnswerToAnybodyWakesWhatWaited(t *testing.T) {
	for _, status := range []int{0, 500, 502, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := inMemory(t, Options{})
				for i := range 20 {
					mustAppend(t, j, write(fmt.Sprintf("lane%d", i), "x")).Accept()
				}
				app := down(time.Now(), 5*time.Minute, Outcome{Kind: Judge(status)})
				j.Deliver(app.send)
				time.Sleep(5*time.Minute + time.Millisecond)
				if n := len(app.taken()); n != 0 {
					t.Fatalf("%d taken", n)
				}
				j.Alive()
				if took := untilTaken(t, app, 20); took > 100*time.Millisecond {
					t.Fatalf("delivered %v after it answered somebody", took)
				}
			})
		})
	}
}

// An application that answers others all the time is not back with each answer.
func TestAnswersToOthersDoNotHurryALaneThatFailsAlone(t *testing.T) {
	for name, every := range map[string]time.Duration{"many": 10 * time.Millisecond, "few": 5 * time.Second} {
		for _, status := range []int{500, 503} {
			t.Run(fmt.Sprint(name, status), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					j := inMemory(t, Options{})
					mustAppend(t, j, write("lane", "x")).Accept()
					var tried attempts
					app := application{judge: func(string, int) Outcome {
						tried.note()
						return Outcome{Kind: Judge(status)}
					}}
					j.Deliver(app.send)
					for start := time.Now(); time.Since(start) < 50*time.Second; time.Sleep(every) {
						j.Alive()
					}
					if n := len(tried.all()); n > 12 {
						t.Fatalf("%d tries in 50s", n)
					}
				})
			})
		}
	}
}

// Who asks at the first attempt, which is a request's own, not to be asked again
// for a while is not asked at the second.
func TestRetryAfterOfARequestsOwnAttemptIsHeeded(t *testing.T) {
	for after, want := range map[time.Duration]time.Duration{7 * time.Second: 7 * time.Second, time.Hour: 30 * time.Second} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := inMemory(t, Options{})
				app := application{}
				j.Deliver(app.send)
				failSideBySide(t, j, 2, Outcome{Kind: Unavailable, After: after})
				j.Alive() // it has said when, and did not mean others
				if took := untilTaken(t, &app, 2); took < want || took > want+10*time.Millisecond {
					t.Fatalf("sent again after %v, want %v", took, want)
				}
			})
		})
	}
}

func BenchmarkAlive(b *testing.B) {
	j := inMemory(b, Options{})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			j.Alive()
		}
	})
}
