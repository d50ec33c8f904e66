package admission

import (
	"container/heap"
	"math"
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
	half    bool               // Class.Half
	start   float64            // virtual time at which it may go next
	clock   float64            // of its clients
	newest  bool               // of clients with equal rights the one who came last goes first
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
	ages    ages          // of its tickets, if they are the returning
	cost    time.Duration // of its tickets
	index   int           // in class.active; -1: it has no tickets
	heavy   int           // in crowd, in heavy or returning; -1: it has no tickets
	owes    bool          // it is in class.owing
}

// returning is the client that all who proved their earlier arrival share: they
// go oldest first, and get as much as all others of the class together.
const returning = "\x00returning"

func newOrder(classes []Class) *order {
	o := &order{}
	for _, c := range classes {
		o.classes = append(o.classes, &classLine{
			name: c.Name, weight: float64(max(c.Weight, 1)), half: c.Half, clients: make(map[string]*client),
		})
	}
	return o
}

func (o *order) push(t *ticket, crowd *crowd) {
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
	c.insert(t)
	o.work += t.cost
	o.n++
	if c.index < 0 {
		c.start, c.since = max(c.start, line.clock), t.seq
		heap.Push(&line.active, c)
	}
	crowd.update(c)
}

func (c *client) insert(t *ticket) {
	c.cost += t.cost
	if c.key != returning {
		c.tickets.insert(t)
		return
	}
	older, _ := c.ages.before(t)
	c.tickets.list.insert(t, older)
	c.ages.insert(t)
}

func (c *client) remove(t *ticket) {
	c.cost -= t.cost
	c.tickets.remove(t)
	if c.key == returning {
		c.ages.remove(t)
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

func (o *order) remove(t *ticket, crowd *crowd) {
	c := t.client
	c.remove(t)
	t.order, t.client = nil, nil
	o.work -= t.cost
	o.n--
	crowd.update(c)
	if c.tickets.n > 0 {
		return
	}
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
func (o *order) next(newestFirst bool) *ticket { return o.nextBut(newestFirst, false) }

// nextBut passes over the classes that have their half, if they have.
func (o *order) nextBut(newestFirst, halves bool) *ticket {
	var line *classLine
	for _, c := range o.classes {
		if len(c.active) > 0 && !(halves && c.half) && (line == nil || c.start < line.start) {
			line = c
		}
	}
	if line == nil {
		return nil
	}
	line.turn(newestFirst)
	c := line.active[0]
	if newestFirst && c.key != returning {
		return c.tickets.newest
	}
	return c.tickets.oldest
}

// turn sets who of those with equal rights goes first. A crowd of many clients with
// one request each is a line like any other: where the newest of one client go
// first, the newest of the clients must.
func (line *classLine) turn(newestFirst bool) {
	if line.newest != newestFirst {
		line.newest = newestFirst
		heap.Init(&line.active)
	}
}

// charge moves the clocks for a ticket that is served. It must be called before
// the ticket is removed.
func (o *order) charge(t *ticket) {
	c, line := t.client, t.client.class
	cost := max(t.cost, minCost).Seconds()
	t.charged, t.share = c, 1
	o.clock = max(o.clock, line.start)
	line.start += cost / o.weightOf(line)
	line.clock = max(line.clock, c.start)
	if c.key == returning {
		// As many shares as the others have together: half.
		t.share = 1 / float32(max(len(line.active)-1, 1))
	}
	c.start += cost * float64(t.share)
	heap.Fix(&line.active, c.index)
}

// weightOf is the weight of a class beside those that wait now.
func (o *order) weightOf(line *classLine) float64 {
	if !line.half {
		return line.weight
	}
	others := 0.0
	for _, c := range o.classes {
		if c != line && len(c.active) > 0 {
			others += c.weight
		}
	}
	if others == 0 {
		return line.weight
	}
	return min(line.weight, others)
}

// ahead is the work that is done before t's turn comes: what its client has
// queued, once for each that shares with him, and one turn of each of the others.
// Of a backlog of others nobody waits for more. The returning have an order of
// their own, in which t's place is known, and no newest that goes first.
func (o *order) ahead(t *ticket, newestFirst bool) time.Duration {
	if o.n == 0 {
		return 0
	}
	line := o.classOf(t.ask.Class)
	key := t.key()
	c := line.clients[key]
	waits := c != nil && c.index >= 0
	var own time.Duration
	switch {
	case !waits:
	case key == returning:
		_, own = c.ages.before(t)
	case !newestFirst:
		own = c.cost
	}
	shares := line.shares(key, waits)
	if newestFirst && key != returning && (c == nil || c.start <= line.clock) && !waits {
		shares = 1 // who came last of those with equal rights goes first
	}
	mine := o.weightOf(line)
	weights, classes := mine, 1.0
	for _, other := range o.classes {
		if other != line && len(other.active) > 0 {
			weights += o.weightOf(other)
			classes++
		}
	}
	turns := shares * weights / mine
	if len(line.active) == 0 {
		turns = min(turns, classes) // whatever its weight, a class that comes has its first turn soon
	}
	turn := float64(o.work) / float64(o.n)
	return time.Duration(float64(own)*shares*weights/mine + turn*(turns-1))
}

// shares is what one part of the class is for the client, beside those who wait:
// the others together are a part as large as that of the returning.
func (line *classLine) shares(key string, waits bool) float64 {
	all := len(line.active)
	if !waits {
		all++
	}
	back := line.clients[returning]
	switch {
	case key == returning:
		return float64(min(all, 2))
	case back != nil && back.index >= 0:
		return float64(2 * (all - 1))
	}
	return float64(all)
}

// settle corrects a charge when the real cost is known. share is the part of its
// cost that a request was charged.
func (c *client) settle(expected, actual time.Duration, share float64) {
	c.start += (actual - max(expected, minCost)).Seconds() * share
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
	if h[i].class.newest {
		return h[i].since > h[j].since
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

// crowd is all clients that wait, in any order of the queue.
type crowd struct {
	heavy     heavyHeap // but for the returning
	returning []*client // one for each class of each order at the most
}

// update takes in that c has other tickets than before.
func (w *crowd) update(c *client) {
	switch waits := c.tickets.n > 0; {
	case c.key == returning && waits && c.heavy < 0:
		c.heavy = len(w.returning)
		w.returning = append(w.returning, c)
	case c.key == returning && !waits:
		last := w.returning[len(w.returning)-1]
		w.returning[c.heavy], last.heavy = last, c.heavy
		c.heavy = -1
		pop(&w.returning)
	case c.key == returning:
	case !waits:
		heap.Remove(&w.heavy, c.heavy)
	case c.heavy < 0:
		heap.Push(&w.heavy, c)
	default:
		heap.Fix(&w.heavy, c.heavy)
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
		if x := c.weighs() / float64(max(len(c.class.active)-1, 1)); x > weight {
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
	return h[i].since < h[j].since
}
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
