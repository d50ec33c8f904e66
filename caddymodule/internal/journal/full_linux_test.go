package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/zap"
)

// slowTables is a disk that is busy with writing tables: they wait to be flushed.
type slowTables struct{}

func (slowTables) MaybeError(op errorfs.Op) error {
	if op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst") {
		time.Sleep(3 * time.Millisecond)
	}
	return nil
}

func (slowTables) String() string { return "slow tables" }

// A disk that is filled by entries themselves, up to the reserve, while all tables
// wait to be written, is full and no more than that.
func TestReserveIsEnoughForWhatTheEngineHasBegun(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=1100m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no disk of its own: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	const memory = 64 << 20
	j := openIn(t, dir+"/journal", Options{Log: zap.NewNop(), fs: errorfs.Wrap(vfs.Default, slowTables{}), Memory: memory, Limits: Limits{MaxBytes: 1 << 40, PerClient: -1}})
	if reserve := j.limits.Load().Reserve; reserve != 6*memory {
		t.Errorf("%d MiB are left free, want six memtables", reserve>>20)
	}
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			w := write("lane", "")
			w.Body = make([]byte, 256<<10)
			for {
				rand.Read(w.Body)
				l, err := j.Append(context.Background(), w)
				if errors.Is(err, ErrFull) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				l.Accept()
			}
		})
	}
	clients.Wait()
	if depth := j.Stats().Depth; depth < 200 {
		t.Errorf("it is full with %d entries", depth)
	}
	least := int64(1 << 60)
	j.Deliver(func(context.Context, *Entry, int) Outcome { return Outcome{Kind: Taken} })
	for end := time.Now().Add(time.Minute); j.Stats().Depth > 0 && j.Err() == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
		free, _ := j.store.free()
		least = min(least, free)
	}
	if s := j.Stats(); s.Depth != 0 || s.Failed != nil {
		t.Errorf("%d are left: %v", s.Depth, s.Failed)
	}
	if least < memory {
		t.Errorf("%d MiB were free at the least", least>>20)
	}
}
