package store

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/portner/portner/webapp/internal/news"
)

// realItems are the 1000 of the course: of the file that REAL_ITEMS names, or of
// the one beside the repository; else made-up ones of their nature, and it says
// so loudly.
func realItems(t *testing.T) []news.Post {
	t.Helper()
	path := os.Getenv("REAL_ITEMS")
	if path == "" {
		path = filepath.Join("..", "..", "..", "..", "shared", "data", "posts.jsonl")
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) && os.Getenv("REAL_ITEMS") == "" {
		fmt.Fprintf(os.Stderr, "\n*** NOT TESTED WITH THE REAL ITEMS: there is no %s ***\n\n", path)
		return madeUp()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Log("the course's items")
	var posts []news.Post
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p, err := news.ParsePost(lines.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		posts = append(posts, p)
	}
	if err := lines.Err(); err != nil || len(posts) != 1000 {
		t.Fatalf("%s has %d items, %v", path, len(posts), err)
	}
	return posts
}

func madeUp() []news.Post {
	rnd := rand.New(rand.NewPCG(3, 4))
	posts := []news.Post{story(1)}
	for id := news.ID(2); id <= 1000; id++ {
		if rnd.IntN(3) == 0 {
			posts = append(posts, story(id))
			continue
		}
		c := comment(id, 1+news.ID(rnd.IntN(int(id)-1)))
		c.Body += " don\u0092t \x01\x1f\x7f\u0085\u2028 smørrebrød 日本語 🚪 &#34;<p>"
		posts = append(posts, c)
	}
	return posts
}

func TestRealItemsAreTheSameTreeOnBothDatabases(t *testing.T) {
	one, other := fresh(t), open(t, postgres(t))
	posts := realItems(t)
	take(t, one, posts...)
	take(t, other, posts...)
	both := func(query string) {
		t.Helper()
		if a, b := rowsOf(t, one, query), rowsOf(t, other, query); a != b {
			t.Errorf("%s: %d in sqlite, %d in postgres", query, a, b)
		}
	}
	for _, query := range []string{"SELECT count(*) FROM items", "SELECT count(*) FROM users", "SELECT sum(replies) FROM items",
		"SELECT sum(seq * id) FROM items", "SELECT sum(root * id) FROM items", "SELECT count(*) FROM items WHERE root = 0"} {
		both(query)
	}
	for _, p := range posts {
		a, errA := one.Thread(t.Context(), p.ID, Whole, 1000, 0)
		b, errB := other.Thread(t.Context(), p.ID, Whole, 1000, 0)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if got := a.Item; got.Title != p.Title || got.Body != p.Body || got.URL != p.URL || got.By != p.By {
			t.Fatalf("item %d: got %+v", p.ID, got)
		}
		if a, b := shape(a), shape(b); a != b {
			t.Fatalf("item %d\nsqlite   %s\npostgres %s", p.ID, a, b)
		}
	}
	for _, of := range []List{Newest, Said, Ask, Show, Jobs} { // ranks differ: they were taken in at different times
		if a, b := listed(t, one, Listing{Of: of, Limit: 1000}), listed(t, other, Listing{Of: of, Limit: 1000}); a != b {
			t.Errorf("%s\nsqlite   %s\npostgres %s", of, a, b)
		}
	}
	for _, words := range []string{"google", "startup founder", "the", "y combinator"} {
		a, errA := one.Search(t.Context(), Query{Words: words, Limit: 1000})
		b, errB := other.Search(t.Context(), Query{Words: words, Limit: 1000})
		if a, b := idsOf(a.Items), idsOf(b.Items); errA != nil || errB != nil || a != b {
			t.Errorf("search %q\nsqlite   %s\npostgres %s\n%v, %v", words, a, b, errA, errB)
		}
	}
}

func shape(th Thread) string {
	var b strings.Builder
	write := func(it news.Item, depth int) {
		fmt.Fprintf(&b, "%d %d<%d/%d %s %q %q %q %s %s %d/%d;", depth, it.ID, it.Parent, it.Root, it.By, it.Title, it.Body, it.URL, it.Site, it.Shelf, it.Points, it.Replies)
	}
	write(th.Item, -1)
	for _, r := range th.Replies {
		write(r.Item, r.Depth)
	}
	return b.String()
}

func TestSeveralMayMigratePostgresAtOnce(t *testing.T) {
	address := postgres(t)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			s, err := Open(t.Context(), address, zaptest.NewLogger(t))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			// Each of them is a process with a writer of its own.
			var posts sync.WaitGroup
			for j := range 10 {
				posts.Go(func() {
					p := comment(news.ID(10*i+j+2), 1)
					p.By = fmt.Sprintf("user%d", j)
					if err := s.Take(t.Context(), p); err != nil {
						t.Error(err)
					}
				})
			}
			posts.Wait()
		})
	}
	wg.Wait()
	s := open(t, address)
	if n, last := rowsOf(t, s, "SELECT count(*) FROM items"), rowsOf(t, s, "SELECT max(seq) FROM items"); n != 60 || last != 60 {
		t.Errorf("%d items, the last is number %d; want 60", n, last)
	}
	take(t, s, story(1)) // they have waited for it
	if it := see(t, s, 1); it.Replies != 60 {
		t.Errorf("%d replies counted", it.Replies)
	}
	// Reading, adding one and writing: where processes do not take turns, votes are lost.
	const voters = 4
	var votes sync.WaitGroup
	for i := range voters {
		other, name := open(t, address), fmt.Sprintf("voter%d", i)
		join(t, s, 1, name)
		votes.Go(func() {
			for j := range 21 {
				if err := other.Vote(t.Context(), name, 1, (j+1)%2); err != nil {
					t.Error(err)
				}
			}
		})
	}
	votes.Wait()
	if it := see(t, s, 1); it.Points != 1+voters {
		t.Errorf("%d points, want %d", it.Points, 1+voters)
	}
}

func TestPostgresThatWasAwayIsUsedAgain(t *testing.T) {
	s := open(t, postgres(t))
	take(t, s, story(1), comment(2, 1))
	private().end()
	for range 3 {
		_, err := s.Latest(t.Context())
		wantErr(t, "reading while it is away", err, ErrUnavailable)
		wantErr(t, "writing while it is away", s.Take(t.Context(), comment(3, 1)), ErrUnavailable)
	}
	if err := private().serve(); err != nil {
		t.Fatal(err)
	}
	take(t, s, comment(3, 1))
	if got := replies(t, s, 1); got != "2:0 3:0" {
		t.Errorf("after it came back: %s", got)
	}
}

func TestWrongAddressOfADatabaseIsSaidAtOnce(t *testing.T) {
	good := postgres(t)
	for what, address := range map[string]string{
		"no such database": strings.Replace(good, "///", "///not", 1),
		"not an address":   "postgres://:::",
	} {
		s, err := Open(t.Context(), address, zaptest.NewLogger(t))
		if err == nil {
			s.Close()
			t.Errorf("%s: opened", what)
		}
	}
}

// The password in an address must not be in an error.
func TestPasswordOfTheDatabaseIsNotSaid(t *testing.T) {
	_, err := Open(t.Context(), "postgres://u:sesame@%zz/x", zaptest.NewLogger(t))
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("%v", err)
	}
}
