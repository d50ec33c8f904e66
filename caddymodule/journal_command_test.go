package caddymodule_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/portner/portner/caddymodule"
)

// command runs `app-proxy journal` with input, and returns what it prints.
func command(t *testing.T, input string, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, []byte(input), 0o600); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	wasIn, wasOut := os.Stdin, os.Stdout
	os.Stdin, os.Stdout = stdin, stdout
	defer func() { os.Stdin, os.Stdout = wasIn, wasOut }()
	cmd := caddymodule.JournalCommand()
	cmd.SetArgs(args)
	cmd.SilenceUsage = true
	failed := cmd.Execute()
	said, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(said), failed
}

// must is command for what succeeds.
func must(t *testing.T, input string, args ...string) string {
	t.Helper()
	said, err := command(t, input, args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return said
}

// reload replaces the configuration of a door that has an admin endpoint.
func (d *door) reload(t *testing.T, admin, directives string) error {
	t.Helper()
	text := fmt.Sprintf("{\nadmin %s\npersist_config off\ngrace_period 50ms\nlog {\n level PANIC\n}\n}\nhttp://%s {\n%s\n}\n", strings.TrimPrefix(admin, "http://"), d.addr, directives)
	cfg, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	return caddy.Load(cfg, true)
}

func (d *door) mustReload(t *testing.T, admin, directives string) {
	t.Helper()
	if err := d.reload(t, admin, directives); err != nil {
		t.Fatal(err)
	}
}

func TestJournalCommands(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	d, admin := openWithAdmin(t, journalled(t, a, "always"))
	o := operator{t, admin}
	id := deadLetter(t, a, d, o, "the body")
	at := "--address=" + strings.TrimPrefix(admin, "http://")
	run := func(args ...string) string { return must(t, "", append(args, at)...) }

	if said := run("list"); !strings.Contains(said, strings.ToLower(t.Name())) || !strings.Contains(said, "UNDELIVERED") {
		t.Error(said)
	}
	if said := run("list", "--state", "dead"); !strings.Contains(said, id) || !strings.Contains(said, "accepted, then rejected") || strings.Contains(said, "SECRET") {
		t.Error(said)
	}
	if said := run("show", id); !strings.Contains(said, "the body") || !strings.Contains(said, "***") || strings.Contains(said, "SECRET") {
		t.Error(said)
	}
	export := run("export")
	if !strings.Contains(export, id) || !strings.Contains(export, "Bearer SECRET") {
		t.Error(export)
	}
	if said := run("drop", id); said != "drop: 1\n" {
		t.Error(said)
	}
	if said := must(t, export, "import", at); said != "imported: 1\n" {
		t.Error(said)
	}
	a.mu.Lock()
	a.answer = nil
	a.mu.Unlock()
	if said := run("retry", "--all"); said != "retry: 1\n" {
		t.Error(said)
	}
	eventually(t, "it is delivered", func() bool { return len(a.has()) == 1 })
	if said := run("reopen"); said != "it is open\n" {
		t.Error(said)
	}
	for _, bad := range [][]string{
		{"show"}, {"show", "x"}, {"drop"}, {"drop", id}, {"drop", id, "--all"}, {"retry", "x"}, {"list", "--state", "gone"}, {"list", "--pool", "other"},
		{"list", "too", "much"}, {"export", "--state", "x"}, {"salvage"}, {"salvage", filepath.Join(t.TempDir(), "none")}, {"salvage", t.TempDir(), "--key-file", "none"},
	} {
		if said, err := command(t, "", append(bad, at)...); err == nil {
			t.Errorf("%v: %s", bad, said)
		}
	}
	if said, err := command(t, "nonsense", "import", at); err == nil {
		t.Error(said)
	}
}

func TestSalvageOfAnOpenJournalIsRefused(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	d := open(t, words)
	d.away(t)
	if said, err := command(t, "", "salvage", store(t, words)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%s %v", said, err)
	}
	a.start(t)
	eventually(t, "it is delivered", func() bool { return len(a.has()) == 1 })
}
