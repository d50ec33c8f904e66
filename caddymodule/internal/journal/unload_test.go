package journal

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// held is how many entries wait for the committer, and how much of what was sent is
// in memory with them.
func (j *Journal) held() (entries, bytes int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lanes {
		for _, live := range l.held {
			entries++
			bytes += len(live.entry.Body) + len(live.entry.Header)
		}
	}
	return entries, bytes
}

// A disk that is slow must not keep the bodies of all that ends meanwhile.
func TestBodiesDoNotWaitForTheCommitter(t *testing.T) {
	const n = 100
	accept := func(l *Live) { l.Accept() }
	for what, row := range map[string]struct {
		before func(*Live)
		end    func(*Journal, []*Live)
		dead   int
	}{
		"too old": {accept, func(j *Journal, _ []*Live) { go j.sweepOnce(time.Now().Add(2 * time.Hour)) }, n},
		"delivered": {accept, func(j *Journal, _ []*Live) {
			j.Deliver(func(context.Context, *Entry, int) Outcome { return Outcome{Kind: Taken} })
		}, 0},
		"rejected": {accept, func(j *Journal, _ []*Live) {
			j.Deliver(func(context.Context, *Entry, int) Outcome { return Outcome{Kind: Rejected} })
		}, n},
		"answered": {func(l *Live) { l.Begin() }, func(_ *Journal, lives []*Live) {
			for _, l := range lives {
				l.End(Outcome{Kind: Taken})
			}
		}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := inMemory(t, Options{})
				var lives []*Live
				for range n {
					w := write("lane", "the body")
					w.MaxAge = time.Hour
					l := mustAppend(t, j, w)
					row.before(l)
					lives = append(lives, l)
				}
				blocked, release := make(chan struct{}), make(chan struct{})
				j.store.(*pebbleStore).submit(&op{alone: true, done: func(error) {}, stage: func(*group) error { close(blocked); <-release; return nil }})
				<-blocked
				row.end(j, lives)
				synctest.Wait()
				if entries, bytes := j.held(); entries != n || bytes != 0 {
					t.Errorf("%d entries wait, want %d, with %d bytes and fields of what was sent", entries, n, bytes)
				}
				close(release)
				synctest.Wait()
				settleDown(j)
				letters, err := j.List(Dead, 0, n)
				if err != nil || len(letters) != row.dead || j.Stats().Depth != 0 {
					t.Fatalf("%d dead letters, want %d; %v, %+v", len(letters), row.dead, err, j.Stats())
				}
				for _, letter := range letters {
					if letter.Bytes != len("the body") {
						t.Fatalf("a dead letter has %d bytes", letter.Bytes)
					}
				}
				checkSums(t, j)
			})
		})
	}
}
