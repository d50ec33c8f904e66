package admission

import "time"

// Config is what may change while the queue runs. The zero value of a field
// means its default.
type Config struct {
	// Limit is the most slots out at once at one upstream. Default: learned,
	// from 4 on.
	Limit int
	// Wait is the longest time in the queue. Default 5s: a person still waits,
	// a retry storm has passed. Negative: refuse at once when no slot is free.
	Wait time.Duration
	// Depth is the most requests waiting. Default max(100, 10 x the limits of
	// all upstreams together): longer queues are refused by time anyway.
	Depth int
	// Hold is the longest time a request waits while no upstream is ready.
	// Default 30s: an application that restarts takes seconds. Negative: refuse
	// at once.
	Hold time.Duration
	// Classes, at least one in the end; the first is for requests of unknown
	// class. Default: one.
	Classes []Class
}

// Class is an importance group: while classes wait for each other they get
// slots in proportion to their weights.
type Class struct {
	Name   string
	Weight int           // >= 1
	Wait   time.Duration // 0: Config.Wait; negative: as there
	// Half bounds the class while others wait that could go: it gets as many turns
	// as they do together at the most, whatever its weight, and no slot beyond half
	// of all, but always one. What nobody else can use is not left unused for it.
	Half bool
}

// Defaults of Config, in one place for everybody who must know them.
const (
	DefaultLimit = 4
	DefaultWait  = 5 * time.Second
	DefaultHold  = 30 * time.Second
	minDepth     = 100
	depthPerSlot = 10
)

func (c Config) withDefaults() Config {
	if c.Wait == 0 {
		c.Wait = DefaultWait
	}
	if c.Hold == 0 {
		c.Hold = DefaultHold
	}
	if len(c.Classes) == 0 {
		c.Classes = []Class{{Weight: 1}}
	}
	return c
}

// Target is one upstream as the configuration or the resolver names it.
type Target struct {
	Key   string // address; unique in a pool
	Limit int    // 0: Config.Limit
}

// Ask is what one request wants.
type Ask struct {
	Class  string        // name of its class
	Client string        // between whom the class is fair; all the same: first come first served
	Route  string        // template by which the cost is learned; few
	Cost   time.Duration // declared by the operator; 0: learned
	Wait   time.Duration // longest time in the queue; 0: the class's; negative: not at all
	Own    time.Duration // the client's own patience, from arrival on; 0: it did not say
	Since  time.Time     // proven time of an earlier arrival; zero: none
	// Place is the number of what proves it; 0: it has none. A second request that
	// would wait with the same one has proven nothing.
	Place uint64

	// Upstream asks for a slot of this upstream and no other, ready or not: a
	// probe or a dial that finds out whether it is ready. It goes ahead of
	// everybody, one at a time and for a tenth of a slot's time; beyond that, after
	// the requests. Neither Depth nor Wait applies; the context alone ends the wait.
	Upstream string

	// Choose picks one of the candidates' keys; nil means the one with the
	// smallest share of its limit in use. It is called with the queue's lock
	// held, perhaps on another goroutine, and must neither block nor call the
	// queue. An answer that is no candidate counts as nil.
	Choose func(candidates []string) string
	// Sticky makes Choose choose once, among the ready upstreams, when the
	// request arrives, and the request then waits for a slot of that upstream.
	// Otherwise Choose chooses among those with a free slot, at the last moment.
	Sticky bool

	// Again is the slot that an attempt was made with before this one. The
	// request keeps its place: it is older than whoever came since. The time of the
	// attempt is no time in the queue; the client's own patience knows no such thing.
	Again *Slot
}
