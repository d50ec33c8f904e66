package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
)

// engine is Pebble, and what happens when the disk fails under it.
//
// Pebble calls a failed write of its log or manifest fatal, and expects its
// logger to end the process. Ours does not, so the rest is done here: the engine
// is marked failed before Pebble goes on, nobody is told of a success
// afterwards, and from then on a fence (fencedFS) keeps from the disk all that
// Pebble still wants to write, rename or remove. What is on the disk stays as it
// was, and can be opened anew, also by this process.
type engine struct {
	db   *pebble.DB // use
	dir  string
	fs   vfs.FS
	log  *zap.Logger
	lock io.Closer // of the folder; closed once

	use    sync.RWMutex // held for reading by whoever uses db; for writing to retire it
	stuck  atomic.Bool  // a panic has left Pebble's locks taken: db can never be closed
	armed  atomic.Bool  // it is open: what the disk refuses is a failure
	cause  atomic.Pointer[error]
	failed chan struct{} // closed when cause is set

	mu      sync.Mutex
	damages []string // mu; places, at most maxDamages
}

const maxDamages = 16

// openEngine opens or creates the store in dir.
func openEngine(dir string, o Options) (*engine, error) {
	if o.Existing {
		if _, err := o.fs.Stat(dir); err != nil {
			return nil, fmt.Errorf("journal: look at folder: %w", err)
		}
	}
	if err := prepareFolder(dir, o.fs); err != nil {
		return nil, err
	}
	e := &engine{dir: dir, fs: o.fs, log: o.Log, failed: make(chan struct{})}
	opts := e.options(o)
	opts.ErrorIfNotExists = o.Existing
	db, err := e.openPebble(opts)
	if err != nil {
		e.unlock()
		return nil, e.openError(err)
	}
	e.db = db
	if err := e.err(); err != nil { // fatal while it was opened
		_ = e.close()
		return nil, err
	}
	e.armed.Store(true)
	return e, nil
}

// openPebble takes the folder and looks for damage that Pebble does not see.
func (e *engine) openPebble(opts *pebble.Options) (db *pebble.DB, err error) {
	if opts.Lock, err = pebble.LockDirectory(e.dir, opts.FS); err != nil {
		return nil, err
	}
	if err := checkLog(e.dir, e.fs); err != nil {
		return nil, err
	}
	return pebble.Open(e.dir, opts)
}

// prepareFolder makes the folder, or takes the others' rights to it away: it has
// passwords and cookies in it.
func prepareFolder(dir string, fs vfs.FS) error {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("journal: make folder: %w", err)
	}
	if vfs.Root(fs) != vfs.Default {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("journal: look at folder: %w", err)
	}
	if info.Mode().Perm() == 0o700 {
		return nil
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("journal: folder %s is open to others: %w", dir, err)
	}
	return nil
}

// Sizes of the engine. Together they are what the journal takes of memory: two
// memtables being filled and flushed, two more while the disk is slow, the block
// cache, and 64 KiB or so for each open file.
const (
	minMemTable    = 16 << 20
	memTables      = 4
	blockCacheSize = 16 << 20
	openFiles      = 256
)

func (e *engine) options(o Options) *pebble.Options {
	opts := &pebble.Options{
		FS:                          &fencedFS{FS: o.fs, e: e},
		Logger:                      (*engineLog)(e),
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		MemTableSize:                uint64(max(minMemTable, o.Memory)),
		MemTableStopWritesThreshold: memTables,
		CacheSize:                   blockCacheSize,
		MaxOpenFiles:                openFiles,
		// A burst may run ahead of the compactions: reads are few and by key, and
		// stopping the writes would be a stall that clients see. So would be a disk
		// and a processor that compact while it lasts: most entries are deleted soon.
		L0CompactionThreshold:      24,
		L0StopWritesThreshold:      64,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
		EventListener: &pebble.EventListener{
			BackgroundError: e.backgroundError,
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				e.damage(fmt.Sprintf("%s, keys %s", info.Path, info.Bounds.String()), info.Details)
			},
		},
	}
	// Queues leave tombstones where they are read next; let them be cleaned up soon.
	opts.Experimental.NumDeletionsThreshold = 64
	return opts
}

// lockError says who has the folder. An error that names a file is one of making
// it, not of locking it.
func (e *engine) lockError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrInUse, e.dir, err)
}

var walPlace = regexp.MustCompile(`replaying wal [^\n]*`)

func (e *engine) openError(err error) error {
	switch {
	case errors.Is(err, ErrInUse), errors.Is(err, ErrDamaged):
		return err
	case errors.Is(err, pebble.ErrDBDoesNotExist):
		return fmt.Errorf("journal: open %s: %w: %w", e.dir, os.ErrNotExist, err)
	case pebble.IsCorruptionError(err):
		place := walPlace.FindString(fmt.Sprintf("%+v", err))
		return fmt.Errorf("%w: %s: %s (%w)", ErrDamaged, e.dir, place, err)
	}
	return fmt.Errorf("journal: open %s: %w", e.dir, err)
}

// fail marks the engine failed. It is called before whoever found the failure
// goes on, also inside Pebble with Pebble's locks taken, so it waits for nothing.
func (e *engine) fail(err error) {
	err = fmt.Errorf("%w: %s: %w", ErrFailed, e.dir, err)
	if !e.cause.CompareAndSwap(nil, &err) {
		return
	}
	close(e.failed)
	e.log.Error("the journal has failed; journaled writes are refused until it is opened anew", zap.Error(err))
	go e.retire()
}

// err is why the engine has failed, or nil.
func (e *engine) err() error {
	if cause := e.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// retire closes a failed Pebble once nobody is in it: its flushes would be tried
// over and over. One that a panic has left locked stays as it is, with its
// memory, until the process ends.
func (e *engine) retire() {
	e.use.Lock()
	defer e.use.Unlock()
	if e.db == nil || e.stuck.Load() {
		return
	}
	defer func() { _ = recover() }() // what it says of its state is no longer of interest
	_ = e.db.Close()
	e.db = nil
}

// with calls do with the database, unless the engine has failed before or
// meanwhile. Panics inside Pebble are failures.
func (e *engine) with(do func(db *pebble.DB) error) (err error) {
	e.use.RLock()
	defer e.use.RUnlock()
	if err := e.err(); err != nil {
		return err
	}
	if e.db == nil {
		return ErrClosed
	}
	defer func() {
		if r := recover(); r != nil {
			e.stuck.Store(true)
			e.fail(fmt.Errorf("%v", r))
		}
		if cause := e.err(); cause != nil {
			err = cause
		}
	}()
	return do(e.db)
}

// backgroundError comes from Pebble's flushes and compactions, with Pebble's lock
// taken. A damaged file is tried again by itself; a disk that refuses writes is
// a failure.
func (e *engine) backgroundError(err error) {
	if pebble.IsCorruptionError(err) && e.err() == nil {
		e.damage("", err)
		return
	}
	if e.stuck.Load() {
		select {} // cannot be closed, and would come back here at once, for ever
	}
	e.fail(err)
}

// damage notes a place that cannot be read. The rest goes on.
func (e *engine) damage(place string, err error) {
	if e.err() != nil {
		return // it reads what the fence has kept from the disk
	}
	if place == "" {
		place = err.Error()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, known := range e.damages {
		if known == place {
			return
		}
	}
	if len(e.damages) < maxDamages {
		e.damages = append(e.damages, place)
	}
	e.log.Error("the journal is damaged; what can be read is kept", zap.String("place", place), zap.Error(err))
}

func (e *engine) damaged() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.damages...)
}

// free is how many bytes the disk has left, or false if it does not say.
func (e *engine) free() (int64, bool) {
	usage, err := e.fs.GetDiskUsage(e.dir)
	return int64(min(usage.AvailBytes, 1<<62)), err == nil
}

// close ends Pebble, and gives the folder back in any case.
func (e *engine) close() error {
	defer e.unlock()
	if err := e.err(); err != nil {
		return err // retire does it
	}
	e.use.Lock()
	defer e.use.Unlock()
	if e.db == nil {
		return nil
	}
	err := e.db.Close()
	e.db = nil
	return err
}

func (e *engine) unlock() {
	if e.lock != nil {
		_ = e.lock.Close()
	}
}

// engineLog is what Pebble says.
type engineLog engine

func (l *engineLog) Infof(format string, args ...any) {
	if ce := l.log.Check(zap.DebugLevel, "pebble"); ce != nil {
		ce.Write(zap.String("text", fmt.Sprintf(format, args...)))
	}
}

func (l *engineLog) Errorf(format string, args ...any) {
	l.log.Warn("pebble", zap.String("text", fmt.Sprintf(format, args...)))
}

// Fatalf returns: Pebble then goes on as if nothing had happened, behind the fence.
func (l *engineLog) Fatalf(format string, args ...any) {
	(*engine)(l).fail(fmt.Errorf(format, args...))
}
