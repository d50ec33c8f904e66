package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portner/portner/caddymodule"
)

// operator talks to the admin endpoint.
type operator struct {
	t   *testing.T
	url string
}

func (o operator) ask(method, what, body string) (int, string) {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.t.Context(), method, o.url+"/app_proxy/journal"+what, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// told is what the endpoint says, as JSON.
func (o operator) told(method, what string, into any) {
	o.t.Helper()
	status, text := o.ask(method, what, "")
	if err := json.Unmarshal([]byte(text), into); err != nil || status != 200 {
		o.t.Fatalf("%s %s: %d %s", method, what, status, text)
	}
}

type listed struct {
	ID, State, Reason, URI string
	Seq                    uint64
	Attempts, Status       int
}

func (o operator) list(state string) (list []listed) {
	o.t.Helper()
	o.told("GET", "/list?state="+state, &list)
	return list
}

// deadLetter makes one: a write that is rejected after its client was told
// "accepted".
func deadLetter(t *testing.T, a *taker, d *door, o operator, body string) string {
	t.Helper()
	a.mu.Lock()
	a.answer = func(_ int, w http.ResponseWriter, _ string) bool {
		w.Header().Set("Set-Cookie", "session=SECRET")
		http.Error(w, "no", http.StatusUnprocessableEntity)
		return false
	}
	a.mu.Unlock()
	before := len(o.list("dead"))
	if res, _ := d.post(t, body, "Authorization", "Bearer SECRET", "Cookie", "s=SECRET", "X-Plain", "seen"); res.StatusCode != 202 {
		t.Fatalf("%d", res.StatusCode)
	}
	eventually(t, "there is a dead letter", func() bool { return len(o.list("dead")) == before+1 })
	list := o.list("dead")
	return list[len(list)-1].ID
}

func TestOperatorLooksAfterDeadLetters(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	d, admin := openWithAdmin(t, journalled(t, a, "always"))
	o := operator{t, admin}
	id := deadLetter(t, a, d, o, "the body")
	dead := o.list("dead")
	if len(dead) != 1 || dead[0].Reason != "accepted, then rejected" || dead[0].Status != 422 || dead[0].State != "dead" || dead[0].URI != "/post" {
		t.Errorf("%+v", dead)
	}
	if _, text := o.ask("GET", "/list?state=dead", ""); strings.Contains(text, "SECRET") || strings.Contains(text, "the body") {
		t.Errorf("the list has secrets: %s", text)
	}
	if status, text := o.ask("GET", "/show?id="+id, ""); status != 200 || strings.Contains(text, "SECRET") || !strings.Contains(text, "the body") || !strings.Contains(text, `"body":"no\n"`) || !strings.Contains(text, "seen") || !strings.Contains(text, "***") {
		t.Errorf("%d %s", status, text)
	}
	if _, text := ask(t, admin+"/metrics"); !strings.Contains(text, `portner_journal_dead_letters{pool="`+strings.ToLower(t.Name())+`"} 1`) {
		t.Error("no metric tells of the dead letter")
	}

	a.mu.Lock()
	a.answer = nil // it is mended
	a.mu.Unlock()
	if status, text := o.ask("POST", "/retry?id="+id, ""); status != 200 || !strings.Contains(text, `"changed":1`) {
		t.Errorf("%d %s", status, text)
	}
	eventually(t, "it is delivered", func() bool { return len(a.has()) == 1 })

	first, second := deadLetter(t, a, d, o, "1"), deadLetter(t, a, d, o, "2")
	if status, _ := o.ask("POST", "/drop?id="+first, ""); status != 200 {
		t.Errorf("drop: %d", status)
	}
	for _, verb := range []string{"drop", "retry", "show"} {
		method := http.MethodPost
		if verb == "show" {
			method = http.MethodGet
		}
		if status, text := o.ask(method, "/"+verb+"?id="+first, ""); status != 404 {
			t.Errorf("%s of a dropped one: %d %s", verb, status, text)
		}
	}
	if list := o.list("dead"); len(list) != 1 || list[0].ID != second {
		t.Errorf("%+v", list)
	}
	if status, text := o.ask("POST", "/drop?all=dead", ""); status != 200 || !strings.Contains(text, `"changed":1`) {
		t.Errorf("%d %s", status, text)
	}
	if list := o.list("dead"); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestBadOrdersToTheJournalAreRefused(t *testing.T) {
	a := newTaker(t)
	d, admin := openWithAdmin(t, journalled(t, a, "respond 200"))
	o := operator{t, admin}
	d.away(t)
	const unknown = "00000000000000000000000000000000"
	for order, want := range map[string]int{
		"GET /nonsense": 404, "POST /list": 405, "GET /drop?id=" + unknown: 405, "GET /retry?all=dead": 405, "GET /reopen": 405, "GET /import": 405,
		"GET /list?state=delivered": 400, "GET /list?after=x": 400, "GET /list?pool=other": 404,
		"GET /show": 400, "GET /show?id=1": 400, "GET /show?id=" + unknown: 404, "GET /show?id=" + strings.Repeat("z", 32): 400,
		"POST /drop": 400, "POST /drop?id=x": 400, "POST /drop?id=" + unknown: 404, "POST /drop?all=undelivered": 400,
		"POST /retry": 400, "POST /retry?id=" + unknown: 404, "GET /export?state=none": 400,
		"POST /retry?id=" + o.list("")[0].ID: 409,
	} {
		method, what, _ := strings.Cut(order, " ")
		if status, text := o.ask(method, what, ""); status != want {
			t.Errorf("%s: %d %s, want %d", order, status, text, want)
		}
	}
	for _, text := range []string{"nonsense", `{"id": "x"}`, `{"id": "` + unknown + `", "client": "zz"}`, `[]`} {
		if status, said := o.ask("POST", "/import", text); status != 400 {
			t.Errorf("import of %s: %d %s", text, status, said)
		}
	}
	if res, err := client.PostForm(admin+"/app_proxy/journal/drop?all=dead", nil); err != nil || res.StatusCode != 415 {
		t.Errorf("a form from some page: %v %v", res, err)
	}
	if list := o.list("undelivered"); len(list) != 1 {
		t.Errorf("%+v", list)
	}
}

func TestListsAreBounded(t *testing.T) {
	a := newTaker(t)
	d, admin := openWithAdmin(t, journalled(t, a, "respond 200"))
	o := operator{t, admin}
	d.away(t)
	var lines strings.Builder
	for n := range 1200 {
		fmt.Fprintf(&lines, `{"id":"%032x","route":"POST /post","lane":"POST /post","client":"%032x","method":"POST","uri":"/post","key":"k%d","fingerprint":"%032x","arrived":"2026-01-02T03:04:05Z"}`+"\n", n+1, 0, n, n)
	}
	if status, text := o.ask("POST", "/import", lines.String()); status != 200 || !strings.Contains(text, `"imported":1200`) {
		t.Fatalf("%d %s", status, text)
	}
	first := o.list("undelivered")
	if len(first) != 1000 {
		t.Fatalf("%d at once", len(first))
	}
	var rest []listed
	o.told("GET", fmt.Sprintf("/list?after=%d", first[999].Seq), &rest)
	if len(rest) != 201 {
		t.Errorf("then %d", len(rest))
	}
}

func TestExportAndImportMoveAJournal(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	d, admin := openWithAdmin(t, words)
	o := operator{t, admin}
	d.away(t)
	d.post(t, "second", "Authorization", "Bearer SECRET")
	res, err := client.Get(admin + "/app_proxy/journal/export")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.Trailer.Get("Portner-Exported") != "2" || !strings.Contains(string(text), "SECRET") {
		t.Fatalf("%v %v %s", err, res.Trailer, text)
	}
	moved := strings.Replace(words, "journal_dir "+dirOf(words), "journal_dir "+t.TempDir(), 1)
	d.mustReload(t, admin, moved)
	for range 2 { // it may be repeated
		if status, said := o.ask("POST", "/import", string(text)); status != 200 || !strings.Contains(said, `"imported":2`) {
			t.Fatalf("%d %s", status, said)
		}
	}
	a.start(t)
	eventually(t, "both are delivered", func() bool { return len(a.has()) == 2 })
	a.mu.Lock()
	h := a.seen[1]
	a.mu.Unlock()
	if got := a.has(); got[0] != "first" || got[1] != "second" || h.Get("Authorization") != "Bearer SECRET" {
		t.Errorf("%v %v", got, h)
	}
	eventually(t, "the journal knows of it", func() bool { return len(o.list("undelivered")) == 0 })
	var all []struct {
		Pool, Folder string
		Orphan       bool
		Depth        int
	}
	o.told("GET", "", &all) // the old one stays, and is told as long as it is there
	if len(all) != 2 || !all[0].Orphan || all[0].Depth != 2 || all[1].Pool == "" || all[1].Depth != 0 {
		t.Errorf("%+v", all)
	}
}

// dirOf is the journal_dir of a configuration.
func dirOf(words string) string {
	_, rest, _ := strings.Cut(words, "journal_dir ")
	dir, _, _ := strings.Cut(rest, "\n")
	return dir
}

// A write that the application dies of, again and again, is answered by nobody. The
// way past it is to drop it, although it is just being tried.
func TestDeadlyWriteCanBeDroppedAndItsLaneGoesOn(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	a.answer = func(_ int, w http.ResponseWriter, body string) bool {
		if body == "deadly" {
			panic(http.ErrAbortHandler) // the connection breaks, as when a process dies
		}
		return true
	}
	d, admin := openWithAdmin(t, journalled(t, a, "answer_within 1s"))
	o := operator{t, admin}
	if res, _ := d.post(t, "deadly"); res.StatusCode != 202 {
		t.Fatalf("%d", res.StatusCode)
	}
	a.mu.Lock()
	own := a.count // its client's attempt may be repeated once, as any request with a key
	a.mu.Unlock()
	d.post(t, "second")
	eventually(t, "it was tried often", func() bool {
		list := o.list("undelivered")
		return len(list) == 2 && list[0].Attempts >= 3
	})
	if got := a.has(); len(got) != 0 {
		t.Fatalf("taken: %v", got)
	}
	a.mu.Lock()
	for n := own + 1; n < len(a.seen); n++ {
		if a.seen[n].Get("Portner-Attempt") == a.seen[n-1].Get("Portner-Attempt") {
			t.Errorf("attempt %s was made twice", a.seen[n].Get("Portner-Attempt"))
		}
	}
	a.mu.Unlock()
	if status, text := o.ask("POST", "/drop?id="+o.list("undelivered")[0].ID, ""); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	eventually(t, "the next one is delivered", func() bool { return len(a.has()) == 1 })
}

func TestHeadOfALaneCanBeDroppedWhileTheApplicationIsAway(t *testing.T) {
	a := newTaker(t)
	d, admin := openWithAdmin(t, journalled(t, a, "respond 200"))
	o := operator{t, admin}
	d.away(t)
	d.post(t, "second")
	if status, text := o.ask("POST", "/drop?id="+o.list("undelivered")[0].ID, ""); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	a.start(t)
	eventually(t, "the second is delivered", func() bool { return len(a.has()) == 1 })
	if got := a.has(); got[0] != "second" {
		t.Errorf("%v", got)
	}
}

func TestStoreWithoutAPoolIsReportedAndStays(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	d, admin := openWithAdmin(t, words)
	o := operator{t, admin}
	d.away(t)
	d.post(t, "second")
	name, dir := strings.ToLower(t.Name()), dirOf(words)
	if err := os.MkdirAll(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	renamed := strings.Replace(words, "name "+name, "name other", 1)
	d.mustReload(t, admin, renamed)
	eventually(t, "the journal without a pool is told", func() bool {
		var all []struct {
			Pool, Folder, Failed string
			Orphan               bool
			Depth                int
		}
		o.told("GET", "", &all)
		for _, s := range all {
			if s.Orphan && s.Folder == filepath.Join(dir, name) && s.Depth == 2 {
				return len(all) == 2
			}
		}
		return false
	})
	d.mustReload(t, admin, words)
	a.start(t)
	eventually(t, "both are delivered", func() bool { return len(a.has()) == 2 })
}

// Also when no journal is left that has the folder for its neighbour, and by the
// next process.
func TestStoreInAFolderThatNoPoolNamesIsReported(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	d, admin := openWithAdmin(t, words)
	d.away(t)
	told := func() bool {
		var all []struct {
			Folder string
			Orphan bool
			Depth  int
		}
		operator{t, admin}.told("GET", "", &all)
		for _, s := range all {
			if s.Orphan && s.Folder == store(t, words) && s.Depth == 1 {
				return true
			}
		}
		return false
	}
	d.mustReload(t, admin, "respond gone")
	caddymodule.RetireIdle()
	eventually(t, "the journal without a pool is told", told)
	caddymodule.ForgetJournals()
	d.mustReload(t, admin, "respond gone too\napp_proxy /x "+a.addr)
	eventually(t, "the next process tells it", told)
	if info, err := os.Stat(caddymodule.JournalFolders()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	d.mustReload(t, admin, words)
	a.start(t)
	eventually(t, "it is delivered", func() bool { return len(a.has()) == 1 })
}
