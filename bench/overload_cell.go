package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// A Cell is one measurement: one load, against one peer, before one application.
type Cell struct {
	Scenario string  `json:"scenario"`
	App      string  `json:"app"`
	Peer     string  `json:"peer"`
	Load     string  `json:"load"`
	Round    int     `json:"round,omitempty"` // 0 is the median of all
	Capacity float64 `json:"capacity"`        // right answers per second of the application asked directly
	Goodput  float64 `json:"goodput"`         // right answers per second
	Share    float64 `json:"share"`           // of the capacity, in percent
	Answered float64 `json:"answered"`        // percent of the requests that got a right answer
	Latency
	Sent      float64 `json:"sent"`
	Refused   float64 `json:"refused"` // complete answers other than 200
	Wrong     float64 `json:"wrong"`   // 200 with another body
	TimedOut  float64 `json:"timed_out"`
	Failed    float64 `json:"failed"`
	Beside    float64 `json:"beside,omitempty"`       // right answers of what runs beside, all in all
	Late      float64 `json:"late_p99_ms"`            // of the generator
	LoadCPU   float64 `json:"generator_core_percent"` // how much of a core each of them used
	PeerCPU   float64 `json:"peer_core_percent"`
	AppCPU    float64 `json:"app_core_percent"`
	OthersCPU float64 `json:"others_core_percent"` // all other processes on all cores: the noise
	Steal     float64 `json:"steal_percent"`
	Void      string  `json:"void,omitempty"` // why it does not count
	Seconds   []int   `json:"seconds,omitempty"`
	Failures  string  `json:"failures,omitempty"`
}

// A Capacity is what an application gives by itself.
type Capacity struct {
	App    string          `json:"app"`
	Round  int             `json:"round"`
	PerSec float64         `json:"per_second"`
	By     map[int]float64 `json:"by_connections"`
}

// patience is how long a person's client waits for its page.
const personsPatience = time.Second

// A trial is a load and what is looked at in it.
type trial struct {
	cell     Cell // what is known before
	app      application
	peer     peer
	limit    int // 0 lets Portner find it out
	streams  []Stream
	windows  []window // one cell each; none means all of the time
	meantime func(ctx context.Context, s *stage) error
}

// A window is a part of a trial that makes a cell.
type window struct {
	load        string
	from, until time.Duration
	capacity    float64
}

// crowd are the clients of an ordinary load: enough of them that no source
// address runs out of ports.
var crowd = addresses(1, 50)

// addresses are count clients, 127.0.0.first and on.
func addresses(first, count int) []netip.Addr {
	var all []netip.Addr
	for i := range count {
		all = append(all, netip.AddrFrom4([4]byte{127, 0, 0, byte(first + i)}))
	}
	return all
}

// capacity asks the application directly in closed loops, once in a round.
func (l *lab) capacity(ctx context.Context, app application, round int) (float64, error) {
	for _, known := range l.capacities {
		if known.App == app.name && known.Round == round {
			return known.PerSec, nil
		}
	}
	c := Capacity{App: app.name, Round: round, By: make(map[int]float64)}
	length := max(l.seconds/3, time.Second)
	for _, connections := range []int{8, 16, 64} {
		l.show.say("round %d: %s, capacity with %d connections", round, app.name, connections)
		s, err := l.set(ctx, app, peers[0], 0)
		if err != nil {
			return 0, err
		}
		got, err := l.generate(ctx, Load{Address: s.front, Length: length, KeepAlive: l.keepAlive, Streams: []Stream{
			{Name: pageStream, Path: "/", Body: s.body, Connections: connections, Clients: crowd, Patience: 10 * time.Second}}})
		if err := errors.Join(err, s.end()); err != nil {
			return 0, err
		}
		c.By[connections] = float64(len(got.Streams[0].Right)) / length.Seconds()
		c.PerSec = max(c.PerSec, c.By[connections])
	}
	if c.PerSec == 0 {
		return 0, fmt.Errorf("%s answers nobody", app.name)
	}
	l.capacities = append(l.capacities, c)
	return c.PerSec, nil
}

const (
	pageStream   = "page" // what a cell is about; there may be several, one after another
	besideStream = "beside"
)

// linger is how long the load waits for the last answers, at most.
const linger = 5 * time.Second

// measure makes the cells of a trial. That the peer ends meanwhile makes them
// void; everything else that goes wrong is an error.
func (l *lab) measure(ctx context.Context, t trial) error {
	t.cell.App, t.cell.Peer = t.app.name, cmp.Or(t.cell.Peer, t.peer.name)
	l.show.say("round %d: %s, %s, %s, %s", t.cell.Round, t.cell.Scenario, t.app.name, t.cell.Load, t.cell.Peer)
	s, err := l.set(ctx, t.app, t.peer, t.limit)
	if err != nil {
		return err
	}
	length := l.seconds
	for i := range t.streams {
		t.streams[i].Until = cmp.Or(t.streams[i].Until, length)
		if t.streams[i].Name == pageStream {
			t.streams[i].Body = s.body
		}
	}
	for _, stream := range t.streams {
		length = max(length, stream.Until)
	}
	if len(t.windows) == 0 {
		t.windows = []window{{t.cell.Load, 0, length, t.cell.Capacity}}
	}

	meantime, stop := context.WithCancel(ctx)
	events := make(chan error, 1)
	go func() { // ends with stop
		if t.meantime == nil {
			t.meantime = func(context.Context, *stage) error { return nil }
		}
		events <- t.meantime(meantime, s)
	}()
	before := takeUsage(s)
	got, err := l.generate(ctx, Load{
		Address: s.front, Length: length + linger, Seed: uint64(t.cell.Round), KeepAlive: l.keepAlive, Streams: t.streams})
	use := before.since(s)
	stop()
	err = errors.Join(err, <-events)
	gone := s.peer.kill()
	if err := errors.Join(err, s.app.kill(), os.RemoveAll(s.dir)); err != nil {
		return err
	}
	for _, w := range t.windows {
		c := t.cell
		c.Load, c.Capacity = w.load, w.capacity
		c.fill(got, t.streams, w)
		c.use(use, got)
		c.judge(got, gone)
		l.cells = append(l.cells, c)
		l.note(c)
	}
	return nil
}

// fill counts what belongs to a window: answers that came in it for the
// throughput, requests that belong in it for the latency.
func (c *Cell) fill(got *Loaded, streams []Stream, w window) {
	var took []time.Duration
	right, seconds := 0, make([]int, int((w.until-w.from+time.Second-1)/time.Second))
	failures := make(map[string]int)
	for i, tally := range got.Streams {
		if streams[i].Name != pageStream {
			c.Beside += float64(len(tally.Right))
			continue
		}
		for n, at := range tally.Right {
			if at >= w.from && at < w.until {
				right++
				seconds[int((at-w.from)/time.Second)]++
			}
			if due := at - tally.Took[n]; due >= w.from && due < w.until {
				took = append(took, tally.Took[n])
			}
		}
		if streams[i].From < w.from || streams[i].From >= w.until {
			continue
		}
		c.Sent += float64(tally.Sent)
		c.Wrong += float64(tally.Wrong)
		c.TimedOut += float64(tally.TimedOut)
		c.Failed += float64(tally.Failed)
		for status, n := range tally.Status {
			if status != 200 {
				c.Refused += float64(n)
			}
		}
		for what, n := range tally.Failures {
			failures[what] += n
		}
	}
	c.Goodput = float64(right) / (w.until - w.from).Seconds()
	c.Share = 100 * c.Goodput / max(c.Capacity, 1)
	c.Answered = min(100, 100*float64(len(took))/max(c.Sent, 1))
	c.Latency = latencyOf(took)
	c.Seconds = seconds
	c.Failures = describe(failures)
}

func describe(failures map[string]int) string {
	var list []string
	for what, n := range failures {
		list = append(list, fmt.Sprintf("%d %s", n, what))
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

func (c *Cell) use(u usage, got *Loaded) {
	c.LoadCPU = 100 * got.CPU.Seconds() / u.elapsed.Seconds()
	c.PeerCPU, c.AppCPU, c.Steal = u.peer, u.app, u.steal
	c.OthersCPU = max(0, u.all-u.peer-u.app-c.LoadCPU)
	c.Late = milliseconds(got.Late)
}

// judge says why a cell does not count.
func (c *Cell) judge(got *Loaded, peer error) {
	var why []string
	if got.Unsent > 0 {
		why = append(why, fmt.Sprintf("the generator had %d connections open and left out %d requests", maxOpen, got.Unsent))
	}
	if got.Late > 10*time.Millisecond {
		why = append(why, fmt.Sprintf("the generator was %.0f ms late", c.Late))
	}
	if c.Steal > 2 {
		why = append(why, fmt.Sprintf("the host took %.1f %% of the CPUs", c.Steal))
	}
	if peer != nil {
		why = append(why, peer.Error())
	}
	c.Void = strings.Join(why, "; ")
}
