package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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

// breakable is a disk whose writes of some kinds fail from some moment on.
type breakable struct {
	broken atomic.Bool
	kinds  func(errorfs.Op) bool
	err    error
}

func (b *breakable) MaybeError(op errorfs.Op) error {
	if b.broken.Load() && b.kinds(op) {
		return b.err
	}
	return nil
}

func (*breakable) String() string { return "breakable" }

// stalling is a disk whose fsyncs of the log take as long as the test wants.
type stalling struct{ gate atomic.Pointer[chan struct{}] }

func (s *stalling) stall() (again func()) {
	gate := make(chan struct{})
	s.gate.Store(&gate)
	return func() { s.gate.Store(nil); close(gate) }
}

func (s *stalling) MaybeError(op errorfs.Op) error {
	if gate := s.gate.Load(); gate != nil && isLog(op) && isSync(op) {
		<-*gate
	}
	return nil
}

func (*stalling) String() string { return "stalling" }

func isLog(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") }

func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

func isWrite(op errorfs.Op) bool {
	return op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose
}

func TestNothingIsAcknowledgedAfterAFailure(t *testing.T) {
	for name, b := range map[string]*breakable{
		"fsync of the log":      {kinds: func(op errorfs.Op) bool { return isLog(op) && isSync(op) }, err: syscall.EIO},
		"write of the log":      {kinds: func(op errorfs.Op) bool { return isLog(op) && op.Kind == errorfs.OpFileWrite }, err: syscall.EIO},
		"full disk":             {kinds: func(op errorfs.Op) bool { return isWrite(op) && op.Kind != errorfs.OpRemove }, err: syscall.ENOSPC},
		"made read-only":        {kinds: isWrite, err: syscall.EROFS},
		"rotation of the log":   {kinds: func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite }, err: syscall.EIO},
		"write of the manifest": {kinds: func(op errorfs.Op) bool { return strings.Contains(op.Path, "MANIFEST") && isWrite(op) }, err: syscall.EIO},
		"write of a table":      {kinds: func(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".sst") && isWrite(op) }, err: syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) { failUnderLoad(t, b) })
	}
}

// failUnderLoad breaks the disk under 32 clients, and opens it again when it is
// whole: all that was acknowledged is there.
func failUnderLoad(t *testing.T, b *breakable) {
	mem := vfs.NewCrashableMem()
	opts := Options{fs: errorfs.Wrap(mem, b), Log: zap.NewNop(), Limits: Limits{PerClient: -1}}
	j := openIn(t, "journal", opts)
	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	var wg sync.WaitGroup
	var appended atomic.Int64
	pad := strings.Repeat("x", 8000) // memtables fill, logs rotate
	for client := range 32 {
		wg.Go(func() {
			for n := 0; ; n++ {
				body := fmt.Sprintf("%d-%d %s", client, n, pad)
				l, err := j.Append(context.Background(), write("lane", body))
				if err != nil {
					if !errors.Is(err, ErrFailed) {
						t.Errorf("%v, want ErrFailed", err)
					}
					return
				}
				if !l.Accept() {
					t.Error("not accepted")
				}
				mu.Lock()
				acknowledged[body] = true
				mu.Unlock()
				if appended.Add(1) == 200 {
					b.broken.Store(true)
				}
			}
		})
	}
	wg.Wait()
	for range 20 {
		if _, err := j.Append(context.Background(), write("lane", "after")); !errors.Is(err, ErrFailed) {
			t.Fatalf("%v, want ErrFailed", err)
		}
	}
	if s := j.Stats(); s.Failed == nil {
		t.Fatal("the stats know nothing of it")
	}
	_ = j.Close() // does not hang, and gives the folder back

	b.broken.Store(false)
	for _, disk := range map[string]vfs.FS{"power cut": mem.CrashClone(vfs.CrashCloneCfg{}), "same process": mem} {
		opts.fs = disk
		again := openIn(t, "journal", opts)
		left := make(map[string]bool)
		if err := again.store.scan(Undelivered, 0, func(e *Entry, _ *ending) bool { left[string(e.Body)] = true; return true }); err != nil {
			t.Fatal(err)
		}
		for body := range acknowledged {
			if !left[body] {
				t.Fatalf("lost %.20q of %d", body, len(acknowledged))
			}
		}
		checkSums(t, again)
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Pebble finds out when it wants its next log. Told so, it would end the process.
func TestRemovedFolderIsAFailure(t *testing.T) {
	takenAway(t, filepath.Join(t.TempDir(), "journal"), os.RemoveAll)
}

func TestMovedFolderIsAFailureAndHasAllThatWasAcknowledged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	acknowledged := takenAway(t, dir, func(dir string) error { return os.Rename(dir, dir+"-moved") })
	j := openIn(t, dir+"-moved", Options{})
	if s := j.Stats(); s.Depth != int64(acknowledged) || acknowledged < 2 {
		t.Fatalf("%d entries, want %d", s.Depth, acknowledged)
	}
	checkSums(t, j)
}

// takenAway takes the folder of an open journal away and appends until that is
// noticed. It returns how many writes were acknowledged.
func takenAway(t *testing.T, dir string, take func(dir string) error) (acknowledged int) {
	t.Helper()
	j := openIn(t, dir, Options{Log: zap.NewNop(), Limits: Limits{PerClient: -1}})
	mustAppend(t, j, write("lane", "x")).Accept()
	if err := take(dir); err != nil {
		t.Fatal(err)
	}
	pad := strings.Repeat("x", 64<<10)
	for acknowledged = 1; ; acknowledged++ {
		l, err := j.Append(context.Background(), write("lane", pad))
		if errors.Is(err, ErrFailed) && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil || acknowledged == 2000 { // eight memtables
			t.Fatalf("%v after %d writes, want ErrFailed", err, acknowledged)
		}
		l.Accept()
	}
	if _, err := j.Append(context.Background(), write("lane", "after")); !errors.Is(err, ErrFailed) {
		t.Fatalf("%v, want ErrFailed", err)
	}
	if s := j.Stats(); s.Failed == nil {
		t.Fatal("the stats know nothing of it")
	}
	_ = j.Close() // does not hang
	return acknowledged
}

func TestDiskThatStallsUnderManyWritesGoesOnWhenItIsBack(t *testing.T) {
	var disk stalling
	j := inMemory(t, Options{fs: errorfs.Wrap(vfs.NewMem(), &disk)})
	tried := mustAppend(t, j, write("lane", "tried"))
	if !tried.Begin() {
		t.Fatal("nothing is ahead, and it may not be sent")
	}
	again := disk.stall()
	const writes = 6000 // more than may wait for the committer
	var left sync.WaitGroup
	for n := range writes {
		left.Go(func() {
			l, err := j.Append(context.Background(), write("lane", fmt.Sprint(n)))
			if err != nil {
				t.Error(err)
				return
			}
			l.Accept()
		})
	}
	ops := j.store.(*pebbleStore).ops
	for len(ops) < cap(ops) {
		time.Sleep(time.Millisecond)
	}
	left.Go(func() { tried.End(Outcome{Kind: Unavailable}) })
	time.Sleep(50 * time.Millisecond) // until it waits, as it has to
	again()
	done := make(chan struct{})
	go func() { left.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("the disk is back, and the journal stands still")
	}
	tried.Accept()
	if depth := j.Stats().Depth; depth != writes+1 {
		t.Fatalf("%d entries, want %d", depth, writes+1)
	}
}

// The committer itself says no, and not only the alarm that wakes who waits.
func TestCommitWhoseSyncFailedIsNone(t *testing.T) {
	b := &breakable{kinds: isSync, err: syscall.EIO}
	j := inMemory(t, Options{fs: errorfs.Wrap(vfs.NewMem(), b)})
	b.broken.Store(true)
	w := write("lane", "x")
	l := &Live{j: j, entry: newEntry(&w, time.Now())}
	done := make(chan error, 1)
	j.store.append(l.entry, l.hold, func(err error) { done <- err })
	if err := <-done; !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("%v, want ErrFailed for EIO", err)
	}
}

// Nobody is forgotten who submits a change while the committer ends: it is refused,
// and its body and its turn are given back.
func TestChangeThatMeetsTheEndOfTheCommitterIsRefused(t *testing.T) {
	for range 1000 {
		// As submit finds it that has asked for failures just before there was one.
		s := &pebbleStore{engine: &engine{failed: make(chan struct{})}, ops: make(chan *op, 1), ended: make(chan struct{})}
		close(s.failed)
		close(s.ended)
		told := 0
		s.submit(&op{done: func(err error) {
			told++
			if err == nil {
				t.Error("no error")
			}
		}})
		if told != 1 {
			t.Fatalf("told %d times", told)
		}
	}
}

func TestChangesAreAllAnsweredWhenTheEngineFailsUnderThem(t *testing.T) {
	for range 2000 {
		s := &pebbleStore{engine: &engine{failed: make(chan struct{}), log: zap.NewNop()}, ops: make(chan *op, 1), stop: make(chan struct{}), ended: make(chan struct{})}
		s.sums.Store(new(totals))
		go s.run()
		var told sync.WaitGroup
		for range 8 {
			told.Add(1)
			go s.submit(&op{done: func(error) { told.Done() }})
		}
		s.fail(syscall.EIO)
		done := make(chan struct{})
		go func() { told.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("somebody was told nothing")
		}
	}
}

func TestFullDiskIsRefusedBeforeItIsFull(t *testing.T) {
	mem := vfs.NewMem()
	disk := func(free uint64) { mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 40}) }
	disk(defaultReserve + 1<<20)
	j := inMemory(t, Options{fs: mem})
	var app application
	kept := mustAppend(t, j, write("lane", "kept"))
	kept.Accept()
	if _, err := j.Append(context.Background(), write("lane", strings.Repeat("x", 2<<20))); !errors.Is(err, ErrFull) {
		t.Fatalf("%v, want ErrFull: the reserve would be used", err)
	}
	disk(defaultReserve - 1)
	j.store.(*pebbleStore).space.at = time.Time{} // as after spaceAge
	if _, err := j.Append(context.Background(), write("lane", "x")); !errors.Is(err, ErrFull) {
		t.Fatalf("%v, want ErrFull", err)
	}
	j.Deliver(app.send)
	until(t, j, "what is kept is delivered from a full disk", func() bool { return j.Stats().Depth == 0 })
	disk(defaultReserve + 1<<30)
	mustAppend(t, j, write("lane", "x")).Accept()
	if j.Err() != nil {
		t.Fatal(j.Err())
	}
}

// What a repeat would be given again is not worth a disk that is full.
func TestAnswersLeaveTheReserveAlone(t *testing.T) {
	mem := vfs.NewMem()
	disk := func(free uint64) { mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 40}) }
	disk(defaultReserve + 1<<30)
	j := inMemory(t, Options{fs: mem})
	keyed := func(body string) Write {
		w := write("lane", body)
		w.Key = body
		return w
	}
	for n := range 20 {
		mustAppend(t, j, keyed(fmt.Sprint(n))).Accept()
	}
	bad := mustAppend(t, j, keyed("bad"))
	bad.Accept()
	disk(defaultReserve - 1)
	j.store.(*pebbleStore).space.at = time.Time{} // as after spaceAge
	app := application{judge: func(body string, _ int) Outcome {
		o := Outcome{Kind: Taken, Answer: &Answer{Status: 201, Header: map[string][]string{"X-Long": {strings.Repeat("x", 1000)}}, Body: make([]byte, 40<<10)}}
		if body == "bad" {
			o.Kind, o.Answer.Status = Rejected, 422
		}
		return o
	}}
	j.Deliver(app.send)
	until(t, j, "all have ended", func() bool { return j.Stats().Depth == 0 })
	if s := j.Stats(); s.Answers != 20 || s.AnswerBytes > 20*200 {
		t.Fatalf("%+v", s)
	}
	var repeat *Repeat
	if _, err := j.Append(t.Context(), keyed("0")); !errors.As(err, &repeat) || repeat.State != Delivered {
		t.Fatalf("%v, want a repeat of what is delivered", err)
	}
	if a := repeat.Answer; a == nil || a.Status != 201 || !a.Cut || len(a.Header) != 0 || len(a.Body) != 0 {
		t.Fatalf("the answer is %+v", a)
	}
	s, err := j.Find(bad.Entry().ID)
	if err != nil || s.State != Dead || s.Answer == nil || s.Answer.Status != 422 || !s.Answer.Cut || len(s.Answer.Body) != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	checkSums(t, j)
}

func TestLimitsBoundAllAndEach(t *testing.T) {
	j := inMemory(t, Options{Limits: Limits{MaxBytes: 40_000}})
	from := func(client string) error {
		w := write("lane", strings.Repeat("x", 2000))
		w.Client = client
		l, err := j.Append(context.Background(), w)
		if err == nil {
			l.Accept()
		}
		return err
	}
	n := 0
	var err error
	for err == nil {
		err = from("greedy")
		n++
	}
	if !errors.Is(err, ErrShare) || !errors.Is(err, ErrFull) || n != 5 {
		t.Fatalf("%d: %v, want ErrShare at the fifth: a quarter", n, err)
	}
	for client := 0; err == nil || errors.Is(err, ErrShare); client++ {
		err = from(fmt.Sprint(client / 4))
	}
	if !errors.Is(err, ErrFull) || errors.Is(err, ErrShare) {
		t.Fatal(err)
	}
	if s := j.Stats(); s.Bytes > 40_000 || s.Bytes < 36_000 {
		t.Fatalf("%+v", s)
	}
	var app application
	j.Deliver(app.send)
	until(t, j, "room again", func() bool { return j.Stats().Bytes == 0 })
	if err := from("greedy"); err != nil {
		t.Fatal(err)
	}
	j.SetLimits(Limits{PerClient: -1})
	for range 20 {
		if err := from("greedy"); err != nil {
			t.Fatal(err)
		}
	}
	until(t, j, "all is delivered", func() bool { return j.Stats().Depth == 0 })
	checkSums(t, j)
}

func TestFolderIsForOneProcess(t *testing.T) {
	if dir := os.Getenv("JOURNAL_SECOND"); dir != "" {
		if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
			t.Fatalf("%v, want ErrInUse with the folder", err)
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "journal")
	j := openIn(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) {
		t.Fatalf("%v, want ErrInUse in the same process", err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFolderIsForOneProcess$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "JOURNAL_SECOND="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mustAppend(t, j, write("lane", "x")).Accept() // the first one is as it was
}

func TestFolderIsForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "journal")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	openIn(t, dir, Options{})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
}

func TestReadOnlyFolderIsSaidAtTheStart(t *testing.T) {
	ro := &breakable{kinds: isWrite, err: &fs.PathError{Op: "create", Path: "journal", Err: syscall.EROFS}}
	ro.broken.Store(true)
	_, err := Open("journal", Options{fs: errorfs.Wrap(vfs.NewMem(), ro)})
	if !errors.Is(err, syscall.EROFS) || errors.Is(err, ErrInUse) || errors.Is(err, ErrDamaged) {
		t.Fatalf("%v, want EROFS", err)
	}
}

// fill appends entries of 1 KiB and closes the journal, its log unflushed or
// all of it in a table.
func fill(t *testing.T, dir string, n int, flush bool) {
	t.Helper()
	j := openIn(t, dir, Options{})
	for i := range n {
		mustAppend(t, j, write("lane", fmt.Sprintf("%03d %s", i, strings.Repeat("x", 1000)))).Accept()
	}
	if flush {
		if err := j.store.(*pebbleStore).with(func(db *pebble.DB) error { return db.Flush() }); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// newest is the largest file with that ending.
func newest(t *testing.T, dir, ending string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s: %v", ending, err)
	}
	best, size := "", int64(-1)
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.Size() > size {
			best, size = name, info.Size()
		}
	}
	return best
}

func TestTornLastRecordIsAsIfNeverWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	// A process that dies leaves no end mark: copy the folder while it is open.
	j := openIn(t, dir, Options{})
	for i := range 20 {
		mustAppend(t, j, write("lane", fmt.Sprintf("%03d %s", i, strings.Repeat("x", 1000)))).Accept()
	}
	torn := filepath.Join(t.TempDir(), "torn")
	if err := os.CopyFS(torn, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	log := newest(t, torn, ".log")
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndex(string(text), "019 xxx")
	if err := os.Truncate(log, int64(at+500)); err != nil {
		t.Fatal(err)
	}
	again := openIn(t, torn, Options{})
	if got := again.Stats().Depth; got != 19 {
		t.Fatalf("%d entries, want the 19 whole ones", got)
	}
	checkSums(t, again)
}

// A bit is flipped in each of 20 records of a log in turn. All but the last are
// followed by proof that they were synced. What Salvage then makes has all others.
func TestFlippedBitInTheLogIsReportedWithItsPlace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	const n = 60 // three blocks of a log
	j := openIn(t, dir, Options{})
	for i := range n {
		mustAppend(t, j, write("lane", fmt.Sprintf("%03d %s", i, strings.Repeat("x", 1000)))).Accept()
	}
	for i := 0; i < n-1; i += 3 {
		bad := filepath.Join(t.TempDir(), "bad")
		if err := os.CopyFS(bad, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		flip(t, newest(t, bad, ".log"), fmt.Sprintf("%03d xxx", i))
		before := listing(t, bad)
		_, err := Open(bad, Options{})
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), bad) || !strings.Contains(err.Error(), "offset") {
			t.Fatalf("record %d: %v, want ErrDamaged with the place", i, err)
		}
		if after := listing(t, bad); !maps.Equal(before, after) {
			t.Fatalf("files were %v, are %v", before, after)
		}
		got, err := Salvage(bad, nil, Options{})
		if err != nil || got.Undelivered != n-1 || got.Missing != 1 || len(got.Lost) != 1 || !strings.Contains(got.Lost[0], "offset") || !strings.Contains(got.Lost[0], filepath.Base(newest(t, bad, ".log"))) {
			t.Fatalf("record %d: %+v, %v", i, got, err)
		}
		if after := listing(t, got.Aside); !maps.Equal(before, after) {
			t.Fatalf("files were %v, are %v", before, after)
		}
		again := openIn(t, bad, Options{})
		checkSums(t, again)
		if d := again.Stats().Depth; d != n-1 {
			t.Fatalf("%d entries", d)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func listing(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	sizes := make(map[string]int64)
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := name.Info()
		if err != nil {
			t.Fatal(err)
		}
		sizes[name.Name()] = info.Size()
	}
	return sizes
}

// flip changes one bit behind the text in a file.
func flip(t *testing.T, file, text string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), text)
	if at < 0 {
		at = len(b) / 3 // compressed
	}
	b[at+5] ^= 4
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFlippedBitInATableCostsItsBlockAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	const n = 300
	fill(t, dir, n, true)
	flip(t, newest(t, dir, ".sst"), "010 xxx")
	j := openIn(t, dir, Options{})
	var app application
	j.Deliver(app.send)
	until(t, j, "all that can be read is delivered", func() bool {
		s := j.Stats()
		return s.Unreadable > 0 && s.Depth == s.Unreadable
	})
	s := j.Stats()
	if len(s.Damaged) == 0 || s.Unreadable > 60 {
		t.Fatalf("%+v", s)
	}
	if got := len(app.taken()); got != n-int(s.Unreadable) {
		t.Fatalf("delivered %d of %d, unreadable %d", got, n, s.Unreadable)
	}
	last := ""
	for _, body := range app.taken() {
		if body < last {
			t.Fatalf("%.3s after %.3s", body, last)
		}
		last = body
	}
}

// TestRefusedWriteSyncsNothing: nor may it keep what was done before it from the disk.
func TestRefusedWriteSyncsNothing(t *testing.T) {
	synced := make(syncing, 100)
	j := inMemory(t, Options{fs: errorfs.Wrap(vfs.NewMem(), synced)})
	l := mustAppend(t, j, write("lane", "x"))
	j.SetLimits(Limits{MaxBytes: 1})
	for len(synced) > 0 {
		<-synced
	}
	if !l.Begin() || !l.End(Outcome{Kind: Taken}) {
		t.Fatal("nothing is ahead, and it is not the client's")
	}
	settleDown(j) // not in one group with what follows
	if _, err := j.Append(t.Context(), write("lane", "y")); !errors.Is(err, ErrFull) {
		t.Fatalf("%v, want ErrFull", err)
	}
	select {
	case <-synced:
	case <-time.After(20 * time.Second):
		t.Fatal("the end before it is not on disk")
	}
}

// syncing tells of syncs of the log.
type syncing chan struct{}

func (s syncing) String() string { return "syncing" }

func (s syncing) MaybeError(op errorfs.Op) error {
	if isLog(op) && isSync(op) {
		select {
		case s <- struct{}{}:
		default:
		}
	}
	return nil
}
