package news

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestRepliesStandBelowWhatTheyAnswer(t *testing.T) {
	got := Flatten(1, []Node{{7, 2}, {2, 1}, {4, 2}, {3, 1}, {5, 4}, {6, 3}, {9, 8}})
	want := []Placed{{2, 0}, {4, 1}, {5, 2}, {7, 1}, {3, 0}, {6, 1}}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestRingOfRepliesEnds(t *testing.T) {
	ring := []Node{{5, 6}, {6, 5}, {7, 6}}
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
		nodes[i] = Node{ID(i + 2), ID(i + 1)}
	}
	got := Flatten(1, nodes)
	if last := got[len(got)-1]; len(got) != deep || last != (Placed{deep + 1, deep - 1}) {
		t.Fatalf("got %d, the last %+v", len(got), last)
	}
}

func TestMoreRepliesRankHigherUntilTheyAreOld(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if Rank(1, now) <= Rank(0, now) {
		t.Error("a reply does not raise its story")
	}
	if Rank(0, now) <= Rank(0, now.Add(-time.Second)) {
		t.Error("of two stories without replies the older one leads")
	}
	if diff := Rank(0, now) - Rank(1, now.Add(-halfLife)); math.Abs(diff) > 1e-9 {
		t.Errorf("twice the score and one half-life older: %v apart, want level", diff)
	}
	if Rank(0, now) <= Rank(1000, now.Add(-10*halfLife)) {
		t.Error("a thousand replies still lead after ten half-lives")
	}
}
