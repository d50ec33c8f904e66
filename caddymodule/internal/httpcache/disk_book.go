package httpcache

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// book is the file that has the epochs: a head of bookHead bytes, then an entry for
// each mark. Every invalidation is written to its entry before it counts, without a
// sync: that is enough for a process that is killed. Whether the machine has
// started anew since then is in the head.
//
// The head: magic, salt, boot, clean, all, checksum. An entry: hard, soft, since,
// its number, checksum. Numbers are big-endian, checksums CRC-32C; those of entries
// begin with the salt.
type book struct {
	salt [saltSize]byte
	seed uint32 // checksum of salt
	path string

	mu     sync.Mutex
	file   bookFile
	boot   [bootSize]byte
	clean  bool // mu; all that was written is synced
	all    uint64
	closed bool  // mu; nobody needs it any more
	err    error // mu; the first one
}

// bookFile is what a book needs of its *os.File.
type bookFile interface {
	io.ReadWriteCloser
	io.WriterAt
	Sync() error
	Truncate(size int64) error
}

const (
	bookMagic = "portner cache 3\n"
	saltSize  = 32
	bootSize  = 48
	bookHead  = 256
	bookEntry = 32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged: a checksum is wrong, or a length.
var errDamaged = errors.New("damaged")

// bootID names this run of the machine; empty: it has no name, and files are good
// after an orderly end alone.
var bootID = sync.OnceValue(func() (id [bootSize]byte) {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // Linux
	copy(id[:], bytes.TrimSpace(text))
	return id
})

// newBook makes the file, for epochs as they are, which must be those of a new
// cache.
func newBook(path string, e *epochs) (*book, error) {
	b := &book{path: path, boot: bootID()}
	rand.Read(b.salt[:]) // never fails
	b.seed = crc32.Checksum(b.salt[:], castagnoli)
	f, err := os.CreateTemp(filepath.Dir(path), ".epochs-*") // mode 0600
	if err != nil {
		return nil, err
	}
	b.file = f
	all := make([]byte, 0, bookHead+marks*bookEntry)
	all = append(all, b.head()...)
	for i := range uint32(marks) {
		entry := b.entry(i, 0, 0, 0)
		all = append(all, entry[:]...)
	}
	_, err = f.Write(all)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	e.salt = b.salt
	return b, nil
}

// openBook reads the file into epochs, which must be those of a new cache. The
// error is fs.ErrNotExist, or says why the folder must be begun anew.
func openBook(path string, e *epochs) (*book, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	b := &book{path: path, file: f}
	if err = b.load(e); err == nil {
		b.boot, b.clean = bootID(), false
		if _, err = f.WriteAt(b.head(), 0); err == nil {
			err = f.Sync() // before anything that is not synced
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	e.salt = b.salt
	return b, nil
}

func (b *book) load(e *epochs) error {
	file, err := io.ReadAll(io.LimitReader(b.file, bookHead+marks*bookEntry+1))
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(file, []byte(bookMagic)) {
		return errors.New("it is of another version")
	}
	if len(file) != bookHead+marks*bookEntry {
		return errDamaged
	}
	rest := file[len(bookMagic):]
	rest = rest[copy(b.salt[:], rest):]
	b.seed = crc32.Checksum(b.salt[:], castagnoli)
	rest = rest[copy(b.boot[:], rest):]
	b.clean, b.all = rest[0] == 1, binary.BigEndian.Uint64(rest[1:])
	if !bytes.Equal(b.head(), file[:bookHead]) {
		return errDamaged
	}
	if !b.clean && (b.boot != bootID() || b.boot == [bootSize]byte{}) {
		return errors.New("the machine has stopped without an orderly end")
	}
	last := b.all
	e.all.Store(b.all)
	for i := range uint32(marks) {
		entry := file[bookHead+int(i)*bookEntry:][:bookEntry]
		hard, soft, since := binary.BigEndian.Uint64(entry), binary.BigEndian.Uint64(entry[8:]), binary.BigEndian.Uint64(entry[16:])
		if b.entry(i, hard, soft, int64(since)) != [bookEntry]byte(entry) {
			return errDamaged
		}
		e.hard[i].Store(hard)
		e.soft[i].Store(soft)
		e.since[i].Store(int64(since))
		last = max(last, hard, soft)
	}
	e.clock.Store(last)
	return nil
}

func (b *book) head() []byte {
	h := make([]byte, 0, bookHead)
	h = append(append(append(h, bookMagic...), b.salt[:]...), b.boot[:]...)
	if b.clean {
		h = append(h, 1)
	} else {
		h = append(h, 0)
	}
	h = binary.BigEndian.AppendUint64(h, b.all)
	h = binary.BigEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
	return h[:bookHead]
}

func (b *book) entry(i uint32, hard, soft uint64, since int64) (p [bookEntry]byte) {
	binary.BigEndian.PutUint64(p[:], hard)
	binary.BigEndian.PutUint64(p[8:], soft)
	binary.BigEndian.PutUint64(p[16:], uint64(since))
	binary.BigEndian.PutUint32(p[24:], i)
	sum := crc32.Update(b.seed, castagnoli, p[:28])
	binary.BigEndian.PutUint32(p[28:], sum)
	return p
}

// enter writes down that marks are invalidated, and moves the clock then: an object
// whose request was sent by the new time is younger than what is in the file. It
// returns the new time.
func (b *book) enter(e *epochs, soft bool, at int64, all ...uint32) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := e.clock.Load() + 1
	b.touchLocked()
	for _, m := range all {
		hard, softly, since := e.hard[m].Load(), e.soft[m].Load(), e.since[m].Load()
		if soft {
			softly, since = now, at
		} else {
			hard = now
		}
		entry := b.entry(m, hard, softly, since)
		b.writeLocked(entry[:], bookHead+int64(m)*bookEntry)
	}
	e.clock.Store(now)
	for _, m := range all { // under the lock: the next entry of the mark has them
		e.raise(soft, at, m, now)
	}
	return now
}

// enterAll is enter for everything.
func (b *book) enterAll(e *epochs) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := e.clock.Load() + 1
	b.touchLocked()
	b.all = now
	b.writeLocked(b.head(), 0)
	e.clock.Store(now)
	return now
}

// touch is called before anything is written that is not synced.
func (b *book) touch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.touchLocked()
}

func (b *book) touchLocked() {
	if !b.clean || b.closed {
		return
	}
	b.clean = false
	b.writeLocked(b.head(), 0)
	b.syncLocked()
}

// settle notes that all else is synced.
func (b *book) settle() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.clean || b.closed {
		return b.err
	}
	b.syncLocked()
	if b.err != nil {
		return b.err
	}
	b.clean = true
	b.writeLocked(b.head(), 0)
	b.syncLocked()
	return b.err
}

func (b *book) syncLocked() {
	if err := b.file.Sync(); err != nil && b.err == nil {
		b.failLocked(err)
	}
}

func (b *book) writeLocked(p []byte, at int64) {
	if b.closed || b.err != nil {
		return
	}
	if _, err := b.file.WriteAt(p, at); err != nil {
		b.failLocked(err)
	}
}

// failLocked: what was invalidated cannot be written down, so that what is on disk
// must never be used again. Either of the two is enough.
func (b *book) failLocked(err error) {
	b.err = fmt.Errorf("httpcache: write down an invalidation: %w", err)
	if terr := b.file.Truncate(0); terr != nil {
		if rerr := os.Remove(b.path); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			b.err = errors.Join(b.err, terr, rerr)
		}
	}
}

// failed is why the file is of no use any more; nil: it is.
func (b *book) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// void lets nothing be written any more.
func (b *book) void() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

func (b *book) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return b.file.Close()
}
