package store

import (
	"context"
	"sync/atomic"
	"time"
)

// Spent is how long a request has been with the store: its queries, and its
// changes from their arrival until they are on the disk, with what they waited
// for. Queries at the same time count each. Safe for concurrent use.
type Spent struct{ nanoseconds atomic.Int64 }

type spentKey struct{}

// WithSpent returns a context whose time with the store is counted.
func WithSpent(ctx context.Context) (context.Context, *Spent) {
	s := new(Spent)
	return context.WithValue(ctx, spentKey{}, s), s
}

// Duration is the time so far.
func (s *Spent) Duration() time.Duration { return time.Duration(s.nanoseconds.Load()) }

// spend counts until what it returns is called.
func spend(ctx context.Context) (end func()) {
	s, ok := ctx.Value(spentKey{}).(*Spent)
	if !ok {
		return func() {}
	}
	start := time.Now()
	return func() { s.nanoseconds.Add(int64(time.Since(start))) }
}
