package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/portner/portner/webapp/internal/news"
)

// derivations are those that wait to be told to go on, in the order in which
// they began; what is derived from is what was typed.
func derivations(t *testing.T) (begun chan string, goOn chan struct{}) {
	before := argon
	t.Cleanup(func() { argon = before })
	begun, goOn = make(chan string, 1000), make(chan struct{})
	argon = func(password, salt []byte, passes, memory uint32, threads uint8, length uint32) []byte {
		begun <- string(password)
		<-goOn
		return make([]byte, length)
	}
	return begun, goOn
}

func TestNewUserOfTheSimulatorWaitsForNobodyWhoLogsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fresh(t)
		take(t, s, story(1)) // pg is known; the process has forgotten him
		s.trusted = newTrusted()
		blind()
		blindString()
		begun, goOn := derivations(t)
		refused, answered := 0, make(chan error, 200)
		for i := range 100 {
			go func() {
				_, err := s.CheckPassword(t.Context(), "nobody", fmt.Sprint("guess ", i))
				answered <- err
			}()
		}
		synctest.Wait() // all stand where they stand
		for ; len(answered) > 0; refused++ {
			wantErr(t, "one login too many", <-answered, ErrBusy)
		}
		if refused != 100-maxDerivations-maxDeriving || len(begun) != maxDerivations {
			t.Fatalf("%d refused, %d being checked", refused, len(begun))
		}
		running := []string{<-begun, <-begun}
		posts := []news.Post{story(100), story(101)}
		posts[0].By = "new"
		for _, p := range posts {
			go func() { answered <- s.Take(t.Context(), p) }()
		}
		synctest.Wait()
		for range posts {
			next := running[0]
			for slices.Contains(running, next) { // each of a login's two derivations, in its own place
				goOn <- struct{}{}
				next = <-begun
			}
			if next != story(1).Secret {
				t.Errorf("the next place has %q", next)
			}
		}
		close(goOn)
		synctest.Wait()
		if n, want := len(answered), maxDerivations+maxDeriving+len(posts); n != want {
			t.Errorf("%d of %d were answered", n, want)
		}
		if see(t, s, 100).By != "new" {
			t.Error("the post of the new user is not here")
		}
	})
}

func TestWhoLeavesTheGateKeepsNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{places: 1, most: 2}
		leave, err := g.enter(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			gone := make(chan error, 2)
			for _, urgent := range []bool{true, false} {
				go func() {
					_, err := g.enter(ctx, urgent)
					gone <- err
				}()
			}
			synctest.Wait()
			cancel()
			for range cap(gone) {
				if err := <-gone; err == nil || errors.Is(err, ErrBusy) {
					t.Fatal(err)
				}
			}
		}
		leave()
		leave() // twice is once
		one, err := g.enter(t.Context(), false)
		if err != nil || g.used != 1 || len(g.urgent)+len(g.patient) > 0 {
			t.Fatalf("%d places used, %d wait, %v", g.used, len(g.urgent)+len(g.patient), err)
		}
		for range 100 { // the place comes when somebody has just left
			ctx, cancel := context.WithCancel(t.Context())
			answered := make(chan error)
			go func() {
				leave, err := g.enter(ctx, true)
				if err == nil {
					leave()
				}
				answered <- err
			}()
			synctest.Wait()
			cancel()
			one()
			<-answered
			if one, err = g.enter(t.Context(), false); err != nil || g.used != 1 {
				t.Fatalf("%d places used, %v", g.used, err)
			}
		}
		one()
	})
}
