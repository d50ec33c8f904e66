package store

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/portner/portner/webapp/internal/news"
)

// grown is a store with something of everything.
func grown(t *testing.T, s *Store) {
	t.Helper()
	take(t, s, story(1), comment(2, 1), comment(4, 3), story(5))
	join(t, s, 600, "ann", "bob")
	id := submit(t, s, "ann", news.Draft{Kind: news.Poll, Title: "Which?", Options: []string{"this", "that"}})
	for _, err := range []error{
		s.Vote(t.Context(), "bob", id+1, 1), s.Vote(t.Context(), "bob", 2, -1), s.Flag(t.Context(), "ann", 5, true),
		s.Favourite(t.Context(), "ann", 1, true), s.Hide(t.Context(), "ann", 5, true),
		s.SetProfile(t.Context(), news.User{Name: "bob", About: "Hello\n", ShowDead: true}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	submit(t, s, "bob", news.Draft{Kind: news.Comment, Parent: 2, Text: "Hello"})
}

func export(t *testing.T, s *Store, after Record) (lines []string) {
	t.Helper()
	err := s.Export(t.Context(), after, func(r Record) error {
		b, err := json.Marshal(r)
		lines = append(lines, string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func records(t *testing.T, lines []string) (all []Record) {
	t.Helper()
	for _, line := range lines {
		var r Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func TestWhatIsExportedComesBackOnEitherDatabase(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		grown(t, s)
		lines := export(t, s, Record{})
		all := records(t, lines)
		for _, other := range []*Store{fresh(t), open(t, migrated(t))} {
			// It breaks off after ten, and is begun again.
			if _, err := other.Import(t.Context(), all[:10]); err != nil {
				t.Fatal(err)
			}
			added, err := other.Import(t.Context(), all)
			if err != nil || added != int64(len(all)-10) {
				t.Fatalf("%d new, %v", added, err)
			}
			again := export(t, other, Record{})
			if len(again) != len(lines) {
				t.Fatalf("%d lines of %d", len(again), len(lines))
			}
			for i := range lines {
				if again[i] != lines[i] {
					t.Errorf("went %s\ncame %s", lines[i], again[i])
				}
			}
			if n, err := other.Rows(t.Context()); err != nil || n != int64(len(lines)) {
				t.Errorf("%d rows, %v", n, err)
			}
			if a, b := listed(t, s, Listing{}), listed(t, other, Listing{}); a != b {
				t.Errorf("front page %s, was %s", b, a)
			}
			if p, err := other.Search(t.Context(), Query{Words: "which"}); err != nil || len(p.Items) != 1 {
				t.Errorf("%+v, %v", p, err)
			}
			if _, err := other.CheckPassword(t.Context(), "ann", secret); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestExportGoesOnAfterAnyRecord(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		grown(t, s)
		lines := export(t, s, Record{})
		for i, r := range records(t, lines) {
			rest := export(t, s, r)
			if len(rest) != len(lines)-i-1 || len(rest) > 0 && rest[0] != lines[i+1] {
				t.Errorf("after %s: %d lines, want %d", lines[i], len(rest), len(lines)-i-1)
			}
		}
	})
}

func TestImportOfSomethingElseStoresNothing(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		ann := Record{User: &UserRecord{Name: "ann"}}
		for what, r := range map[string]Record{
			"nothing":     {},
			"two at once": {User: ann.User, Mark: &MarkRecord{Name: "ann"}},
			"a bad name":  {User: &UserRecord{Name: "a b"}},
			"a bad id":    {Item: &ItemRecord{ID: -1, By: "ann"}},
			"no author":   {Item: &ItemRecord{ID: 1, Kind: news.Story, By: "nobody"}},
			"a bad kind":  {Item: &ItemRecord{ID: 1, Kind: "x", By: "ann"}},
		} {
			if _, err := s.Import(t.Context(), []Record{ann, r}); err == nil {
				t.Errorf("%s was taken", what)
			}
			if n, err := s.Rows(t.Context()); n != 0 || err != nil {
				t.Fatalf("%s: %d rows, %v", what, n, err)
			}
		}
	})
}

func TestBackupOfARunningDatabaseIsWhole(t *testing.T) {
	s := fresh(t)
	grown(t, s)
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan int)
	begun := make(chan struct{})
	go func() { // writes until it is told to stop
		id := news.ID(100)
		for ; ctx.Err() == nil; id++ {
			if err := s.Take(context.Background(), comment(id, 1)); err != nil {
				t.Error(err)
			}
			if id == 105 {
				close(begun)
			}
		}
		written <- int(id - 100)
	}()
	<-begun
	s.read.SetMaxOpenConns(1) // the one that makes the backup is the one that is looked at
	path := filepath.Join(t.TempDir(), "copy.db")
	err := s.Backup(t.Context(), path)
	stop()
	if n := <-written; err != nil || n < 5 {
		t.Fatalf("%d posts meanwhile, %v", n, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	other := open(t, path)
	th, err := other.Thread(t.Context(), 1, Whole, 10_000, 0)
	if err != nil || th.Item.Replies != th.Total || th.Total < 2+5 {
		t.Errorf("%d counted, %d there, %v", th.Item.Replies, th.Total, err)
	}
	if n := rowsOf(t, other, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"); n != 1 {
		t.Error("the copy is damaged")
	}
	if err := s.Backup(t.Context(), path); err == nil {
		t.Error("a backup was overwritten")
	}
	if _, err := s.read.Exec("CREATE TABLE x (y)"); err == nil {
		t.Error("afterwards a reader may write")
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".backup-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Backup(cancelled, path+"2"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := os.Stat(path + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a backup: %v", err)
	}
}
