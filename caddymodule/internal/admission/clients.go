package admission

import (
	"container/heap"
	"time"
)

// classLine is one class in an order, fair between its clients: by weighted fair
// queueing, charged by what the requests are expected to cost. The clock is that of
// an ideal server that serves all clients at once, each with its share, until they are
// even (Parekh, Gallager: "A generalized processor sharing approach to flow control",
// IEEE/ACM ToN 1/3, 1993). It goes on as answers come. When all of them have had more
// than that, it follows the one who has had the least (WF2Q+: Bennett, Zhang:
// "Hierarchical packet fair queueing algorithms", SIGCOMM 1996).
//
// A client is light while it has had, and asks for, little more than its share, or has
// had much less. The light go before the others, and among themselves by age alone;
// RFC 8290 does about that for sparse flows. By shares alone a second request would
// wait for one of each client that comes meanwhile: fair to all of them, and slow for
// most.
type classLine struct {
	name    string
	weight  float64
	half    bool     // Class.Half
	start   float64  // virtual time at which it may go next
	typical *float64 // costs.typical

	clock   float64            // virtual seconds
	clients map[string]*client // who waits, and who was served more than the clock says
	at      [4]clientHeap      // where they are; in none: the returning while they wait
	back    *client            // the returning, if they are among the clients
	newest  bool               // the queue stands: the newest ticket of a client goes first
	crowd   bool               // and so do the newest of the light
	tickets int                // of all of them
	early   time.Duration      // cost of what the light have queued
}

// place is where a client is.
type place int

const (
	nowhere place = iota
	light         // waits, by age
	others        // waits, by rank
	owing         // does not wait and has had more than the clock says; <= maxOwing
)

const (
	// maxOwing bounds how many absent clients a class remembers. Who owes the least is
	// forgiven.
	maxOwing = 1024
	// lightTurns is how many typical requests are little.
	lightTurns = 4
	// crowdTurns is how many typical requests of the light make a crowd.
	crowdTurns = 10
	// minCost is what a request is charged at the least: one that costs nothing would
	// never lose its turn.
	minCost = 100 * time.Microsecond
)

// client is one of those between whom a class is fair.
type client struct {
	key     string
	class   *classLine
	even    float64 // virtual time at which it has had no more than its share
	rank    float64 // the same with what it asks for
	in      place
	index   int // in class.at[in]
	tickets ticketList
	ages    ages          // of its tickets, if they are the returning
	cost    time.Duration // of its tickets
	early   time.Duration // the part of class.early that is its own
	heavy   int           // in crowd, in heavy or returning; -1: it has no tickets
}

// returning is the client that all who proved their earlier arrival share: they
// go oldest first, and get as much as all others of the class together.
const returning = "\x00returning"

func (c *client) waits() bool { return c != nil && c.tickets.n > 0 }

// client is the one with that key, made if it is not known.
func (line *classLine) client(key string) *client {
	c := line.clients[key]
	if c == nil {
		c = &client{key: key, class: line, even: line.clock, heavy: -1}
		line.clients[key] = c
		if key == returning {
			line.back = c
		}
	}
	return c
}

// push lets t wait in the class.
func (line *classLine) push(t *ticket) {
	c := line.client(t.key())
	t.client = c
	if !c.waits() {
		c.even = max(c.even, line.clock)
	}
	line.tickets++
	c.cost += t.cost
	if c.key == returning {
		older, _ := c.ages.before(t)
		c.tickets.list.insert(t, older)
		c.ages.insert(t)
	} else {
		c.tickets.insert(t)
	}
	line.place(c)
}

// remove ends that.
func (line *classLine) remove(t *ticket) {
	c := t.client
	t.client = nil
	line.tickets--
	c.cost -= t.cost
	c.tickets.remove(t)
	if c.key == returning {
		c.ages.remove(t)
	}
	line.place(c)
}

// place puts c where it belongs now, or forgets it.
func (line *classLine) place(c *client) {
	to, early := nowhere, time.Duration(0)
	switch {
	case c.waits() && c.key == returning:
	case c.waits():
		c.rank, to = line.rank(c.even, c.behind()), others
		if line.isLight(c.rank) {
			to, early = light, min(c.cost, c.tickets.oldest.cost+seconds(line.little()))
		}
	case c.even > line.clock:
		to = owing
	default:
		line.forget(c)
		return
	}
	line.early += early - c.early
	c.early = early
	if to == c.in && to != nowhere {
		heap.Fix(&line.at[to], c.index)
		return
	}
	line.take(c)
	if to != nowhere {
		c.in = to
		heap.Push(&line.at[to], c)
	}
	if len(line.at[owing]) > maxOwing {
		line.forget(line.at[owing][0])
	}
}

// take takes c from where it is.
func (line *classLine) take(c *client) {
	if c.in != nowhere {
		heap.Remove(&line.at[c.in], c.index)
		c.in = nowhere
	}
}

func (line *classLine) forget(c *client) {
	line.take(c)
	line.early -= c.early
	c.early = 0
	delete(line.clients, c.key)
	if c == line.back {
		line.back = nil
	}
}

// behind is what c has queued beyond the first: whoever has one request may be next.
func (c *client) behind() time.Duration {
	return max(c.cost-c.tickets.oldest.cost, time.Duration(c.tickets.n-1)*minCost)
}

// rank says how far somebody has come with so much queued. A backlog counts up to a
// bound: none may wait until a smaller one is gone.
func (line *classLine) rank(even float64, behind time.Duration) float64 {
	return even + min(behind.Seconds(), 2*line.little())
}

func (line *classLine) isLight(rank float64) bool { return rank <= line.clock+line.little() }

// little is how much more than its share is little, in seconds.
func (line *classLine) little() float64 { return lightTurns * line.turnCost() }

// turnCost is what a typical request costs, in seconds.
func (line *classLine) turnCost() float64 { return max(*line.typical, minCost.Seconds()) }

// lightWith reports whether c, who may be nil, would be light if it had t as well.
func (line *classLine) lightWith(c *client, t *ticket) bool {
	switch {
	case c == nil:
		return true
	case !c.waits():
		return line.isLight(max(c.even, line.clock))
	}
	return line.isLight(line.rank(c.even, c.behind()+max(t.cost, minCost)))
}

// turn sets whether the newest go first. A crowd of many clients with one request
// each is a line like any other: where the newest of one client go first, the newest
// of the clients must. A few who wait beside one that has much queued are no crowd.
func (line *classLine) turn(newestFirst bool) {
	line.newest = newestFirst
	if crowd := newestFirst && line.crowded(); crowd != line.crowd {
		line.crowd = crowd
		heap.Init(&line.at[light])
	}
}

// crowded reports whether the light alone have much queued. What was a crowd is one
// until it is half as many.
func (line *classLine) crowded() bool {
	most := crowdTurns * line.turnCost()
	if line.crowd {
		most /= 2
	}
	return line.early.Seconds() > most
}

// next is the ticket whose turn it is in a class in which somebody waits.
func (line *classLine) next() *ticket {
	switch {
	case line.back.waits() && (line.back.even <= line.clock || line.waiting() == 1):
		return line.back.tickets.oldest
	case len(line.at[light]) > 0:
		return line.at[light][0].next()
	}
	return line.at[others][0].next()
}

func (c *client) next() *ticket {
	few := c.in == light && c.early == c.cost
	if c.class.crowd || c.class.newest && !few {
		return c.tickets.newest
	}
	return c.tickets.oldest
}

// charge is what was charged for a request when its turn came.
type charge struct {
	class *classLine // nil: nothing was
	key   string     // of the client that was charged
	share float32    // the part of its cost that was charged
}

// charge charges the client of t, which is served. It must be called before t is
// removed.
func (line *classLine) charge(t *ticket) {
	c, cost := t.client, max(t.cost, minCost).Seconds()
	t.charge = charge{class: line, key: c.key, share: 1}
	if c.key == returning {
		t.charge.share = min(1, 2/float32(line.parts())) // half of all that there are
	} else if c.in == others {
		line.clock = max(line.clock, c.even-line.little())
	}
	// Nobody saves up more than a little of what is less than his share.
	share := float64(t.charge.share)
	c.even = max(c.even, line.clock-line.little()*share) + cost*share
	line.place(c)
	line.reached()
}

// reached places those anew whom the clock has reached.
func (line *classLine) reached() {
	for h := &line.at[others]; len(*h) > 0 && line.isLight((*h)[0].rank); {
		line.place((*h)[0])
	}
	for h := &line.at[owing]; len(*h) > 0 && (*h)[0].even <= line.clock; {
		line.place((*h)[0])
	}
}

// settle corrects a charge when the real cost is known, and lets the clock go on. By
// then the client may have been forgotten.
func (g charge) settle(expected, actual time.Duration) {
	line := g.class
	if line == nil {
		return
	}
	expected, actual = max(expected, minCost), max(actual, minCost)
	line.clock += actual.Seconds() / float64(line.parts())
	c := line.client(g.key)
	c.even += (actual - expected).Seconds() * float64(g.share)
	line.place(c)
	line.reached()
}

// waiting counts the clients that wait; the returning are one.
func (line *classLine) waiting() int {
	n := len(line.at[light]) + len(line.at[others])
	if line.back.waits() {
		n++
	}
	return n
}

// parts is into how many shares the class is divided now, and at least one.
func (line *classLine) parts() int { return max(1, parts(len(line.clients), line.back != nil)) }

// parts is into how many shares a class is divided between n clients. The returning,
// if they are among them, have as many as the others together.
func parts(n int, returning bool) int {
	if !returning || n == 1 {
		return n
	}
	return 2 * (n - 1)
}

// clientHeap has the client first that is the first to leave the place where all in
// it are.
type clientHeap []*client

func (h clientHeap) Len() int { return len(h) }
func (h clientHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	switch {
	case a.in == owing:
		return a.even < b.even
	case a.in == others:
		return a.rank < b.rank
	case a.class.crowd:
		return a.tickets.newest.seq > b.tickets.newest.seq
	}
	return a.tickets.oldest.seq < b.tickets.oldest.seq
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
func (h *clientHeap) Pop() any { return pop((*[]*client)(h)) }
