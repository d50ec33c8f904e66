package journal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// ID names an entry to the outside. It is random, 128 bits, and says nothing of
// the entry; whoever knows it may see its status. It is also the
// Idempotency-Key of a write whose client sent none.
type ID [16]byte

func newID() (id ID) {
	_, _ = rand.Read(id[:]) // never fails: crypto/rand
	return id
}

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String has written.
func ParseID(s string) (id ID, err error) {
	if len(s) != hex.EncodedLen(len(id)) {
		return id, fmt.Errorf("journal: id %q: want %d hexadecimal digits", s, hex.EncodedLen(len(id)))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("journal: id %q: %w", s, err)
	}
	return id, nil
}

// Write is what Append takes of a request. The journal keeps Header and Body,
// and does not change them.
type Write struct {
	Route  string // part of a key's scope
	Lane   string // what keeps its order
	Client string // who it is, for the share and for a key's scope; only a hash of it is stored

	Method string
	URI    string
	Header map[string][]string // end to end, without what the route omits
	Body   []byte

	// Key is the client's Idempotency-Key. Empty: the entry's id is the key, and
	// there are no repeats.
	Key string

	// MaxAge, if positive, is how long after Append the entry may be tried; then
	// it is a dead letter.
	MaxAge time.Duration

	// KeepAnswer is how long the application's answer is kept for the client's
	// repeats and for the status. 0: the entry is forgotten when it is settled.
	KeepAnswer time.Duration

	// Released, if set, is called once, whatever Append returns and maybe after
	// that: nothing but the Live has the body in memory any more.
	Released func()
}

// Entry is a request as it is kept.
type Entry struct {
	ID     ID
	Seq    uint64 // the order of the pool; from 1
	Route  string
	Lane   string
	Client Hash

	Method string
	URI    string
	Header map[string][]string
	Body   []byte

	Key         string // to be sent as Idempotency-Key
	Made        bool   // Key is ID, made here
	Fingerprint Hash

	Arrived    time.Time
	Deadline   time.Time // zero: none
	KeepAnswer time.Duration

	size int64 // bytes of the record
}

// Hash is the first half of a SHA-256.
type Hash [16]byte

// hash is of the parts, each with its length before it, so that no two lists of
// parts look the same.
func hash(parts ...string) (h Hash) {
	sum := sha256.New()
	var n [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		sum.Write(n[:])
		sum.Write([]byte(part))
	}
	copy(h[:], sum.Sum(nil))
	return h
}

func newEntry(w *Write, now time.Time) *Entry {
	e := &Entry{
		ID: newID(), Route: w.Route, Lane: w.Lane, Client: hash(w.Client),
		Method: w.Method, URI: w.URI, Header: w.Header, Body: w.Body,
		Key: w.Key, Fingerprint: fingerprint(w.Method, w.URI, w.Body),
		Arrived: now, KeepAnswer: w.KeepAnswer,
	}
	if e.Key == "" {
		e.Key, e.Made = e.ID.String(), true
	}
	if w.MaxAge > 0 {
		e.Deadline = now.Add(w.MaxAge)
	}
	return e
}

// fingerprint tells a repeat from another request with the same key.
func fingerprint(method, uri string, body []byte) (h Hash) {
	sum := sha256.New()
	for _, part := range []string{method, uri} {
		sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		sum.Write([]byte(part))
	}
	sum.Write(body)
	copy(h[:], sum.Sum(nil))
	return h
}

// scope is where a client's key is looked for. The pool is the store itself.
func (e *Entry) scope() Hash {
	if e.Made {
		return Hash{}
	}
	return hash(e.Route, string(e.Client[:]), e.Key)
}

func (e *Entry) lane() Hash { return hash(e.Lane) }

// unload forgets what is sent. Whoever ends an entry, or notes something of it, waits
// for the committer, as thousands may, and needs none of that.
func (e *Entry) unload() { e.Header, e.Body = nil, nil }

// Answer is what the application said.
type Answer struct {
	Status int                 `json:"status"`
	Header map[string][]string `json:"header,omitempty"`
	Body   []byte              `json:"body,omitempty"`
	// Cut says that the body is not kept: it was longer than MaxAnswer, or the disk
	// had no room for it.
	Cut bool `json:"cut,omitempty"`
}

// MaxAnswer is the longest body of an answer that is kept, in bytes. An answer
// is an id or a page of errors; with 24 hours of them, more would be a cache.
const MaxAnswer = 64 << 10

// kept is the answer as it may be stored.
func (a *Answer) kept() *Answer {
	if a == nil || len(a.Body) <= MaxAnswer {
		return a
	}
	return &Answer{Status: a.Status, Header: a.Header, Cut: true}
}

// Kind is what an attempt came to.
type Kind uint8

const (
	// Unavailable: there was no answer, or one that says to come again. The zero
	// value: whoever knows nothing of an attempt has seen no answer.
	Unavailable Kind = iota
	// Taken: the application has it, and said so with 2xx or 3xx.
	Taken
	// Rejected: the application does not want it, and never will.
	Rejected
	// Failed: the application broke on it. It may be the entry's fault.
	Failed
	// Unsendable: no request can be made of it, now or later. The application was not
	// asked.
	Unsendable
)

// Judge says what a status means for a journaled write. 0 is no answer: a
// timeout, a connection that broke, a refused dial.
func Judge(status int) Kind {
	switch {
	case status == 0, status == 408, status == 425, status == 429, status == 502, status == 503, status == 504:
		return Unavailable
	case status >= 200 && status < 400:
		return Taken
	case status >= 400 && status < 500, status == 501:
		return Rejected
	}
	return Failed
}

// Final reports whether another attempt would come to the same.
func (k Kind) Final() bool { return k == Taken || k == Rejected || k == Unsendable }

// reason is why an accepted entry that ended so is a dead letter; empty: it is none.
func (k Kind) reason() string {
	switch k {
	case Rejected:
		return ReasonRejected
	case Unsendable:
		return ReasonUnsendable
	}
	return ""
}

func (k Kind) String() string {
	return [...]string{"unavailable", "taken", "rejected", "failed", "unsendable"}[min(k, Unsendable)]
}

// Outcome is how an attempt ended.
type Outcome struct {
	Kind   Kind
	Answer *Answer       // nil: there was none
	After  time.Duration // the application's Retry-After; at most maxBackoff counts
}

// State is where an entry stands.
type State uint8

const (
	Undelivered State = iota + 1
	Delivered         // the application has it, and its answer is kept
	Dead              // a dead letter
)

func (s State) String() string {
	switch s {
	case Undelivered:
		return "undelivered"
	case Delivered:
		return "delivered"
	case Dead:
		return "dead"
	}
	return "unknown"
}

// Reasons of dead letters.
const (
	ReasonRejected   = "accepted, then rejected"
	ReasonUnsendable = "it cannot be sent"
	ReasonPoison     = "the application fails on it"
	ReasonAge        = "older than max_age"
)

// Status is what can be told of an entry to its client.
type Status struct {
	ID       ID
	Seq      uint64
	State    State
	Accepted bool // of an open one: its client was told, or is gone
	Attempts int
	Next     time.Time // of an open one that failed: when it is tried again
	Reason   string    // of a dead letter
	Ended    time.Time // when it was settled or died
	Answer   *Answer   // nil: none, or none kept
}

// Repeat is the error of Append for a key that the client has used before, for
// the same request. The status says what became of that one.
type Repeat struct{ Status }

func (r *Repeat) Error() string {
	return fmt.Sprintf("journal: a repeat of %s, which is %s", r.ID, r.State)
}

var (
	// ErrFull: the journal's bytes, or the disk, leave no room. 507 says it.
	ErrFull = errors.New("journal: full")
	// ErrShare: this client's share is used up. It is an ErrFull.
	ErrShare = fmt.Errorf("%w for this client", ErrFull)
	// ErrFailed: the disk refused a write. Nothing is taken until the journal is
	// opened anew. 503 says it.
	ErrFailed = errors.New("journal: failed")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("journal: closed")
	// ErrDamaged: what is on the disk is not what was written. The error names the place.
	ErrDamaged = errors.New("journal: damaged")
	// ErrInUse: another process has the folder, or this one a second time.
	ErrInUse = errors.New("journal: in use")
	// ErrKeyReused: the client used the key for another request. 422 says it.
	ErrKeyReused = errors.New("journal: key used for another request")
	// ErrNotFound: no such entry, or no longer.
	ErrNotFound = errors.New("journal: no such entry")
	// ErrNotDead: the entry is no dead letter: it is tried by itself, or delivered.
	ErrNotDead = errors.New("journal: no dead letter; what is not delivered is tried by itself")
	// ErrBusy: the entry is being sent for its client; come again.
	ErrBusy = errors.New("journal: entry is being sent")
	// ErrSecret: the key file is not the one that the entries were sealed with.
	ErrSecret = errors.New("journal: wrong or missing key")
)
