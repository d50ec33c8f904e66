package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// carried is a database with some items, and its export.
func carried(t *testing.T) (db, file string) {
	t.Helper()
	dir := t.TempDir()
	db, file = filepath.Join(dir, "news.db"), filepath.Join(dir, "news.jsonl")
	var posts strings.Builder
	for id := 1; id <= 50; id++ {
		posts.WriteString(story(id) + "\n")
	}
	from := filepath.Join(dir, "posts.jsonl")
	if err := os.WriteFile(from, []byte(posts.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"50 new of 50\n", "0 new of 50\n"} {
		if status, said, wrong := call(t, nil, "import", "-db", db, from); status != 0 || said != want {
			t.Fatalf("%d %q %s", status, said, wrong)
		}
	}
	if status, said, wrong := call(t, map[string]string{"WEBAPP_DB": db}, "export", file); status != 0 || said != "51 rows\n" {
		t.Fatalf("%d %q %s", status, said, wrong)
	}
	return db, file
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestExportIsImportedElsewhere(t *testing.T) {
	_, file := carried(t)
	other := filepath.Join(t.TempDir(), "other.db")
	for _, want := range []string{"51 new of 51\n", "0 new of 51\n"} {
		if status, said, wrong := call(t, nil, "import", "-db", other, file); status != 0 || said != want {
			t.Fatalf("%d %q %s", status, said, wrong)
		}
	}
	status, said, _ := call(t, nil, "export", "-db", other, "-")
	if status != 0 || said != string(read(t, file)) {
		t.Errorf("%d, it came back otherwise", status)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestExportThatBrokeOffGoesOn(t *testing.T) {
	db, file := carried(t)
	whole := read(t, file)
	for _, cut := range []int{0, 1, 10, len(whole) / 3, len(whole) / 2, len(whole) - 1, len(whole)} {
		if err := os.WriteFile(file, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if cut == 1 {
			continue // "{" alone could be anything
		}
		if status, _, wrong := call(t, nil, "export", "-db", db, file); status != 0 || !bytes.Equal(read(t, file), whole) {
			t.Errorf("after %d bytes: %d %s", cut, status, wrong)
		}
	}
	other := []byte("my diary\nof this year\n")
	if err := os.WriteFile(file, other, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, said := call(t, nil, "export", "-db", db, file); status != 1 || !strings.Contains(said, "is not an export") || !bytes.Equal(read(t, file), other) {
		t.Errorf("%d %s", status, said)
	}
}

func TestImportSaysWhichLineIsWrong(t *testing.T) {
	_, file := carried(t)
	for what, line := range map[string]string{
		"not JSON": "{", "unknown": `{"user":{"name":"x","admin":1}}`, "nothing": `{}`, "a bad post": `{"hanesst_id":1}`,
	} {
		bad := append(bytes.Clone(read(t, file)), (line + "\n")...)
		path := filepath.Join(t.TempDir(), "bad.jsonl")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		status, _, said := call(t, nil, "import", "-db", filepath.Join(t.TempDir(), "x.db"), path)
		if status != 1 || what != "nothing" && !strings.Contains(said, "line 52") {
			t.Errorf("%s: %d %s", what, status, said)
		}
	}
}

func TestBackupIsTakenWhileTheSiteRuns(t *testing.T) {
	db, _ := carried(t)
	p := start(t, "-listen", "127.0.0.1:0", "-db", db)
	if err := p.post(51); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy.db")
	if status, said, wrong := call(t, nil, "backup", "-db", db, to); status != 0 || !strings.Contains(said, to) {
		t.Fatalf("%d %s %s", status, said, wrong)
	}
	if _, body := start(t, "-listen", "127.0.0.1:0", "-db", to).get(t, "/latest"); body != "51" {
		t.Errorf("the copy's latest is %s", body)
	}
	if status, _, said := call(t, nil, "backup", "-db", db, to); status != 1 || !strings.Contains(said, "is there already") {
		t.Errorf("%d %s", status, said)
	}
}

func TestModeratorMustBeSomebody(t *testing.T) {
	db, _ := carried(t)
	if status, said, _ := call(t, nil, "moderator", "-db", db, "pg"); status != 0 || said != "pg is a moderator\n" {
		t.Errorf("%d %s", status, said)
	}
	if status, _, said := call(t, nil, "moderator", "-db", db, "nobody"); status != 1 || !strings.Contains(said, "no such user") {
		t.Errorf("%d %s", status, said)
	}
}

func TestVerbCalledWronglySaysHow(t *testing.T) {
	for verb := range verbs {
		for _, args := range [][]string{{verb}, {verb, "a", "b"}, {verb, "-nothing", "x"}} {
			if status, _, said := call(t, nil, args...); status != 2 || strings.Count(said, "\n") != 2 {
				t.Errorf("%v: %d %s", args, status, said)
			}
		}
		if status, said, _ := call(t, nil, verb, "-help"); status != 0 || !strings.Contains(said, "webapp "+verb) {
			t.Errorf("%s -help: %d", verb, status)
		}
	}
}

func TestProgressShowsShareAndRest(t *testing.T) {
	p := progress{what: "rows", total: 200, done: 50, start: time.Unix(0, 0)}
	if got := p.line(time.Unix(10, 0)); got != strings.Repeat("█", 7)+strings.Repeat("·", 23)+"  25 %, 30s left" {
		t.Errorf("%q", got)
	}
	p.total = 0
	if got := p.line(time.Unix(10, 0)); got != "50 rows, 5/s" {
		t.Errorf("%q", got)
	}
}
