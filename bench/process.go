package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A process is one server we started. It ends with stop, or by itself.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string        // file with its output
	done chan struct{} // closed when it has ended
}

// startProcess runs a program in a process group of its own: Ctrl-C ends this
// command, which then stops its servers in order.
func startProcess(dir, name string, env []string, path string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own

	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the process; stop waits for it
		p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stopTime is how long a server may take to end. Caddy's grace_period is 10 s.
const stopTime = 20 * time.Second

// stop asks the process to end and waits. That it had to be killed, or ended
// with a status other than 0, is an error. Safe to call on nil and twice.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-p.done:
	case <-time.After(stopTime):
		p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s had to be killed after %v", p.name, stopTime)
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %v: %s", p.name, p.cmd.ProcessState, p.lastWords())
	}
	return nil
}

// await polls answers until it returns nil.
func (p *process) await(ctx context.Context, answers func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // a first start makes keys and a database
	defer cancel()
	for {
		err := answers()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s has ended: %v: %s", p.name, p.cmd.ProcessState, p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w: %s", p.name, err, p.lastWords())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *process) lastWords() []byte {
	log, _ := os.ReadFile(p.log) // no log, no words
	if len(log) > 2000 {
		log = log[len(log)-2000:]
	}
	return bytes.TrimSpace(log)
}
