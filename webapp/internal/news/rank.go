package news

import (
	"math"
	"time"
)

// Half-lives of the two orders: the time in which a head must double what
// people think of it to keep its place above a fresh one.
const (
	frontHalfLife = 4 * time.Hour
	bestHalfLife  = 7 * 24 * time.Hour
)

// Standing is what people have made of an item.
type Standing struct {
	Points  int // one of the author, and one for each vote up, less those down
	Replies int // comments below a head, at any depth
	Flags   int
}

// Rank orders the front page, highest first. It is log2 of a score that
// halves with every half-life: among heads the order never changes by the mere
// passing of time, so a rank is stored when something happens to the item and
// the front page is the first rows of an index. Hacker News'
// (points-1)/(age+2)^1.8 would have to be computed again for all items at
// every look.
//
// A vote and a reply weigh the same; the items of the simulator have no votes
// at first. Every flag costs a half-life.
func (s Standing) Rank(at time.Time) float64 {
	return s.interest() - float64(s.Flags) + halfLives(at, frontHalfLife)
}

// Best orders the list of the best: by the same rule, with a long memory and
// for votes alone.
func (s Standing) Best(at time.Time) float64 {
	s.Replies = 0
	return s.interest() - float64(s.Flags) + halfLives(at, bestHalfLife)
}

func (s Standing) interest() float64 {
	return math.Log2(1 + float64(max(s.Points-1, 0)) + float64(max(s.Replies, 0)))
}

func halfLives(at time.Time, halfLife time.Duration) float64 {
	const epoch = 1_160_000_000 // October 2006, when item 1 was posted; keeps the numbers small
	return (float64(at.UnixMilli())/1000 - epoch) / halfLife.Seconds()
}
