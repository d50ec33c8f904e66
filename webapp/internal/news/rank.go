package news

import (
	"math"
	"time"
)

// halfLife is the time in which a head must double its replies to keep its
// place above a fresh one with as many.
const halfLife = 4 * time.Hour

// Rank orders the front page, highest first. It is log2 of a score that
// halves with every halfLife: among heads the order never changes by the mere
// passing of time, so a rank is stored when something happens to the item and
// the front page is the first rows of an index. Hacker News'
// (points-1)/(age+2)^1.8 would have to be computed again for all items at
// every look.
//
// Replies stand for interest as long as there are no votes.
func Rank(replies int, at time.Time) float64 {
	const epoch = 1_160_000_000 // October 2006, when item 1 was posted; keeps the numbers small
	age := float64(at.UnixMilli())/1000 - epoch
	return math.Log2(1+float64(max(replies, 0))) + age/halfLife.Seconds()
}
