package caddymodule_test

import (
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The ten lines of Python in contract.md's example hold what it says: a repeat that
// reaches the application, since the door keeps no answers here, is taken in once.
func TestFlaskTakesARepeatInOnce(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "python3", "-c", "import flask").CombinedOutput(); err != nil {
		t.Skipf("THE FLASK EXAMPLE IS NOT TESTED: python3 with Flask is not there: %v: %s", err, out)
	}
	example, err := filepath.Abs("../examples/flask")
	if err != nil {
		t.Fatal(err)
	}
	a := newTaker(t) // only its address
	host, port, err := net.SplitHostPort(a.addr)
	if err != nil {
		t.Fatal(err)
	}
	flask := exec.CommandContext(t.Context(), "python3", "-B", "-m", "flask", "--app", filepath.Join(example, "app.py"), "run", "--host", host, "--port", port, "--without-threads")
	flask.Dir = t.TempDir() // its data base lies where it is started
	if err := flask.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { flask.Process.Kill(); flask.Wait() })
	eventually(t, "Flask listens", func() bool {
		c, err := net.Dial("tcp", a.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})

	d := open(t, journalled(t, a, "answer_within 30s\n keep_answers 0s"))
	for n, want := range []struct {
		key    string
		status int
		text   string
	}{{"one", http.StatusCreated, "taken"}, {"one", http.StatusOK, "taken before"}, {"two", http.StatusCreated, "taken"}} {
		if res, text := d.post(t, "text", "Idempotency-Key", want.key); res.StatusCode != want.status || text != want.text {
			t.Errorf("post %d: %d %q, want %d %q", n+1, res.StatusCode, text, want.status, want.text)
		}
	}
	count := exec.CommandContext(t.Context(), "python3", "-c", "import sqlite3; print(sqlite3.connect('posts.db').execute('SELECT count(*) FROM posts').fetchone()[0])")
	count.Dir = flask.Dir
	if out, err := count.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "2" {
		t.Errorf("posts: %s %v, want 2", out, err)
	}
}
