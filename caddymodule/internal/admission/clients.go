package admission

import (
	"container/heap"
	"time"
)

// classLine is one class in an order. The returning are one flow in it and all others
// together another, and both have half of it, by start-time fair queueing as in an
// order. Those others are clients between whom it is fair by weighted fair queueing,
// charged by what the requests that had to wait are expected to cost.
//
// The clock is that of an ideal server that serves all clients at once, each with its
// share, until they are even (Parekh, Gallager: "A generalized processor sharing
// approach to flow control", IEEE/ACM ToN 1/3, 1993). It goes on as answers come. Where
// only those wait who have had more than that, it stays close behind the first of them
// (after WF2Q+: Bennett, Zhang: "Hierarchical packet fair queueing algorithms", SIGCOMM
// 1996).
//
// A client is light while it has had, and asks for, little more than its share, or has
// had much less. The light go before the heavy, and among themselves by age alone; RFC
// 8290 does about that for sparse flows. By shares alone a second request would wait
// for one of each client that comes meanwhile: fair to all of them, and slow for most.
type classLine struct {
	name   string
	weight float64
	half   bool    // Class.Half
	start  float64 // virtual time at which it may go next

	back   *client    // the returning
	halves [2]float64 // virtual times at which the clients and the returning may go next
	halved float64    // virtual time of the halves

	clock   float64            // virtual seconds
	clients map[string]*client // who waits, and who was served more than the clock says
	at      [4]clientHeap      // where they are
	newest  bool               // the queue stands: the newest ticket of a client goes first
	crowd   bool               // and so do the newest of the light
	tickets int                // of all who wait, the returning too
	out     int                // requests that were charged and have no answer yet
	early   time.Duration      // what may go before those who come, of the light
	typical float64            // seconds; mean cost of late
}

// spot is where a client is.
type spot int

const (
	nowhere spot = iota
	light        // waits, by age
	heavy        // waits, by rank
	owing        // does not wait and has had more than the clock says; <= maxOwing
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

// client is one of those between whom a class is fair, or, as one, the returning: all
// who proved their earlier arrival. They go oldest first.
type client struct {
	key     string
	class   *classLine
	even    float64 // virtual time at which it has had no more than its share
	rank    float64 // the same with what it asks for
	in      spot
	index   int // in class.at[in]
	tickets ticketList
	ages    ages          // of its tickets, if they are the returning
	cost    time.Duration // of its tickets
	early   time.Duration // the part of class.early that is its own
	weighed int           // in crowd, in heavy or returning; -1: it has no tickets
}

func (c *client) waits() bool { return c != nil && c.tickets.n > 0 }

func (c *client) returns() bool { return c == c.class.back }

func newClassLine(c Class) *classLine {
	line := &classLine{name: c.Name, weight: float64(max(c.Weight, 1)), half: c.Half, clients: make(map[string]*client)}
	line.back = &client{class: line, weighed: -1}
	return line
}

// find is the client of t, nil if it is not known.
func (line *classLine) find(t *ticket) *client {
	if t.returns() {
		return line.back
	}
	return line.clients[t.ask.Client]
}

// client is the one with that key, made if it is not known.
func (line *classLine) client(key string) *client {
	c := line.clients[key]
	if c == nil {
		c = &client{key: key, class: line, even: line.clock, weighed: -1}
		line.clients[key] = c
	}
	return c
}

// flow is which of the halves c belongs to.
func (c *client) flow() int {
	if c.returns() {
		return 1
	}
	return 0
}

// flows says how many tickets wait in either half.
func (line *classLine) flows() [2]int {
	back := line.back.tickets.n
	return [2]int{line.tickets - back, back}
}

// push lets t wait in the class.
func (line *classLine) push(t *ticket) {
	c := line.back
	if !t.returns() {
		c = line.client(t.ask.Client)
	}
	t.client = c
	if f := c.flow(); line.flows()[f] == 0 {
		line.halves[f] = max(line.halves[f], line.halved)
	}
	if !c.waits() {
		c.even = max(c.even, line.clock)
	}
	if line.typical == 0 {
		line.typical = t.cost.Seconds()
	}
	line.tickets++
	c.cost += t.cost
	if c.returns() {
		older, _ := c.ages.before(t)
		c.tickets.list.insert(t, older)
		c.ages.insert(t)
		return
	}
	c.tickets.insert(t)
	line.put(c)
}

// remove ends that.
func (line *classLine) remove(t *ticket) {
	c := t.client
	t.client = nil
	line.tickets--
	c.cost -= t.cost
	c.tickets.remove(t)
	if c.returns() {
		c.ages.remove(t)
	} else {
		line.put(c)
	}
}

// put puts c where it belongs now, or forgets it.
func (line *classLine) put(c *client) {
	to, early := nowhere, time.Duration(0)
	switch {
	case c.waits():
		c.rank, to = line.rank(c.even, c.behind()), heavy
		if line.isLight(c.rank) {
			to, early = light, min(c.cost, c.tickets.oldest.cost+seconds(line.little()))
		}
	case c.even > line.clock:
		to = owing
	default:
		delete(line.clients, c.key)
	}
	line.early += early - c.early
	c.early = early
	switch {
	case to == c.in && to != nowhere:
		heap.Fix(&line.at[to], c.index)
		return
	case c.in != nowhere:
		heap.Remove(&line.at[c.in], c.index)
	}
	if c.in = to; to != nowhere {
		heap.Push(&line.at[to], c)
	}
	if len(line.at[owing]) > maxOwing {
		forgiven := heap.Pop(&line.at[owing]).(*client)
		forgiven.in = nowhere
		delete(line.clients, forgiven.key)
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
func (line *classLine) little() float64 { return line.turns(lightTurns) }

// turns is what n typical requests cost, in seconds.
func (line *classLine) turns(n float64) float64 { return n * max(line.typical, minCost.Seconds()) }

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

// stand sets whether the queue stands, and the newest go first. A crowd of many clients
// with one request each is a line like any other: where the newest of one client go
// first, the newest of the clients must. A few who wait beside one that has much queued
// are no crowd.
func (line *classLine) stand(newestFirst bool) {
	line.newest = newestFirst
	if crowd := newestFirst && line.crowded(); crowd != line.crowd {
		line.crowd = crowd
		heap.Init(&line.at[light])
	}
}

// crowded reports whether the light alone have much queued. What was a crowd is one
// until it is half as many.
func (line *classLine) crowded() bool {
	most := line.turns(crowdTurns)
	if line.crowd {
		most /= 2
	}
	return line.early.Seconds() > most
}

// next is the ticket whose turn it is in a class in which somebody waits.
func (line *classLine) next() *ticket {
	flows := line.flows()
	switch {
	case flows[1] > 0 && (flows[0] == 0 || line.halves[1] <= line.halves[0]):
		return line.back.tickets.oldest
	case len(line.at[light]) > 0:
		return line.at[light][0].next()
	}
	return line.at[heavy][0].next()
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
	class    *classLine // nil: nothing was
	key      string     // of the client that was charged
	returns  bool       // the returning were
	expected time.Duration
}

// charge charges the client of t, which is served and must be removed then.
func (line *classLine) charge(t *ticket) {
	c := t.client
	t.charge = charge{class: line, key: c.key, returns: c.returns(), expected: max(t.cost, minCost)}
	cost := t.charge.expected.Seconds()
	line.out++
	line.typical += (cost - line.typical) / 16
	f := c.flow()
	line.halved = max(line.halved, line.halves[f])
	line.halves[f] += cost
	if c.returns() {
		return
	}
	if c.in == heavy {
		line.clock = max(line.clock, c.even-line.little())
	}
	c.even = max(c.even, line.clock-line.little()) + cost // what it left unused is kept up to a little
	line.reached()
}

// reached puts those elsewhere whom the clock has reached.
func (line *classLine) reached() {
	for h := &line.at[heavy]; len(*h) > 0 && line.isLight((*h)[0].rank); {
		line.put((*h)[0])
	}
	for h := &line.at[owing]; len(*h) > 0 && (*h)[0].even <= line.clock; {
		line.put((*h)[0])
	}
}

// settle corrects the charge when the real cost is known, and lets the clock go on. By
// then the client may have been forgotten.
func (g charge) settle(actual time.Duration) {
	line := g.class
	if line == nil {
		return
	}
	actual = max(actual, minCost)
	more := (actual - g.expected).Seconds()
	line.out--
	if g.returns {
		line.halves[1] += more
	} else {
		line.halves[0] += more
		line.clock += actual.Seconds() / float64(max(1, len(line.clients)))
		c := line.client(g.key)
		c.even += more
		line.put(c)
		line.reached()
	}
	if line.out == 0 && line.tickets == 0 {
		clear(line.clients) // nobody is busy with them: all are even
		line.at[owing] = line.at[owing][:0]
	}
}

// waiting counts the clients that wait.
func (line *classLine) waiting() int { return len(line.clients) - len(line.at[owing]) }

// clientHeap has the client first that is the first to leave the place where all in
// it are.
type clientHeap []*client

func (h clientHeap) Len() int { return len(h) }
func (h clientHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	switch {
	case a.in == owing:
		return a.even < b.even
	case a.in == heavy && a.rank != b.rank:
		return a.rank < b.rank
	case a.in == light && a.class.crowd:
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
