package admission

import (
	"container/heap"
	"time"
)

// order decides who of those that wait is next: between classes by weight,
// between the clients of a class by start-time fair queueing (Goyal, Vin, Cheng:
// "Start-time Fair Queuing", SIGCOMM 1996), charged by what the requests are
// expected to cost, and inside one client by age.
//
// The clock of either level is virtual: it stands at the start of whoever was
// served last, so that who comes after a pause is neither owed its silence nor
// behind those who have been greedy meanwhile.
type order struct {
	classes []*classLine
	clock   float64       // virtual seconds; the start of the class served last
	n       int           // tickets
	work    time.Duration // their cost
}

// classLine is one class in an order.
type classLine struct {
	name    string
	weight  float64
	start   float64            // virtual time at which it may go next
	clock   float64            // of its clients
	clients map[string]*client // who waits, and who was served more than the clock says
	active  clientHeap         // who waits, the next first
	owing   []*client          // who does not wait and is remembered, oldest first; <= maxOwing
}

// maxOwing bounds how many absent clients a class remembers. One that is
// forgotten has its greed forgiven.
const maxOwing = 1024

// client is one of those between whom a class is fair.
type client struct {
	key     string
	class   *classLine
	start   float64 // virtual time at which it may go next
	since   uint64  // arrival of the first of its tickets when it had none
	tickets ticketList
	cost    time.Duration // of its tickets
	index   int           // in class.active; -1: it has no tickets
	heavy   int           // in Queue.heavy; -1: it has no tickets
	owes    bool          // it is in class.owing
}

// returning is the client that all who proved their earlier arrival share: they
// go oldest first, and as one client of many they get half of the class at most.
const returning = "\x00returning"

func newOrder(classes []Class) *order {
	o := &order{}
	for _, c := range classes {
		o.classes = append(o.classes, &classLine{
			name: c.Name, weight: float64(max(c.Weight, 1)), clients: make(map[string]*client),
		})
	}
	return o
}

func (o *order) push(t *ticket, heavy *heavyHeap) {
	line := o.classOf(t.ask.Class)
	if len(line.active) == 0 {
		line.start = max(line.start, o.clock)
	}
	key := t.key()
	c := line.clients[key]
	if c == nil {
		c = &client{key: key, class: line, index: -1, heavy: -1}
		line.clients[key] = c
	}
	t.order, t.client = o, c
	c.tickets.insert(t)
	c.cost += t.cost
	o.work += t.cost
	o.n++
	if c.index < 0 {
		c.start, c.since = max(c.start, line.clock), t.seq
		heap.Push(&line.active, c)
		heap.Push(heavy, c)
	} else {
		heap.Fix(heavy, c.heavy)
	}
}

// classOf falls back to the first class, for a config may have lost one that a
// request was matched to.
func (o *order) classOf(name string) *classLine {
	for _, c := range o.classes {
		if c.name == name {
			return c
		}
	}
	return o.classes[0]
}

func (o *order) remove(t *ticket, heavy *heavyHeap) {
	c := t.client
	c.tickets.remove(t)
	c.cost -= t.cost
	t.order, t.client = nil, nil
	o.work -= t.cost
	o.n--
	if c.tickets.n > 0 {
		heap.Fix(heavy, c.heavy)
		return
	}
	heap.Remove(heavy, c.heavy)
	heap.Remove(&c.class.active, c.index)
	c.class.remember(c)
}

// remember keeps a client that was served more than its share, for a while.
func (line *classLine) remember(c *client) {
	switch {
	case c.start <= line.clock && !c.owes:
		delete(line.clients, c.key)
	case !c.owes:
		c.owes = true
		line.owing = append(line.owing, c)
		if len(line.owing) > maxOwing {
			line.forget(line.owing[0])
			line.owing = line.owing[1:]
		}
	}
}

func (line *classLine) forget(c *client) {
	c.owes = false
	if c.index < 0 {
		delete(line.clients, c.key)
	}
}

// next is the ticket whose turn it is; nil when nobody waits.
func (o *order) next(newestFirst bool) *ticket {
	var line *classLine
	for _, c := range o.classes {
		if len(c.active) > 0 && (line == nil || c.start < line.start) {
			line = c
		}
	}
	if line == nil {
		return nil
	}
	c := line.active[0]
	if newestFirst && c.key != returning {
		return c.tickets.newest
	}
	return c.tickets.oldest
}

// charge moves the clocks for a ticket that is served. It must be called before
// the ticket is removed.
func (o *order) charge(t *ticket) {
	c, line := t.client, t.client.class
	cost := max(t.cost, minCost).Seconds()
	o.clock = max(o.clock, line.start)
	line.start += cost / line.weight
	line.clock = max(line.clock, c.start)
	if c.key == returning {
		// As many shares as the others have together: half.
		cost /= float64(max(len(line.active)-1, 1))
	}
	c.start += cost
	heap.Fix(&line.active, c.index)
	t.charged = c
}

// ahead is the work that t's client has queued, and how many share the slots
// with him, weighted: what he gets is one part of that many.
func (o *order) ahead(t *ticket) (own time.Duration, shares float64) {
	line := o.classOf(t.ask.Class)
	weights := line.weight
	for _, other := range o.classes {
		if other != line && len(other.active) > 0 {
			weights += other.weight
		}
	}
	clients := len(line.active)
	if c := line.clients[t.key()]; c != nil && c.index >= 0 {
		own = c.cost
	} else {
		clients++
	}
	return own, float64(clients) * weights / line.weight
}

// settle corrects the charge when the real cost is known.
func (c *client) settle(expected, actual time.Duration) {
	c.start += (actual - max(expected, minCost)).Seconds()
	if c.index >= 0 {
		heap.Fix(&c.class.active, c.index)
	}
}

// minCost is what a request is charged at the least: one that costs nothing would
// never lose its turn.
const minCost = 100 * time.Microsecond

// clientHeap has the client first whose turn it is.
type clientHeap []*client

func (h clientHeap) Len() int { return len(h) }
func (h clientHeap) Less(i, j int) bool {
	if h[i].start != h[j].start {
		return h[i].start < h[j].start
	}
	return h[i].since < h[j].since // those who are new are equals: by arrival
}
func (h clientHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *clientHeap) Push(x any) {
	c := x.(*client)
	c.index = len(*h)
	*h = append(*h, c)
}
func (h *clientHeap) Pop() any {
	c := pop((*[]*client)(h))
	c.index = -1
	return c
}

// heavyHeap has the client first that has the most queued, for its weight.
type heavyHeap []*client

func (h heavyHeap) Len() int           { return len(h) }
func (h heavyHeap) Less(i, j int) bool { return h[i].weighs() > h[j].weighs() }
func (h heavyHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heavy, h[j].heavy = i, j
}
func (h *heavyHeap) Push(x any) {
	c := x.(*client)
	c.heavy = len(*h)
	*h = append(*h, c)
}
func (h *heavyHeap) Pop() any {
	c := pop((*[]*client)(h))
	c.heavy = -1
	return c
}

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
