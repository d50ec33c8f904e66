package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"go.uber.org/zap/zaptest"

	"github.com/portner/portner/webapp/internal/news"
)

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), path, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func fresh(t testing.TB) *Store { return open(t, filepath.Join(t.TempDir(), "news.db")) }

func take(t testing.TB, s *Store, posts ...news.Post) {
	t.Helper()
	for _, p := range posts {
		if err := s.Take(t.Context(), p); err != nil {
			t.Fatalf("item %d: %v", p.ID, err)
		}
	}
}

// takeTogether stores posts as if they had gathered behind one commit.
func takeTogether(t testing.TB, s *Store, posts ...news.Post) {
	t.Helper()
	for _, kind := range []news.Kind{news.Story, news.Comment} { // makes the users known
		take(t, s, posts[slices.IndexFunc(posts, func(p news.Post) bool { return p.Kind == kind })])
	}
	all, results := make([]*change, len(posts)), make([]error, len(posts))
	for i := range posts {
		all[i] = &change{post: &posts[i]}
	}
	err := s.change(t.Context(), func(w *work) error { return s.takeAll(w, all, results) })
	if err := errors.Join(append(results, err)...); err != nil {
		t.Fatal(err)
	}
}

func story(id news.ID) news.Post {
	return news.Post{ID: id, Kind: news.Story, By: "pg", Secret: "Y89KIJ3frM", Title: fmt.Sprintf("Story %d", id), URL: "http://a.org/"}
}

func comment(id, parent news.ID) news.Post {
	return news.Post{ID: id, Kind: news.Comment, Parent: parent, By: "sama", Secret: "R1T1R48c", Body: fmt.Sprintf("Comment %d", id)}
}

// replies are the ids below an item, with their depths, as "2:0 3:1".
func replies(t testing.TB, s *Store, id news.ID) string {
	t.Helper()
	th, err := s.Thread(t.Context(), id, Whole, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range th.Replies {
		out = append(out, fmt.Sprintf("%d:%d", r.ID, r.Depth))
	}
	return strings.Join(out, " ")
}

// again is another empty store in the same kind of database.
func again(t testing.TB, s *Store) *Store {
	t.Helper()
	if s.r.postgres {
		return open(t, migrated(t))
	}
	return fresh(t)
}

func rowsOf(t testing.TB, s *Store, query string, args ...any) (n int) {
	t.Helper()
	if err := s.read.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func latest(t testing.TB, s *Store) news.ID {
	t.Helper()
	id, err := s.Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestTakenItemIsThereAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a folder", "odd?name#of%20a.db")
	want := news.Post{
		ID: 7, Kind: news.Story, By: "pg", Secret: "Y89KIJ3frM",
		Title: "tab\t, \u0092 and 日本", Body: "&#34;\n\n<p>", URL: "http://a.org/?a=b",
	}
	s := open(t, path)
	take(t, s, want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	th, err := s.Thread(t.Context(), 7, Whole, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := th.Item
	if got.Title != want.Title || got.Body != want.Body || got.URL != want.URL || got.By != "pg" || got.Kind != news.Story || got.At.IsZero() {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if id := latest(t, s); id != 7 {
		t.Errorf("latest is %d", id)
	}
}

// The database holds what was derived from passwords, and those before were
// readable to everybody.
func TestDatabaseIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "news.db")
	files := []string{path, path + "-wal", path + "-shm"}
	want := func(what string, mode os.FileMode) {
		t.Helper()
		for _, name := range files {
			is, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := is.Mode().Perm(); got != mode {
				t.Errorf("%s: %s is %v, want %v", what, filepath.Base(name), got, mode)
			}
		}
	}
	take(t, open(t, path), story(1)) // stays open, or there were no -wal
	want("a new one", 0o600)
	for before, after := range map[os.FileMode]os.FileMode{0o644: 0o600, 0o666: 0o600, 0o640: 0o640, 0o600: 0o600} {
		for _, name := range files {
			if err := os.Chmod(name, before); err != nil {
				t.Fatal(err)
			}
		}
		open(t, path)
		want(fmt.Sprintf("one of %v", before), after)
	}
}

// What Take promises depends on these settings; SQLite ignores one that it
// cannot read.
func TestCommitsReachTheDisk(t *testing.T) {
	s := fresh(t)
	var mode string
	if err := s.write.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal_mode %q, %v", mode, err)
	}
	for pragma, want := range map[string]int{"synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000} {
		var got int
		if err := s.write.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %d, want %d, %v", pragma, got, want, err)
		}
	}
	if _, err := s.read.Exec("DELETE FROM items"); err == nil {
		t.Error("a reader may write")
	}
}

func TestLatestIsTheLastThatCameInNotTheLargest(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		if id := latest(t, s); id != 0 {
			t.Errorf("before the first: %d, want 0", id)
		}
		take(t, s, story(9), story(4))
		if id := latest(t, s); id != 4 {
			t.Errorf("after 9 and 4: %d, want 4", id)
		}
		take(t, s, story(9))
		if id := latest(t, s); id != 4 {
			t.Errorf("after 9 came again: %d, want 4", id)
		}
	})
}

func TestRepeatedIDChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1), comment(2, 1), comment(2, 1))
		other := comment(2, 1)
		other.Body, other.By = "something else", "newcomer"
		take(t, s, other)
		th, err := s.Thread(t.Context(), 1, Whole, 10, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(th.Replies) != 1 || th.Replies[0].Body != "Comment 2" || th.Item.Replies != 1 {
			t.Errorf("got %+v with %d counted", th.Replies, th.Item.Replies)
		}
		if n := rowsOf(t, s, "SELECT count(*) FROM users WHERE name = 'newcomer'"); n != 0 {
			t.Error("a post that changed nothing created its author")
		}
	})
}

func TestParallelPostsAreStoredOnceEach(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		const items, senders = 40, 4 // every item is sent by all senders at once
		take(t, s, story(1))
		var wg sync.WaitGroup
		for range senders {
			for i := range items {
				wg.Go(func() {
					p := comment(news.ID(i+2), 1)
					p.By = fmt.Sprintf("user%d", i%7)
					if err := s.Take(t.Context(), p); err != nil {
						t.Errorf("item %d: %v", p.ID, err)
					}
				})
			}
		}
		wg.Wait()
		if n := rowsOf(t, s, "SELECT count(*) FROM items"); n != items+1 {
			t.Errorf("%d rows, want %d", n, items+1)
		}
		if n := rowsOf(t, s, "SELECT replies FROM items WHERE id = 1"); n != items {
			t.Errorf("%d counted, want %d", n, items)
		}
		if n := rowsOf(t, s, "SELECT max(seq) FROM items"); n != items+1 {
			t.Errorf("the order of intake has gaps: %d of %d", n, items+1)
		}
	})
}

func TestWritersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(context.Background(), filepath.Join(t.TempDir(), "news.db"), zaptest.NewLogger(t))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		take(t, s, story(100))
		busy, err := s.write.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		const writers = 20
		for id := news.ID(writers); id >= 1; id-- {
			wg.Go(func() {
				if err := s.Take(t.Context(), story(id)); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait() // until it waits
		}
		if err := busy.Rollback(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if n := rowsOf(t, s, "SELECT count(*) FROM items WHERE seq = 1 + ? - id + 1", writers); n != writers {
			t.Errorf("%d of %d came in their order", n, writers)
		}
	})
}

func TestWrongSecretIsRefusedAndNothingStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "news.db")
	s := open(t, path)
	take(t, s, story(1))
	for _, when := range []string{"in the same process", "after a restart"} {
		p := story(2)
		p.Secret = "guessed"
		if err := s.Take(t.Context(), p); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("%s: got %v", when, err)
		}
		p.ID = 1 // one that is there
		if err := s.Take(t.Context(), p); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("%s, repeated id: got %v", when, err)
		}
		if n := rowsOf(t, s, "SELECT count(*) FROM items"); n != 1 {
			t.Errorf("%s: %d rows", when, n)
		}
		s.Close()
		s = open(t, path)
	}
	take(t, s, story(2)) // the right one still opens
}

func TestFirstOfTwoSecretsWins(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		const senders = 8
		var wg sync.WaitGroup
		results := make([]error, senders)
		for i := range senders {
			wg.Go(func() {
				p := story(news.ID(i + 1))
				p.Secret = fmt.Sprintf("secret%d", i)
				results[i] = s.Take(t.Context(), p)
			})
		}
		wg.Wait()
		won := 0
		for _, err := range results {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, ErrWrongSecret):
				t.Error(err)
			}
		}
		if n := rowsOf(t, s, "SELECT count(*) FROM items"); won != 1 || n != 1 {
			t.Errorf("%d secrets accepted, %d items stored", won, n)
		}
	})
}

func TestSecretIsNotOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "news.db"))
	take(t, s, story(1))
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("Y89KIJ3frM")) {
			t.Errorf("%s holds the secret", name)
		}
		found = found || bytes.Contains(b, []byte("Story 1"))
	}
	if !found {
		t.Error("no file holds the story: the test looks in the wrong place")
	}
}

func TestSealsOfOneSecretDiffer(t *testing.T) {
	a, b := seal("x"), seal("x")
	if a == b {
		t.Error("no salt")
	}
	if err := verify(a, "x"); err != nil {
		t.Error(err)
	}
	if err := verify(a, "y"); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("wrong secret: %v", err)
	}
	for _, damaged := range []string{"x", "$pbkdf2-sha256$0$AA$AA", "$pbkdf2-sha256$1$!$AA", "$argon2id$1$AA$AA", "$argon2id$v=19$m=19456,t=0,p=1$AA$AA"} {
		if err := verify(damaged, "x"); err == nil || errors.Is(err, ErrWrongSecret) {
			t.Errorf("%q: got %v, want an error about what is stored", damaged, err)
		}
	}
}

func TestMemoryOfSecretsIsBounded(t *testing.T) {
	m := newTrusted()
	for i := range maxTrusted + 10 {
		m.seen[fmt.Sprint(i)] = [32]byte{}
	}
	m.add("pg", "x")
	if len(m.seen) > maxTrusted || !m.knows("pg", "x") || m.knows("pg", "y") {
		t.Errorf("%d seen", len(m.seen))
	}
}

func TestOrphanIsAttachedWhenItsParentComes(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, comment(4, 3), comment(5, 4))
		if got := replies(t, s, 4); got != "5:0" {
			t.Errorf("below the orphan: %q", got)
		}
		take(t, s, comment(3, 2)) // waits itself
		if n := rowsOf(t, s, "SELECT count(*) FROM items WHERE root <> 0"); n != 0 {
			t.Errorf("%d attached to a head that is not here", n)
		}
		take(t, s, comment(2, 1), story(1))
		if got := replies(t, s, 1); got != "2:0 3:1 4:2 5:3" {
			t.Errorf("below the story: %q", got)
		}
		if n := rowsOf(t, s, "SELECT replies FROM items WHERE id = 1"); n != 4 {
			t.Errorf("%d counted, want 4", n)
		}
	})
}

func TestRingOfRepliesStaysApart(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, comment(5, 6), comment(6, 5), comment(7, 6), story(1), comment(2, 1))
		if got := replies(t, s, 5); got != "6:0 7:1" {
			t.Errorf("within the ring: %q", got)
		}
		if got := replies(t, s, 1); got != "2:0" {
			t.Errorf("outside of it: %q", got)
		}
	})
}

// Whatever the order in which a tree arrives, it ends as the same tree, and
// what is counted is what is there.
func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		for seed := range uint64(2) {
			if seed > 0 {
				s = again(t, s)
			}
			rnd := rand.New(rand.NewPCG(seed, 1))
			posts := []news.Post{story(1), story(2), story(3)}
			for id := news.ID(4); id <= 60; id++ {
				posts = append(posts, comment(id, 1+news.ID(rnd.IntN(int(id)-1))))
			}
			inOrder, shuffled := fresh(t), s
			take(t, inOrder, posts...)
			rnd.Shuffle(len(posts), func(i, j int) { posts[i], posts[j] = posts[j], posts[i] })
			if at := rnd.IntN(len(posts)); seed == 0 { // in one commit, and all of it twice
				takeTogether(t, shuffled, slices.Concat(posts[at:], posts, posts[:at])...)
			} else {
				take(t, shuffled, posts...)
			}
			for id := news.ID(1); id <= 3; id++ {
				want, got := replies(t, inOrder, id), replies(t, shuffled, id)
				if want != got {
					t.Errorf("seed %d, story %d: got %s, want %s", seed, id, got, want)
				}
				counted := rowsOf(t, shuffled, "SELECT replies FROM items WHERE id = $1", id)
				if there := len(strings.Fields(got)); counted != there {
					t.Errorf("seed %d, story %d: counted %d, there are %d", seed, id, counted, there)
				}
			}
		}
	})
}

func TestPollShowsItsOptionsInOrder(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		option := func(id, poll news.ID) news.Post {
			p := story(id)
			p.Kind, p.Parent = news.PollOption, poll
			return p
		}
		poll := story(10)
		poll.Kind = news.Poll
		take(t, s, option(12, 10), poll, option(11, 10), comment(13, 10), story(20), option(21, 20))
		th, err := s.Thread(t.Context(), 10, Whole, 10, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(th.Options) != 2 || th.Options[0].ID != 11 || th.Options[1].ID != 12 {
			t.Errorf("options %+v", th.Options)
		}
		if th.Item.Replies != 1 || th.Total != 1 || th.Replies[0].ID != 13 {
			t.Errorf("replies %+v, %d counted", th.Replies, th.Item.Replies)
		}
		if got := replies(t, s, 20); got != "21:0" {
			t.Errorf("an option below a story is lost: %q", got)
		}
	})
}

func TestFrontLeadsWithWhatIsTalkedAbout(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1), story(2), story(3), comment(4, 2), comment(5, 2), comment(6, 1))
		list := func(items []news.Item, err error) string {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, it := range items {
				ids = append(ids, fmt.Sprint(it.ID))
			}
			return strings.Join(ids, " ")
		}
		if got := list(s.Front(t.Context(), 10, 0)); got != "2 1 3" {
			t.Errorf("front: %s", got)
		}
		if got := list(s.Newest(t.Context(), 10, 0)); got != "3 2 1" {
			t.Errorf("newest: %s", got)
		}
		if got := list(s.Front(t.Context(), 1, 1)); got != "1" {
			t.Errorf("second part of the front: %s", got)
		}
	})
}

// A list must not read or sort all items.
func TestListsAreIndexScans(t *testing.T) {
	s := fresh(t)
	indexes := map[List]string{
		Front: "items_front", Newest: "items_newest", Best: "items_best", Said: "items_said", FromSite: "items_site",
		Ask: "items_shelf", Show: "items_shelf", Jobs: "items_shelf", Polls: "items_shelf", OfDay: "items_day",
		Submissions: "items_author", Comments: "items_author", Flagged: "items_flags", Killed: "items_dead",
		Favourites: "marks_latest", Hidden: "marks_latest", Upvoted: "marks_latest",
	}
	for _, texts := range listTexts {
		for list, query := range texts {
			plan := explain(t, s, translate(query.text, false), len(query.wants))
			if !strings.Contains(plan, "INDEX "+indexes[list]) || strings.Contains(plan, "TEMP B-TREE FOR ORDER BY") != (list == OfDay) {
				t.Errorf("%q\n%s\nis read by %s", list, query.text, plan)
			}
		}
	}
	for index, query := range map[string]string{
		"COVERING INDEX items_thread": readThread,
		"INDEX items_author":          lately,
		"INDEX items_link":            translate(sameLink, false),
		"INDEX marks_flags":           dropFlags,
		"VIRTUAL TABLE INDEX":         searchItems[Brief],
		"SCAN w VIRTUAL TABLE INDEX":  searchHeads[Brief],
	} {
		if plan := explain(t, s, query, strings.Count(query, "$")); !strings.Contains(plan, index) || strings.Contains(plan, "TEMP B-TREE FOR ORDER BY") {
			t.Errorf("%s\nis read by %s", query, plan)
		}
	}
}

func explain(t *testing.T, s *Store, query string, args int) (plan string) {
	t.Helper()
	rows, err := s.read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, make([]any, args)...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan += detail + "; "
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestTenThousandDeepOrphansAreAttached(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		const deep = 10_000
		take(t, s, comment(2, 1)) // creates the author, too
		_, err := s.write.Exec(`
		WITH RECURSIVE n (i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i <= $1)
		INSERT INTO items (id, seq, kind, parent, root, author, title, body, url, created_at)
		SELECT i, i, 'comment', i - 1, 0, 'sama', '', 'deep', '', 0 FROM n`, deep)
		if err != nil {
			t.Fatal(err)
		}
		take(t, s, story(1))
		th, err := s.Thread(t.Context(), 1, Whole, 10, deep-3)
		if err != nil {
			t.Fatal(err)
		}
		if th.Item.Replies != deep || th.Total != deep || len(th.Replies) != 3 || th.Replies[2].Depth != deep-1 {
			t.Errorf("counted %d, total %d, part %+v", th.Item.Replies, th.Total, th.Replies)
		}
	})
}

func TestMigrationsKeepWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "news.db")
	for i := range news.ID(3) {
		s := open(t, path)
		take(t, s, story(i+1))
		if n := rowsOf(t, s, "SELECT count(*) FROM items"); n != int(i)+1 {
			t.Errorf("after %d restarts: %d items", i, n)
		}
		s.Close()
	}
}

func TestSeveralMayMigrateAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "news.db")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := Open(t.Context(), path, zaptest.NewLogger(t))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := s.Take(t.Context(), story(news.ID(i+1))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := rowsOf(t, open(t, path), "SELECT count(*) FROM items"); n != 8 {
		t.Errorf("%d items, want 8", n)
	}
}

func TestNewerSchemaIsNotTouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "news.db")
	s := open(t, path)
	if _, err := s.write.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	_, err := Open(t.Context(), path, zaptest.NewLogger(t))
	if err == nil || !strings.Contains(err.Error(), "start the newer program") {
		t.Fatalf("got %v", err)
	}
}

func TestFileThatIsNoDatabaseIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "news.db")
	text := strings.Repeat("not a database\n", 100)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, zaptest.NewLogger(t)); err == nil {
		t.Error("opened")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("the file has changed, %v", err)
	}
}

func TestDatabaseThatIsAwayIsSaidToBe(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1))
		s.Close()
		_, errLatest := s.Latest(t.Context())
		_, errThread := s.Thread(t.Context(), 1, Whole, 10, 0)
		_, errFront := s.Front(t.Context(), 10, 0)
		for _, err := range []error{errLatest, errThread, errFront, s.Take(t.Context(), story(2))} {
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		}
	})
}

func TestPostOfAClientThatLeftIsKept(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Take(gone, story(1)); err != nil {
			t.Fatal(err)
		}
		if id := latest(t, s); id != 1 {
			t.Errorf("latest is %d", id)
		}
	})
}

func BenchmarkTake(b *testing.B) {
	s := fresh(b)
	take(b, s, story(1))
	id := news.ID(1)
	for b.Loop() {
		id++
		take(b, s, comment(id, id-id%7))
	}
}

// Posts of many clients at once, which share commits; cpu is what one costs,
// whatever else the machine does.
func BenchmarkTakeTogether(b *testing.B) {
	s := fresh(b)
	take(b, s, story(1), comment(2, 1))
	var next atomic.Int64
	next.Store(2)
	b.SetParallelism(32)
	before := cpu(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := news.ID(next.Add(1))
			c := comment(id, 1+id%2000)
			c.Body = strings.Repeat("I think that things go together here, and that the door needs a porter. ", 3)
			if err := s.Take(b.Context(), c); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/1000, "cpu-µs/op")
	changes, commits := s.Shared()
	b.ReportMetric(float64(changes)/float64(commits), "posts/commit")
}

func cpu(b *testing.B) int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}

// A head with a thousand replies, which a page shows at once.
func BenchmarkThread(b *testing.B) {
	s := fresh(b)
	take(b, s, story(1))
	posts := []news.Post{comment(2, 1)}
	for id := news.ID(3); id <= 1001; id++ {
		c := comment(id, 1+(id-2)/3)
		c.Body = strings.Repeat("I think that things go together here, and that the door needs a porter. ", 4)
		posts = append(posts, c)
	}
	take(b, s, posts...)
	b.ReportAllocs()
	for b.Loop() {
		th, err := s.Thread(b.Context(), 1, Whole, 1000, 0)
		if err != nil || len(th.Replies) != 1000 {
			b.Fatal(len(th.Replies), err)
		}
	}
}
