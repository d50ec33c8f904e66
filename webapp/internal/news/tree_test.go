package news

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestRepliesStandBelowWhatTheyAnswer(t *testing.T) {
	got := Flatten(1, []Node{{7, 2, 1}, {2, 1, 1}, {4, 2, 1}, {3, 1, 1}, {5, 4, 1}, {6, 3, 1}, {9, 8, 1}})
	want := []Placed{{2, 0}, {4, 1}, {5, 2}, {7, 1}, {3, 0}, {6, 1}}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestRingOfRepliesEnds(t *testing.T) {
	ring := []Node{{5, 6, 1}, {6, 5, 1}, {7, 6, 1}}
	if got, want := Flatten(5, ring), []Placed{{6, 0}, {7, 1}}; !slices.Equal(got, want) {
		t.Errorf("within the ring: got %v, want %v", got, want)
	}
	if got := Flatten(1, ring); len(got) != 0 {
		t.Errorf("outside of the ring: got %v", got)
	}
}

func TestMillionDeepTreeIsFlattened(t *testing.T) {
	const deep = 1_000_000
	nodes := make([]Node, deep)
	for i := range nodes {
		nodes[i] = Node{ID: ID(i + 2), Parent: ID(i + 1)}
	}
	got := Flatten(1, nodes)
	if last := got[len(got)-1]; len(got) != deep || last != (Placed{deep + 1, deep - 1}) {
		t.Fatalf("got %d, the last %+v", len(got), last)
	}
}

func TestSiblingsStandByPointsThenByAge(t *testing.T) {
	var got []ID
	for _, p := range Flatten(1, []Node{{2, 1, 1}, {3, 1, 4}, {4, 1, 1}, {5, 2, 9}, {6, 1, -2}}) {
		got = append(got, p.ID)
	}
	if want := []ID{3, 2, 5, 4, 6}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestInterestRaisesAndTimeAndFlagsLower(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rank := func(points, replies, flags int, age time.Duration) float64 {
		return Standing{points, replies, flags}.Rank(now.Add(-age))
	}
	fresh := rank(1, 0, 0, 0)
	for name, row := range map[string]struct{ higher, lower float64 }{
		"a reply raises":                    {rank(1, 1, 0, 0), fresh},
		"a vote raises":                     {rank(2, 0, 0, 0), fresh},
		"of two without either the younger": {fresh, rank(1, 0, 0, time.Second)},
		"a thousand do not last":            {fresh, rank(1, 1000, 0, 10*frontHalfLife)},
		"a flag lowers":                     {fresh, rank(1, 0, 1, 0)},
	} {
		if row.higher <= row.lower {
			t.Errorf("%s: %v and %v", name, row.higher, row.lower)
		}
	}
	for name, row := range map[string]struct{ a, b float64 }{
		"twice the score and one half-life older": {fresh, rank(2, 0, 0, frontHalfLife)},
		"a flag and one half-life younger":        {rank(1, 0, 1, 0), rank(1, 0, 0, frontHalfLife)},
		"fewer than one point count as one":       {fresh, rank(-7, 0, 0, 0)},
	} {
		if math.Abs(row.a-row.b) > 1e-9 {
			t.Errorf("%s: %v apart, want level", name, row.a-row.b)
		}
	}
	if a, b := (Standing{2, 0, 0}).Best(now.Add(-bestHalfLife)), (Standing{1, 50, 0}).Best(now); math.Abs(a-b) > 1e-9 {
		t.Errorf("of the best, a vote and a week: %v apart, want level", a-b)
	}
}
