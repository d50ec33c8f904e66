package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/zap"
)

// A power cut: what was not synced is gone, or half there. The disk is cut at a
// write, a sync or a name that is made or removed, each in turn.
func TestNothingCommittedIsLostAtAnyCut(t *testing.T) {
	cuts := 0
	for round := range 400 {
		if !cut(t, int64(round), round) {
			break // the whole run had fewer operations
		}
		cuts++
	}
	if cuts < 100 {
		t.Fatalf("only %d cuts", cuts)
	}
	t.Logf("%d cuts", cuts)
}

// cut lets a journal run until its at-th operation on the disk, and opens what
// the disk would then have. It reports whether there was such an operation.
func cut(t *testing.T, seed int64, at int) bool {
	t.Helper()
	mem := vfs.NewCrashableMem()
	var truth ledger
	var after *vfs.MemFS
	var known promised
	var ops atomic.Int64
	watch := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && ops.Add(1)-1 == int64(at) {
			// Promises first: what is made durable between the two was promised by nobody.
			known = truth.promised()
			after = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed%3) * 50, RNG: rand.New(rand.NewPCG(uint64(seed), 1))})
		}
		return nil
	}))
	j, err := Open("journal", Options{fs: watch, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	truth.work(t, j, seed)
	_ = j.Close()
	if after == nil {
		return false
	}

	j, err = Open("journal", Options{fs: after, Log: zap.NewNop()})
	if err != nil {
		t.Fatalf("cut %d: %v", at, err)
	}
	defer j.Close()
	var app application
	j.Deliver(app.send)
	until(t, j, "all delivered", func() bool { return j.Stats().Depth == 0 })
	known.check(t, at, app.taken())
	checkSums(t, j)
	return true
}

// ledger is what clients and the application know of a run.
type ledger struct {
	mu       sync.Mutex
	accepted []string
	taken    []string // by the application, once or more
}

type promised struct{ accepted, taken []string }

func (k *ledger) promised() promised {
	k.mu.Lock()
	defer k.mu.Unlock()
	return promised{append([]string(nil), k.accepted...), append([]string(nil), k.taken...)}
}

// work appends, one after the other, to two lanes, while some is delivered and
// the engine flushes.
func (k *ledger) work(t *testing.T, j *Journal, seed int64) {
	rng := rand.New(rand.NewPCG(uint64(seed), 2))
	var app application
	app.judge = func(body string, _ int) Outcome {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.taken = append(k.taken, body)
		return Outcome{Kind: Taken, Answer: &Answer{Status: 200}}
	}
	for i := range 40 {
		lane := fmt.Sprintf("lane%d", i%2)
		l, err := j.Append(context.Background(), write(lane, fmt.Sprintf("%s %03d %s", lane, i, strings.Repeat("x", rng.IntN(3000)))))
		if err != nil {
			t.Fatal(err)
		}
		if i%7 == 3 && l.Begin() {
			k.mu.Lock()
			k.taken = append(k.taken, string(l.entry.Body))
			k.mu.Unlock()
			l.End(Outcome{Kind: Taken})
			continue
		}
		l.Accept()
		k.mu.Lock()
		k.accepted = append(k.accepted, string(l.entry.Body))
		k.mu.Unlock()
		if i == 15 {
			j.Deliver(app.send)
		}
		if i%13 == 12 {
			s := j.store.(*pebbleStore)
			if err := s.with(func(db *pebble.DB) error { _, err := db.AsyncFlush(); return err }); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// check: what was promised before the cut has been delivered before or after it,
// and in each lane what was delivered after it is in the order of the promises.
func (k promised) check(t *testing.T, at int, after []string) {
	t.Helper()
	seen := make(map[string]bool)
	for _, body := range append(append([]string(nil), k.taken...), after...) {
		seen[body] = true
	}
	for _, body := range k.accepted {
		if !seen[body] {
			t.Fatalf("cut %d: lost %.10q; accepted %d, delivered %d before and %d after", at, body, len(k.accepted), len(k.taken), len(after))
		}
	}
	last := make(map[string]string)
	for _, body := range after {
		lane, number := body[:5], body[6:9]
		if last[lane] >= number {
			t.Fatalf("cut %d: %s %s after %s", at, lane, number, last[lane])
		}
		last[lane] = number
	}
}

// checkSums counts what the sums say.
func checkSums(t testing.TB, j *Journal) {
	t.Helper()
	settleDown(j)
	s := j.store.(*pebbleStore)
	got := s.totals()
	var want totals
	want.seq, want.commit, want.synced = got.seq, got.commit, got.synced
	clients := make(map[Hash]int64)
	for _, state := range []State{Undelivered, Dead} {
		if err := s.scan(state, 0, func(e *Entry, _ *ending) bool {
			want.bytes += e.size
			clients[e.Client] += e.size
			if state == Dead {
				want.dead++
			} else {
				want.open++
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	keys := make(map[byte]int64)
	err := s.each([]byte{0}, []byte{0xff}, func(it *pebble.Iterator) (bool, error) {
		keys[it.Key()[0]]++
		switch it.Key()[0] {
		case kAnswer:
			want.answers++
			want.answerBytes += int64(len(it.Value()))
		case kClient:
			r := reader{b: it.Value()}
			if n := r.int(); n != clients[laneOf(it.Key())] {
				t.Errorf("a client has %d bytes, the sum says %d", clients[laneOf(it.Key())], n)
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("sums %+v, counted %+v", got, want)
	}
	if keys[kLane] != want.open || keys[kEntry] != want.open || keys[kDead] != want.dead || keys[kReason] != want.dead || keys[kID] != want.open+want.dead+want.answers {
		t.Errorf("keys %v for %+v", keys, want)
	}
}

// The journal's process is killed in the middle of its work, again and again; the
// file of acknowledgements is the client's memory.
func TestKillLosesNothing(t *testing.T) {
	if os.Getenv("JOURNAL_CHILD") != "" {
		t.Skip("is the child")
	}
	dir := t.TempDir()
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		killOnce(t, dir, round)
	}
	j := openIn(t, filepath.Join(dir, "journal"), Options{})
	var app application
	j.Deliver(app.send)
	until(t, j, "all delivered", func() bool { return j.Stats().Depth == 0 })
	checkSums(t, j)

	seen := make(map[string]int)
	order := make(map[string]string)
	for _, body := range append(linesOf(t, dir, "taken"), app.taken()...) {
		lane, number, _ := strings.Cut(body, " ")
		if seen[body] == 0 && order[lane] > number {
			t.Fatalf("%s %s was first delivered after %s", lane, number, order[lane])
		}
		order[lane] = max(order[lane], number)
		seen[body]++
	}
	accepted := linesOf(t, dir, "accepted")
	for _, body := range accepted {
		if seen[body] == 0 {
			t.Fatalf("lost %q", body)
		}
	}
	twice := 0
	for _, n := range seen {
		twice += n - 1
	}
	t.Logf("%d rounds, %d accepted, %d sent more than once", rounds, len(accepted), twice)
	if len(accepted) == 0 {
		t.Fatal("nothing was accepted")
	}
}

func killOnce(t *testing.T, dir string, round int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildOfKill$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "JOURNAL_CHILD="+dir, fmt.Sprintf("JOURNAL_ROUND=%d", round))
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Killed after so many acknowledgements, wherever the child then is.
	enough := len(linesOf(t, dir, "accepted")) + 200 + round*137
	for len(linesOf(t, dir, "accepted")) < enough {
		if cmd.ProcessState != nil || syscall.Kill(cmd.Process.Pid, 0) != nil {
			break
		}
		time.Sleep(time.Millisecond) // another process: there is no event to wait for
	}
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("round %d: the child ended by itself: %v\n%s", round, err, out.b.String())
	}
}

type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func linesOf(t *testing.T, dir, name string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	all := strings.Split(string(text), "\n")
	return all[:len(all)-1] // the last one is empty, or torn
}

// TestChildOfKill is the process that is killed: four lanes, each appended to by
// one client, and delivered to an application that is a file.
func TestChildOfKill(t *testing.T) {
	dir := os.Getenv("JOURNAL_CHILD")
	if dir == "" {
		t.Skip("only as a child of TestKillLosesNothing")
	}
	j, err := Open(filepath.Join(dir, "journal"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	note := func(name string) func(string) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return func(s string) { _, _ = f.WriteString(s + "\n") } // one write, as a kill cuts it or not
	}
	accepted, taken := note("accepted"), note("taken")
	j.Deliver(func(_ context.Context, e *Entry, _ int) Outcome {
		taken(string(e.Body))
		return Outcome{Kind: Taken, Answer: &Answer{Status: 200}}
	})
	for lane := range 4 {
		go func() {
			for n := 0; ; n++ {
				body := fmt.Sprintf("lane%d %s-%06d", lane, os.Getenv("JOURNAL_ROUND"), n)
				l, err := j.Append(t.Context(), write(fmt.Sprint(lane), body))
				if err != nil {
					return
				}
				l.Accept()
				accepted(body)
			}
		}()
	}
	select {}
}
