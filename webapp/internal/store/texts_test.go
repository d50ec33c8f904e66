package store

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/portner/portner/webapp/internal/news"
)

// long is a comment with a text of about so many bytes.
func long(id, parent news.ID, size int) news.Post {
	c := comment(id, parent)
	c.Body = fmt.Sprintf("marmot %d", id) + strings.Repeat(" né", size/4)
	return c
}

func TestLongTextsEndAPart(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1))
		want := make(map[news.ID]string)
		for id := news.ID(2); id <= 31; id++ {
			size := 60 << 10
			switch {
			case id%3 == 0:
				size = 100
			case id == 16:
				size = 1_000_000 // as long as they come, and more than a part has room for
			}
			c := long(id, 1, size)
			take(t, s, c)
			want[id] = c.Body
		}
		for what, part := range map[string]func(after string) (Part, error){
			"list": func(after string) (Part, error) {
				return s.List(t.Context(), Listing{Of: Said, Limit: 100, After: after})
			},
			"search": func(after string) (Part, error) {
				return s.Search(t.Context(), Query{Words: "marmot", Limit: 100, After: after})
			},
			"thread": func(after string) (p Part, err error) {
				offset, _ := strconv.Atoi(after)
				th, err := s.Thread(t.Context(), 1, Whole, 100, offset)
				for _, r := range th.Replies {
					p.Items = append(p.Items, r.Item)
				}
				if end := offset + len(p.Items); end < th.Total {
					p.Next = strconv.Itoa(end)
				}
				return p, err
			},
		} {
			got, parts := make(map[news.ID]string), 0
			for after, more := "", true; more; parts++ {
				p, err := part(after)
				if err != nil || len(p.Items) == 0 {
					t.Fatalf("%s after %q: %d items, %v", what, after, len(p.Items), err)
				}
				size, long := 0, 0
				for _, it := range p.Items {
					if _, twice := got[it.ID]; twice || it.Cut {
						t.Errorf("%s: item %d comes twice (%v) or is cut", what, it.ID, twice)
					}
					got[it.ID] = it.Body
					if len(it.Body) > shortText {
						size, long = size+len(it.Body), long+1
					}
				}
				if size > maxTexts && long > 1 {
					t.Errorf("%s: a part has %d long texts of %d bytes", what, long, size)
				}
				after, more = p.Next, p.Next != ""
			}
			if !maps.Equal(got, want) {
				t.Errorf("%s: %d items, want %d, all as they were posted", what, len(got), len(want))
			}
			if parts < 5 {
				t.Errorf("%s: 2 MB of texts are %d parts", what, parts)
			}
		}
	})
}

func TestTextsOfTheUsualLengthAreNotCut(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		take(t, s, story(1))
		exact, over, wide := comment(2, 1), comment(3, 1), comment(4, 1)
		exact.Body = "marmot " + strings.Repeat("x", maxBrief-7)
		over.Body = "marmot " + strings.Repeat("x", maxBrief-6)
		wide.Body = "marmot " + strings.Repeat("日", maxBrief/3) // fewer characters than maxBrief, more bytes
		bodies := map[news.ID]string{2: exact.Body, 3: over.Body, 4: wide.Body}
		take(t, s, exact, over, wide)
		for texts, want := range map[Texts]string{Brief: "2:false 3:true 4:true", Whole: "2:false 3:false 4:false", NoTexts: "2:false 3:false 4:false"} {
			list, err := s.List(t.Context(), Listing{Of: Said, Texts: texts})
			if err != nil {
				t.Fatal(err)
			}
			found, err := s.Search(t.Context(), Query{Words: "marmot", Texts: texts})
			if err != nil {
				t.Fatal(err)
			}
			th, err := s.Thread(t.Context(), 1, texts, 10, 0)
			if err != nil {
				t.Fatal(err)
			}
			var below []news.Item
			for _, r := range th.Replies {
				below = append([]news.Item{r.Item}, below...)
			}
			for _, items := range [][]news.Item{list.Items, found.Items, below} {
				got := ""
				for _, it := range items {
					got = fmt.Sprintf("%d:%v ", it.ID, it.Cut) + got
					whole := bodies[it.ID]
					switch {
					case texts == NoTexts && it.Body != "":
						t.Errorf("a text of %d bytes was read in vain", len(it.Body))
					case texts == Whole && it.Body != whole, texts == Brief && !it.Cut && it.Body != whole:
						t.Errorf("%d bytes of %d, and it does not say so", len(it.Body), len(whole))
					case it.Cut && (len(it.Body) > maxBrief || len(it.Body) < maxBrief-3 || !strings.HasPrefix(whole, it.Body) || !utf8.ValidString(it.Body)):
						t.Errorf("%d bytes of %d, valid %v", len(it.Body), len(whole), utf8.ValidString(it.Body))
					}
				}
				if got = strings.TrimSpace(got); got != want {
					t.Errorf("texts %d: cut are %s, want %s", texts, got, want)
				}
			}
		}
		if whole := see(t, s, 3); whole.Cut || whole.Body != over.Body {
			t.Error("the item itself is cut")
		}
	})
}

func TestLongOptionsAreCutInTheirPoll(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		poll, option := story(1), story(2)
		poll.Kind = news.Poll
		option.Kind, option.Parent, option.Body = news.PollOption, 1, strings.Repeat("words ", 100_000)
		take(t, s, poll, option)
		th, err := s.Thread(t.Context(), 1, Whole, 10, 0)
		if err != nil || len(th.Options) != 1 || !th.Options[0].Cut || len(th.Options[0].Body) > maxOption {
			t.Errorf("%d options, %v", len(th.Options), err)
		}
		if whole := see(t, s, 2); whole.Cut || whole.Body != option.Body {
			t.Error("the option itself is cut")
		}
	})
}
