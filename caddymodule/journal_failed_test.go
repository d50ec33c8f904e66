package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	leftBehind(t, d, admin, words)
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

// leftBehind is what a process leaves that dies, in place of the store, while the
// pool is not configured.
func leftBehind(t *testing.T, d *door, admin, words string) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy")
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
}

func TestTornLastRecordStopsNothing(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	d, admin := openWithAdmin(t, words)
	d.away(t)
	for _, n := range []string{"two", "three", "the-last-one"} {
		d.post(t, n)
	}
	leftBehind(t, d, admin, words)
	logs, _ := filepath.Glob(filepath.Join(store(t, words), "*.log"))
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.LastIndex(text, []byte("the-last-one")); at >= 0 {
			if err := os.Truncate(name, int64(at+3)); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.start(t)
	d.mustReload(t, admin, words)
	eventually(t, "the whole ones are delivered", func() bool { return len(a.has()) >= 3 })
	if got := strings.Join(a.has(), " "); got != "first two three" {
		t.Errorf("delivered: %s", got)
	}
	if res, _ := d.post(t, "more"); res.StatusCode/100 != 2 {
		t.Errorf("%d", res.StatusCode)
	}
}

// keyFile writes a key of one digit, repeated.
func keyFile(t *testing.T, digit string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, []byte(strings.Repeat(digit, 64)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// sealedWith adds a key file to a configuration.
func sealedWith(words, file string) string {
	dir := "journal_dir " + dirOf(words)
	return strings.Replace(words, dir, dir+" {\n key_file "+file+"\n }", 1)
}

func TestSealedJournalWithoutItsKeyRefusesUntilItHasIt(t *testing.T) {
	a := newTaker(t)
	plain := journalled(t, a, "respond 200")
	key, wrong := keyFile(t, "a"), keyFile(t, "b")
	d, admin := openWithAdmin(t, sealedWith(plain, key))
	o := operator{t, admin}
	d.away(t)
	d.post(t, "second-PLAINTEXT", "Authorization", "PLAINTEXT")
	leftBehind(t, d, admin, plain)
	files, _ := filepath.Glob(filepath.Join(store(t, plain), "*"))
	for _, name := range files {
		if text, err := os.ReadFile(name); err != nil || bytes.Contains(text, []byte("PLAINTEXT")) {
			t.Errorf("%s: %v: holds plain text", name, err)
		}
	}

	for what, words := range map[string]string{"lost": plain, "wrong": sealedWith(plain, wrong), "not there": sealedWith(plain, key+"-gone")} {
		d.mustReload(t, admin, words)
		if reason := d.refused(t); reason != "journal-failed" {
			t.Errorf("%s: %s", what, reason)
		}
		if status, text := o.ask("POST", "/reopen", ""); status != 503 || !strings.Contains(text, "key") {
			t.Errorf("%s: %d %s", what, status, text)
		}
		d.mustReload(t, admin, "respond gone")
		caddymodule.RetireIdle()
	}

	d.mustReload(t, admin, sealedWith(plain, key))
	if err := d.reload(t, admin, sealedWith(plain, wrong)); err == nil || !strings.Contains(err.Error(), "key") {
		t.Errorf("a reload with another key: %v", err)
	}
	if res, _ := d.post(t, "third"); res.StatusCode != 200 {
		t.Errorf("after the refused reload: %d", res.StatusCode)
	}
	a.start(t)
	eventually(t, "all are delivered", func() bool { return len(a.has()) == 3 })
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[len(a.seen)-2].Get("Authorization") != "PLAINTEXT" {
		t.Errorf("%v", a.seen)
	}
}

func TestKeyIsChangedBySalvage(t *testing.T) {
	a := newTaker(t)
	plain := journalled(t, a, "respond 200")
	before, after := keyFile(t, "a"), keyFile(t, "b")
	d, admin := openWithAdmin(t, sealedWith(plain, before))
	d.away(t)
	d.post(t, "second")
	d.mustReload(t, admin, "respond gone")
	caddymodule.RetireIdle()
	must(t, "", "salvage", store(t, plain), "--key-file", after, "--old-key-file", before)
	a.start(t)
	d.mustReload(t, admin, sealedWith(plain, after))
	eventually(t, "both are delivered", func() bool { return strings.Join(a.has(), " ") == "first second" })
}

func TestPlainJournalIsSealedFromAReloadOn(t *testing.T) {
	a := newTaker(t)
	plain := journalled(t, a, "respond 200")
	d, admin := openWithAdmin(t, plain)
	d.away(t)
	d.mustReload(t, admin, sealedWith(plain, keyFile(t, "a")))
	if res, _ := d.post(t, "second"); res.StatusCode != 200 {
		t.Errorf("%d", res.StatusCode)
	}
	a.start(t)
	eventually(t, "both are delivered", func() bool { return strings.Join(a.has(), " ") == "first second" })
}

// An attempt that runs at a reload with another key has no second one beside it.
func TestChangeOfTheKeyWaitsForTheAttemptsThatRun(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	release := make(chan struct{})
	again := sync.OnceFunc(func() { close(release) })
	defer again()
	a.answer = func(n int, _ http.ResponseWriter, _ string) bool {
		if n == 1 {
			<-release
		}
		return true
	}
	plain := journalled(t, a, "answer_within 20ms\n respond 200\n lane {http.request.header.X-Lane}")
	d, admin := openWithAdmin(t, plain)
	if res, _ := d.post(t, "slow", "X-Lane", "one"); res.StatusCode != 200 {
		t.Fatalf("%d", res.StatusCode)
	}
	d.mustReload(t, admin, sealedWith(plain, keyFile(t, "a")))
	if res, _ := d.post(t, "other", "X-Lane", "two"); res.StatusCode != 200 {
		t.Errorf("%d", res.StatusCode)
	}
	eventually(t, "the other lane goes on", func() bool { return slices.Equal(a.has(), []string{"other"}) })
	if n := a.attempts(); n != 2 {
		t.Errorf("%d attempts while the first runs", n)
	}
	again()
	eventually(t, "it is delivered again, for its end could not be noted", func() bool { return a.attempts() == 3 })
}

// All journals of a configuration, or none: the pool that goes first must not have
// moved when another cannot.
func TestRefusedReloadMovesNoJournal(t *testing.T) {
	a := newTaker(t)
	words := func(names ...string) (text string) {
		for i := 0; i < len(names); i += 2 {
			text += fmt.Sprintf("app_proxy /%s %s {\n name %s-%s\n concurrency 2\n journal_dir %s\n route POST /%s {\n journal {\n always\n }\n }\n }\n",
				names[i], a.addr, strings.ToLower(t.Name()), names[i], names[i+1], names[i])
		}
		return text
	}
	left, right, other, fresh, file := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, admin := openWithAdmin(t, words("left", left, "right", right))
	for range 5 { // pools have no order
		if err := d.reload(t, admin, words("left", other, "right", file, "new", fresh)); err == nil || !strings.Contains(err.Error(), file) {
			t.Fatalf("%v", err)
		}
		client.CloseIdleConnections() // the admin endpoint has another server now
		var all []struct{ Pool, Folder string }
		operator{t, admin}.told("GET", "", &all)
		if len(all) != 2 || filepath.Dir(all[0].Folder) != left || filepath.Dir(all[1].Folder) != right {
			t.Fatalf("after it was refused: %v", all)
		}
	}
	d.mustReload(t, admin, words("left", other, "right", right, "new", fresh))
	a.start(t)
	for i, name := range []string{"left", "right", "new"} {
		if res, err := d.do(t.Context(), http.MethodPost, "/"+name, strings.NewReader(name)); err != nil || res.StatusCode != 202 {
			t.Errorf("%s: %v %v", name, res, err)
		}
		eventually(t, "it is delivered", func() bool { return len(a.has()) == i+1 })
	}
}

// A reload that would take a journal away that works, for one that does not, is
// refused, and nothing changes.
func TestReloadTakesNoJournalAwayThatWorks(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	d, admin := openWithAdmin(t, words)
	d.away(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.reload(t, admin, strings.Replace(words, dirOf(words), file, 1)); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
	// Caddy has listened for the refused configuration, too, and closes that socket
	// with who is at it: whoever could not even connect comes again.
	eventually(t, "the door answers", func() bool {
		res, err := d.do(t.Context(), http.MethodPost, "/post", strings.NewReader("second"))
		if dial := new(net.OpError); errors.As(err, &dial) && dial.Op == "dial" {
			return false
		}
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%v %v", res, err)
		}
		return true
	})
	a.start(t)
	eventually(t, "both are delivered", func() bool { return strings.Join(a.has(), " ") == "first second" })
}
