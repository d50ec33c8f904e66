package store

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portner/portner/webapp/internal/news"
)

const secret = "correct horse battery"

// join registers users; karma is put in their hands.
func join(t testing.TB, s *Store, karma int, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := s.Register(t.Context(), name, secret); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		set(t, s, "UPDATE users SET karma = $1 WHERE name = $2", karma, name)
	}
}

// set changes what no function of the store does.
func set(t testing.TB, s *Store, query string, args ...any) {
	t.Helper()
	if _, err := s.write.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func submit(t testing.TB, s *Store, name string, d news.Draft) news.ID {
	t.Helper()
	id, err := s.Submit(t.Context(), name, d)
	if err != nil {
		t.Fatalf("%+v: %v", d, err)
	}
	return id
}

func see(t testing.TB, s *Store, id news.ID) news.Item {
	t.Helper()
	it, err := s.Item(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func karma(t testing.TB, s *Store, name string) int {
	t.Helper()
	u, err := s.User(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return u.Karma
}

// listed are the ids of a list.
func listed(t testing.TB, s *Store, l Listing) string {
	t.Helper()
	p, err := s.List(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return idsOf(p.Items)
}

func idsOf(items []news.Item) string {
	var ids []string
	for _, it := range items {
		ids = append(ids, fmt.Sprint(it.ID))
	}
	return strings.Join(ids, " ")
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestNameBelongsToWhoeverCameFirst(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1))
		join(t, s, 1, "ann")
		for _, name := range []string{"ann", "ANN", "pg", "Pg"} {
			_, err := s.Register(t.Context(), name, secret)
			wantErr(t, name, err, ErrNameTaken)
		}
		p := story(2)
		p.By, p.Secret = "ann", secret
		wantErr(t, "a post of the simulator in the name of a person", s.Take(t.Context(), p), ErrWrongSecret)
		var wg sync.WaitGroup
		won := make(chan string, 4)
		for _, name := range []string{"bob", "Bob", "bOb", "BOB"} {
			wg.Go(func() {
				if _, err := s.Register(t.Context(), name, secret); err == nil {
					won <- name
				} else if !errors.Is(err, ErrNameTaken) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Errorf("%d of four at once have the name", len(won))
		}
	})
}

func TestPasswordOpensAndNothingElseDoes(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1))
		join(t, s, 1, "ann")
		u, err := s.CheckPassword(t.Context(), "ann", secret)
		if err != nil || u.Name != "ann" || u.Simulated || u.Joined.IsZero() {
			t.Errorf("%+v, %v", u, err)
		}
		for name, password := range map[string]string{"ann": "x", "nobody": secret, "": "", "ann' OR '1'='1": "x", "pg": ""} {
			_, err := s.CheckPassword(t.Context(), name, password)
			wantErr(t, name, err, ErrWrongSecret)
		}
		pg, err := s.CheckPassword(t.Context(), "pg", story(1).Secret)
		if err != nil || !pg.Simulated {
			t.Errorf("a user of the simulator: %+v, %v", pg.User, err)
		}
		if _, err := s.SetPassword(t.Context(), pg, "another password", ""); err != nil {
			t.Fatal(err)
		}
		_, err = s.CheckPassword(t.Context(), "pg", story(1).Secret)
		wantErr(t, "the simulator's string after a password was set", err, ErrWrongSecret)
		take(t, s, story(2)) // but the simulator goes on
	})
}

func TestPasswordChangeEndsOtherSessions(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		join(t, s, 1, "ann", "bob")
		keys := map[string]string{}
		for what, name := range map[string]string{"mine": "ann", "other": "ann", "token": "ann", "bobs": "bob"} {
			kind := Web
			if what == "token" {
				kind = API
			}
			key, err := s.StartSession(t.Context(), name, kind, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			keys[what] = key
		}
		ann, err := s.CheckPassword(t.Context(), "ann", secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.SetPassword(t.Context(), ann, "another password", keys["mine"]); err != nil {
			t.Fatal(err)
		}
		for what, want := range map[string]error{"mine": nil, "bobs": nil, "other": ErrNoSession, "token": ErrNoSession} {
			_, err := s.Session(t.Context(), keys[what])
			wantErr(t, what, err, want)
		}
	})
}

// Who changes his password because somebody else knows it must be rid of him, also
// when that one's password was checked a moment before.
func TestLoginUnderWayEndsWithAPasswordChange(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1))
		join(t, s, 1, "ann")
		for name, old := range map[string]string{"ann": secret, "pg": story(1).Secret} {
			check := func() Login {
				t.Helper()
				who, err := s.CheckPassword(t.Context(), name, old)
				if err != nil {
					t.Fatal(err)
				}
				return who
			}
			mine, other := check(), check()
			for _, kind := range []SessionKind{Web, API} {
				if _, err := s.LogIn(t.Context(), check(), kind, time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			mine, err := s.SetPassword(t.Context(), mine, "another password", "")
			if err != nil {
				t.Fatal(err)
			}
			for _, kind := range []SessionKind{Web, API} {
				_, err := s.LogIn(t.Context(), other, kind, time.Hour)
				wantErr(t, name+" begins a session", err, ErrWrongSecret)
			}
			_, err = s.SetPassword(t.Context(), other, "a third password", "")
			wantErr(t, name+" changes the password back", err, ErrWrongSecret)
			if n, err := s.CountSessions(t.Context(), name); n != 0 || err != nil {
				t.Errorf("%s has %d sessions, %v", name, n, err)
			}
			if _, err := s.LogIn(t.Context(), mine, Web, time.Hour); err != nil {
				t.Errorf("%s, who changed it: %v", name, err)
			}
		}
	})
}

func TestSessionEnds(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		join(t, s, 1, "ann")
		key, err := s.StartSession(t.Context(), "ann", Web, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		ses, err := s.Session(t.Context(), key)
		if err != nil || ses.User.Name != "ann" || ses.Kind != Web {
			t.Errorf("%+v, %v", ses, err)
		}
		if n := rowsOf(t, s, "SELECT count(*) FROM sessions WHERE id = $1", key); n != 0 {
			t.Error("the key itself is in the database")
		}
		if err := s.EndSession(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		_, err = s.Session(t.Context(), key)
		wantErr(t, "after the logout", err, ErrNoSession)
		old, err := s.StartSession(t.Context(), "ann", Web, -time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Session(t.Context(), old)
		wantErr(t, "expired", err, ErrNoSession)
	})
}

func TestOwnItemsNeverTakeAnIDOfTheSimulator(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1))
		join(t, s, 1, "ann")
		id := submit(t, s, "ann", news.Draft{Kind: news.Story, Title: "Mine"})
		reply := submit(t, s, "ann", news.Draft{Kind: news.Comment, Parent: 1, Text: "Hello"})
		if id < news.FirstOwnID || reply != id+1 {
			t.Errorf("ids %d and %d", id, reply)
		}
		if it := see(t, s, reply); it.Root != 1 || it.Points != 1 || see(t, s, 1).Replies != 1 {
			t.Errorf("%+v", it)
		}
		if got := latest(t, s); got != reply {
			t.Errorf("latest is %d", got)
		}
	})
}

func TestSameWordsTwiceAreOnePost(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1))
		join(t, s, 1, "ann")
		for _, d := range []news.Draft{
			{Kind: news.Comment, Parent: 1, Text: "Hello"},
			{Kind: news.Story, Title: "Mine", URL: "https://b.org/"},
			{Kind: news.Poll, Title: "Which?", Options: []string{"this", "that"}},
		} {
			if a, b := submit(t, s, "ann", d), submit(t, s, "ann", d); a != b {
				t.Errorf("%s: %d and %d", d.Kind, a, b)
			}
		}
	})
}

// TestOneKeyIsOneSubmission: a door that keeps writes may bring one twice, whatever
// became of the item between.
func TestPollsThatOfferSomethingElseAreTwo(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		join(t, s, 50, "ann")
		poll := func(options ...string) news.ID {
			t.Helper()
			return submit(t, s, "ann", news.Draft{Kind: news.Poll, Title: "Which?", Options: options})
		}
		first, second := poll("a", "b"), poll("a", "c")
		if first == second || poll("b", "a") == first || poll("a", "b", "c") == first {
			t.Error("a poll with other options is taken for the first")
		}
		if poll("a", "b") != first || poll(" a", "c ") != second {
			t.Error("the same poll is another one")
		}
	})
}

func TestOneKeyIsOneSubmission(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		join(t, s, 1, "ann", "bob")
		mine := news.Draft{Kind: news.Story, Title: "Mine", Key: "k"}
		id := submit(t, s, "ann", mine)
		if err := s.Edit(t.Context(), "ann", id, news.Draft{Title: "Edited"}); err != nil {
			t.Fatal(err)
		}
		if again := submit(t, s, "ann", mine); again != id {
			t.Errorf("by the same key: %d, then %d", id, again)
		}
		if it, err := s.Item(t.Context(), id); err != nil || it.Title != "Edited" {
			t.Errorf("%q, %v", it.Title, err)
		}
		if other := submit(t, s, "bob", mine); other == id {
			t.Error("another's key is taken for his own")
		}
		same := mine
		same.Title, same.Key = "Edited", "k2" // the same words by another key are the same item, by that key too
		if again := submit(t, s, "ann", same); again != id {
			t.Errorf("the same words: %d, then %d", id, again)
		}
		if err := s.Delete(t.Context(), "ann", id); err != nil {
			t.Fatal(err)
		}
		if again := submit(t, s, "ann", same); again != id {
			t.Errorf("what was deleted comes back: %d, then %d", id, again)
		}
	})
}

func TestAddressThatIsHereLeadsToItsDiscussion(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		join(t, s, 1, "ann", "bob")
		id := submit(t, s, "ann", news.Draft{Kind: news.Story, Title: "Mine", URL: "https://www.b.org/x/?b=1&a=2&utm_source=c#top"})
		_, err := s.Submit(t.Context(), "bob", news.Draft{Kind: news.Story, Title: "Other words", URL: "http://B.org/x?a=2&b=1"})
		var known *Discussed
		if !errors.As(err, &known) || known.ID != id {
			t.Errorf("got %v, want item %d", err, id)
		}
		submit(t, s, "bob", news.Draft{Kind: news.Story, Title: "Other words", URL: "http://b.org/y"})
		if got := listed(t, s, Listing{Of: FromSite, Site: "B.org"}); got != fmt.Sprint(id+1, " ", id) {
			t.Errorf("from the site: %s", got)
		}
	})
}

func TestEditLeadsToNoSecondDiscussion(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1)) // http://a.org/
		join(t, s, 50, "ann")
		id := submit(t, s, "ann", news.Draft{Kind: news.Story, Title: "Mine", URL: "https://b.org/"})
		edit := func(d news.Draft) (wrong string) {
			var invalid *news.Invalid
			if err := s.Edit(t.Context(), "ann", id, d); errors.As(err, &invalid) {
				return invalid.Error()
			} else if err != nil {
				t.Fatal(err)
			}
			return ""
		}
		if got := edit(news.Draft{Title: "Better", URL: "https://www.a.org?utm_source=x"}); got != "url is discussed already, at /item/1" || see(t, s, id).Title != "Mine" {
			t.Errorf("wrong: %q, stored %+v", got, see(t, s, id))
		}
		for _, address := range []string{"http://b.org", "https://c.org/", "", "https://b.org/"} {
			if got := edit(news.Draft{Title: "Better " + address, URL: address}); got != "" {
				t.Errorf("%q: %s", address, got)
			}
		}
		set(t, s, "UPDATE items SET state = 1 WHERE id = 1")
		if got := edit(news.Draft{Title: "Better", URL: "http://a.org/"}); got != "" {
			t.Errorf("the other is dead: %s", got)
		}
	})
}

func TestPollCountsChoices(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		join(t, s, 1, "ann", "bob")
		id := submit(t, s, "ann", news.Draft{Kind: news.Poll, Title: "Which?", Options: []string{"this", "", " that "}})
		for _, name := range []string{"ann", "bob"} {
			if err := s.Vote(t.Context(), name, id+2, 1); err != nil {
				t.Fatal(err)
			}
		}
		th, err := s.Thread(t.Context(), id, Whole, 10, 0)
		if err != nil || len(th.Options) != 2 {
			t.Fatalf("%+v, %v", th, err)
		}
		if a, b := th.Options[0], th.Options[1]; a.Title != "this" || a.Points != 0 || b.Title != "that" || b.Points != 2 {
			t.Errorf("%+v", th.Options)
		}
		if got := karma(t, s, "ann"); got != 1 {
			t.Errorf("karma %d: choices say nothing about the author", got)
		}
	})
}

func TestOptionsGoWhereTheirPollGoes(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		join(t, s, news.KarmaToFlag, "ann", "bob", "mod")
		if err := s.SetModerator(t.Context(), "mod", true); err != nil {
			t.Fatal(err)
		}
		poll := submit(t, s, "ann", news.Draft{Kind: news.Poll, Title: "Which?", Options: []string{"aardvark", "aardwolf"}})
		said := submit(t, s, "bob", news.Draft{Kind: news.Comment, Parent: poll, Text: "aardvark, said bob"})
		other := submit(t, s, "bob", news.Draft{Kind: news.Poll, Title: "What else?", Options: []string{"aardvark too", "x"}})
		states := func(what string, want news.State, title string) {
			t.Helper()
			for i := range news.ID(2) {
				if o := see(t, s, poll+1+i); o.State != want || title != "" && o.Title != []string{"aardvark", "aardwolf"}[i] || title == "" && o.Title != "" {
					t.Errorf("%s: option %+v", what, o)
				}
			}
			found := []news.ID{other + 1, said}
			if want == news.Alive {
				found = append(found, poll+1)
			}
			if p, err := s.Search(t.Context(), Query{Words: "aardvark"}); err != nil || idsOf(p.Items) != idList(found) {
				t.Errorf("%s: found %s, want %s; %v", what, idsOf(p.Items), idList(found), err)
			}
		}
		kill := func(dead bool) {
			t.Helper()
			if err := s.Kill(t.Context(), "mod", poll, dead); err != nil {
				t.Fatal(err)
			}
		}
		states("posted", news.Alive, "kept")
		kill(true)
		states("killed", news.Dead, "kept")
		kill(false)
		states("revived", news.Alive, "kept")
		for i := range news.FlagsToKill {
			name := fmt.Sprint("flagger", i)
			join(t, s, news.KarmaToFlag, name)
			if err := s.Flag(t.Context(), name, poll, true); err != nil {
				t.Fatal(err)
			}
		}
		states("killed by flags", news.Dead, "kept")
		kill(false)
		ctx, touched := WithTouched(t.Context())
		if err := s.Delete(ctx, "ann", poll); err != nil {
			t.Fatal(err)
		}
		states("deleted", news.Deleted, "")
		if tags := touched.Tags(); !slices.Contains(tags, news.ThreadTag(poll)) || !slices.Contains(tags, news.UserTag("ann")) {
			t.Errorf("touched %v", tags)
		}
		for what, id := range map[string]news.ID{"an answer": said, "the option of another poll": other + 1} {
			if it := see(t, s, id); it.State != news.Alive || it.Title+it.Body == "" {
				t.Errorf("%s: %+v", what, it)
			}
		}
	})
}

func TestNewUserPostsSlowly(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		join(t, s, 1, "ann")
		for i := range 3 {
			_, err := s.Submit(t.Context(), "ann", news.Draft{Kind: news.Story, Title: fmt.Sprint("Story ", i)})
			var fast *TooFast
			if i < 2 && err != nil || i == 2 && (!errors.As(err, &fast) || fast.Wait <= 0 || fast.Wait > time.Hour) {
				t.Errorf("story %d: %v", i, err)
			}
		}
		set(t, s, "UPDATE users SET karma = 50")
		submit(t, s, "ann", news.Draft{Kind: news.Story, Title: "With karma"})
	})
}

func TestVoteCountsOnceAndCanBeTakenBack(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1), comment(2, 1)) // by pg and sama
		join(t, s, 1, "ann")
		join(t, s, news.KarmaToDownvote, "old")
		vote := func(name string, id news.ID, value int, want error) {
			t.Helper()
			wantErr(t, fmt.Sprintf("%s on %d: %+d", name, id, value), s.Vote(t.Context(), name, id, value), want)
		}
		state := func(points, karmaOfPG int) {
			t.Helper()
			if it, k := see(t, s, 1), karma(t, s, "pg"); it.Points != points || k != karmaOfPG {
				t.Errorf("%d points and %d karma, want %d and %d", it.Points, k, points, karmaOfPG)
			}
		}
		state(1, 1)
		vote("ann", 1, 1, nil)
		vote("ann", 1, 1, nil)
		state(2, 2)
		vote("old", 1, 1, nil)
		state(3, 3)
		vote("ann", 1, 0, nil)
		vote("ann", 1, 0, nil)
		state(2, 2)
		vote("pg", 1, 1, news.ErrNotAllowed)   // his own
		vote("old", 1, -1, news.ErrNotAllowed) // not a comment
		vote("ann", 2, -1, news.ErrNotAllowed) // too little karma
		vote("ann", 2, 7, news.ErrNotAllowed)
		vote("ann", 3, 1, news.ErrNoSuchItem)
		vote("nobody", 1, 1, ErrNoSuchUser)
		state(2, 2)
		vote("old", 2, 1, nil)
		vote("old", 2, -1, nil) // from up to down is two
		if it, k := see(t, s, 2), karma(t, s, "sama"); it.Points != 0 || k != 0 {
			t.Errorf("%d points, %d karma", it.Points, k)
		}
		marks, err := s.Marks(t.Context(), "old", []news.ID{1, 2, 3})
		if err != nil || marks[1].Vote != 1 || marks[2].Vote != -1 || len(marks) != 2 {
			t.Errorf("%+v, %v", marks, err)
		}
		if got := listed(t, s, Listing{Of: Upvoted, User: "old"}); got != "1" {
			t.Errorf("upvoted: %s", got)
		}
	})
}

// Many votes at once, from both sides, end as the rows say.
func TestVotesAtOnceAreAllCounted(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1))
		var names []string
		for i := range 8 {
			names = append(names, fmt.Sprintf("user%d", i))
		}
		join(t, s, 1, names...)
		var wg sync.WaitGroup
		for _, name := range names {
			for _, value := range []int{1, 0, 1} {
				wg.Go(func() {
					if err := s.Vote(t.Context(), name, 1, value); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		votes := rowsOf(t, s, "SELECT count(*) FROM marks WHERE what = 'vote'")
		if it := see(t, s, 1); it.Points != 1+votes || karma(t, s, "pg") != 1+votes {
			t.Errorf("%d points and %d karma of %d votes", it.Points, karma(t, s, "pg"), votes)
		}
	})
}

func TestVotesMoveTheFrontPage(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1), story(2))
		join(t, s, 1, "ann")
		if got := listed(t, s, Listing{}); got != "2 1" {
			t.Fatalf("front: %s", got)
		}
		if err := s.Vote(t.Context(), "ann", 1, 1); err != nil {
			t.Fatal(err)
		}
		for _, of := range []List{Front, Best} {
			if got := listed(t, s, Listing{Of: of}); got != "1 2" {
				t.Errorf("%q: %s", of, got)
			}
		}
	})
}

func TestFlagsKillAndModeratorsRevive(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1), story(2))
		join(t, s, 1, "ann", "mod")
		wantErr(t, "without karma", s.Flag(t.Context(), "ann", 1, true), news.ErrNotAllowed)
		for i := range news.FlagsToKill {
			name := fmt.Sprintf("user%d", i)
			join(t, s, news.KarmaToFlag, name)
			for range 2 { // the second says nothing new
				if it := see(t, s, 1); it.State != news.Alive && i < news.FlagsToKill {
					t.Fatalf("dead of %d flags", i)
				}
				if i == news.FlagsToKill-1 && see(t, s, 1).Flags == i {
					break
				}
				if err := s.Flag(t.Context(), name, 1, true); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Flag(t.Context(), fmt.Sprintf("user%d", news.FlagsToKill-1), 1, true); err != nil {
			t.Fatal(err)
		}
		it := see(t, s, 1)
		if it.State != news.Dead || it.Flags != news.FlagsToKill {
			t.Fatalf("%+v", it)
		}
		ann, _ := s.User(t.Context(), "ann")
		showing := ann
		showing.ShowDead = true
		author, _ := s.User(t.Context(), "pg")
		if it.VisibleTo(nil) || it.VisibleTo(&ann) || !it.VisibleTo(&showing) || !it.VisibleTo(&author) {
			t.Error("who may see the dead")
		}
		if a, b := listed(t, s, Listing{Viewer: &ann}), listed(t, s, Listing{Of: Newest, Viewer: &showing}); a != "2" || b != "2 1" {
			t.Errorf("front %s, with the dead %s", a, b)
		}
		if a, b := listed(t, s, Listing{Of: Flagged}), listed(t, s, Listing{Of: Killed}); a != "1" || b != "1" {
			t.Errorf("flagged %s, dead %s", a, b)
		}
		wantErr(t, "not a moderator", s.Kill(t.Context(), "ann", 1, false), news.ErrNotAllowed)
		if err := s.SetModerator(t.Context(), "mod", true); err != nil {
			t.Fatal(err)
		}
		if err := s.Kill(t.Context(), "mod", 1, false); err != nil {
			t.Fatal(err)
		}
		if it := see(t, s, 1); it.State != news.Alive || it.Flags != 0 {
			t.Errorf("revived: %+v", it)
		}
		if err := s.Flag(t.Context(), "user0", 1, false); err != nil { // a flag that was forgotten
			t.Error(err)
		}
	})
}

func TestHiddenIsGoneForOneAndFavouritesAreKept(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1), story(2), comment(3, 1))
		join(t, s, 1, "ann")
		ann := &news.User{Name: "ann"}
		for range 2 {
			if err := s.Hide(t.Context(), "ann", 1, true); err != nil {
				t.Fatal(err)
			}
			if err := s.Favourite(t.Context(), "ann", 3, true); err != nil {
				t.Fatal(err)
			}
		}
		if a, b, c := listed(t, s, Listing{Viewer: ann}), listed(t, s, Listing{}), listed(t, s, Listing{Of: Hidden, User: "ann", Viewer: ann}); a != "2" || b != "1 2" || c != "1" {
			t.Errorf("for her %s, for others %s, hidden %s", a, b, c)
		}
		if got := listed(t, s, Listing{Of: Favourites, User: "ann"}); got != "3" {
			t.Errorf("favourites: %s", got)
		}
		if err := errors.Join(s.Hide(t.Context(), "ann", 1, false), s.Favourite(t.Context(), "ann", 3, false)); err != nil {
			t.Fatal(err)
		}
		if a, b := listed(t, s, Listing{Viewer: ann}), listed(t, s, Listing{Of: Favourites, User: "ann"}); a != "1 2" || b != "" {
			t.Errorf("shown again: %s; favourites: %s", a, b)
		}
	})
}

func TestOnlyItsAuthorEditsAndOnlyForTwoHours(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1))
		join(t, s, 50, "ann", "bob")
		id := submit(t, s, "ann", news.Draft{Kind: news.Story, Title: "Mine", URL: "https://b.org/"})
		said := submit(t, s, "ann", news.Draft{Kind: news.Comment, Parent: id, Text: "Hello"})
		better := news.Draft{Kind: news.Job, Parent: 1, Title: "Show HN: mine", URL: "https://c.org/", Text: "More"} // kind and parent do not count
		for name, want := range map[string]error{"bob": news.ErrNotAllowed, "pg": news.ErrNotAllowed, "ann": nil} {
			wantErr(t, name, s.Edit(t.Context(), name, id, better), want)
		}
		it := see(t, s, id)
		if it.Title != "Show HN: mine" || it.Body != "More" || it.Site != "c.org" || it.Kind != news.Story || it.Parent != 0 || it.Edited.IsZero() || it.By != "ann" {
			t.Errorf("%+v", it)
		}
		if got := listed(t, s, Listing{Of: Show}); got != fmt.Sprint(id) {
			t.Errorf("show: %s", got)
		}
		wantErr(t, "the simulator's", s.Edit(t.Context(), "pg", 1, better), news.ErrNotAllowed)
		var invalid *news.Invalid
		if err := s.Edit(t.Context(), "ann", said, news.Draft{Text: "  "}); !errors.As(err, &invalid) || invalid.Wrongs[0].Field != "text" {
			t.Errorf("an empty comment: %v", err)
		}
		wantErr(t, "delete by another", s.Delete(t.Context(), "bob", said), news.ErrNotAllowed)
		wantErr(t, "delete", s.Delete(t.Context(), "ann", said), nil)
		wantErr(t, "delete again", s.Delete(t.Context(), "ann", said), nil)
		if it := see(t, s, said); it.State != news.Deleted || it.Body != "" || it.VisibleTo(&news.User{Name: "ann", Moderator: true}) {
			t.Errorf("deleted: %+v", it)
		}
		wantErr(t, "an answer to what is gone", func() error {
			_, err := s.Submit(t.Context(), "bob", news.Draft{Kind: news.Comment, Parent: said, Text: "But"})
			return err
		}(), news.ErrNotAllowed)
		set(t, s, "UPDATE items SET created_at = created_at - $1 WHERE id = $2", news.TimeToEdit.Milliseconds()+1000, id)
		wantErr(t, "too late to edit", s.Edit(t.Context(), "ann", id, better), news.ErrNotAllowed)
		wantErr(t, "too late to delete", s.Delete(t.Context(), "ann", id), news.ErrNotAllowed)
		if err := s.SetModerator(t.Context(), "bob", true); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "a moderator", s.Edit(t.Context(), "bob", id, better), nil)
	})
}

// What is sent again as it stands is no edit, and what an item of its kind does
// not have is not swallowed.
func TestEditOfNothingIsNone(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := comment(2, 1)
		c.Title = "Words of old"
		take(t, s, story(1), c)
		join(t, s, 50, "ann")
		id := submit(t, s, "ann", news.Draft{Kind: news.Story, Title: "Mine", URL: "https://b.org/", Text: "x"})
		said := submit(t, s, "ann", news.Draft{Kind: news.Comment, Parent: id, Text: "Hello"})
		poll := submit(t, s, "ann", news.Draft{Kind: news.Poll, Title: "Which?", Options: []string{"a", "b"}})
		for id, d := range map[news.ID]news.Draft{
			id:   {Title: " Mine ", URL: "https://b.org/", Text: "x\r\n"},
			said: {Text: "Hello"},
			poll: {Title: "Which?"},
		} {
			ctx, touched := WithTouched(t.Context())
			if err := s.Edit(ctx, "ann", id, d); err != nil || !see(t, s, id).Edited.IsZero() || len(touched.Tags()) > 0 {
				t.Errorf("%+v: %v, edited %s, touched %v", d, err, see(t, s, id).Edited, touched.Tags())
			}
		}
		for _, row := range []struct {
			id    news.ID
			d     news.Draft
			wrong string
		}{
			{said, news.Draft{Title: "x", Text: "Hello"}, "title"},
			{said, news.Draft{URL: "https://b.org/", Text: "Hello you"}, "url"},
			{poll, news.Draft{Title: "Which?", URL: "https://b.org/"}, "url"},
		} {
			var invalid *news.Invalid
			err := s.Edit(t.Context(), "ann", row.id, row.d)
			if !errors.As(err, &invalid) || len(invalid.Wrongs) != 1 || invalid.Wrongs[0].Field != row.wrong || !see(t, s, row.id).Edited.IsZero() {
				t.Errorf("%+v: %v, edited %s", row.d, err, see(t, s, row.id).Edited)
			}
		}
		if err := s.SetModerator(t.Context(), "ann", true); err != nil {
			t.Fatal(err)
		}
		if err := s.Edit(t.Context(), "ann", 2, news.Draft{Title: c.Title, Text: "Mended"}); err != nil || see(t, s, 2).Title != c.Title {
			t.Errorf("a comment that came with a title: %v", err)
		}
	})
}

func TestListsContinueWhereTheyEnded(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		for id := range news.ID(7) {
			take(t, s, story(id+1))
		}
		set(t, s, "UPDATE items SET rank = 5, best = 2.5") // equals are divided by id
		for _, of := range []List{Front, Best, Newest, OfDay, Submissions} {
			var all []string
			l := Listing{Of: of, User: "pg", Day: time.Now(), Limit: 3}
			for {
				p, err := s.List(t.Context(), l)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, idsOf(p.Items))
				if l.After = p.Next; l.After == "" {
					break
				}
			}
			if got := strings.Join(all, "|"); got != "7 6 5|4 3 2|1" {
				t.Errorf("%q: %s", of, got)
			}
		}
		if got := listed(t, s, Listing{Of: OfDay, Day: time.Now().Add(-48 * time.Hour)}); got != "" {
			t.Errorf("two days ago: %s", got)
		}
		for _, after := range []string{"x", "bnVsbA", "WzEuNSwxXQ"} {
			if p, err := s.List(t.Context(), Listing{Of: Newest, After: after}); !errors.Is(err, ErrNoSuchList) {
				t.Errorf("%s: %+v, %v", after, p, err)
			}
		}
	})
}

func TestSearchFindsAllWordsLastFirst(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		c := comment(2, 1)
		c.Body = "A porter at the door: smørrebrød, foo-bar and https://porter.example/x_y"
		d := story(3)
		d.Title = "The PORTER opens the door"
		take(t, s, story(1), c, d)
		join(t, s, 1, "ann")
		find := func(q Query) string {
			t.Helper()
			p, err := s.Search(t.Context(), q)
			if err != nil {
				t.Fatalf("%+v: %v", q, err)
			}
			return idsOf(p.Items)
		}
		for words, want := range map[string]string{
			"porter": "3 2", "door porter": "3 2", "smørrebrød": "2", "bar": "2", "foo-bar": "2", "porter.example": "2",
			"porter closes": "", "": "", "  ": "", "\"": "", "' OR 1=1 --": "", "porter* NEAR(door": "", "title:door": "", "AND": "2", "%": "", "🚪": "", "story": "1",
		} {
			if got := find(Query{Words: words}); got != want {
				t.Errorf("%q: found %q, want %q", words, got, want)
			}
		}
		if got := find(Query{Words: "porter", Heads: true}); got != "3" {
			t.Errorf("heads: %s", got)
		}
		p, err := s.Search(t.Context(), Query{Words: "door", Limit: 1})
		if err != nil || idsOf(p.Items) != "3" || p.Next == "" {
			t.Fatalf("%+v, %v", p, err)
		}
		if got := find(Query{Words: "door", Limit: 1, After: p.Next}); got != "2" {
			t.Errorf("the next part: %s", got)
		}
		id := submit(t, s, "ann", news.Draft{Kind: news.Comment, Parent: 1, Text: "porter"})
		if err := s.Edit(t.Context(), "ann", id, news.Draft{Text: "gatekeeper"}); err != nil {
			t.Fatal(err)
		}
		if a, b := find(Query{Words: "porter"}), find(Query{Words: "gatekeeper"}); a != "3 2" || b != fmt.Sprint(id) {
			t.Errorf("after the edit: %s, %s", a, b)
		}
		if err := s.Delete(t.Context(), "ann", id); err != nil {
			t.Fatal(err)
		}
		if got := find(Query{Words: "gatekeeper"}); got != "" {
			t.Errorf("deleted and found: %s", got)
		}
		set(t, s, "UPDATE users SET moderator = 1")
		if err := s.Kill(t.Context(), "ann", 3, true); err != nil {
			t.Fatal(err)
		}
		if got := find(Query{Words: "porter"}); got != "2" {
			t.Errorf("dead and found: %s", got)
		}
	})
}

// A change that the database refuses does not take others with it.
func TestOneBadChangeDoesNotUndoItsNeighbours(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1), comment(2, 1))
		entered, release := make(chan struct{}), make(chan struct{})
		go s.change(t.Context(), func(*work) error { // the others gather behind it
			close(entered)
			<-release
			return nil
		})
		<-entered
		var wg sync.WaitGroup
		results := make([]error, 5)
		for i := range results {
			wg.Go(func() {
				p := comment(news.ID(10+i), 1)
				switch i {
				case 2:
					results[i] = s.change(t.Context(), func(*work) error { panic("on purpose") })
				case 3:
					p.Kind = "a kind that is none" // the table's rules refuse it
					fallthrough
				default:
					results[i] = s.Take(t.Context(), p)
				}
			})
		}
		for len(s.changes) < len(results) { // until all of them wait
			runtime.Gosched()
		}
		close(release)
		wg.Wait()
		for i, err := range results {
			if want := map[bool]error{true: ErrUnavailable}[i == 2 || i == 3]; !errors.Is(err, want) {
				t.Errorf("change %d: %v", i, err)
			}
		}
		if n := rowsOf(t, s, "SELECT count(*) FROM items"); n != 5 {
			t.Errorf("%d items, want 5", n)
		}
	})
}

func TestManyPostsShareACommit(t *testing.T) {
	s := fresh(t)
	take(t, s, story(1), comment(2, 1))
	entered, release := make(chan struct{}), make(chan struct{})
	go s.change(t.Context(), func(*work) error {
		close(entered)
		<-release
		return nil
	})
	<-entered
	_, before := s.Shared()
	var wg sync.WaitGroup
	for i := range maxShared {
		wg.Go(func() {
			if err := s.Take(t.Context(), comment(news.ID(10+i), 1)); err != nil {
				t.Error(err)
			}
		})
	}
	for len(s.changes) < maxShared {
		runtime.Gosched()
	}
	close(release)
	wg.Wait()
	if _, after := s.Shared(); after-before != 2 { // the one that held the door, and one for all
		t.Errorf("%d commits for %d posts", after-before-1, maxShared)
	}
}

// Whoever guesses learns nothing from how long the answer takes: there is as
// much to compute for a name that nobody has.
func TestEveryLoginThatFailsCostsTheSame(t *testing.T) {
	s := fresh(t)
	take(t, s, story(1)) // pg, of the simulator, has no password
	join(t, s, 1, "ann")
	join(t, s, 1, "sam")
	take(t, s, news.Post{ID: 2, Kind: news.Story, By: "both", Secret: "Y89KIJ3frM", Title: "x"})
	both, err := s.CheckPassword(t.Context(), "both", "Y89KIJ3frM")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetPassword(t.Context(), both, secret, ""); err != nil {
		t.Fatal(err)
	}
	blind() // both are made once
	blindString()
	type work struct{ passes, memory uint32 }
	var done []work
	before := argon
	defer func() { argon = before }()
	argon = func(password, salt []byte, passes, memory uint32, threads uint8, length uint32) []byte {
		done = append(done, work{passes, memory})
		return before(password, salt, passes, memory, threads, length)
	}
	for _, name := range []string{"ann", "both", "pg", "nobody", "ANN", "", "no name", "\x00", strings.Repeat("x", 1000)} {
		done = nil
		_, err := s.CheckPassword(t.Context(), name, "a guess that is wrong")
		wantErr(t, name, err, ErrWrongSecret)
		if !slices.Equal(done, []work{{argonTime, argonMemory}, {stringTime, stringMemory}}) {
			t.Errorf("%q costs %v", name, done)
		}
	}
}

// A process of the version before adds items without adding their words, while
// one of this version runs.
func TestItemOfAnOlderProcessIsFoundAndEdited(t *testing.T) {
	s := fresh(t)
	take(t, s, story(1))
	join(t, s, 1, "ann")
	for id := range 2 {
		set(t, s, `INSERT INTO items (seq, id, kind, parent, root, author, title, body, url, created_at, heads)
			VALUES ($1, $2, 'story', 0, $2, 'ann', $3, '', '', $4, 1)`, id+2, int64(news.FirstOwnID)+int64(id), fmt.Sprintf("gatekeeper %d", id), time.Now().UnixMilli())
	}
	if err := s.Edit(t.Context(), "ann", news.FirstOwnID, news.Draft{Title: "doorkeeper"}); err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]news.ID{"gatekeeper": news.FirstOwnID + 1, "doorkeeper": news.FirstOwnID, "story": 1} {
		p, err := s.Search(t.Context(), Query{Words: words})
		if err != nil || len(p.Items) != 1 || p.Items[0].ID != want {
			t.Errorf("%s: %+v, %v", words, p, err)
		}
	}
	checkWords(t, s)
}
