package front

import (
	"context"
	"slices"
	"sync"
)

// turns bound what some may have together: memoryForKeeping bytes. Who comes first
// goes first, or the long ones would never go. The zero value is ready for use.
// Safe for concurrent use.
type turns struct {
	mu      sync.Mutex
	used    int64   // mu
	waiting []*turn // mu; oldest first
}

type turn struct {
	bytes int64
	come  chan struct{} // closed when they are its own
}

// take waits for so many bytes, or for the end of ctx. More than there are is all
// of them.
func (t *turns) take(ctx context.Context, bytes int64) error {
	t.mu.Lock()
	mine := &turn{bytes: min(bytes, memoryForKeeping), come: make(chan struct{})}
	t.waiting = append(t.waiting, mine)
	t.nextLocked()
	t.mu.Unlock()
	select {
	case <-mine.come:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, mine); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	} else {
		t.used -= mine.bytes
	}
	t.nextLocked()
	return ctx.Err()
}

// give gives back what take was told.
func (t *turns) give(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used -= min(bytes, memoryForKeeping)
	t.nextLocked()
}

func (t *turns) nextLocked() {
	for len(t.waiting) > 0 && t.used+t.waiting[0].bytes <= memoryForKeeping {
		t.used += t.waiting[0].bytes
		close(t.waiting[0].come)
		t.waiting[0] = nil
		t.waiting = t.waiting[1:]
	}
}
