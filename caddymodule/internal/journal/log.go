package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
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

// isEnd reports whether Pebble has closed the log here: with the head of an empty
// chunk of the next one.
func isEnd(b []byte, number uint32) bool {
	return len(b) >= recyclableSize && binary.LittleEndian.Uint16(b[4:]) == 0 && binary.LittleEndian.Uint32(b[7:]) == number+1
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
