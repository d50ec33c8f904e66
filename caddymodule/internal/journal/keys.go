package journal

import "encoding/binary"

// The first byte of a key says what it is. docs/journal-format.md has the table.
const (
	kEntry    = 'e' // seq → record of an open entry
	kLane     = 'o' // lane, seq → tries; there while the entry is open
	kID       = 'i' // id → place
	kKey      = 'k' // scope → id, fingerprint
	kDead     = 'x' // seq → record of a dead letter
	kReason   = 'y' // seq → why it is dead
	kAnswer   = 't' // expiry, seq → what is kept of a settled entry
	kDeadline = 'g' // deadline, seq → nothing
	kClient   = 'c' // client → bytes
	kMeta     = 'm' // name → value
)

var (
	metaTotals = []byte{kMeta, 't'}
	metaFormat = []byte{kMeta, 'f'}
	metaSecret = []byte{kMeta, 's'}
)

func seqKey(kind byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, seq)
}

func laneSeqKey(lane Hash, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(hashKey(kLane, lane), seq)
}

func hashKey(kind byte, h Hash) []byte {
	b := make([]byte, 1, 1+len(h)+8)
	b[0] = kind
	return append(b, h[:]...)
}

// timeSeqKey sorts by a time in milliseconds since 1970, then by seq.
func timeSeqKey(kind byte, ms int64, seq uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{kind}, uint64(max(ms, 0)))
	return binary.BigEndian.AppendUint64(b, seq)
}

// seqOf is the seq at the end of a key.
func seqOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

func msOf(key []byte) int64 { return int64(binary.BigEndian.Uint64(key[1:9])) }

func laneOf(key []byte) (h Hash) {
	copy(h[:], key[1:])
	return h
}
