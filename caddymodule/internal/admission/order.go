package admission

import "time"

// order decides who of those that wait is next: between classes by weight and
// start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM
// 1996), between the clients of a class as classLine says, and inside one client by
// age, the newest first where the queue stands.
//
// The clock is virtual: it stands at the start of the class that was served last, so
// that a class in which somebody comes after a pause is neither owed its silence nor
// behind those that have had more meanwhile.
type order struct {
	classes []*classLine
	clock   float64       // virtual seconds; the start of the class served last
	n       int           // tickets
	work    time.Duration // their cost
}

func newOrder(classes []Class) *order {
	o := &order{}
	for _, c := range classes {
		o.classes = append(o.classes, newClassLine(c))
	}
	return o
}

func (o *order) push(t *ticket, crowd *crowd) {
	line := o.classOf(t.ask.Class)
	if line.tickets == 0 {
		line.start = max(line.start, o.clock)
	}
	t.order = o
	o.work += t.cost
	o.n++
	line.push(t)
	crowd.update(t.client)
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
	t.order = nil
	o.work -= t.cost
	o.n--
	c.class.remove(t)
	crowd.update(c)
}

// next is the ticket whose turn it is; nil when nobody waits.
func (o *order) next(newestFirst bool) *ticket { return o.nextBut(newestFirst, false) }

// nextBut passes over the classes that have their half, if they have.
func (o *order) nextBut(newestFirst, halves bool) *ticket {
	var line *classLine
	for _, c := range o.classes {
		if c.tickets > 0 && !(halves && c.half) && (line == nil || c.start < line.start) {
			line = c
		}
	}
	if line == nil {
		return nil
	}
	line.stand(newestFirst)
	return line.next()
}

// charge moves the clocks for a ticket that is served. It must be called before
// the ticket is removed.
func (o *order) charge(t *ticket) {
	line := t.client.class
	o.clock = max(o.clock, line.start)
	line.charge(t)
	line.start += t.charge.expected.Seconds() / o.weightOf(line)
}

// weightOf is the weight of a class beside those that wait now.
func (o *order) weightOf(line *classLine) float64 {
	if !line.half {
		return line.weight
	}
	others := 0.0
	for _, c := range o.classes {
		if c != line && c.tickets > 0 {
			others += c.weight
		}
	}
	if others == 0 {
		return line.weight
	}
	return min(line.weight, others)
}

// ahead is the work that is done before t's turn comes. The light wait for what the
// light have queued, or for nobody where they are a crowd of which the newest go first.
// The heavy wait for that, or for what the client has queued itself, once for each that
// shares with it, and one turn of each of those, whichever is more: of a backlog of
// others nobody waits for more. The returning wait for who came before them.
func (o *order) ahead(t *ticket, newestFirst bool) time.Duration {
	if o.n == 0 {
		return 0
	}
	line := o.classOf(t.ask.Class)
	c, flows := line.find(t), line.flows()
	half := 1.0 // what waits for each of the other half once waits twice as long
	if flows[1] > 0 {
		half = 2
	}
	clients := line.waiting()
	if !c.waits() {
		clients++
	}
	shares := float64(clients) * half
	var own, first time.Duration
	switch {
	case t.returns():
		shares = 1
		if flows[0] > 0 {
			shares = 2
		}
		if c.waits() {
			_, own = c.ages.before(t)
		}
	case line.lightWith(c, t):
		shares = half
		if !newestFirst || !line.crowded() {
			own = line.early
		}
	default:
		first = line.early
		if c.waits() && !newestFirst {
			own = c.cost
		}
	}
	mine := o.weightOf(line)
	weights, classes := mine, 1.0
	for _, other := range o.classes {
		if other != line && other.tickets > 0 {
			weights += o.weightOf(other)
			classes++
		}
	}
	turns := shares * weights / mine
	if line.tickets == 0 {
		turns = min(turns, classes) // whatever its weight, a class that comes has its first turn soon
	}
	turn := float64(o.work) / float64(o.n)
	return max(first, time.Duration(float64(own)*shares*weights/mine+turn*(turns-1)))
}
