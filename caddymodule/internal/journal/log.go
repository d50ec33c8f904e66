package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble reads its newest log up to the first chunk that is not whole, and takes
// that for the end: a power cut leaves logs like that. A flipped bit looks the
// same, and all behind it would be gone without a word (Pebble looks for proof
// that more was synced, but only in later blocks of 32 KiB, and its marks lag
// behind). So the newest log is read here first. Every commit carries its
// number and that of the last one before it whose fsync had returned: a commit
// behind the gap that knows of a sync behind the gap proves damage.

// Chunks are described in Pebble's package record: checksum, length, kind, log
// number, and in the newest form how much was synced.
const (
	logBlock       = 32 << 10
	chunkHeader    = 19
	recyclableSize = 11
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// logRecord is a record of a log that is whole.
type logRecord struct {
	data  []byte
	at    int64 // where its last chunk ends
	after bool  // a gap lies before it
}

// readLog finds all records that are whole, also behind gaps, and where the
// first gap begins, or -1.
func readLog(b []byte, number uint32) (records []logRecord, gap int64) {
	gap = -1
	var parts []byte
	partial := false
	for start := 0; start < len(b); start += logBlock {
		block := b[start:min(start+logBlock, len(b))]
		for pos := 0; pos+recyclableSize <= len(block); {
			data, kind, size := chunk(block[pos:], number)
			if size == 0 {
				if gap < 0 && !allZero(block[pos:]) {
					gap = int64(start + pos)
				}
				partial = false
				if pos = nextChunk(block, pos+1, number); pos < 0 {
					break
				}
				continue
			}
			pos += size
			switch kind {
			case 1, 2: // the whole of a record, or its beginning
				parts, partial = append([]byte(nil), data...), kind == 2
			default:
				if !partial {
					continue
				}
				parts, partial = append(parts, data...), kind == 3
			}
			if !partial {
				records = append(records, logRecord{data: parts, at: int64(start + pos), after: gap >= 0})
			}
		}
	}
	return records, gap
}

// chunk reads the one at the beginning of b. kind is 1 for all of a record, 2, 3
// and 4 for its parts; size 0 is none.
func chunk(b []byte, number uint32) (data []byte, kind byte, size int) {
	if len(b) < recyclableSize || b[6] < 5 || b[6] > 12 {
		return nil, 0, 0
	}
	header := recyclableSize
	kind = b[6] - 4
	if b[6] > 8 {
		header, kind = chunkHeader, b[6]-8
	}
	size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if size > len(b) || binary.LittleEndian.Uint32(b[7:]) != number {
		return nil, 0, 0
	}
	sum := crc32.Checksum(b[6:size], castagnoli)
	if binary.LittleEndian.Uint32(b) != (sum>>15|sum<<17)+0xa282ead8 {
		return nil, 0, 0
	}
	return b[header:size], kind, size
}

func nextChunk(block []byte, from int, number uint32) int {
	for pos := from; pos+recyclableSize <= len(block); pos++ {
		if _, _, size := chunk(block[pos:], number); size > 0 {
			return pos
		}
	}
	return -1
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// commitOf is the number of a commit and of the last one that was synced before.
func commitOf(rec []byte) (commit, synced uint64, ok bool) {
	if len(rec) < batchrepr.HeaderLen {
		return 0, 0, false
	}
	r := batchrepr.Read(rec)
	for {
		kind, key, value, more, err := r.Next()
		if err != nil || !more {
			return 0, 0, false
		}
		if kind == pebble.InternalKeyKindSet && string(key) == string(metaTotals) {
			t, err := decodeTotals(value)
			return t.commit, t.synced, err == nil
		}
	}
}

// checkLog reports damage in the newest log of a store.
func checkLog(dir string, fs vfs.FS) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("journal: list %s: %w", dir, err)
	}
	name, number := newestLog(names)
	if name == "" {
		return nil
	}
	b, err := readFile(fs, fs.PathJoin(dir, name))
	if err != nil {
		return fmt.Errorf("journal: read %s: %w", name, err)
	}
	records, gap := readLog(b, number)
	if gap < 0 {
		return nil
	}
	var before uint64 // the last commit before the gap
	for _, rec := range records {
		commit, synced, ok := commitOf(rec.data)
		switch {
		case !ok:
		case !rec.after:
			before = commit
		case before == 0:
			before = commit - 1 // at least one is missing, but which is not known
		case synced > before:
			return fmt.Errorf("%w: %s: log %s, offset %d: unreadable, and commits up to %d behind it were synced", ErrDamaged, dir, name, gap, synced)
		}
	}
	return nil
}

func newestLog(names []string) (newest string, number uint32) {
	for _, name := range names {
		if n, ok := logNumber(name); ok && (newest == "" || n > uint64(number)) {
			newest, number = name, uint32(n)
		}
	}
	return newest, number
}

func logNumber(name string) (uint64, bool) {
	base, ok := strings.CutSuffix(name, ".log")
	n, err := strconv.ParseUint(base, 10, 32)
	return n, ok && err == nil
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Salvage makes a new journal of all that can be read of a damaged one, which is
// moved aside and kept, and returns where to. The new one has the entries that
// are not delivered, and the dead letters; answers that were kept are not taken
// along, so repeats of what was delivered are delivered again.
func Salvage(dir string, opts Options) (aside string, entries int, err error) {
	fs := opts.fs
	if fs == nil {
		fs = vfs.Default
	}
	aside = freeName(fs, dir+".damaged")
	if err := fs.Rename(dir, aside); err != nil {
		return "", 0, fmt.Errorf("journal: move %s aside: %w", dir, err)
	}
	reading := freeName(fs, dir+".reading")
	defer fs.RemoveAll(reading)
	if entries, err = salvage(fs, aside, reading, dir, opts); err != nil {
		_ = fs.RemoveAll(dir) // it was made just now, of what is in aside
		err = fmt.Errorf("journal: salvage %s: %w", dir, err)
		if back := fs.Rename(aside, dir); back != nil {
			return aside, 0, fmt.Errorf("%w; it is in %s now: %w", err, aside, back)
		}
		return "", 0, err
	}
	return aside, entries, nil
}

func freeName(fs vfs.FS, name string) string {
	for i := 1; ; i++ {
		free := fmt.Sprintf("%s-%d", name, i)
		if _, err := fs.Stat(free); err != nil {
			return free
		}
	}
}

func salvage(fs vfs.FS, aside, reading, dir string, opts Options) (entries int, err error) {
	if err := copyMended(fs, aside, reading); err != nil {
		return 0, err
	}
	from, err := Open(reading, opts)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	to, err := Open(dir, opts)
	if err != nil {
		return 0, err
	}
	for _, state := range []State{Undelivered, Dead} {
		results := make(chan error, 1)
		scanned := from.store.scan(state, 0, func(e *Entry, d *ending) bool {
			to.store.restore(e, d, func(err error) { results <- err })
			if err = <-results; err == nil {
				entries++
			}
			return err == nil
		})
		if err == nil {
			err = scanned
		}
	}
	if closed := to.Close(); err == nil {
		err = closed
	}
	return entries, err
}

// copyMended copies a store, its logs without what cannot be read.
func copyMended(fs vfs.FS, from, to string) error {
	if err := fs.MkdirAll(to, 0o700); err != nil {
		return err
	}
	names, err := fs.List(from)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		source, target := fs.PathJoin(from, name), fs.PathJoin(to, name)
		if number, ok := logNumber(name); ok {
			err = mendLog(fs, source, target, uint32(number))
		} else if name != "LOCK" {
			err = vfs.Copy(fs, source, target)
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return nil
}

func mendLog(fs vfs.FS, from, to string, number uint32) error {
	b, err := readFile(fs, from)
	if err != nil {
		return err
	}
	f, err := fs.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	records, _ := readLog(b, number)
	w := logWriter(record.NewLogWriter, f, number)
	for _, rec := range records {
		if _, err := w.WriteRecord(rec.data); err != nil {
			_ = w.Close()
			return err
		}
	}
	return w.Close()
}

// logWriter calls Pebble's NewLogWriter, the type of whose number has no name outside.
func logWriter[N ~uint64](open func(io.Writer, N, record.LogWriterConfig) *record.LogWriter, f vfs.File, number uint32) *record.LogWriter {
	return open(f, N(number), record.LogWriterConfig{WriteWALSyncOffsets: func() bool { return true }})
}
