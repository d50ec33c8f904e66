package upstream

import (
	"slices"
	"sync"
	"time"
)

// Keeper is one who keeps idle connections to the applications of a pool.
type Keeper struct {
	// Drop closes those to an address.
	Drop func(address string)
}

// Join tells of a keeper, until leave is called. An application that serves one
// connection at a time waits for the next request on the one that was kept last: so
// whoever sends to an address closes what all others keep there.
func (r *Ready) Join(k *Keeper) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.joinLocked(k)
}

func (r *Ready) joinLocked(k *Keeper) (leave func()) {
	r.keepers = append(slices.Clip(r.keepers), k)
	r.keeping.Add(1)
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		i := slices.Index(r.keepers, k)
		r.keepers = slices.Delete(slices.Clone(r.keepers), i, i+1)
		r.keeping.Add(-1)
	})
}

// Clear closes all that is idle or ready at an address but what one keeps; nil: all.
// It must be called before a request goes there by any way but a Direct's.
func (r *Ready) Clear(address string, but *Keeper) {
	r.Drop(address)
	r.clearOthers(address, but)
}

func (r *Ready) clearOthers(address string, but *Keeper) {
	if n := r.keeping.Load(); n == 0 || n == 1 && but != nil {
		return
	}
	r.mu.Lock()
	keepers := r.keepers // never written to
	r.mu.Unlock()
	for _, k := range keepers {
		if k != but {
			k.Drop(address)
		}
	}
}

// kept is what several Directs keep together. Those whose connections are alike do,
// or each would close the other's all the time.
type kept struct {
	keeper Keeper
	leave  func()
	users  int // Ready.mu

	mu     sync.Mutex
	stocks map[string]*stock // mu; by address
	reaper *time.Timer       // mu; nil: nothing is idle
	closed bool              // mu
}

// share returns what is kept of one kind, to be left once.
func (r *Ready) share(kind string) *kept {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kinds[kind]
	if k != nil {
		k.users++
		return k
	}
	k = &kept{stocks: make(map[string]*stock), users: 1}
	k.keeper.Drop = k.drop
	if r.kinds == nil {
		r.kinds = make(map[string]*kept)
	}
	r.kinds[kind] = k
	k.leave = r.joinLocked(&k.keeper)
	return k
}

// unshare reports whether it was the last who has left.
func (r *Ready) unshare(kind string, k *kept) (last bool) {
	r.mu.Lock()
	k.users--
	if last = k.users == 0; last {
		delete(r.kinds, kind)
	}
	r.mu.Unlock()
	if last {
		k.leave()
	}
	return last
}

// drop closes what is idle at an address.
func (k *kept) drop(address string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stocks[address]
	if s == nil {
		return
	}
	for i, c := range s.idle {
		c.Conn.Close()
		s.idle[i] = nil
	}
	s.idle = s.idle[:0]
	k.forget(address, s)
}
