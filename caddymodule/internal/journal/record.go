package journal

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Records are their fields one after the other: numbers as varints, strings with
// their length before them. A new field goes to the end; a reader that finds
// none there takes zero.

type writer struct{ b []byte }

func (w *writer) uint(n uint64) { w.b = binary.AppendUvarint(w.b, n) }
func (w *writer) int(n int64)   { w.b = binary.AppendVarint(w.b, n) }
func (w *writer) hash(h Hash)   { w.b = append(w.b, h[:]...) }
func (w *writer) str(s string)  { w.uint(uint64(len(s))); w.b = append(w.b, s...) }
func (w *writer) bytes(s []byte) {
	w.uint(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) time(t time.Time) {
	if t.IsZero() {
		w.int(0)
		return
	}
	w.int(t.UnixMilli())
}

func (w *writer) header(h map[string][]string) {
	w.uint(uint64(len(h)))
	for name, values := range h {
		w.str(name)
		w.uint(uint64(len(values)))
		for _, v := range values {
			w.str(v)
		}
	}
}

// reader reads what writer wrote. The first wrong byte makes all the rest zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) uint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) int() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) hash() (h Hash)     { copy(h[:], r.take(uint64(len(h)))); return h }
func (r *reader) str() string        { return string(r.take(r.uint())) }
func (r *reader) bytes() []byte      { return append([]byte(nil), r.take(r.uint())...) }
func (r *reader) dur() time.Duration { return time.Duration(r.int()) }

func (r *reader) time() time.Time {
	if ms := r.int(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

func (r *reader) header() map[string][]string {
	n := r.uint()
	if n > uint64(len(r.b)) { // every field takes two bytes at least
		r.fail()
	}
	if r.bad || n == 0 {
		return nil
	}
	h := make(map[string][]string, n)
	for range n {
		name, count := r.str(), r.uint()
		if count > uint64(len(r.b)) {
			r.fail()
		}
		if r.bad {
			return nil
		}
		values := make([]string, 0, count)
		for range count {
			values = append(values, r.str())
		}
		h[name] = values
	}
	return h
}

func (r *reader) err(what string) error {
	if r.bad {
		return fmt.Errorf("%w: %s does not end where it should", ErrDamaged, what)
	}
	return nil
}

// about is how long the fields are, or a little less.
func (e *Entry) about() int {
	n := len(e.Body) + len(e.URI) + len(e.Route) + len(e.Lane) + len(e.Key) + 256
	for name, values := range e.Header {
		n += len(name) + 16
		for _, v := range values {
			n += len(v) + 3
		}
	}
	return n
}

func (e *Entry) encode(w *writer) {
	w.hash(Hash(e.ID))
	w.str(e.Route)
	w.str(e.Lane)
	w.hash(e.Client)
	w.str(e.Method)
	w.str(e.URI)
	w.header(e.Header)
	w.str(e.Key)
	if e.Made {
		w.uint(1)
	} else {
		w.uint(0)
	}
	w.hash(e.Fingerprint)
	w.time(e.Arrived)
	w.time(e.Deadline)
	w.int(int64(e.KeepAnswer))
	w.bytes(e.Body)
}

func decodeEntry(b []byte) (*Entry, error) {
	r := reader{b: b}
	e := &Entry{ID: ID(r.hash()), Route: r.str(), Lane: r.str(), Client: r.hash(), Method: r.str(), URI: r.str(), Header: r.header(),
		Key: r.str(), Made: r.uint() == 1, Fingerprint: r.hash(), Arrived: r.time(), Deadline: r.time(), KeepAnswer: r.dur(), Body: r.bytes()}
	return e, r.err("an entry")
}

// stored is an entry's record as it lies on the disk: its id, by which it is
// bound, and the rest, which may be sealed. It can be moved without the secret.
// The body is copied once.
func (s *sealer) entry(e *Entry) ([]byte, error) { return s.record(e.ID, e.about(), e.encode) }

func (s *sealer) record(id ID, about int, encode func(*writer)) ([]byte, error) {
	w := writer{b: make([]byte, len(id)+s.room(), len(id)+s.room()+about+sealEnd)}
	copy(w.b, id[:])
	encode(&w)
	return s.seal(w.b, len(id), id[:])
}

func (s *sealer) openEntry(seq uint64, stored []byte) (*Entry, error) {
	if len(stored) < len(ID{}) {
		return nil, fmt.Errorf("%w: entry %d is too short", ErrDamaged, seq)
	}
	bind := stored[:len(ID{})]
	plain, err := s.open(stored[len(ID{}):], bind)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", seq, err)
	}
	e, err := decodeEntry(plain)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", seq, err)
	}
	e.Seq, e.size = seq, int64(len(stored))
	return e, nil
}

// tries is what is known of an open entry's attempts. It is written without
// waiting for the disk: a crash may forget the last of them.
type tries struct {
	attempts int       // all of them
	failed   int       // those that say something against the entry
	first    time.Time // of failed
	last     time.Time
	next     time.Time
	size     int64
}

func (t tries) encode() []byte {
	var w writer
	w.uint(uint64(t.size))
	w.uint(uint64(t.attempts))
	w.uint(uint64(t.failed))
	w.time(t.first)
	w.time(t.last)
	w.time(t.next)
	return w.b
}

func decodeTries(b []byte) (tries, error) {
	r := reader{b: b}
	t := tries{size: int64(r.uint()), attempts: int(r.uint()), failed: int(r.uint()), first: r.time(), last: r.time(), next: r.time()}
	return t, r.err("an entry's tries")
}

// ending is what is kept of an entry that is settled, and why one is dead.
type ending struct {
	id       ID
	scope    Hash // zero: no key of the client's
	reason   string
	attempts int
	at       time.Time
	answer   *Answer
}

// bare is the ending with no more of the answer than its status.
func (d *ending) bare() *ending {
	if d.answer == nil {
		return d
	}
	b := *d
	b.answer = &Answer{Status: d.answer.Status, Cut: true}
	return &b
}

func (d *ending) encode(w *writer) {
	w.hash(d.scope)
	w.str(d.reason)
	w.uint(uint64(d.attempts))
	w.time(d.at)
	if d.answer == nil {
		w.uint(0)
		return
	}
	w.uint(1)
	w.uint(uint64(d.answer.Status))
	w.header(d.answer.Header)
	w.bytes(d.answer.Body)
	if d.answer.Cut {
		w.uint(1)
	} else {
		w.uint(0)
	}
}

func decodeEnding(b []byte) (*ending, error) {
	r := reader{b: b}
	d := &ending{scope: r.hash(), reason: r.str(), attempts: int(r.uint()), at: r.time()}
	if r.uint() == 1 {
		d.answer = &Answer{Status: int(r.uint()), Header: r.header(), Body: r.bytes(), Cut: r.uint() == 1}
	}
	return d, r.err("an answer")
}

// ending is stored like an entry: the id, and the rest.
func (s *sealer) ending(d *ending) ([]byte, error) {
	about := 256
	if d.answer != nil {
		about += len(d.answer.Body)
	}
	return s.record(d.id, about, d.encode)
}

func (s *sealer) openEnding(stored []byte) (*ending, error) {
	if len(stored) < len(ID{}) {
		return nil, fmt.Errorf("%w: an answer is too short", ErrDamaged)
	}
	plain, err := s.open(stored[len(ID{}):], stored[:len(ID{})])
	if err != nil {
		return nil, err
	}
	d, err := decodeEnding(plain)
	if err != nil {
		return nil, err
	}
	d.id = ID(stored[:len(ID{})])
	return d, nil
}

// place says under which key an id's entry is.
type place struct {
	state  State
	seq    uint64
	expiry int64 // of a settled one, in milliseconds since 1970
	lane   Hash  // of an open one
}

func (p place) encode() []byte {
	w := writer{b: []byte{byte(p.state)}}
	w.uint(p.seq)
	w.int(p.expiry)
	w.hash(p.lane)
	return w.b
}

func decodePlace(b []byte) (place, error) {
	if len(b) == 0 {
		return place{}, fmt.Errorf("%w: an empty place", ErrDamaged)
	}
	r := reader{b: b[1:]}
	p := place{state: State(b[0]), seq: r.uint(), expiry: r.int(), lane: r.hash()}
	return p, r.err("a place")
}

// totals are the sums over the store, kept with every commit so that nothing
// has to be counted at the start.
type totals struct {
	seq         uint64 // the last one given
	open, dead  int64
	bytes       int64 // of open and dead entries
	answers     int64
	answerBytes int64

	commit uint64 // number of this commit
	synced uint64 // the last one that was known to be on disk when this one began
}

func (t totals) encode() []byte {
	var w writer
	w.uint(t.seq)
	for _, n := range []int64{t.open, t.dead, t.bytes, t.answers, t.answerBytes} {
		w.int(n)
	}
	w.uint(t.commit)
	w.uint(t.synced)
	return w.b
}

func decodeTotals(b []byte) (totals, error) {
	r := reader{b: b}
	t := totals{seq: r.uint(), open: r.int(), dead: r.int(), bytes: r.int(), answers: r.int(), answerBytes: r.int(), commit: r.uint(), synced: r.uint()}
	return t, r.err("the totals")
}
