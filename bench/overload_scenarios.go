package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A scenario is one question to all peers, asked once in a round.
type scenario struct {
	name  string
	about string
	run   func(ctx context.Context, l *lab, round int) error
}

func (s scenario) called() string { return s.name }

var scenarios = []scenario{
	{"overload", "open loop at multiples of the capacity", runOverload},
	{"closed", "closed loops, each connection asks again when it has its answer", runClosed},
	{"slow", "one request of 3 s every second beside the page", runSlow},
	{"greedy", "one client with 100 connections among 20 that offer half of the capacity", runGreedy},
	{"auto", "Portner finds the limit itself, against fixed limits", runAuto},
}

// openLoop is the page for a crowd of people.
func openLoop(rate float64) Stream {
	return Stream{Name: pageStream, Path: "/", Rate: rate, Clients: crowd, Patience: personsPatience}
}

func closedLoop(connections int) Stream {
	return Stream{Name: pageStream, Path: "/", Connections: connections, Clients: crowd, Patience: personsPatience}
}

// ordinary are the chosen applications that do not belong to the scenario auto
// and to one worker beside two.
func (l *lab) ordinary() []application {
	return slices.DeleteFunc(slices.Clone(l.apps), func(a application) bool {
		return a.name == "gunicorn-1" || a.sleeps
	})
}

// eachPeer measures one load before every peer.
func (l *lab) eachPeer(ctx context.Context, cell Cell, app application, streams func() []Stream) error {
	for _, p := range l.peers {
		if err := l.measure(ctx, trial{cell: cell, app: app, peer: p, limit: app.workers, streams: streams()}); err != nil {
			return err
		}
	}
	return nil
}

func runOverload(ctx context.Context, l *lab, round int) error {
	for _, app := range l.ordinary() {
		capacity, err := l.capacity(ctx, app, round)
		if err != nil {
			return err
		}
		for _, multiple := range l.loads {
			cell := Cell{Scenario: "overload", Load: times(multiple), Round: round, Capacity: capacity}
			err := l.eachPeer(ctx, cell, app, func() []Stream { return []Stream{openLoop(multiple * capacity)} })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func times(multiple float64) string { return strconv.FormatFloat(multiple, 'g', -1, 64) + "x" }

func runClosed(ctx context.Context, l *lab, round int) error {
	for _, app := range l.ordinary() {
		capacity, err := l.capacity(ctx, app, round)
		if err != nil {
			return err
		}
		for _, connections := range []int{8, 64} {
			cell := Cell{Scenario: "closed", Load: fmt.Sprint(connections), Round: round, Capacity: capacity}
			err := l.eachPeer(ctx, cell, app, func() []Stream { return []Stream{closedLoop(connections)} })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// slowPatience is long enough to see how long a page really took.
const slowPatience = 10 * time.Second

// runSlow asks applications with two workers, and offers half of what one of
// them gives: the other may be taken by /slow.
func runSlow(ctx context.Context, l *lab, round int) error {
	slow := Stream{Name: besideStream, Path: "/slow", Body: anyBody, Rate: 1, Even: true, Clients: addresses(200, 20), Patience: slowPatience}
	for _, app := range l.ordinary() {
		if app.workers < 2 {
			continue
		}
		capacity, err := l.capacity(ctx, findApp(app.alone), round)
		if err != nil {
			return err
		}
		open, closed := openLoop(capacity/2), closedLoop(16)
		open.Patience, closed.Patience = slowPatience, slowPatience
		for _, load := range []struct {
			name    string
			streams []Stream
		}{
			{"open, alone", []Stream{open}},
			{"open, beside /slow", []Stream{open, slow}},
			{"closed, beside /slow", []Stream{closed, slow}},
		} {
			cell := Cell{Scenario: "slow", Load: load.name, Round: round, Capacity: capacity}
			if err := l.eachPeer(ctx, cell, app, func() []Stream { return slices.Clone(load.streams) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func runGreedy(ctx context.Context, l *lab, round int) error {
	greedy := Stream{Name: besideStream, Path: "/", Body: anyBody, Connections: 100, Clients: addresses(100, 1), Patience: personsPatience}
	for _, app := range l.ordinary() {
		capacity, err := l.capacity(ctx, app, round)
		if err != nil {
			return err
		}
		polite := openLoop(capacity / 2)
		polite.Clients = addresses(1, 20)
		for _, load := range []struct {
			name    string
			streams []Stream
		}{
			{"alone", []Stream{polite}},
			{"beside greedy", []Stream{polite, greedy}},
		} {
			cell := Cell{Scenario: "greedy", Load: load.name, Round: round, Capacity: capacity}
			if err := l.eachPeer(ctx, cell, app, func() []Stream { return slices.Clone(load.streams) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// learning is how long Portner may take to find the limit.
const learning = 10 * time.Second

const autoPeer = "auto"

// autoLoads are the open loops of the scenario auto, in multiples of the
// capacity: below it a limit that is too low shows, above it one that is too
// high does, because what waits in the application waits for nothing.
var autoLoads = []float64{0.8, 1.5}

// fixedLimits are around the right one.
func fixedLimits(workers int) []int {
	limits := []int{workers / 2, workers, 2 * workers, 4 * workers}
	return slices.DeleteFunc(limits, func(n int) bool { return n < 1 })
}

// runAuto compares Portner with itself: without a limit, and with several. Both
// have had the same time to learn the rest.
func runAuto(ctx context.Context, l *lab, round int) error {
	i := slices.IndexFunc(l.peers, func(p peer) bool { return p.name == "portner" })
	if i < 0 {
		return nil
	}
	portner := l.peers[i]
	for _, app := range l.auto() {
		capacity, err := l.capacity(ctx, app, round)
		if err != nil {
			return err
		}
		for _, multiple := range autoLoads {
			for _, limit := range append(fixedLimits(app.workers), 0) {
				before, then := openLoop(multiple*capacity), openLoop(multiple*capacity)
				before.Until, then.From, then.Until = learning, learning, learning+l.seconds
				t := trial{
					cell: Cell{Scenario: "auto", Peer: limitName(limit), Load: times(multiple), Round: round},
					app:  app, peer: portner, limit: limit,
					streams: []Stream{then, before},
					windows: []window{{times(multiple), learning, learning + l.seconds, capacity}},
				}
				if err := l.measure(ctx, t); err != nil {
					return err
				}
			}
		}
	}
	if !slices.ContainsFunc(l.auto(), func(a application) bool { return a.sleeps }) {
		return nil
	}
	return runFollow(ctx, l, portner, round)
}

// auto are the chosen applications of the scenario.
func (l *lab) auto() []application {
	return slices.DeleteFunc(slices.Clone(l.apps), func(a application) bool {
		return !a.sleeps && a.name != "builtin-1" && a.name != "builtin-2"
	})
}

func limitName(limit int) string {
	if limit == 0 {
		return autoPeer
	}
	return "limit " + strconv.Itoa(limit)
}

// followed are the workers of one application, phase by phase.
var followed = []int{4, 32, 2}

// followWhole is the load of the cell that has all phases, for the plot.
const followWhole = "changes"

func followLoad(workers int) string { return fmt.Sprintf("changed to %d", workers) }

// runFollow adds and takes away workers while Portner serves them without a
// limit of its own, and with one for the most and one for the fewest.
func runFollow(ctx context.Context, l *lab, portner peer, round int) error {
	app := findApp(fmt.Sprintf("sleep-%d", followed[0]))
	phase := learning + l.seconds
	for _, limit := range []int{followed[0], slices.Max(followed), slices.Min(followed), 0} {
		t := trial{
			cell: Cell{Scenario: "auto", Peer: limitName(limit), Load: followWhole, Round: round},
			app:  app, peer: portner, limit: limit,
			meantime: func(ctx context.Context, s *stage) error {
				for _, workers := range followed[1:] {
					select {
					case <-time.After(phase):
					case <-ctx.Done():
						return nil
					}
					if err := s.setWorkers(workers); err != nil {
						return err
					}
				}
				return nil
			},
		}
		for n, workers := range followed {
			capacity, err := l.capacity(ctx, findApp(fmt.Sprintf("sleep-%d", workers)), round)
			if err != nil {
				return err
			}
			begin := time.Duration(n) * phase
			rate := autoLoads[len(autoLoads)-1] * capacity
			before, then := openLoop(rate), openLoop(rate)
			before.From, before.Until = begin, begin+learning
			then.From, then.Until = begin+learning, begin+phase
			t.streams = append(t.streams, before, then)
			t.windows = append(t.windows, window{followLoad(workers), begin + learning, begin + phase, capacity})
		}
		t.windows = append(t.windows, window{followWhole, 0, time.Duration(len(followed)) * phase, 0})
		if err := l.measure(ctx, t); err != nil {
			return err
		}
	}
	return nil
}
