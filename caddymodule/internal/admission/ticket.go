package admission

import (
	"container/heap"
	"slices"
	"time"
)

// ticket is one request that waits. Its fields belong to the queue's lock,
// except that slot may be read once granted is closed.
type ticket struct {
	ask     Ask
	at      time.Time
	seq     uint64
	index   int       // place in its heap; -1 outside
	stuck   *upstream // sticky: the one it waits for
	slot    *Slot
	granted chan struct{}
	timer   *time.Timer
}

// wait makes t ready to be queued for at most d.
func (t *ticket) wait(d time.Duration) {
	t.granted = make(chan struct{})
	t.timer = time.NewTimer(d)
}

// ticketHeap has the oldest arrival first; leaving from the middle is
// O(log n), for clients leave at any time.
type ticketHeap []*ticket

func (h *ticketHeap) push(t *ticket)   { heap.Push((*heapOf)(h), t) }
func (h *ticketHeap) pop() *ticket     { return heap.Pop((*heapOf)(h)).(*ticket) }
func (h *ticketHeap) remove(t *ticket) { heap.Remove((*heapOf)(h), t.index) }
func (h ticketHeap) all() []*ticket    { return slices.Clone(h) }

// heapOf keeps the words of container/heap out of the queue's sight.
type heapOf []*ticket

func (h heapOf) Len() int           { return len(h) }
func (h heapOf) Less(i, j int) bool { return h[i].seq < h[j].seq }
func (h heapOf) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *heapOf) Push(x any) {
	t := x.(*ticket)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *heapOf) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	t.index = -1
	*h = old[:len(old)-1]
	return t
}
