package store

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/portner/portner/webapp/internal/news"
)

// Two processes on one database are two stores: each has a writer, connections
// and a memory of its own, and they meet in the database alone.
func eachTwice(t *testing.T, test func(t *testing.T, one, other *Store)) {
	t.Helper()
	for name, where := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "news.db") },
		"postgres": func(t *testing.T) string { return postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			address := where(t)
			var stores [2]*Store
			var wg sync.WaitGroup
			for i := range stores {
				wg.Go(func() { // both find an empty database, and one of them migrates it
					s, err := Open(context.Background(), address, zaptest.NewLogger(t))
					if err != nil {
						t.Error(err)
						return
					}
					stores[i] = s
					t.Cleanup(func() { s.Close() })
				})
			}
			wg.Wait()
			if t.Failed() {
				t.FailNow()
			}
			test(t, stores[0], stores[1])
		})
	}
}

// The door sends a post again to the other process when the first did not
// answer in time, and replies may arrive before what they answer.
func TestTwoProcessesTakeInEveryPostOnce(t *testing.T) {
	eachTwice(t, func(t *testing.T, one, other *Store) {
		const n, clients = 200, 8
		posts := []news.Post{story(1)}
		for id := news.ID(2); id <= n; id++ {
			p := comment(id, 1+(id-2)/2)
			p.By = fmt.Sprintf("user%d", id%5) // whose first posts meet as well
			posts = append(posts, p)
		}
		var wg sync.WaitGroup
		for c := range clients {
			s := []*Store{one, other}[c%2]
			wg.Go(func() {
				for i := range posts {
					p := posts[(i*37+c/2*n/2)%n] // each pair sends all of them, in an order of its own
					if err := s.Take(t.Context(), p); err != nil {
						t.Errorf("item %d: %v", p.ID, err)
					}
				}
			})
		}
		wg.Wait()
		for query, want := range map[string]int{
			"SELECT count(*) FROM items":                 n,
			"SELECT max(seq) FROM items":                 n,
			"SELECT count(*) FROM items WHERE root = 1":  n,
			"SELECT replies FROM items WHERE id = 1":     n - 1,
			"SELECT count(*) FROM users":                 6,
			"SELECT count(DISTINCT author) FROM items":   6,
			"SELECT count(*) FROM items WHERE parent= 1": 2,
		} {
			if got := rowsOf(t, other, query); got != want {
				t.Errorf("%s: %d, want %d", query, got, want)
			}
		}
		if p, err := one.Search(t.Context(), Query{Words: "comment", Limit: 1000}); err != nil || len(p.Items) != n-1 {
			t.Errorf("the search finds %d, %v", len(p.Items), err)
		}
	})
}

// Reading, adding one and writing: where processes did not take turns, the
// counts of one would be overwritten by the other's.
func TestTwoProcessesWriteInTurns(t *testing.T) {
	eachTwice(t, func(t *testing.T, one, other *Store) {
		take(t, one, story(1))
		inside, leave := make(chan struct{}), make(chan struct{})
		var left atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			err := one.change(t.Context(), func(w *work) error {
				close(inside)
				<-leave
				left.Store(true)
				return w.move(1, func(st *news.Standing) { st.Points++ })
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-inside
		wg.Go(func() {
			err := other.change(t.Context(), func(w *work) error {
				if !left.Load() {
					t.Error("both write at once")
				}
				return w.move(1, func(st *news.Standing) { st.Points++ })
			})
			if err != nil {
				t.Error(err)
			}
		})
		if one.r.postgres { // until the other stands before the lock
			for rowsOf(t, one, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == 0 {
				runtime.Gosched()
			}
		}
		close(leave)
		wg.Wait()
		if it := see(t, other, 1); it.Points != 3 {
			t.Errorf("%d points, want 3", it.Points)
		}
	})
}

// A file that somebody else keeps locked (a backup program, a shell) refuses
// writes until it is free, and is read meanwhile.
func TestLockedFileIsUsedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "news.db")
	s := open(t, path)
	take(t, s, story(1), comment(2, 1))
	if _, err := s.write.Exec("PRAGMA busy_timeout = 20"); err != nil { // it is the writer's only connection
		t.Fatal(err)
	}
	other, err := connect(path, "immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		wantErr(t, "writing", s.Take(t.Context(), comment(3, 1)), ErrUnavailable)
		wantErr(t, "voting", s.Vote(t.Context(), "pg", 2, 1), ErrUnavailable)
		if got := latest(t, s); got != 2 {
			t.Errorf("latest is %d", got)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	take(t, s, comment(3, 1))
	if got := replies(t, s, 1); got != "2:0 3:0" {
		t.Errorf("after it was free: %s", got)
	}
}
