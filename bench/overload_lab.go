package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// A lab measures applications with and without something in front of them. Not
// for concurrent use.
type lab struct {
	scenarios []scenario
	apps      []application
	peers     []peer
	rounds    int
	seconds   time.Duration // of a cell
	loads     []float64     // times the capacity
	keepAlive bool
	words     string // for app_proxy

	root, dir string
	self      string // this program, which is the generator and the built-in application too
	caddy     string
	turns     int // of churn for a page of 3 ms
	pinned    bool
	front     int // the core of proxy and generator
	back      int // the core of the application
	show      *progress
	begun     time.Time
	stages    int

	leftOut    []string
	cells      []Cell
	capacities []Capacity
}

// prepare finds and builds what is measured, and divides the machine.
func (l *lab) prepare(ctx context.Context) (err error) {
	l.begun = time.Now()
	if l.root, err = moduleRoot(); err != nil {
		return err
	}
	if l.self, err = os.Executable(); err != nil {
		return err
	}
	if l.dir, err = os.MkdirTemp("", "portner-lab-"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(l.dir)
		}
	}()

	l.peers = slices.DeleteFunc(l.peers, func(p peer) bool { return l.leaveOut(p.name, p.missing()) })
	l.apps = slices.DeleteFunc(l.apps, func(a application) bool { return a.missing != nil && l.leaveOut(a.name, a.missing()) })
	if l.caddy == "" && slices.ContainsFunc(l.peers, func(p peer) bool { return p.config != nil && p.program == "" }) {
		l.show.say("building Caddy")
		l.caddy = filepath.Join(l.dir, "caddy")
		if err := goBuild(ctx, l.root, "-tags=nobadger,nomysql,nopgx", "-o", l.caddy, "./cmd/caddy"); err != nil {
			return err
		}
	}
	_, err = exec.LookPath("taskset")
	l.pinned = err == nil && runtime.NumCPU() > 1
	l.front, l.back = 0, runtime.NumCPU()-1
	if !l.pinned {
		l.leaveOut("pinning", "it takes two cores and taskset (util-linux): application, proxy and generator disturb each other")
	}
	path, args := l.on(l.back, l.self, "overload-app", "-calibrate", "3ms")
	said, err := exec.CommandContext(ctx, path, args...).Output()
	if err != nil {
		return fmt.Errorf("calibrate: %w", err)
	}
	l.turns, err = strconv.Atoi(string(bytes.TrimSpace(said)))
	return err
}

// leaveOut says it loudly, now and in the report.
func (l *lab) leaveOut(what, why string) bool {
	if why == "" {
		return false
	}
	l.show.clear()
	l.leftOut = append(l.leftOut, fmt.Sprintf("%s: %s", what, why))
	fmt.Printf("LEFT OUT: %s: %s\n", what, why)
	return true
}

// run interleaves: all of a round before the next, and in it every peer before
// the next load.
func (l *lab) run(ctx context.Context) error {
	for round := range l.rounds {
		for _, s := range l.scenarios {
			if err := s.run(ctx, l, round+1); err != nil {
				return fmt.Errorf("%s, round %d: %w", s.name, round+1, err)
			}
		}
	}
	return nil
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

// kill ends the process and those that it has started. The lab's servers have
// nothing to lose, and a graceful end would wait for pages of three seconds. It
// is an error that the process had ended before. Safe to call on nil.
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

// A stage is an application that runs, with a peer before it or none. It is made
// for one load: nothing of the load before waits in any queue, and nobody has
// learned anything.
type stage struct {
	dir     string
	app     *process
	address string // of the application
	control string
	body    int // bytes of its page
	peer    *process
	front   netip.AddrPort // whom clients ask
}

// localClient looks whether a server is there.
var localClient = &http.Client{Timeout: 5 * time.Second}

func (l *lab) set(ctx context.Context, app application, p peer, limit int) (_ *stage, err error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	l.stages++
	s := &stage{
		dir:     filepath.Join(l.dir, strconv.Itoa(l.stages)),
		address: "127.0.0.1:" + ports[0],
		control: "127.0.0.1:" + ports[1],
	}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.end())
		}
	}()
	if s.app, err = app.start(l, s); err != nil {
		return nil, err
	}
	if err := s.app.await(ctx, func() error { return alive(localClient, "http://"+s.address) }); err != nil {
		return nil, err
	}
	status, page, err := get(localClient, "http://"+s.address+"/")
	if err != nil || status != http.StatusOK || len(page) == 0 {
		return nil, fmt.Errorf("the page of %s is %d, %d bytes: %w", app.name, status, len(page), err)
	}
	s.body = len(page)
	front := s.address
	if p.name != direct {
		front = "127.0.0.1:" + ports[2]
		if err := p.start(ctx, l, s, setup{dir: s.dir, front: front, app: s.address, limit: limit, words: l.words}); err != nil {
			return nil, err
		}
	}
	s.front, err = netip.ParseAddrPort(front)
	return s, err
}

func (s *stage) end() error { return errors.Join(s.peer.kill(), s.app.kill()) }

// setWorkers adds or takes away workers of the built-in application.
func (s *stage) setWorkers(n int) error {
	resp, err := localClient.Post(fmt.Sprintf("http://%s/workers?n=%d", s.control, n), "", nil)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s does not take %d workers: %s", s.control, n, resp.Status)
	}
	return nil
}

// generate runs the generator as a process on the core of the proxy.
func (l *lab) generate(ctx context.Context, load Load) (*Loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, load.Length+30*time.Second)
	defer cancel()
	path, args := l.on(l.front, l.self, "overload-load")
	return runGenerator[Loaded](ctx, path, args, load)
}

// runGenerator runs a generator that reads its errand from its standard input and
// writes what came of it.
func runGenerator[T any](ctx context.Context, path string, args []string, errand any) (*T, error) {
	text, err := json.Marshal(errand)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is the lab's
	cmd.Stdin = bytes.NewReader(text)
	var said, complained bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complained
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("generator: %w: %s", errors.Join(ctx.Err(), err), bytes.TrimSpace(complained.Bytes()))
	}
	result := new(T)
	if err := json.Unmarshal(said.Bytes(), result); err != nil {
		return nil, fmt.Errorf("generator: %w", err)
	}
	return result, nil
}
