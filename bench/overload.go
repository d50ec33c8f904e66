package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A lab measures applications with and without something in front of them.
type lab struct {
	dir, root  string
	self       string // this program, which is the generator and the built-in application too
	caddy      string
	turns      int // of churn for a page of 3 ms
	pinned     bool
	appCore    int
	frontCore  int // of proxy and generator
	peers      []peer
	rounds     int
	seconds    time.Duration // of a cell
	keepAlive  bool
	words      string
	loads      []float64 // times the capacity
	show       *progress
	made       int // directories
	cells      []Cell
	capacities []Capacity
}

// patienceOfClients is how long a client waits for its page.
const patienceOfClients = time.Second

// A Capacity is what an application gives by itself.
type Capacity struct {
	App    string          `json:"app"`
	Round  int             `json:"round"`
	PerSec float64         `json:"per_second"`
	By     map[int]float64 `json:"by_connections"`
}

// A Cell is one measurement: one load, against one peer, before one application.
type Cell struct {
	Scenario string  `json:"scenario"`
	App      string  `json:"app"`
	Peer     string  `json:"peer"`
	Load     string  `json:"load"`
	Round    int     `json:"round"`
	Capacity float64 `json:"capacity"` // 200s per second, of the application alone
	Goodput  float64 `json:"goodput"`  // right answers per second
	Answered float64 `json:"answered"` // percent of the requests sent that got a right answer
	Latency
	Sent     int            `json:"sent"`
	Refused  int            `json:"refused"` // complete answers other than 200
	Wrong    int            `json:"wrong"`
	TimedOut int            `json:"timed_out"`
	Failed   int            `json:"failed"`
	Failures map[string]int `json:"failures,omitempty"`
	Late     float64        `json:"late_p99_ms"` // of the generator
	CPU      float64        `json:"generator_cpu_percent"`
	Steal    float64        `json:"steal_percent"`
	Void     string         `json:"void,omitempty"` // why it does not count
}

func overload(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("overload", flag.ContinueOnError)
	appNames := flags.String("apps", "builtin-1,builtin-2", "`names` of the applications")
	peerNames := flags.String("peers", "direct,portner,caddy", "`names` of what stands in front")
	rounds := flags.Int("rounds", 3, "how often; what is shown are medians")
	seconds := flags.Int("seconds", 10, "length of a measurement")
	loads := flags.String("loads", "0.5,1,2,5,20", "open loops, in `multiples` of the capacity")
	keepAlive := flags.Bool("keepalive", false, "clients keep their connections (default a new one for each request)")
	caddy := flags.String("caddy", "", "a Caddy `binary` with Portner in it (default built from this repository)")
	words := flags.String("words", "", "more `lines` for Portner's app_proxy, for experiments")
	out := flags.String("out", "", "write JSON to this `directory`")
	if err := parse(flags, args); err != nil {
		return err
	}
	l := &lab{rounds: *rounds, seconds: time.Duration(*seconds) * time.Second, keepAlive: *keepAlive, words: *words, caddy: *caddy, show: newProgress()}
	for _, multiple := range strings.Split(*loads, ",") {
		m, err := strconv.ParseFloat(multiple, 64)
		if err != nil || m <= 0 || m > 50 {
			fmt.Fprintf(flags.Output(), "-loads: %q is not a multiple of the capacity\n", multiple)
			return errUsage
		}
		l.loads = append(l.loads, m)
	}
	for _, p := range peers {
		if slices.Contains(strings.Split(*peerNames, ","), p.name) {
			if why := p.missing(); why != "" {
				fmt.Printf("LEFT OUT: %s, because %s\n", p.name, why)
				continue
			}
			l.peers = append(l.peers, p)
		}
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	defer os.RemoveAll(l.dir)
	for _, app := range applications {
		if slices.Contains(strings.Split(*appNames, ","), app.name) {
			if err := l.overload(ctx, app); err != nil {
				return err
			}
		}
	}
	if *out != "" {
		all, err := json.MarshalIndent(map[string]any{"cells": l.cells, "capacities": l.capacities}, "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(*out, "overload.json"), all, 0o644)
	}
	return nil
}

// prepare builds what is measured, and divides the machine.
func (l *lab) prepare(ctx context.Context) (err error) {
	if l.root, err = moduleRoot(); err != nil {
		return err
	}
	if l.self, err = os.Executable(); err != nil {
		return err
	}
	if l.dir, err = os.MkdirTemp("", "portner-lab-"); err != nil {
		return err
	}
	if l.caddy == "" {
		l.show.say("building")
		l.caddy = filepath.Join(l.dir, "caddy")
		if err := goBuild(ctx, l.root, "-tags=nobadger,nomysql,nopgx", "-o", l.caddy, "./cmd/caddy"); err != nil {
			return err
		}
	}
	_, err = exec.LookPath("taskset")
	l.pinned = err == nil && runtime.NumCPU() > 1
	l.frontCore, l.appCore = 0, runtime.NumCPU()-1
	if !l.pinned {
		fmt.Println("NOT PINNED: this takes two cores and taskset (util-linux); application, proxy and generator disturb each other")
	}
	name, args := l.on(l.appCore, l.self, "overload-app", "-calibrate", "3ms")
	said, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return fmt.Errorf("calibrate: %w", err)
	}
	l.turns, err = strconv.Atoi(string(bytes.TrimSpace(said)))
	return err
}

// on is a command line that runs on one core.
func (l *lab) on(core int, path string, args ...string) (string, []string) {
	if !l.pinned {
		return path, args
	}
	return "taskset", append([]string{"-c", strconv.Itoa(core), path}, args...)
}

func (l *lab) startOn(core int, dir, name string, env []string, path string, args ...string) (*process, error) {
	path, args = l.on(core, path, args...)
	return startProcess(dir, name, env, path, args...)
}

// kill ends the process and those it has started. The lab's servers have nothing
// to lose, and a graceful end would wait for pages of three seconds. That it had
// ended before is an error. Safe to call on nil.
func (p *process) kill() error {
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended: %v: %s", p.name, p.cmd.ProcessState, p.lastWords())
	default:
	}
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // its group; an error means that it has ended just now
	<-p.done
	return nil
}

// An appKind is an application of the lab.
type appKind struct {
	name    string
	workers int
	start   func(ctx context.Context, l *lab, dir, address string) (*process, error)
}

var applications = []appKind{
	builtin("builtin-1", 1),
	builtin("builtin-2", 2),
}

func builtin(name string, workers int) appKind {
	return appKind{name: name, workers: workers, start: func(_ context.Context, l *lab, dir, address string) (*process, error) {
		return l.startOn(l.appCore, dir, "application", nil, l.self, "overload-app", "-listen", address,
			"-workers", strconv.Itoa(workers), "-turns", strconv.Itoa(l.turns))
	}}
}

// A stage is an application that runs, with a peer before it or none. It is made
// for one cell: nothing of the load before is left in any queue, and nothing
// that anybody has learned.
type stage struct {
	app, peer *process
	front     netip.AddrPort
	direct    string
	body      int // bytes of the page
}

// localClient looks whether a server is there.
var localClient = &http.Client{Timeout: 5 * time.Second}

func (l *lab) set(ctx context.Context, app appKind, p peer, limit int) (_ *stage, err error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	l.made++
	dir := filepath.Join(l.dir, strconv.Itoa(l.made))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	s := &stage{direct: "127.0.0.1:" + ports[1]}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.end())
		}
	}()
	front := s.direct
	if s.app, err = app.start(ctx, l, dir, s.direct); err != nil {
		return nil, err
	}
	if err := s.app.await(ctx, func() error { return alive(localClient, "http://"+s.direct) }); err != nil {
		return nil, err
	}
	status, page, err := get(localClient, "http://"+s.direct+"/")
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("the page of %s: %d %w", app.name, status, err)
	}
	s.body = len(page)
	if p.name != direct {
		front = "127.0.0.1:" + ports[0]
		if s.peer, err = p.start(ctx, l, setup{dir: dir, front: front, app: s.direct, limit: limit, words: l.words}); err != nil {
			return nil, err
		}
	}
	s.front, err = netip.ParseAddrPort(front)
	return s, err
}

func (s *stage) end() error { return errors.Join(s.peer.kill(), s.app.kill()) }

// generate runs the generator as a process on the core of the proxy.
func (l *lab) generate(ctx context.Context, load Load) (*Loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, load.Length+30*time.Second)
	defer cancel()
	order, err := json.Marshal(load)
	if err != nil {
		return nil, err
	}
	path, args := l.on(l.frontCore, l.self, "overload-load")
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is the lab's
	cmd.Stdin = bytes.NewReader(order)
	var said, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("generator: %w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	var result Loaded
	if err := json.NewDecoder(&said).Decode(&result); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("generator: %w", err)
	}
	return &result, nil
}

// capacity asks the application alone, in closed loops.
func (l *lab) capacity(ctx context.Context, app appKind, round int) (float64, error) {
	c := Capacity{App: app.name, Round: round, By: make(map[int]float64)}
	for _, connections := range []int{8, 16, 64} {
		l.show.say("%s: capacity with %d connections", app.name, connections)
		s, err := l.set(ctx, app, peer{name: direct}, 0)
		if err != nil {
			return 0, err
		}
		length := max(l.seconds/3, time.Second)
		got, err := l.generate(ctx, Load{Address: s.front, Length: length, KeepAlive: l.keepAlive, Streams: []Stream{
			{Name: "page", Path: "/", Body: s.body, Connections: connections, Clients: addresses(1, 50), Patience: 10 * time.Second}}})
		if err := errors.Join(err, s.end()); err != nil {
			return 0, err
		}
		c.By[connections] = float64(len(got.Streams[0].Right)) / length.Seconds()
		c.PerSec = max(c.PerSec, c.By[connections])
	}
	l.capacities = append(l.capacities, c)
	return c.PerSec, nil
}

// addresses are count clients, 127.0.0.first and on.
func addresses(first, count int) []netip.Addr {
	var all []netip.Addr
	for i := range count {
		all = append(all, netip.AddrFrom4([4]byte{127, 0, 0, byte(first + i)}))
	}
	return all
}

// measure makes a cell. The first stream is what the cell is about; streams get
// what they need to know of the stage.
func (l *lab) measure(ctx context.Context, cell Cell, app appKind, p peer, length time.Duration, streams ...Stream) error {
	l.show.say("%s, %s, %s, %s, round %d", cell.Scenario, app.name, cell.Load, p.name, cell.Round)
	s, err := l.set(ctx, app, p, app.workers)
	if err != nil {
		return err
	}
	for i := range streams {
		streams[i].Body = s.body
	}
	before, _ := readCPU()
	got, err := l.generate(ctx, Load{Address: s.front, Length: length, Seed: uint64(cell.Round), KeepAlive: l.keepAlive, Streams: streams})
	cell.Steal = stealSince(before)
	if err := errors.Join(err, s.end()); err != nil {
		return err
	}
	cell.App, cell.Peer = app.name, p.name
	cell.fill(got, length)
	l.cells = append(l.cells, cell)
	return nil
}

func (c *Cell) fill(got *Loaded, length time.Duration) {
	main := got.Streams[0]
	c.Sent, c.Wrong, c.TimedOut, c.Failed, c.Failures = main.Sent, main.Wrong, main.TimedOut, main.Failed, main.Failures
	for status, n := range main.Status {
		if status != 200 {
			c.Refused += n
		}
	}
	c.Goodput = float64(len(main.Right)) / length.Seconds()
	c.Answered = 100 * float64(len(main.Right)) / float64(max(main.Sent, 1))
	c.Latency = latencyOf(main.Took)
	c.Late = milliseconds(got.Late)
	c.CPU = 100 * got.CPU.Seconds() / length.Seconds()
	switch {
	case got.Unsent > 0:
		c.Void = fmt.Sprintf("the generator had %d connections open and did not send %d requests", maxOpen, got.Unsent)
	case c.Late > 10:
		c.Void = fmt.Sprintf("the generator was %.0f ms late", c.Late)
	case c.Steal > 2:
		c.Void = fmt.Sprintf("steal %.1f %%", c.Steal)
	}
}

func (l *lab) overload(ctx context.Context, app appKind) error {
	for round := range l.rounds {
		capacity, err := l.capacity(ctx, app, round)
		if err != nil {
			return err
		}
		l.show.clear()
		fmt.Printf("%s, round %d: capacity %.0f/s\n", app.name, round+1, capacity)
		for _, multiple := range l.loads {
			for _, p := range l.peers {
				cell := Cell{Scenario: "overload", Load: fmt.Sprintf("%gx", multiple), Round: round, Capacity: capacity}
				if err := l.measure(ctx, cell, app, p, l.seconds,
					Stream{Name: "page", Path: "/", Rate: multiple * capacity, Clients: addresses(1, 50), Patience: patienceOfClients}); err != nil {
					return err
				}
				l.show.clear()
				c := l.cells[len(l.cells)-1]
				fmt.Printf("%-10s %-5s %-14s %6.0f/s %5.1f%% of capacity  p50 %7.1f  p99 %7.1f ms  refused %6d  timed out %6d  failed %5d  late %5.2f ms  cpu %3.0f%%  %s\n",
					c.App, c.Load, c.Peer, c.Goodput, 100*c.Goodput/c.Capacity, c.P50, c.P99, c.Refused, c.TimedOut, c.Failed, c.Late, c.CPU, c.Void)
			}
		}
	}
	return nil
}
