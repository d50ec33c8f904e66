package httpcache

import (
	"context"
	"sync/atomic"
)

// contest is between those who followed a leader that was refused. Each asks for
// a slot of its own, so that nobody waits for one refusal after the other; the first
// who gets one leads the rest.
type contest struct {
	over  context.Context // done when there is a first
	end   context.CancelFunc
	first atomic.Pointer[Flight]
}

func newContest() *contest {
	over, end := context.WithCancel(context.Background())
	return &contest{over: over, end: end}
}

func (k *contest) won(f *Flight) {
	if k.first.CompareAndSwap(nil, f) {
		k.end()
	}
}

// Overtaken is done when another request for the same was sent first: then this
// one need not be, and Rejoin has what to follow. nil: there is no other.
func (f *Flight) Overtaken() context.Context {
	if f.joins == nil {
		return nil
	}
	return f.joins.over
}

// Behind reports whether another request for the same was sent first. Who has its
// slot may not have heard of it yet.
func (f *Flight) Behind() bool {
	if f.joins == nil {
		return false
	}
	first := f.joins.first.Load()
	return first != nil && first != f
}

// Rejoin ends a flight that was overtaken. What it returns is for Follow; false:
// it was not overtaken.
func (f *Flight) Rejoin(note Note) (Found, bool) {
	if !f.Behind() {
		return Found{}, false
	}
	f.Done()
	return Found{Verdict: Wait, Flight: f.joins.first.Load(), Note: note}, true
}

// contested is the contest of those who followed; nil: there is none.
func (f *Flight) contested() *contest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leaves
}

// release lets the followers contend, where this flight was refused before it was
// sent.
func (f *Flight) release(why Trouble) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if why == Overloaded && !f.away && !f.done {
		f.leaves = newContest()
	}
}
