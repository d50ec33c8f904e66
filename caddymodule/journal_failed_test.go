package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portner/portner/caddymodule"
)

// store is the folder of the journal of a pool that is named after its test.
func store(t *testing.T, words string) string {
	return filepath.Join(dirOf(words), strings.ToLower(t.Name()))
}

// refused posts a write that cannot be kept, and tells what the answer says.
func (d *door) refused(t *testing.T) string {
	t.Helper()
	res, text := d.post(t, "x")
	var no struct {
		Status int
		Reason string
	}
	if err := json.Unmarshal([]byte(text), &no); err != nil || res.Header.Get("Content-Type") != "application/problem+json" || no.Status != res.StatusCode {
		t.Fatalf("%d %s", res.StatusCode, text)
	}
	return no.Reason
}

// flipBit flips a bit of what the journal's log has of a write. It is called while
// Caddy does not run.
func flipBit(t *testing.T, dir, body string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(text, []byte(body)); at >= 0 {
			text[at] ^= 4
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("%q is in no log", body)
}

func TestDamagedJournalStopsItsWritesAlone(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	d, admin := openWithAdmin(t, words)
	o := operator{t, admin}
	d.away(t)
	for _, n := range []string{"one-and-only", "two", "three"} {
		d.post(t, n)
	}
	copied := filepath.Join(t.TempDir(), "copy") // as a process leaves it that dies
	if err := os.CopyFS(copied, os.DirFS(store(t, words))); err != nil {
		t.Fatal(err)
	}
	d.mustReload(t, admin, "respond gone")
	caddymodule.RetireIdle()
	if err := os.RemoveAll(store(t, words)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, store(t, words)); err != nil {
		t.Fatal(err)
	}
	flipBit(t, store(t, words), "one-and-only")
	a.start(t)
	d.mustReload(t, admin, words)

	if reason := d.refused(t); reason != "journal-failed" {
		t.Errorf("%s", reason)
	}
	if status, text := d.get("/other"); status != 200 || text != "page" {
		t.Errorf("another page: %d %s", status, text)
	}
	var all []struct{ Pool, Failed string }
	o.told("GET", "", &all)
	if len(all) != 1 || !strings.Contains(all[0].Failed, store(t, words)) || !strings.Contains(all[0].Failed, "offset") {
		t.Errorf("%+v", all)
	}
	if _, text := ask(t, admin+"/metrics"); !strings.Contains(text, `portner_journal_failed{pool="`+strings.ToLower(t.Name())+`"} 1`) {
		t.Error("no metric tells of it")
	}
	if status, text := o.ask("POST", "/reopen", ""); status != 503 || !strings.Contains(text, "offset") {
		t.Errorf("%d %s", status, text)
	}
	if got := a.has(); len(got) != 0 {
		t.Errorf("delivered: %v", got)
	}

	said := must(t, "", "salvage", store(t, words))
	for _, want := range []string{"kept 3 undelivered", "lost: 1", "cannot be read: " + store(t, words), "~damaged-1"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %s", want, said)
		}
	}
	if status, text := o.ask("POST", "/reopen", ""); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	eventually(t, "what could be read is delivered", func() bool { return len(a.has()) == 3 })
	if got := strings.Join(a.has(), " "); got != "first two three" {
		t.Errorf("delivered: %s", got)
	}
	if res, _ := d.post(t, "more"); res.StatusCode/100 != 2 {
		t.Errorf("%d", res.StatusCode)
	}
}
