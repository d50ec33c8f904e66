package httpcache

import (
	"sync/atomic"
	"time"
)

// lonely remembers for a while which keys had an answer that could not be
// shared: requests for them go on side by side instead of waiting for each other
// in vain. Keys that meet in one place forget each other, so it is bounded.
type lonely struct {
	places [1 << 12]atomic.Uint64 // upper half: of the hash; lower half: until, Unix seconds
}

// memory is how long a key stays lonely. Then one request tries again what all
// could save.
const memory = time.Minute

func (l *lonely) add(hash uint64, now time.Time) {
	l.places[hash%uint64(len(l.places))].Store(hash>>32<<32 | uint64(uint32(now.Add(memory).Unix())))
}

func (l *lonely) has(hash uint64, now time.Time) bool {
	v := l.places[hash%uint64(len(l.places))].Load()
	return v>>32 == hash>>32 && uint32(now.Unix()) < uint32(v)
}

func (l *lonely) remove(hash uint64) {
	place := &l.places[hash%uint64(len(l.places))]
	if v := place.Load(); v>>32 == hash>>32 {
		place.CompareAndSwap(v, 0)
	}
}
