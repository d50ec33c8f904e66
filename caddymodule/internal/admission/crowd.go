package admission

import (
	"container/heap"
	"math"
)

// crowd is all clients that wait, in any order of the queue.
type crowd struct {
	heavy     heavyHeap // but for the returning
	returning []*client // one for each class of each order at the most
}

// update takes in that c has other tickets than before.
func (w *crowd) update(c *client) {
	switch waits := c.tickets.n > 0; {
	case c.returns() && waits && c.weighed < 0:
		c.weighed = len(w.returning)
		w.returning = append(w.returning, c)
	case c.returns() && !waits:
		last := w.returning[len(w.returning)-1]
		w.returning[c.weighed], last.weighed = last, c.weighed
		c.weighed = -1
		pop(&w.returning)
	case c.returns():
	case !waits:
		heap.Remove(&w.heavy, c.weighed)
	case c.weighed < 0:
		heap.Push(&w.heavy, c)
	default:
		heap.Fix(&w.heavy, c.weighed)
	}
}

// heaviest is the client that has the most queued for its share; nil: nobody
// waits. The returning have a share as large as the others of their class have
// together.
func (w *crowd) heaviest() *client {
	var most *client
	weight := 0.0
	if len(w.heavy) > 0 {
		most, weight = w.heavy[0], w.heavy[0].weighs()
	}
	for _, c := range w.returning {
		if x := c.weighs() / float64(max(c.class.waiting(), 1)); x > weight {
			most, weight = c, x
		}
	}
	return most
}

// heavyHeap has the client first that has the most queued, for its weight; of those
// with about as much, who came first: in a crowd with one request each it is the
// likeliest to be gone.
type heavyHeap []*client

func (h heavyHeap) Len() int { return len(h) }
func (h heavyHeap) Less(i, j int) bool {
	if a, b := about(h[i].weighs()), about(h[j].weighs()); a != b {
		return a > b
	}
	return h[i].tickets.oldest.seq < h[j].tickets.oldest.seq
}
func (h heavyHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].weighed, h[j].weighed = i, j
}
func (h *heavyHeap) Push(x any) {
	c := x.(*client)
	c.weighed = len(*h)
	*h = append(*h, c)
}
func (h *heavyHeap) Pop() any {
	c := pop((*[]*client)(h))
	c.weighed = -1
	return c
}

// about is a rank by which most of what differs by less than half is the same: what
// a request is expected to cost varies from one to the next. x >= 0.
func about(x float64) uint64 { return math.Float64bits(x) >> 52 } // the exponent

// weighs is what the client has queued; its tickets break ties while nobody
// knows their cost.
func (c *client) weighs() float64 {
	return (c.cost.Seconds() + float64(c.tickets.n)*minCost.Seconds()) / c.class.weight
}

func pop(h *[]*client) *client {
	old := *h
	last := len(old) - 1
	c := old[last]
	old[last] = nil
	*h = old[:last]
	return c
}
