package caddymodule_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// mounted runs mount, and skips the test where that is not allowed.
func mounted(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "mount", args...).CombinedOutput(); err != nil {
		t.Skipf("mount %v: %v: %s", args, err, out)
	}
}

// disk is a folder on a disk of its own.
func disk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	mounted(t, "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// on puts the journal of a configuration into another folder.
func on(words, dir string) string { return strings.Replace(words, dirOf(words), dir, 1) }

func TestFullDiskRefusesWritesAloneUntilThereIsRoom(t *testing.T) {
	a := newTaker(t)
	dir := disk(t, "1g")
	words := on(journalled(t, a, "respond 200"), dir)
	d := open(t, words)
	d.away(t)
	d.post(t, "second")
	mounted(t, "-o", "remount,size=64m", dir) // less than the reserve
	eventually(t, "it is full", func() bool {
		res, _ := d.post(t, "refused")
		return res.StatusCode == http.StatusInsufficientStorage
	})
	if reason := d.refused(t); reason != "journal-full" {
		t.Error(reason)
	}
	a.start(t) // what was accepted is delivered all the same
	eventually(t, "both are delivered", func() bool { return len(a.has()) >= 2 })
	if status, text := d.get("/other"); status != 200 || text != "page" {
		t.Errorf("another page: %d %s", status, text)
	}
	mounted(t, "-o", "remount,size=1g", dir)
	eventually(t, "there is room", func() bool {
		res, _ := d.post(t, "after")
		return res.StatusCode/100 == 2
	})
	eventually(t, "it is delivered", func() bool { return slices.Contains(a.has(), "after") })
}

func TestReadOnlyFolderRefusesWritesAloneUntilItIsWritable(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	dir := disk(t, "1g")
	mounted(t, "-o", "remount,ro", dir)
	d, admin := openWithAdmin(t, on(journalled(t, a, "respond 200"), dir))
	if reason := d.refused(t); reason != "journal-failed" {
		t.Error(reason)
	}
	if status, text := d.get("/other"); status != 200 || text != "page" {
		t.Errorf("another page: %d %s", status, text)
	}
	if status, text := (operator{t, admin}).ask("GET", "", ""); status != 200 || !strings.Contains(text, "read-only") || !strings.Contains(text, dir) {
		t.Errorf("%d %s", status, text)
	}
	mounted(t, "-o", "remount,rw", dir)
	eventually(t, "it is open by itself", func() bool {
		res, _ := d.post(t, "x")
		return res.StatusCode/100 == 2
	})
	eventually(t, "it is delivered", func() bool { return slices.Equal(a.has(), []string{"x"}) })
}

// replaceLogs makes every write to the journal's logs fail: what was the file is
// now a device that is always full.
func replaceLogs(t *testing.T, dir string) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, fd := range fds {
		name, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil || filepath.Dir(name) != dir || !strings.HasSuffix(name, ".log") {
			continue
		}
		var n int
		if _, err := fmt.Sscan(fd.Name(), &n); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Dup3(int(full.Fd()), n, syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		found++
	}
	if found == 0 {
		t.Fatal("no log is open")
	}
}

func TestFailedJournalIsOpenedAnewByItselfFromWhatIsOnDisk(t *testing.T) {
	a := newTaker(t)
	words := journalled(t, a, "respond 200")
	d, admin := openWithAdmin(t, words)
	d.away(t)
	want := []string{"first"}
	for _, n := range numbers(20) {
		d.post(t, n)
		want = append(want, n)
	}
	for round := range 2 { // it fails again when it was opened anew
		replaceLogs(t, store(t, words))
		if reason := d.refused(t); reason != "journal-failed" {
			t.Error(reason)
		}
		if _, text := ask(t, admin+"/metrics"); !strings.Contains(text, `portner_journal_failed{pool="`+strings.ToLower(t.Name())+`"} 1`) {
			t.Error("no metric tells of it")
		}
		after := fmt.Sprint("after ", round)
		eventually(t, "it is open by itself", func() bool {
			res, _ := d.post(t, after, "Idempotency-Key", after)
			return res.StatusCode == 200
		})
		want = append(want, after)
	}
	a.start(t)
	// The attempt that ran when it failed could not be noted: it is made again.
	once := func() []string { return slices.Compact(a.has()) }
	eventually(t, "all that was acknowledged is delivered", func() bool { return len(once()) >= len(want) })
	if got := once(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// failJournal makes the journal fail, as a full disk would.
func (d *door) failJournal(t *testing.T, words string) {
	t.Helper()
	replaceLogs(t, store(t, words))
	d.refused(t)
}

func (o operator) mustReopen() {
	o.t.Helper()
	if status, text := o.ask("POST", "/reopen", ""); status != 200 {
		o.t.Fatalf("%d %s", status, text)
	}
}

// An attempt that runs when the journal fails has no second one beside it, whoever
// opens the journal anew.
func TestFailedJournalWaitsForTheAttemptsThatRun(t *testing.T) {
	failWhileOneRuns(t, func(d *door, admin, words string) {
		d.failJournal(t, words)
		operator{t, admin}.mustReopen()
	})
}

func TestReloadOfAFailedJournalWaitsForTheAttemptsThatRun(t *testing.T) {
	failWhileOneRuns(t, func(d *door, admin, words string) {
		d.failJournal(t, words)
		d.mustReload(t, admin, words)
	})
}

// The journal that fails now has not delivered anything, and has none to wait for:
// the attempt is one of the journal before.
func TestReloadAfterASecondFailureWaitsForTheAttemptsThatRun(t *testing.T) {
	failWhileOneRuns(t, func(d *door, admin, words string) {
		d.failJournal(t, words)
		operator{t, admin}.mustReopen()
		d.failJournal(t, words)
		d.mustReload(t, admin, words)
	})
}

// failWhileOneRuns lets a journal fail and be opened anew while an entry is sent.
func failWhileOneRuns(t *testing.T, fail func(d *door, admin, words string)) {
	t.Helper()
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
	words := journalled(t, a, "answer_within 20ms\n respond 200\n lane {http.request.header.X-Lane}")
	d, admin := openWithAdmin(t, words)
	if res, _ := d.post(t, "slow", "X-Lane", "one"); res.StatusCode != 200 {
		t.Fatalf("%d", res.StatusCode)
	}
	fail(d, admin, words)
	if res, _ := d.post(t, "other", "X-Lane", "two"); res.StatusCode != 200 {
		t.Errorf("%d", res.StatusCode)
	}
	eventually(t, "the other lane goes on", func() bool { return slices.Equal(a.has(), []string{"other"}) })
	if n := a.attempts(); n != 2 {
		t.Errorf("%d attempts while the first runs", n)
	}
	again()
	// Its end could not be noted any more: it comes once more, with its key.
	eventually(t, "it is delivered again", func() bool { return a.attempts() == 3 })
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[0].Get("Idempotency-Key") != a.seen[2].Get("Idempotency-Key") {
		t.Error("another key")
	}
}
