package httpcache

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// disk is the store's second tier, a folder: what is stored in memory is written
// there too, a moment later, and found there when memory has let it go, or when a
// new process has none yet.
//
// Always:
//   - An object is read as valid only while its epochs say so, and every
//     invalidation is in the folder before it counts: a process that is killed
//     comes back to the same epochs. A machine that lost power does not (nothing of
//     it is synced while the process runs), and then the folder is begun anew.
//   - What does not have its checksum is not there.
//   - All files together stay within limit, beside 2 MiB of epochs.
//   - No field of a request is written that may be a secret, and no Set-Cookie.
//
// Objects are appended to segments, the oldest of which goes when there is no room;
// those of it that memory still has are appended again. The index is in memory,
// about 100 bytes an object.
type disk struct {
	dir    string
	log    *zap.Logger
	lock   *os.File
	book   *book
	memory func() iter.Seq2[Key, *entry] // what memory has
	queue  chan job
	wg     sync.WaitGroup // the writer

	ended   chan struct{} // closed when the writer has ended
	waiting atomic.Int64  // bytes in queue
	limit   atomic.Int64
	counts  struct{ hits, written, dropped, damaged atomic.Int64 }
	failing atomic.Bool // the last write has failed

	mu       sync.Mutex
	closed   bool               // mu; nothing is written any more
	behind   int64              // mu; what was received until then is not written
	index    map[digest][]place // mu
	segments []*segment         // mu; the oldest first; the last one is written to
	size     int64              // mu; of all segments
}

// digest names a key.
type digest [16]byte

// place is where an object is.
type place struct {
	in       *segment
	at       int64
	size     int64 // with its label
	variant  uint64
	received int64 // Unix nanoseconds
}

// job is what the writer does: one of them.
type job struct {
	object *Object      // append it
	gone   *label       // forget this variant
	clear  bool         // forget everything
	synced chan<- error // tell it when everything before is on disk
	end    bool
}

const (
	// maxQueued objects, and bytes, may wait to be written. What comes while the
	// disk cannot follow is not written.
	maxQueued      = 1024
	maxQueuedBytes = 32 << 20
	// worthWriting is how long an object must be of use still.
	worthWriting = 10 * time.Second
	// diskShare of the disk is the largest object, and diskSegments the number of
	// files that it is divided into.
	diskShare    = 8
	diskSegments = 16
	// MinDisk is the least that a disk tier may have, in bytes.
	MinDisk = 1 << 20
)

// ErrDiskInUse: another process has the folder, or this one a second time.
var ErrDiskInUse = errors.New("httpcache: the folder is in use")

// OpenDisk gives the cache a second tier in a folder of its own, which it makes, of
// so many bytes. Call it once, after New and before anything else; Close ends it.
// What the folder has from an earlier process is used as far as it is whole;
// otherwise it is begun anew, and log is told. The error may be ErrDiskInUse.
func (c *Cache) OpenDisk(dir string, bytes int64, log *zap.Logger) error {
	d := &disk{dir: dir, log: log, index: make(map[digest][]place), queue: make(chan job, maxQueued), ended: make(chan struct{}),
		memory: c.store.entries.All}
	d.limit.Store(max(bytes, MinDisk))
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.Chmod(dir, 0o700) // pages may be for few
	}
	if err == nil {
		d.lock, err = lockFile(filepath.Join(dir, "lock"))
	}
	if err == nil {
		err = d.open(c.epochs)
	}
	if err != nil {
		d.closeFiles()
		return fmt.Errorf("httpcache: open %s: %w", dir, err)
	}
	c.store.disk = d
	d.wg.Go(d.write) // ends with Close, which waits for it
	return nil
}

// open reads what is there, or begins anew.
func (d *disk) open(e *epochs) error {
	book, err := openBook(filepath.Join(d.dir, "epochs"), e)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("what the cache had on disk is not used", zap.String("folder", d.dir), zap.Error(err))
		}
		if err := d.removeAll(); err != nil {
			return err
		}
		if book, err = newBook(filepath.Join(d.dir, "epochs"), e); err != nil {
			return err
		}
	}
	d.book, e.book = book, book
	return d.scan()
}

// removeAll takes the segments of an earlier folder away.
func (d *disk) removeAll() error {
	old, err := d.files()
	for _, name := range old {
		err = errors.Join(err, os.Remove(filepath.Join(d.dir, name)))
	}
	return err
}

// files are the names of the segments, the oldest first.
func (d *disk) files() (names []string, err error) {
	all, err := os.ReadDir(d.dir) // by name
	for _, f := range all {
		if strings.HasSuffix(f.Name(), segmentSuffix) {
			names = append(names, f.Name())
		}
	}
	return names, err
}

// digestOf is unkeyed: two keys with the same digest are one in 2^128, and the key
// is compared when the object is read.
func digestOf(k Key) digest {
	var room [512]byte
	b := room[:0]
	for _, s := range [...]string{k.Scheme, k.Host, k.URI, k.Way} {
		b = append(append(b, s...), 0)
	}
	sum := sha256.Sum256(b)
	return digest(sum[:16])
}

func variantOf(all []selector) uint64 {
	if len(all) == 0 {
		return 0
	}
	var b []byte
	for _, s := range all {
		b = appendText(appendText(b, s.name), s.value)
	}
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:8])
}

// fetch reads what there is under a key, the newest first. Damaged and invalid
// objects are forgotten.
func (d *disk) fetch(k Key, e *epochs) []*Object {
	sum := digestOf(k)
	d.mu.Lock()
	places := append([]place(nil), d.index[sum]...)
	d.mu.Unlock()
	var objects []*Object
	for i := len(places) - 1; i >= 0; i-- {
		p := places[i]
		o, err := d.read(p)
		switch {
		case errors.Is(err, os.ErrClosed): // its segment has just gone
		case err != nil || o.key != k:
			d.counts.damaged.Add(1)
			d.log.Warn("an object on disk is damaged", zap.String("folder", d.dir), zap.Error(err))
			d.forget(sum, p)
		case !e.valid(&o.validity):
			d.forget(sum, p)
		default:
			objects = append(objects, o)
		}
	}
	if len(objects) > 0 {
		d.counts.hits.Add(1)
	}
	return objects
}

func (d *disk) read(p place) (*Object, error) {
	b := make([]byte, p.size)
	if _, err := p.in.file.ReadAt(b, p.at); err != nil {
		return nil, err
	}
	h, ok := parseLabel(b, d.book.seed)
	if !ok || !h.matches(b[labelSize:]) {
		return nil, errDamaged
	}
	return decodeObject(b[labelSize:])
}

// forget takes a place out of the index, where it still is.
func (d *disk) forget(sum digest, p place) {
	d.mu.Lock()
	defer d.mu.Unlock()
	places := d.index[sum]
	for i := range places {
		if places[i] == p {
			d.setLocked(sum, append(places[:i:i], places[i+1:]...))
			return
		}
	}
}

func (d *disk) setLocked(sum digest, places []place) {
	if len(places) == 0 {
		delete(d.index, sum)
	} else {
		d.index[sum] = places
	}
}

// withoutLocked takes a variant out of the index; had: it was there.
func (d *disk) withoutLocked(sum digest, variant uint64) (had bool) {
	places := d.index[sum]
	for i := range places {
		if places[i].variant == variant {
			d.setLocked(sum, append(places[:i:i], places[i+1:]...))
			return true
		}
	}
	return false
}

// add is told of every object that is stored. What it supersedes is forgotten at
// once, and it is written later, if it is worth it.
func (d *disk) add(o *Object, now time.Time) {
	h := label{kind: gone, sum: digestOf(o.key), variant: variantOf(o.selectors), received: o.received.UnixNano()}
	if !d.worth(o, now) {
		d.forgetVariant(h)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.withoutLocked(h.sum, h.variant)
	switch {
	case d.closed:
	case d.waiting.Load() < maxQueuedBytes && d.put(job{object: o}):
		d.waiting.Add(o.Size())
	default:
		d.counts.dropped.Add(1)
		d.behind = max(d.behind, h.received) // or what it supersedes would be written
	}
}

// drop forgets an object that turned out to be wrong.
func (d *disk) drop(o *Object) {
	d.forgetVariant(label{kind: gone, sum: digestOf(o.key), variant: variantOf(o.selectors), received: o.received.UnixNano()})
}

// forgetVariant forgets what is on disk, or will be.
func (d *disk) forgetVariant(h label) {
	d.mu.Lock()
	defer d.mu.Unlock()
	had := d.withoutLocked(h.sum, h.variant)
	if !d.closed && (had || d.waiting.Load() > 0) && !d.put(job{gone: &h}) {
		d.behind = max(d.behind, h.received)
	}
}

// put queues a job, unless the writer is far behind.
func (d *disk) put(j job) bool {
	select {
	case d.queue <- j:
		return true
	default:
		return false
	}
}

// remove forgets a key that was invalidated. The epochs remember it.
func (d *disk) remove(k Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.index, digestOf(k))
}

// has reports whether there may be something under a key.
func (d *disk) has(k Key) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.index) > 0 && len(d.index[digestOf(k)]) > 0
}

// worth reports whether an object is to be written: whole, of use for a while,
// without a secret.
func (d *disk) worth(o *Object, now time.Time) bool {
	_, whole := o.body.whole()
	return whole && o.part == nil && o.Size() <= d.limit.Load()/diskShare && !has(o.header, "Set-Cookie") &&
		writable(o.selectors) && o.useFor(now) >= worthWriting
}

// useFor is how long an object may answer from now on, fresh or stale.
func (o *Object) useFor(now time.Time) time.Duration {
	use := o.life - now.Sub(o.born)
	if o.control.has(noCache) || o.control.prohibitsStale() {
		return use
	}
	revalidated, _ := o.control.get(staleWhileRevalidate)
	failed, _ := o.control.get(staleIfError)
	return use + max(revalidated, failed)
}

// writable reports whether the request fields of a variant may be written down. Of
// names that are not known nobody knows.
func writable(all []selector) bool {
	for _, s := range all {
		switch {
		case s.name == "Accept", s.name == "Accept-Charset", s.name == "Accept-Encoding", s.name == "Accept-Language":
		case s.name == "Origin", s.name == "User-Agent", s.name == "X-Requested-With", s.name == "Save-Data":
		case strings.HasPrefix(s.name, "Sec-"): // scripts cannot set them
		default:
			return false
		}
	}
	return true
}

// clear forgets everything.
func (d *disk) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.index)
	if !d.closed {
		d.put(job{clear: true})
	}
}

// sync waits until all that was stored so far is on disk as after an orderly end:
// then it is used even if the machine starts anew.
func (d *disk) sync() error {
	done := make(chan error, 1)
	select {
	case d.queue <- job{synced: done}:
	case <-d.ended:
		return nil
	}
	select {
	case err := <-done:
		return err
	case <-d.ended:
		return nil
	}
}

// close ends the tier, in order. Safe to call twice.
func (d *disk) close() error {
	err := d.sync()
	d.stop()
	return errors.Join(err, d.closeFiles())
}

// discard ends the tier and takes it away: nobody will tell it of invalidations
// any more.
func (d *disk) discard() error {
	d.stop()
	d.book.void()
	err := d.removeAll()
	return errors.Join(err, os.Remove(filepath.Join(d.dir, "epochs")), d.closeFiles())
}

func (d *disk) stop() {
	d.mu.Lock()
	was := d.closed
	d.closed = true
	d.mu.Unlock()
	if !was {
		d.queue <- job{end: true}
	}
	d.wg.Wait()
}

func (d *disk) closeFiles() (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.segments {
		err = errors.Join(err, s.file.Close())
	}
	d.segments = nil
	clear(d.index)
	if d.book != nil {
		err = errors.Join(err, d.book.close())
	}
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
		d.lock = nil
	}
	return err
}

// DiskStats are of the second tier. Counts are since it was opened.
type DiskStats struct {
	Keys            int
	Bytes, MaxBytes int64
	Hits            int64 // keys that were found there
	Written         int64 // objects
	Dropped         int64 // objects that were to be written, and were not: the disk is too slow, or full
	Damaged         int64 // objects, or ends of files, that were not whole
}

// stats are nil where there is no disk.
func (d *disk) stats() *DiskStats {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return &DiskStats{Keys: len(d.index), Bytes: d.size, MaxBytes: d.limit.Load(), Hits: d.counts.hits.Load(),
		Written: d.counts.written.Load(), Dropped: d.counts.dropped.Load(), Damaged: d.counts.damaged.Load()}
}

// LimitDisk changes how many bytes the second tier may have, if there is one.
func (c *Cache) LimitDisk(bytes int64) {
	if d := c.store.disk; d != nil {
		d.limit.Store(max(bytes, MinDisk))
	}
}

// SyncDisk makes what is stored and invalidated so far outlive the machine's power
// as well, until something else is. Without a disk it does nothing.
func (c *Cache) SyncDisk() error {
	if d := c.store.disk; d != nil {
		return d.sync()
	}
	return nil
}

// Close ends the second tier, if there is one, in order; the cache goes on without.
// Call it when nobody uses the cache any more: a later invalidation would be lost.
func (c *Cache) Close() error {
	if d := c.store.disk; d != nil {
		return d.close()
	}
	return nil
}

// Discard is Close for a tier that is to be forgotten: somebody may use the cache
// still.
func (c *Cache) Discard() error {
	if d := c.store.disk; d != nil {
		return d.discard()
	}
	return nil
}
