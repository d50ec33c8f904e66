package store

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/portner/portner/webapp/internal/news"
)

// While somebody always writes and somebody always reads, no copy of the log
// finds it whole by itself.
func TestLogStaysShortWhileWritesNeverStop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "news.db")
	s := open(t, path)
	s.wal.most = 25 // nothing was written yet
	take(t, s, story(1), comment(2, 1))
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					latest(t, s)
				}
			}
		})
	}
	const each = 300
	for i := range 4 {
		writers.Go(func() {
			for j := range each {
				p := comment(news.ID(10+i*each+j), 1)
				p.Body = strings.Repeat("long ", 1000) // its row takes a page of its own
				if err := s.Take(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	wal, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	pages := wal.Size() / 4096
	t.Log(pages, "pages")
	if pages > 5*4*each { // every post writes eleven
		t.Error("it was never begun anew")
	}
	if n := rowsOf(t, s, "SELECT count(*) FROM items"); n != 2+4*each {
		t.Errorf("%d items", n)
	}
}
