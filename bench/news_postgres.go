package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// privatePostgres is a PostgreSQL of our own, on a socket in a folder of its
// own, with the settings it is installed with: what it says is on the disk is.
type privatePostgres struct {
	dir, bin string
	owner    *syscall.Credential // root may not run it
	server   *exec.Cmd
	said     bytes.Buffer // by the server; read when it has ended
}

// startPostgres makes an empty database from the installed binaries, or serves
// a copy of the folder of data that is given.
func startPostgres(ctx context.Context, kept string) (_ *privatePostgres, err error) {
	p := &privatePostgres{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("private PostgreSQL: %w", err), p.stop())
		}
	}()
	if p.bin, err = postgresBin(); err != nil {
		return nil, err
	}
	if p.dir, err = os.MkdirTemp("", "pg"); err != nil { // short: it holds a socket
		return nil, err
	}
	if os.Getuid() == 0 {
		if err := p.giveAway(); err != nil {
			return nil, err
		}
	}
	if kept != "" {
		if err := copyFolder(ctx, kept, p.data()); err != nil {
			return nil, err
		}
	} else if err := p.run(ctx, "initdb", "-D", p.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"); err != nil {
		return nil, err
	}
	return p, p.serve(ctx)
}

func (p *privatePostgres) data() string { return filepath.Join(p.dir, "data") }

func (p *privatePostgres) serve(ctx context.Context) error {
	p.server = p.command(context.WithoutCancel(ctx), "postgres", "-D", p.data(), "-k", p.dir, "-c", "listen_addresses=") // it ends with halt
	p.server.Stderr = &p.said
	if err := p.server.Start(); err != nil {
		p.server = nil
		return err
	}
	return p.await(ctx)
}

// copyTo keeps the data as they are while nobody serves them.
func (p *privatePostgres) copyTo(ctx context.Context, folder string) error {
	p.halt()
	if err := copyFolder(ctx, p.data(), folder); err != nil {
		return err
	}
	return p.serve(ctx)
}

func (p *privatePostgres) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := p.run(ctx, "pg_isready", "-q", "-h", p.dir)
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// giveAway lets the user postgres have the folder.
func (p *privatePostgres) giveAway() error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	p.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return errors.Join(errUID, errGID, os.Chown(p.dir, int(uid), int(gid)))
}

func (p *privatePostgres) address() string {
	return "postgres:///postgres?" + url.Values{"host": {p.dir}, "user": {"postgres"}}.Encode()
}

// halt ends the server, without waiting for its clients. Safe to call twice.
func (p *privatePostgres) halt() {
	if p.server == nil {
		return
	}
	p.server.Process.Signal(os.Interrupt) // "fast", to it
	if err := p.server.Wait(); err != nil {
		fmt.Fprintf(os.Stderr, "PostgreSQL: %v\n%s", err, p.said.Bytes())
	}
	p.server = nil
}

// stop ends the server and removes its data. Safe to call twice.
func (p *privatePostgres) stop() error {
	p.halt()
	if p.dir == "" {
		return nil
	}
	return os.RemoveAll(p.dir)
}

func (p *privatePostgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner, Setpgid: true}
	return cmd
}

func (p *privatePostgres) run(ctx context.Context, name string, args ...string) error {
	if out, err := p.command(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

// postgresBin finds initdb and postgres: in PATH, or where Debian keeps them.
func postgresBin() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New("no initdb in PATH or /usr/lib/postgresql: apt install postgresql")
	}
	return filepath.Dir(slices.Max(found)), nil
}
