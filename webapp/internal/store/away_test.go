package store

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/portner/portner/webapp/internal/news"
)

// What may happen to a file of SQLite while it is open. Nothing is answered that
// is not kept, and nobody has to start the program again.

func TestDatabaseThatIsFullRefusesAndIsReadUntilThereIsRoom(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "news.db"))
	take(t, s, story(1))
	if _, err := s.write.Exec("PRAGMA max_page_count = 1"); err != nil { // no less than there is
		t.Fatal(err)
	}
	id := news.ID(2)
	for ; id < 500; id++ { // the last page has room for some
		if err := s.Take(t.Context(), comment(id, 1)); err != nil {
			wantErr(t, "writing", err, ErrUnavailable)
			break
		}
	}
	for range 3 {
		wantErr(t, "writing", s.Take(t.Context(), comment(id, 1)), ErrUnavailable)
		if got := latest(t, s); got != id-1 {
			t.Errorf("latest is %d, want %d", got, id-1)
		}
	}
	if _, err := s.write.Exec("PRAGMA max_page_count = 1073741823"); err != nil {
		t.Fatal(err)
	}
	take(t, s, comment(id, 1))
	if it := see(t, s, 1); it.Replies != int(id)-1 {
		t.Errorf("%d replies, want %d", it.Replies, id-1)
	}
}

func TestDatabaseThatIsReadOnlyIsReadAndUsedAgain(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "news.db"))
	take(t, s, story(1))
	if _, err := s.write.Exec("PRAGMA query_only = 1"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		wantErr(t, "writing", s.Take(t.Context(), comment(2, 1)), ErrUnavailable)
		if got := latest(t, s); got != 1 {
			t.Errorf("latest is %d", got)
		}
	}
	if _, err := s.write.Exec("PRAGMA query_only = 0"); err != nil {
		t.Fatal(err)
	}
	take(t, s, comment(2, 1))
}

func TestFileThatWasTakenAwayIsMissedAndUsedAgain(t *testing.T) {
	dir := t.TempDir()
	path, elsewhere := filepath.Join(dir, "news.db"), filepath.Join(dir, "elsewhere.db")
	s := open(t, path)
	take(t, s, story(1), comment(2, 1))
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	missed := func() {
		t.Helper()
		for range 3 {
			wantErr(t, "writing", s.Take(t.Context(), comment(3, 1)), ErrUnavailable)
			_, err := s.Latest(t.Context())
			wantErr(t, "reading", err, ErrUnavailable)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("it has made a file of its own")
		}
	}
	move(path, elsewhere)
	missed()
	move(elsewhere, path)
	take(t, s, comment(3, 1))
	if got := replies(t, s, 1); got != "2:0 3:0" {
		t.Errorf("after it came back: %s", got)
	}

	// While something is being written.
	err := s.change(t.Context(), func(w *work) error {
		move(path, elsewhere)
		return w.move(1, func(st *news.Standing) { st.Points++ })
	})
	wantErr(t, "writing into what has no name", err, ErrUnavailable)
	move(elsewhere, path)

	// Another one in its place is neither read nor written, nor is what the log
	// of the first has put into it.
	move(path, elsewhere)
	other := filepath.Join(dir, "other.db")
	take(t, open(t, other), story(7))
	before, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	move(other, path)
	wantErr(t, "writing", s.Take(t.Context(), comment(4, 1)), ErrUnavailable)
	_, err = s.Latest(t.Context())
	wantErr(t, "reading", err, ErrUnavailable)
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the other one was changed, %v", err)
	}
	move(path, other)
	move(elsewhere, path)
	take(t, s, comment(4, 1))
	if got := replies(t, s, 1); got != "2:0 3:0 4:0" {
		t.Errorf("after it came back again: %s", got)
	}
}
