package journal

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Brief is an entry as a list shows it: without headers and body, which may be
// anybody's secrets.
type Brief struct {
	ID       ID
	Seq      uint64
	State    State
	Route    string
	Lane     string
	Method   string
	URI      string
	Bytes    int // of the body
	Arrived  time.Time
	Attempts int
	Reason   string    // of a dead letter
	Ended    time.Time // of a dead letter
	Status   int       // of the last answer of a dead letter; 0: none
}

// MaxList is the most that List gives at once.
const MaxList = 1000

// List is up to n entries after a seq, in order, of the state Undelivered or Dead.
func (j *Journal) List(state State, after uint64, n int) (briefs []Brief, err error) {
	n = min(max(n, 1), MaxList)
	err = j.store.scan(state, after, func(e *Entry, d *ending) bool {
		b := Brief{ID: e.ID, Seq: e.Seq, State: state, Route: e.Route, Lane: e.Lane, Method: e.Method, URI: e.URI, Bytes: len(e.Body), Arrived: e.Arrived}
		if d == nil {
			known, _ := j.store.find(e.ID) // how often is not worth failing for
			b.Attempts = known.Attempts
		} else {
			b.Attempts, b.Reason, b.Ended = d.attempts, d.reason, d.at
			if d.answer != nil {
				b.Status = d.answer.Status
			}
		}
		briefs = append(briefs, b)
		return len(briefs) < n
	})
	return briefs, err
}

// masked are the headers that prove who somebody is. Others whose names look
// like it are masked too.
var masked = []string{"authorization", "cookie", "token", "secret", "api-key", "apikey", "password", "signature", "session", "csrf"}

// Mask stands for what is not shown.
const Mask = "***"

// Show is an entry with its status, and with secrets masked.
func (j *Journal) Show(id ID) (*Entry, Status, error) {
	status, err := j.Find(id)
	if err != nil {
		return nil, status, err
	}
	if status.Answer != nil {
		answer := *status.Answer
		answer.Header = maskHeader(answer.Header)
		status.Answer = &answer
	}
	e, err := j.read(status)
	if err != nil || e == nil {
		return nil, status, err
	}
	e.Header = maskHeader(e.Header)
	return e, status, nil
}

// read is nil for an entry of which only the answer is kept.
func (j *Journal) read(status Status) (e *Entry, err error) {
	if status.State == Delivered {
		return nil, nil
	}
	err = j.store.scan(status.State, status.Seq-1, func(found *Entry, _ *ending) bool {
		if found.ID == status.ID {
			e = found
		}
		return false
	})
	if err == nil && e == nil {
		err = ErrNotFound
	}
	return e, err
}

func maskHeader(h map[string][]string) map[string][]string {
	shown := make(map[string][]string, len(h))
	for name, values := range h {
		shown[name] = values
		lower := strings.ToLower(name)
		for _, secret := range masked {
			if strings.Contains(lower, secret) {
				shown[name] = []string{Mask}
			}
		}
	}
	return shown
}

// Retry opens a dead letter again. It goes before all of its lane that came
// later, and its age no longer counts. ErrNotDead: it is none.
func (j *Journal) Retry(ctx context.Context, id ID) error {
	status, err := j.store.find(id)
	if err != nil {
		return err
	}
	if status.State != Dead {
		return ErrNotDead
	}
	e, err := j.read(status)
	if err != nil {
		return err
	}
	return j.await(ctx, func(done func(error)) {
		j.store.revive(status.Seq, func(err error) {
			if err == nil {
				j.revived(e)
			}
			done(err)
		})
	})
}

func (j *Journal) revived(e *Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.backlogLocked(j.laneLocked(e.lane()), e.Seq)
}

// Drop removes an entry that is dead, or not delivered. An attempt that runs is
// called off; what the application has got of it by then cannot be taken back.
// ErrBusy while its client waits for an answer. This, and nothing else, loses an
// accepted write.
func (j *Journal) Drop(ctx context.Context, id ID) error {
	status, err := j.store.find(id)
	if err != nil {
		return err
	}
	if status.State == Delivered {
		return ErrNotFound
	}
	release := func() {}
	if status.State == Undelivered {
		live, err := j.seize(ctx, status.Seq)
		if err != nil {
			return err
		}
		release = func() {
			j.mu.Lock()
			defer j.mu.Unlock()
			live.letGoLocked()
			live.lane.misses, live.lane.due = 0, time.Time{} // the others have done nothing
			j.queueLocked(live.lane)
			j.poke()
		}
	}
	return j.await(ctx, func(done func(error)) {
		j.store.drop(status.Seq, func(err error) {
			release()
			done(err)
		})
	})
}

// seize holds an open entry, whoever sends it.
func (j *Journal) seize(ctx context.Context, seq uint64) (*Live, error) {
	for {
		e, err := j.store.load(seq)
		if err != nil {
			return nil, err
		}
		if live, ok := j.claim(e); ok {
			return live, nil
		}
		ended, err := j.callOff(e)
		if err != nil {
			return nil, err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, errors.Join(ErrBusy, ctx.Err())
		}
	}
}

// callOff ends the attempt at an accepted entry, which may take a moment.
func (j *Journal) callOff(e *Entry) (ended <-chan struct{}, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.laneLocked(e.lane())
	t := l.try
	if live := l.held[e.Seq]; live != nil {
		if t = live.try; !live.accepted || !live.running {
			return nil, ErrBusy
		}
	} else if l.sending != e.Seq { // let go just now
		return over, nil
	}
	t.cancel()
	return t.ended, nil
}

// over is the end of what has ended.
var over = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// await waits for a change, or for the end of ctx, which does not undo it.
func (j *Journal) await(ctx context.Context, submit func(done func(error))) error {
	result := make(chan error, 1)
	submit(func(err error) { result <- err })
	select {
	case err := <-result:
		return err
	case <-j.store.failedC():
		return j.store.failure()
	case <-ctx.Done():
		return errors.Join(ctx.Err(), errors.New("journal: the change may still be made"))
	}
}
