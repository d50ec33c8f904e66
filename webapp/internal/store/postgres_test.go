package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
)

// A private PostgreSQL for this test binary, on a socket in a folder of its
// own: it is started by the first test that asks and ends with the tests.
// Without binaries the tests for it are skipped, loudly; with REQUIRE_POSTGRES
// set they fail.
type cluster struct {
	dir  string
	cmd  *exec.Cmd
	logs bytes.Buffer
	why  error // there is none
	n    int   // databases made

	template string // address of one with the schema and nothing in it

	owner *syscall.Credential
	bin   string
}

var private = sync.OnceValue(func() *cluster {
	c := &cluster{}
	if c.why = c.start(); c.why != nil {
		c.stop()
		fmt.Fprintf(os.Stderr, "\n*** NOT TESTED WITH POSTGRESQL: %v ***\n\n", c.why)
	}
	running = c
	return c
})

var running *cluster // for TestMain

func TestMain(m *testing.M) {
	argonMemory = 64
	status := m.Run()
	if running != nil {
		running.stop()
	}
	os.Exit(status)
}

// postgres makes an empty database and returns its address.
func postgres(t testing.TB) string {
	t.Helper()
	c := private()
	if c.why != nil {
		if os.Getenv("REQUIRE_POSTGRES") != "" {
			t.Fatalf("PostgreSQL is required: %v", c.why)
		}
		t.Skipf("PostgreSQL is not there: %v", c.why)
	}
	return c.create(t, "template1")
}

func (c *cluster) create(t testing.TB, template string) string {
	t.Helper()
	db, err := sql.Open("pgx", c.address("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c.n++
	name := fmt.Sprintf("test%d", c.n)
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatal(err)
	}
	return c.address(name)
}

// migrated makes an empty database with the newest schema, by copying one.
func migrated(t testing.TB) string {
	t.Helper()
	first := private().template
	if first == "" {
		first = postgres(t)
		s, err := Open(t.Context(), first, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		private().template = first
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(first, "postgres:///"), "?")
	return private().create(t, name)
}

func (c *cluster) address(name string) string {
	return "postgres:///" + name + "?" + url.Values{"host": {c.dir}, "user": {"postgres"}}.Encode()
}

// start makes a cluster and waits until it answers. initdb refuses to be root,
// so root gives it to the user postgres.
func (c *cluster) start() (err error) {
	if c.bin, err = postgresBin(); err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("", "pg"); err != nil { // t.TempDir is too long for a socket's path
		return err
	}
	if os.Getuid() == 0 {
		u, err := osuser.Lookup("postgres")
		if err != nil {
			return fmt.Errorf("root cannot run it: %w", err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		c.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(c.dir, uid, gid); err != nil {
			return err
		}
	}
	if err := c.run("initdb", "-D", c.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"); err != nil {
		return err
	}
	return c.serve()
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

// serve starts the server. Its own durability is not what is tested.
func (c *cluster) serve() error {
	c.cmd = c.command("postgres", "-D", c.data(), "-k", c.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "autovacuum=off", "-c", "max_connections=200")
	c.cmd.Stderr = &c.logs
	if err := c.cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for { // the server tells nobody when it is ready
		err := c.run("pg_isready", "-q", "-h", c.dir)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("it does not answer: %w\n%s", err, c.logs.String())
		}
	}
}

// end stops the server, at once and without mercy for connections.
func (c *cluster) end() {
	if c.cmd != nil && c.cmd.Process != nil {
		c.cmd.Process.Signal(os.Interrupt)
		c.cmd.Wait()
		c.cmd = nil
	}
}

func (c *cluster) stop() {
	c.end()
	if c.dir != "" {
		os.RemoveAll(c.dir)
	}
}

func (c *cluster) command(name string, args ...string) *exec.Cmd {
	path := filepath.Join(c.bin, name)
	cmd := exec.Command(path, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.owner, Setpgid: true}
	return cmd
}

func (c *cluster) run(name string, args ...string) error {
	if out, err := c.command(name, args...).CombinedOutput(); err != nil {
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
		return "", fmt.Errorf("no initdb in PATH or /usr/lib/postgresql")
	}
	newest := found[0]
	for _, path := range found[1:] {
		if len(path) > len(newest) || len(path) == len(newest) && strings.Compare(path, newest) > 0 {
			newest = path
		}
	}
	return filepath.Dir(newest), nil
}

// each gives both databases the same exam.
func each(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, fresh(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, open(t, migrated(t))) })
}
