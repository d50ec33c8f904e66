package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Salvaged says what Salvage has kept, and what it could not.
type Salvaged struct {
	Aside       string // the folder of the journal as it was
	Undelivered int
	Dead        int
	// Missing is how many entries fewer these are than the sums of the last commit
	// that can be read. 0 although places are lost: those were ends of entries,
	// which are delivered again, or had ended themselves.
	Missing int64
	Lost    []string // places that cannot be read; at most maxDamages of each kind
}

// Salvage makes a new journal of all that can be read of one that nobody has open,
// in its place; the old one is moved aside and stays as it was. The new one has
// the entries that are not delivered, and the dead letters, in their order;
// answers that were kept are not taken along, so repeats of what was delivered are
// delivered again. What is written is sealed with opts.Secret; from opens what was
// sealed before.
//
// With an error nothing has changed. It takes as much room on the disk again as
// the journal has.
func Salvage(dir string, from []byte, opts Options) (s Salvaged, err error) {
	opts = opts.withDefaults()
	fs := opts.fs
	if _, err := fs.Stat(dir); err != nil {
		return s, fmt.Errorf("journal: salvage: %w", err)
	}
	lock, err := lockFolder(dir, fs)
	if err != nil {
		return s, err
	}
	defer lock.Close()
	reading, fresh := freeName(fs, dir+"~reading"), freeName(fs, dir+"~fresh")
	defer fs.RemoveAll(reading)
	defer fs.RemoveAll(fresh) // it has another name when all went well
	if err = s.transfer(dir, reading, fresh, from, opts); err == nil {
		err = s.exchange(fs, dir, fresh)
	}
	if err != nil {
		return Salvaged{}, fmt.Errorf("journal: salvage %s: %w", dir, err)
	}
	return s, nil
}

func lockFolder(dir string, fs vfs.FS) (io.Closer, error) {
	lock, err := pebble.LockDirectory(dir, fs)
	if err != nil {
		return nil, (&engine{dir: dir}).lockError(err)
	}
	return lock, nil
}

// freeName is a name that no pool's folder has: they are without a tilde.
func freeName(fs vfs.FS, name string) string {
	for i := 1; ; i++ {
		free := fmt.Sprintf("%s-%d", name, i)
		if _, err := fs.Stat(free); err != nil {
			return free
		}
	}
}

// exchange puts the fresh journal where the damaged one is. Nobody opens a journal
// by force in between: see Options.Existing.
func (s *Salvaged) exchange(fs vfs.FS, dir, fresh string) error {
	s.Aside = freeName(fs, dir+"~damaged")
	if err := fs.Rename(dir, s.Aside); err != nil {
		return err
	}
	if err := fs.Rename(fresh, dir); err != nil {
		return errors.Join(err, fs.Rename(s.Aside, dir))
	}
	parent, err := fs.OpenDir(fs.PathDir(dir))
	if err != nil {
		return nil // it has no folders to sync
	}
	defer parent.Close()
	return parent.Sync()
}

// transfer writes to fresh what can be read of dir.
func (s *Salvaged) transfer(dir, reading, fresh string, secret []byte, opts Options) error {
	if err := s.copyMended(opts.fs, dir, reading); err != nil {
		return err
	}
	source := opts
	source.Secret, source.Existing = secret, true
	from, err := Open(reading, source)
	if err != nil {
		return err
	}
	defer from.Close()
	opts.Existing = false
	opts.Limits.Reserve = -1 // if there is no room, nothing has changed
	to, err := Open(fresh, opts)
	if err != nil {
		return err
	}
	sums := from.store.totals()
	err = s.copyEntries(from.store, to.store)
	if closed := to.Close(); err == nil {
		err = closed
	}
	for _, place := range from.store.damaged() {
		s.Lost = append(s.Lost, strings.ReplaceAll(place, reading, dir))
	}
	s.Missing = max(sums.open+sums.dead-int64(s.Undelivered+s.Dead), 0)
	return err
}

// copyEntries keeps the order of open and dead entries among each other: a dead
// letter that is retried goes before what came after it.
func (s *Salvaged) copyEntries(from, to store) error {
	results := make(chan error, importStep)
	pending := 0
	put := func(e *Entry, d *ending) error {
		var err error
		if pending == importStep {
			err = <-results
			pending--
		}
		if d == nil {
			s.Undelivered++
		} else {
			s.Dead++
		}
		pending++
		to.restore(context.Background(), e, d, func(err error) { results <- err })
		return err
	}
	err := inOrder(from, put)
	for ; pending > 0; pending-- {
		err = errors.Join(err, <-results)
	}
	return err
}

// inOrder calls put for all open and dead entries by seq.
func inOrder(from store, put func(*Entry, *ending) error) (err error) {
	after := uint64(0) // the last dead one
	deadUntil := func(seq uint64) error {
		scanned := from.scan(Dead, after, func(e *Entry, d *ending) bool {
			if e.Seq > seq {
				return false
			}
			after = e.Seq
			err = put(e, d)
			return err == nil
		})
		return errors.Join(scanned, err)
	}
	next := uint64(0) // the first dead one that is left, as far as known
	scanned := from.scan(Undelivered, 0, func(e *Entry, _ *ending) bool {
		if e.Seq > next {
			if err = deadUntil(e.Seq); err != nil {
				return false
			}
			next = ^uint64(0)
			_ = from.scan(Dead, after, func(e *Entry, _ *ending) bool { next = e.Seq; return false })
		}
		err = put(e, nil)
		return err == nil
	})
	if err = errors.Join(scanned, err); err != nil {
		return err
	}
	return deadUntil(^uint64(0))
}

// copyMended copies a store, its logs without what cannot be read.
func (s *Salvaged) copyMended(fs vfs.FS, from, to string) error {
	if err := fs.MkdirAll(to, 0o700); err != nil {
		return err
	}
	names, err := fs.List(from)
	if err != nil {
		return err
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(a, b) }) // logs by number
	var last uint64
	for _, name := range names {
		source, target := fs.PathJoin(from, name), fs.PathJoin(to, name)
		number, isLog := logNumber(name)
		switch {
		case isLog:
			err = s.mendLog(fs, source, target, uint32(number), &last)
		case strings.HasSuffix(name, ".sst"): // never changed
			if err = fs.Link(source, target); err != nil {
				err = vfs.Copy(fs, source, target)
			}
		case name != "LOCK":
			err = vfs.Copy(fs, source, target)
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return nil
}

// mendLog copies the records of a log that are whole. last is the number of the
// last commit before it.
func (s *Salvaged) mendLog(fs vfs.FS, from, to string, number uint32, last *uint64) error {
	b, err := readFile(fs, from)
	if err != nil {
		return err
	}
	f, err := fs.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	records, gap := readLog(b, number)
	w := logWriter(record.NewLogWriter, f, number)
	end := int64(0)
	for _, rec := range records {
		if commit, _, ok := commitOf(rec.data); ok {
			if rec.after && commit > *last+1 {
				s.lose("%s, from offset %d on: commits %d to %d cannot be read", from, end, *last+1, commit-1)
			}
			*last = commit
		}
		end = rec.at
		if _, err := w.WriteRecord(rec.data); err != nil {
			_ = w.Close()
			return err
		}
	}
	if gap >= end && !isEnd(b[max(gap, 0):], number) {
		s.lose("%s, offset %d: the end is not whole; unless the disk has spoilt it, it was never acknowledged", from, gap)
	}
	return w.Close()
}

func (s *Salvaged) lose(format string, args ...any) {
	if len(s.Lost) < maxDamages {
		s.Lost = append(s.Lost, fmt.Sprintf(format, args...))
	}
}

// logWriter calls Pebble's NewLogWriter, the type of whose number has no name outside.
func logWriter[N ~uint64](open func(io.Writer, N, record.LogWriterConfig) *record.LogWriter, f vfs.File, number uint32) *record.LogWriter {
	return open(f, N(number), record.LogWriterConfig{WriteWALSyncOffsets: func() bool { return true }})
}

// Count is how many entries a journal has that nobody has open. It changes
// nothing in it, and needs no key. ErrInUse, ErrDamaged.
func Count(dir string) (undelivered, dead int64, err error) {
	opts := Options{Existing: true}.withDefaults()
	if names, err := opts.fs.List(dir); err != nil || !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "MANIFEST-") }) {
		return 0, 0, err // there is none, and no lock shall be made
	}
	e := &engine{dir: dir, fs: opts.fs, log: opts.Log, failed: make(chan struct{})}
	o := e.options(opts)
	o.ReadOnly, o.ErrorIfNotExists = true, true
	db, err := e.openPebble(o)
	if err != nil {
		e.unlock()
		return 0, 0, e.openError(err)
	}
	e.db = db
	s := &pebbleStore{engine: e}
	var t totals
	err = s.get(metaTotals, func(v []byte) (err error) { t, err = decodeTotals(v); return err })
	return t.open, t.dead, errors.Join(err, e.close())
}
