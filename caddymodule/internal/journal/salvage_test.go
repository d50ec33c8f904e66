package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// mixed makes a journal with n entries, every third of them a dead letter, and
// leaves it open.
func mixed(t *testing.T, dir string, n int, opts Options) *Journal {
	t.Helper()
	j := openIn(t, dir, opts)
	for i := range n {
		body := fmt.Sprintf("%03d %s", i, strings.Repeat("x", 1000))
		if i%3 == 0 {
			dead(t, j, write(body[:3], body))
		} else {
			mustAppend(t, j, write("lane", body)).Accept()
		}
	}
	return j
}

// Whoever mends a journal on a full disk has no reserve to leave.
func TestSalvageMayUseTheReserve(t *testing.T) {
	mem := vfs.NewMem()
	j := inMemory(t, Options{fs: mem})
	mustAppend(t, j, write("lane", "x")).Accept()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 20, TotalBytes: 1 << 40})
	if got, err := Salvage("journal", nil, Options{fs: mem}); err != nil || got.Undelivered != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestSalvagedEntriesKeepTheirOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	_ = mixed(t, dir, 30, Options{}).Close()
	before := listing(t, dir)
	got, err := Salvage(dir, nil, Options{})
	if err != nil || got.Undelivered != 20 || got.Dead != 10 || got.Missing != 0 || len(got.Lost) != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	if after := listing(t, got.Aside); !maps.Equal(before, after) {
		t.Errorf("files were %v, are %v", before, after)
	}
	j := openIn(t, dir, Options{})
	checkSums(t, j)
	last := ""
	if err := inOrder(j.store, func(e *Entry, d *ending) error {
		if string(e.Body) <= last {
			t.Errorf("%.3s after %.3s", e.Body, last)
		}
		last = string(e.Body)
		if n, _ := strconv.Atoi(last[:3]); (d != nil) != (n%3 == 0) {
			t.Errorf("%d is not what it was", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestSalvageTellsWhatATableHasLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	const n = 300
	fill(t, dir, n, true)
	table := newest(t, dir, ".sst")
	flip(t, table, "010 xxx")
	got, err := Salvage(dir, nil, Options{})
	if err != nil || got.Missing == 0 || got.Missing > 60 || got.Undelivered+int(got.Missing) != n {
		t.Fatalf("%+v, %v", got, err)
	}
	if text := strings.Join(got.Lost, "\n"); !strings.Contains(text, filepath.Base(table)) && !strings.Contains(text, "entry 11") {
		t.Errorf("no place in %q", text)
	}
	j := openIn(t, dir, Options{})
	checkSums(t, j)
	if d := j.Stats().Depth; int(d) != got.Undelivered {
		t.Errorf("%d entries of %+v", d, got)
	}
}

func TestSalvageChangesNothingWhenItCannot(t *testing.T) {
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	dir := filepath.Join(t.TempDir(), "journal")
	j := mixed(t, dir, 6, Options{Secret: key})
	if _, err := Salvage(dir, key, Options{Secret: key}); !errors.Is(err, ErrInUse) {
		t.Errorf("while it is open: %v, want ErrInUse", err)
	}
	_ = j.Close()
	before := listing(t, dir)
	for what, secret := range map[string][]byte{"lost key": nil, "wrong key": other} {
		if _, err := Salvage(dir, secret, Options{Secret: other}); !errors.Is(err, ErrSecret) {
			t.Errorf("%s: %v, want ErrSecret", what, err)
		}
	}
	if _, err := Salvage(dir+"-none", key, Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if after := listing(t, dir); !maps.Equal(before, after) {
		t.Errorf("files were %v, are %v", before, after)
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestSalvageChangesTheKey(t *testing.T) {
	before, after := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	dir := filepath.Join(t.TempDir(), "journal")
	_ = mixed(t, dir, 6, Options{Secret: before}).Close()
	if got, err := Salvage(dir, before, Options{Secret: after}); err != nil || got.Undelivered != 4 || got.Dead != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := Open(dir, Options{Secret: before}); !errors.Is(err, ErrSecret) {
		t.Errorf("the old key: %v, want ErrSecret", err)
	}
	j := openIn(t, dir, Options{Secret: after})
	list, err := j.List(Undelivered, 0, 10)
	if err != nil || len(list) != 4 {
		t.Errorf("%+v, %v", list, err)
	}
	for name := range listing(t, dir) {
		if text, err := os.ReadFile(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) && (err != nil || bytes.Contains(text, []byte("xxxxx"))) {
			t.Errorf("%s: %v: holds plain text", name, err)
		}
	}
}

func TestCountChangesNothingAndNeedsNoKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	if open, dead, err := Count(dir); open != 0 || dead != 0 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %d, %d, %v", open, dead, err)
	}
	j := mixed(t, dir, 6, Options{Secret: make([]byte, 32)})
	if _, _, err := Count(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("%v, want ErrInUse", err)
	}
	_ = j.Close()
	before := listing(t, dir)
	for range 2 {
		if open, dead, err := Count(dir); open != 4 || dead != 2 || err != nil {
			t.Fatalf("%d, %d, %v", open, dead, err)
		}
	}
	if after := listing(t, dir); !maps.Equal(before, after) {
		t.Errorf("files were %v, are %v", before, after)
	}
	flip(t, newest(t, dir, ".log"), "nothing of that kind")
	if _, _, err := Count(dir); err != nil && !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func TestJournalThatIsNotOpenRefusesAndSaysWhy(t *testing.T) {
	why := fmt.Errorf("%w: there", ErrDamaged)
	j := None(why, Options{})
	j.Deliver(new(application).send)
	_, err := j.Append(t.Context(), write("lane", "x"))
	if !errors.Is(err, ErrFailed) || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "there") {
		t.Errorf("%v, want ErrFailed with the place", err)
	}
	if _, err := j.Find(newID()); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	if s := j.Stats(); s.Failed == nil || !j.Idle() || j.Err() == nil {
		t.Errorf("%+v", s)
	}
	<-j.Failed()
	_ = j.Close()
}

func TestExistingJournalIsNotMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	if _, err := Open(dir, Options{Existing: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want ErrNotExist", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 0 {
		t.Errorf("made: %v", entries)
	}
}
