package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleStore is the store in a folder.
//
// One goroutine commits. While the disk syncs one group of changes, the next
// one gathers, so that everybody in flight shares an fsync. Being alone, it can
// keep sums and give out seqs without a lock, and a panic of the engine has one
// place to be caught in.
type pebbleStore struct {
	*engine
	seal *sealer

	ops   chan *op
	stop  chan struct{}
	ended chan struct{}

	door sync.RWMutex // held for reading by whoever submits
	shut bool         // door

	synced uint64                 // the last commit that is known to be on disk; the committer's
	recent map[Hash]int64         // bytes of clients, 0 too, at most maxRecent; the committer's
	sums   atomic.Pointer[totals] // of the last commit
	limits atomic.Pointer[Limits] // with their defaults
	space  space
	first  first
}

// op is a change that waits for its group.
type op struct {
	stage func(*group) error // adds the change to the group; an error leaves it out
	done  func(error)
	sync  bool // done means on disk
	size  int  // about, bytes
	// Changes of one group do not see each other. Two with the same scope, or the
	// same seq, never share a group. Zero: none.
	scope Hash
	seq   uint64
	alone bool // shares its group with nobody
}

// Bounds of a group and of those who wait for one. A group's bytes are a
// quarter of a memtable, its ops what 256 clients have in flight, twice.
const (
	maxGroupOps   = 512
	maxGroupBytes = minMemTable / 4
	maxWaiting    = 4096
)

// lazySync is how soon changes that nobody waits for are on disk. Until then a
// crash makes deliveries happen again.
const lazySync = 20 * time.Millisecond

// formatVersion is in the store; another one is not opened.
const formatVersion = 1

func openStore(dir string, opts Options) (*pebbleStore, error) {
	seal, err := newSealer(opts.Secret)
	if err != nil {
		return nil, err
	}
	e, err := openEngine(dir, opts)
	if err != nil {
		return nil, err
	}
	s := &pebbleStore{engine: e, seal: seal, ops: make(chan *op, maxWaiting), stop: make(chan struct{}), ended: make(chan struct{}), recent: make(map[Hash]int64)}
	s.bound(Limits{Reserve: defaultReserve}.withDefaults())
	if err := s.readMeta(); err != nil {
		_ = e.close()
		return nil, err
	}
	go s.run() // ends with stop, or when the engine has failed; close waits
	return s, nil
}

// readMeta reads the sums, and writes what a new store begins with.
func (s *pebbleStore) readMeta() error {
	var t totals
	s.sums.Store(&t)
	version := uint64(0)
	if err := s.get(metaFormat, func(v []byte) error { r := reader{b: v}; version = r.uint(); return r.err("the version") }); err != nil {
		return err
	}
	if version > formatVersion {
		return fmt.Errorf("journal: %s has format %d, and this is an older program: it reads %d", s.dir, version, formatVersion)
	}
	if err := s.get(metaTotals, func(v []byte) (err error) { t, err = decodeTotals(v); return err }); err != nil {
		return err
	}
	s.synced = t.commit // Pebble has written its logs to tables, and synced those
	return s.checkSecret(version == 0)
}

// checkSecret finds out at once, and not at the first entry, that the key is wrong.
func (s *pebbleStore) checkSecret(fresh bool) error {
	const text = "portner"
	sealed := false
	err := s.get(metaSecret, func(v []byte) error {
		sealed = true
		_, err := s.seal.open(v, metaSecret)
		return err
	})
	if err != nil || (sealed || s.seal == nil) && !fresh {
		return err
	}
	return s.with(func(db *pebble.DB) error {
		b := db.NewBatch()
		if err := b.Set(metaFormat, binary.AppendUvarint(nil, formatVersion), nil); err != nil {
			return err
		}
		if s.seal != nil {
			check, err := s.seal.seal(append(make([]byte, s.seal.room()), text...), 0, metaSecret)
			if err != nil {
				return err
			}
			if err := b.Set(metaSecret, check, nil); err != nil {
				return err
			}
		}
		return db.Apply(b, pebble.Sync)
	})
}

// submit hands a change to the committer. It waits while maxWaiting do.
func (s *pebbleStore) submit(o *op) {
	s.door.RLock()
	defer s.door.RUnlock()
	if s.shut {
		o.done(ErrClosed)
		return
	}
	if err := s.err(); err != nil {
		o.done(err)
		return
	}
	select {
	case s.ops <- o:
		select {
		case <-s.ended: // the committer may have looked for the last time before
			s.refuseRest()
		default:
		}
	case <-s.failed:
		o.done(s.refusal())
	}
}

// wait is for an op's result; a failed engine may never bring it.
func (s *pebbleStore) wait(result <-chan error) error {
	select {
	case err := <-result:
		return err
	case <-s.failed:
		return s.err()
	case <-s.ended:
		select {
		case err := <-result:
			return err
		default:
			return s.refusal()
		}
	}
}

func (s *pebbleStore) run() {
	defer s.refuseRest()
	defer close(s.ended) // before that: who submits later finds it closed, and does it himself
	lazy := time.NewTimer(time.Hour)
	lazy.Stop()
	unsynced := false
	var next *op
	for {
		if next == nil {
			select {
			case next = <-s.ops:
			case <-lazy.C:
				s.flush()
				unsynced = false
				continue
			case <-s.failed:
				return
			case <-s.stop:
				select {
				case next = <-s.ops: // what was submitted before
				default:
					s.flush()
					return
				}
			}
		}
		g := s.gather(next)
		next = g.next
		switch written := s.commit(g); {
		case !written: // nor is anything on disk by it that was not
		case g.sync:
			unsynced = false
			lazy.Stop()
		case !unsynced:
			unsynced = true
			lazy.Reset(lazySync)
		}
		if s.err() != nil && next != nil {
			next.done(s.err())
			return
		}
	}
}

// refuseRest says no to all who wait when nothing is committed any more.
func (s *pebbleStore) refuseRest() {
	for {
		select {
		case o := <-s.ops:
			o.done(s.refusal())
		default:
			return
		}
	}
}

func (s *pebbleStore) refusal() error {
	if err := s.err(); err != nil {
		return err
	}
	return ErrClosed
}

// flush syncs what was committed without.
func (s *pebbleStore) flush() {
	if err := s.with(func(db *pebble.DB) error { return db.LogData(nil, pebble.Sync) }); err == nil { // a failure is noted by the engine
		s.synced = s.totals().commit
	}
}

// group is the changes of one commit.
type group struct {
	s       *pebbleStore
	ops     []*op
	next    *op // gathered, but for the next group
	bytes   int
	sync    bool
	batch   *pebble.Batch
	totals  totals
	clients map[Hash]int64
	scopes  map[Hash]bool
	seqs    map[uint64]bool
	err     error // the batch could not be built
}

// gather takes what waits, as far as it may share a group.
func (s *pebbleStore) gather(first *op) *group {
	g := &group{s: s, totals: *s.sums.Load()}
	for o := first; ; {
		if !g.add(o) {
			g.next = o
			return g
		}
		if len(g.ops) == maxGroupOps || g.bytes >= maxGroupBytes {
			return g
		}
		select {
		case o = <-s.ops:
		default:
			return g
		}
	}
}

func (g *group) add(o *op) bool {
	if g.scopes[o.scope] || g.seqs[o.seq] || len(g.ops) > 0 && (o.alone || g.ops[0].alone) {
		return false
	}
	if o.scope != (Hash{}) {
		if g.scopes == nil {
			g.scopes = make(map[Hash]bool)
		}
		g.scopes[o.scope] = true
	}
	if o.seq != 0 {
		if g.seqs == nil {
			g.seqs = make(map[uint64]bool)
		}
		g.seqs[o.seq] = true
	}
	g.ops = append(g.ops, o)
	g.bytes += o.size
	g.sync = g.sync || o.sync
	return true
}

// commit writes the group, unless all of it is refused, and tells everybody in it.
func (s *pebbleStore) commit(g *group) (written bool) {
	if err := s.with(func(db *pebble.DB) error { g.batch = db.NewBatch(); return nil }); err != nil {
		for _, o := range g.ops {
			o.done(err)
		}
		return false
	}
	staged := g.stage()
	err := g.err
	if err == nil && !g.batch.Empty() {
		err = g.write()
		written = err == nil
	}
	if err == nil {
		s.sums.Store(&g.totals)
		s.remember(g.clients)
		if g.sync && written {
			s.synced = g.totals.commit
		}
		s.space.used(int64(g.bytes))
	} else if s.err() == nil && !errors.Is(err, ErrClosed) {
		s.fail(err) // a commit of unknown end: nothing may follow it
		err = s.err()
	}
	for _, o := range staged {
		o.done(err)
	}
	return written
}

// stage builds the batch, and returns the ops that are in it.
func (g *group) stage() (staged []*op) {
	for _, o := range g.ops {
		if err := o.stage(g); err != nil {
			o.done(err)
			continue
		}
		staged = append(staged, o)
	}
	return staged
}

func (g *group) write() error {
	g.writeSums()
	if g.err != nil {
		return g.err
	}
	write := pebble.NoSync
	if g.sync {
		write = pebble.Sync
	}
	return g.s.with(func(db *pebble.DB) error { return db.Apply(g.batch, write) })
}

// writeSums adds the counters to the batch.
func (g *group) writeSums() {
	for client, n := range g.clients {
		if n == 0 {
			g.delete(hashKey(kClient, client))
			continue
		}
		g.set(hashKey(kClient, client), binary.AppendVarint(nil, n))
	}
	g.totals.commit++
	g.totals.synced = g.s.synced
	g.set(metaTotals, g.totals.encode())
}

func (g *group) set(key, value []byte) { g.note(g.batch.Set(key, value, nil)) }
func (g *group) delete(key []byte)     { g.note(g.batch.Delete(key, nil)) }

// deleteSized tells the compactions that there are many bytes to be won.
func (g *group) deleteSized(key []byte, size int64) {
	g.note(g.batch.DeleteSized(key, uint32(min(size, 1<<31)), nil))
}

func (g *group) deleteRange(from, to []byte) { g.note(g.batch.DeleteRange(from, to, nil)) }

func (g *group) note(err error) {
	if g.err == nil {
		g.err = err
	}
}

// client adds to a client's bytes and returns them.
func (g *group) client(client Hash, add int64) int64 {
	n, known := g.clients[client]
	if !known {
		n, known = g.s.recent[client]
	}
	if !known {
		err := g.s.get(hashKey(kClient, client), func(v []byte) error { r := reader{b: v}; n = r.int(); return r.err("a client's bytes") })
		g.note(err)
	}
	if g.clients == nil {
		g.clients = make(map[Hash]int64)
	}
	g.clients[client] = n + add
	return n + add
}

// maxRecent clients have their bytes in memory, 24 bytes each.
const maxRecent = 4096

// remember keeps what was committed. A client whose writes are delivered at once
// has its sum set and deleted with each of them, and a read of a deleted key steps
// over all its versions since the last flush: thousands.
func (s *pebbleStore) remember(clients map[Hash]int64) {
	for client, n := range clients {
		if _, there := s.recent[client]; !there && len(s.recent) >= maxRecent {
			for some := range s.recent { // map order is random enough
				delete(s.recent, some)
				break
			}
		}
		s.recent[client] = n
	}
}

// room reports whether there is some for the entry.
func (g *group) room(e *Entry) error {
	switch lim := g.s.limits.Load(); {
	case g.totals.bytes+e.size > lim.MaxBytes:
		return ErrFull
	case lim.PerClient > 0 && g.client(e.Client, 0)+e.size > lim.PerClient:
		return ErrShare
	case !g.spare(e.size):
		return errReserve
	}
	return nil
}

var errReserve = fmt.Errorf("%w: the disk has no more than the reserve left", ErrFull)

// spare reports whether so many bytes more, with what the group has so far, leave the
// disk its reserve.
func (g *group) spare(bytes int64) bool {
	return g.s.space.has(int64(g.batch.Len())+bytes, g.s.limits.Load().Reserve, g.s.free)
}

// space is how much of the disk was free when it was looked at last. Only the
// committer uses it.
type space struct {
	left  int64
	known bool
	at    time.Time
}

// spaceAge is how long a look is good for. What is written by ourselves is counted.
const spaceAge = 100 * time.Millisecond

func (s *space) has(bytes, reserve int64, look func() (int64, bool)) bool {
	if age := time.Since(s.at); age > spaceAge || age < 0 || s.known && s.left-bytes < reserve {
		s.left, s.known = look()
		s.at = time.Now()
	}
	return !s.known || s.left-bytes >= reserve
}

func (s *space) used(bytes int64) { s.left -= bytes }

func (s *pebbleStore) bound(lim Limits)         { s.limits.Store(&lim) }
func (s *pebbleStore) totals() totals           { return *s.sums.Load() }
func (s *pebbleStore) failure() error           { return s.err() }
func (s *pebbleStore) failedC() <-chan struct{} { return s.failed }

// answerRoom is how many bytes the kept answers may still take.
func (s *pebbleStore) answerRoom() int64 { return s.limits.Load().MaxBytes - s.totals().answerBytes }

// close ends the committer after all that was submitted, and then the engine. A
// failed engine is not waited for.
func (s *pebbleStore) close() error {
	s.door.Lock()
	s.shut = true
	s.door.Unlock()
	close(s.stop)
	select {
	case <-s.ended:
	case <-s.failed:
	}
	return s.engine.close()
}
