package journal

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// line is an entry in an export: JSON, one a line. Nothing is masked: it is
// meant to be imported. Bodies are base64.
type line struct {
	ID          string              `json:"id"`
	Seq         uint64              `json:"seq"`
	Route       string              `json:"route"`
	Lane        string              `json:"lane"`
	Client      string              `json:"client"`
	Method      string              `json:"method"`
	URI         string              `json:"uri"`
	Header      map[string][]string `json:"header,omitempty"`
	Body        []byte              `json:"body,omitempty"`
	Key         string              `json:"key"`
	Made        bool                `json:"made,omitempty"`
	Fingerprint string              `json:"fingerprint"`
	Arrived     time.Time           `json:"arrived"`
	Deadline    time.Time           `json:"deadline,omitzero"`
	KeepAnswer  time.Duration       `json:"keep_answer,omitempty"` // nanoseconds
	Dead        *deadLine           `json:"dead,omitempty"`        // nil: not delivered
}

type deadLine struct {
	Reason   string    `json:"reason"`
	Attempts int       `json:"attempts"`
	At       time.Time `json:"at"`
	Answer   *Answer   `json:"answer,omitempty"`
}

func newLine(e *Entry, d *ending) line {
	l := line{ID: e.ID.String(), Seq: e.Seq, Route: e.Route, Lane: e.Lane, Client: hex.EncodeToString(e.Client[:]), Method: e.Method, URI: e.URI,
		Header: e.Header, Body: e.Body, Key: e.Key, Made: e.Made, Fingerprint: hex.EncodeToString(e.Fingerprint[:]),
		Arrived: e.Arrived, Deadline: e.Deadline, KeepAnswer: e.KeepAnswer}
	if d != nil {
		l.Dead = &deadLine{Reason: d.reason, Attempts: d.attempts, At: d.at, Answer: d.answer}
	}
	return l
}

func (l *line) entry() (*Entry, *ending, error) {
	id, err := ParseID(l.ID)
	if err != nil {
		return nil, nil, err
	}
	e := &Entry{ID: id, Route: l.Route, Lane: l.Lane, Method: l.Method, URI: l.URI, Header: l.Header, Body: l.Body, Key: l.Key, Made: l.Made,
		Arrived: l.Arrived, Deadline: l.Deadline, KeepAnswer: l.KeepAnswer}
	if err := parseHash(&e.Client, l.Client); err != nil {
		return nil, nil, fmt.Errorf("journal: client of %s: %w", l.ID, err)
	}
	if err := parseHash(&e.Fingerprint, l.Fingerprint); err != nil {
		return nil, nil, fmt.Errorf("journal: fingerprint of %s: %w", l.ID, err)
	}
	if l.Dead == nil {
		return e, nil, nil
	}
	return e, &ending{reason: l.Dead.Reason, attempts: l.Dead.Attempts, at: l.Dead.At, answer: l.Dead.Answer.kept()}, nil
}

func parseHash(h *Hash, s string) error {
	if hex.DecodedLen(len(s)) != len(h) {
		return fmt.Errorf("want %d hexadecimal digits", hex.EncodedLen(len(h)))
	}
	_, err := hex.Decode(h[:], []byte(s))
	return err
}

// Export writes all entries of the states Undelivered, Dead or both, oldest
// first, one JSON object a line, and returns how many. Entries that cannot be
// read are left out, and named by Stats. Secrets are in it.
func (j *Journal) Export(ctx context.Context, w io.Writer, states ...State) (n int, err error) {
	enc := json.NewEncoder(w)
	for _, state := range states {
		scanned := j.store.scan(state, 0, func(e *Entry, d *ending) bool {
			if err = ctx.Err(); err == nil {
				err = enc.Encode(newLine(e, d))
			}
			if err == nil {
				n++
			}
			return err == nil
		})
		if err = errors.Join(err, scanned); err != nil {
			return n, fmt.Errorf("journal: export: %w", err)
		}
	}
	return n, nil
}

// importStep is how many entries of an import share a commit.
const importStep = 256

// Import takes in what Export has written, in its order, behind all that is here,
// and returns how many entries it has taken in, those among them whose ids are known
// here: they are left alone, so that an import may be repeated. Limits do not count,
// but for the reserve: before an entry that would use it the import ends with ErrFull.
// Of those behind it none is taken, or it would come after them when it is repeated.
func (j *Journal) Import(ctx context.Context, r io.Reader) (n int, err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	dec := json.NewDecoder(r)
	results := make(chan error, importStep)
	pending := 0
	drain := func(down int) {
		for ; pending > down; pending-- {
			var one error
			select {
			case one = <-results:
			case <-j.store.failedC():
				one = j.store.failure()
			}
			switch {
			case one == nil:
				n++
			case err == nil:
				err = one
			}
		}
	}
	for err == nil && ctx.Err() == nil {
		var l line
		if err = dec.Decode(&l); err != nil {
			break
		}
		var e *Entry
		var d *ending
		if e, d, err = l.entry(); err != nil {
			break
		}
		if drain(importStep - 1); err != nil {
			break
		}
		pending++
		j.store.restore(ctx, e, d, func(err error) {
			switch {
			case err != nil:
				stop(err) // before the store looks at the next one
			case d == nil && e.Seq != 0:
				j.revived(e)
			}
			results <- err
		})
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if drain(0); err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return n, fmt.Errorf("journal: import, entry %d: %w", n+1, err)
	}
	return n, nil
}
