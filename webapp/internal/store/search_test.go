package store

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portner/portner/webapp/internal/news"
)

// crowd fills a store with more items than one question to the index takes,
// in three ranges of ids: from 1, where every text has "server", from where
// people's own begin, where none has it, and between them some with gaps of
// thousands. Every seventh heads a thread, every 1000th is dead.
func crowd(t *testing.T, s *Store, apart int64) (ids []news.ID, text func(news.ID) string) {
	t.Helper()
	take(t, s, story(1))
	join(t, s, 1, "ann")
	text = func(id news.ID) string {
		words := []string{"words"}
		for word, has := range map[string]bool{
			"server": id <= 12_000, "old": id <= 100, "even": id%2 == 0, "odd": id%2 == 1, "quagga": id%5000 == 0, "far": id > 1_000_000 && id < news.FirstOwnID,
		} {
			if has {
				words = append(words, word)
			}
		}
		return strings.Join(words, " ")
	}
	add := `INSERT INTO items (seq, id, kind, parent, root, author, title, body, url, created_at, heads, state)
		WITH RECURSIVE n (n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM n WHERE n < $2),
		made (seq, id) AS (SELECT n, $3 + (n - $1) * $4 FROM n)
		SELECT seq, id, 'story', 0, id, 'ann', '', 'words' || CASE WHEN id <= 12000 THEN ' server' ELSE '' END || CASE WHEN id <= 100 THEN ' old' ELSE '' END
			|| CASE id % 2 WHEN 0 THEN ' even' ELSE ' odd' END || CASE id % 5000 WHEN 0 THEN ' quagga' ELSE '' END
			|| CASE WHEN id > 1000000 AND id < 1000000000000 THEN ' far' ELSE '' END,
			'', 0, CASE id % 7 WHEN 0 THEN 1 ELSE 0 END, CASE id % 1000 WHEN 0 THEN 1 ELSE 0 END FROM made`
	if s.r.postgres {
		for i := range 4 {
			add = strings.ReplaceAll(add, fmt.Sprintf("$%d", i+1), fmt.Sprintf("$%d::bigint", i+1))
		}
	}
	ids = []news.ID{}
	for _, part := range []struct{ seq, n, id, gap int64 }{
		{2, 12_000, 2, 1}, {20_000, apart, 5_000_000, 70_001}, {30_000, 10_000, int64(news.FirstOwnID), 1},
	} {
		set(t, s, add, part.seq, part.seq+part.n-1, part.id, part.gap)
		for i := range part.n {
			ids = append(ids, news.ID(part.id+i*part.gap))
		}
	}
	take(t, s, story(13_000)) // SQLite's search takes them in with the next commit
	slices.Reverse(ids)
	return ids, text
}

func TestSearchFindsWordsWhereverTheyAre(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		ids, text := crowd(t, s, 300)
		want := func(q Query, before news.ID) (found []news.ID) {
			for _, id := range ids {
				has := id < before && id%1000 != 0 && (!q.Heads || id%7 == 0)
				for _, word := range strings.Fields(q.Words) {
					has = has && slices.Contains(strings.Fields(text(id)), word)
				}
				if has {
					found = append(found, id)
				}
			}
			return found
		}
		for _, words := range []string{
			"server",        // in every text of the older ones
			"words",         // everywhere
			"old",           // rare, and far away
			"quagga",        // rare, here and there
			"far",           // one in its block
			"server old",    // a common word and a rare one
			"server even",   // two common ones
			"even odd",      // each common, never together
			"server far",    // the same in different places
			"server nobody", // nobody has it
			"nobody",
		} {
			for _, heads := range []bool{false, true} {
				q := Query{Words: words, Heads: heads, Limit: 1000}
				all, before := want(q, math.MaxInt64), news.MaxID
				for part := 0; part == 0 || q.After != ""; part++ { // to the last part
					p, err := s.Search(t.Context(), q)
					if err != nil {
						t.Fatalf("%+v: %v", q, err)
					}
					got := make([]news.ID, len(p.Items))
					for i, it := range p.Items {
						got[i] = it.ID
					}
					rest := want(q, before)
					if !slices.Equal(got, rest[:min(q.Limit, len(rest))]) || (p.Next != "") != (len(rest) > q.Limit) {
						t.Fatalf("%+v: %d of %d found, next %q", q, len(got), len(rest), p.Next)
					}
					if q.After = p.Next; len(got) > 0 {
						before = got[len(got)-1]
					}
				}
				for _, skip := range []int{1, 700, 9500, 30_000} {
					p, err := s.Search(t.Context(), Query{Words: words, Heads: heads, Limit: 5, Skip: skip})
					rest := all[min(skip, len(all)):]
					if err != nil || idsOf(p.Items) != idList(rest[:min(5, len(rest))]) {
						t.Fatalf("%q, heads %v, after %d: %s, %v", words, heads, skip, idsOf(p.Items), err)
					}
				}
			}
		}
	})
}

// Blocks that have one item each are not walked for ever.
func TestSearchPassesIdsThatAreFarApart(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		crowd(t, s, searchFar+100)
		for skip, want := range map[int]string{0: "11999 11998 11997", 9000: "2990 2989 2988"} {
			p, err := s.Search(t.Context(), Query{Words: "server", Limit: 3, Skip: skip})
			if got := idsOf(p.Items); err != nil || got != want || p.Next == "" {
				t.Errorf("after %d: %s, want %s; %v", skip, got, want, err)
			}
		}
	})
}

func idList(ids []news.ID) string {
	return strings.Trim(fmt.Sprint(ids), "[]")
}

// A block is asked for by the index of words and never by the primary key,
// and fetches nothing that is elsewhere.
func TestBlocksAreAskedForByTheIndexOfWords(t *testing.T) {
	s := open(t, migrated(t))
	crowd(t, s, 300)
	plan := func(words string) string {
		rows, err := s.read.QueryContext(t.Context(), "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "+searchBlocks, words, news.MaxID, 0, 31, searchRows, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var all strings.Builder
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&all, line)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return all.String()
	}
	if got := plan("server"); !strings.Contains(got, "Bitmap Index Scan on items_words (actual rows=0") || strings.Contains(got, "Seq Scan") {
		t.Errorf("a word that the last block does not have:\n%s", got)
	}
}

// checkWords compares the indexes of SQLite with the texts.
func checkWords(t *testing.T, s *Store) {
	t.Helper()
	for _, index := range []string{"items_words", "heads_words"} {
		if _, err := s.write.Exec("INSERT INTO " + index + " (" + index + ", rank) VALUES ('integrity-check', 1)"); err != nil {
			t.Errorf("%s is damaged: %v", index, err)
		}
	}
}

// Who leaves comments out does not wait until all of them have been looked at.
func TestHeadsHaveAnIndexOfTheirOwn(t *testing.T) {
	s := fresh(t)
	crowd(t, s, 1)
	join(t, s, 1, "bob")
	id := submit(t, s, "bob", news.Draft{Kind: news.Story, Title: "gatekeeper"})
	if err := s.Edit(t.Context(), "bob", id, news.Draft{Title: "doorkeeper"}); err != nil {
		t.Fatal(err)
	}
	submit(t, s, "bob", news.Draft{Kind: news.Comment, Parent: id, Text: "doorman"})
	for word, want := range map[string]int{"even": 0, "gatekeeper": 0, "doorkeeper": 1, "doorman": 0} {
		if word == "even" {
			want = rowsOf(t, s, "SELECT count(*) FROM items WHERE heads = 1 AND body LIKE '% even%'")
		}
		if n := rowsOf(t, s, "SELECT count(*) FROM heads_words WHERE heads_words MATCH $1", word); n != want {
			t.Errorf("%s is in %d, want %d", word, n, want)
		}
	}
	if plan := explain(t, s, searchHeads[Brief], 4); !strings.Contains(searchHeads[Brief], "FROM heads_words") || strings.Contains(plan, "items_words") {
		t.Errorf("heads are found by %s", plan)
	}
	checkWords(t, s)
}

// A process of the version before knows nothing of the second index: it takes
// in, finds and edits while one of this version runs.
func TestHeadOfAnOlderProcessIsFoundAmongHeads(t *testing.T) {
	s := fresh(t)
	join(t, s, 1, "ann")
	take(t, s, story(1))
	older := func(query string, args ...any) { t.Helper(); set(t, s, query, args...) }
	for i, word := range []string{"gatekeeper", "doorman"} {
		older(`INSERT INTO items (seq, id, kind, parent, root, author, title, body, url, created_at, heads)
			VALUES ($1, $2, 'story', 0, $2, 'ann', $3, '', '', $4, 1)`, i+2, int64(news.FirstOwnID)+int64(i), word, time.Now().UnixMilli())
		older(addWords)
		older("UPDATE words_upto SET seq = (SELECT max(seq) FROM items)")
	}
	older("UPDATE items SET title = 'doorkeeper' WHERE title = 'gatekeeper'")
	take(t, s, story(2))
	for words, want := range map[string]string{"gatekeeper": "", "doorkeeper": fmt.Sprint(news.FirstOwnID), "doorman": fmt.Sprint(news.FirstOwnID + 1), "story": "2 1"} {
		p, err := s.Search(t.Context(), Query{Words: words, Heads: true})
		if got := idsOf(p.Items); err != nil || got != want {
			t.Errorf("%s: %s, want %s; %v", words, got, want, err)
		}
	}
	checkWords(t, s)
}

// A database that was filled before heads had an index.
func TestHeadsOfAnOlderDatabaseAreFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "news.db")
	s := open(t, path)
	take(t, s, story(1), comment(2, 1), story(3))
	for _, query := range []string{"DROP TRIGGER heads_words_new", "DROP TRIGGER heads_words_out", "ALTER TABLE words_upto DROP COLUMN heads",
		"DROP TABLE heads_words", "DROP VIEW items_heads", "DELETE FROM goose_db_version WHERE version_id = 6"} {
		set(t, s, query)
	}
	s.Close()
	s = open(t, path)
	take(t, s, story(4))
	for words, want := range map[string]string{"story": "4 3 1", "comment": ""} {
		p, err := s.Search(t.Context(), Query{Words: words, Heads: true})
		if got := idsOf(p.Items); err != nil || got != want {
			t.Errorf("%s: %s, want %s; %v", words, got, want, err)
		}
	}
	checkWords(t, s)
}

func TestNoMoreThanTwoSearchAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fresh(t)
		take(t, s, story(1))
		var held []func()
		for range 2 {
			leave, err := s.searchTurn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, leave)
		}
		answers := make(chan error, 100)
		search := func() {
			p, err := s.Search(t.Context(), Query{Words: "story"})
			if err == nil && len(p.Items) != 1 {
				err = fmt.Errorf("found %v", p.Items)
			}
			answers <- err
		}
		for range maxSearching + 1 {
			go search()
		}
		synctest.Wait()
		if len(answers) != 1 {
			t.Fatalf("%d are turned away at once", len(answers))
		}
		wantErr(t, "one too many", <-answers, ErrBusy)
		if _, err := s.List(t.Context(), Listing{}); err != nil {
			t.Errorf("another page meanwhile: %v", err)
		}
		time.Sleep(searchWait)
		for range maxSearching {
			wantErr(t, "waited in vain", <-answers, ErrBusy)
		}
		go search()
		synctest.Wait()
		held[0]()
		if err := <-answers; err != nil {
			t.Errorf("whose turn it is: %v", err)
		}
		held[1]()
	})
}
