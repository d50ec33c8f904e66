package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
)

// Journal is the entries of one pool, and their delivery.
type Journal struct {
	store    store
	log      *zap.Logger
	observe  func(time.Duration)
	parallel int
	maxLanes int
	reserve  int64 // Limits.Reserve by default
	limits   atomic.Pointer[Limits]
	counts   counts

	mu       sync.Mutex     // the committer takes it: nothing is submitted to the store under it
	lanes    map[Hash]*lane // mu; at most about maxLanes, and those with entries in flight
	durable  int64          // mu; open entries that are in some lane's held
	queue    laneQueue      // mu; lanes that wait for a worker
	working  int            // mu; <= parallel
	flying   int            // mu; requests' own attempts that run
	unlisted bool           // mu; the store may have open entries of lanes that lanes has not
	cursor   Hash           // mu; how far the store's lanes have been listed
	listAt   time.Time      // mu; when the next step of that may be
	roundAt  time.Time      // mu; when the next round may begin
	away     away           // mu
	readyAt  time.Time      // mu; attempts before count for nothing in when the next is due
	stalled  bool           // mu; some lane may be

	answered atomic.Int64 // signs that the application answers
	troubled atomic.Bool  // the next one is news: somebody is away or stalled
	wake     chan struct{}
	retired  chan struct{} // closed once: nothing new is delivered
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup // scheduler, workers, sweeper
	started  sync.Once
	retire   sync.Once
	closed   sync.Once
	leave    func() error // closes the store, once
}

// Options of a journal.
type Options struct {
	Log    *zap.Logger // nil: silence
	Limits Limits
	// Secret of 32 bytes seals what is written from now on; see ReadSecret. Nil: plain.
	Secret []byte
	// Parallel is how many lanes are delivered side by side. Default 16: admission
	// decides how many of them really go.
	Parallel int
	// Memory is how many bytes of writes gather before they are written to tables;
	// of such pieces there may be four. Default 16 MiB, and no less.
	Memory int64
	// ObserveAppend, if set, is told how long each Append took that succeeded.
	ObserveAppend func(time.Duration)

	// Existing opens what is there, and makes nothing: os.ErrNotExist, if there is
	// none. Whoever opens a journal again that is being mended must not find the
	// gap in which its folder is exchanged, and fill it with an empty one.
	Existing bool

	fs       vfs.FS // nil: the disk
	maxLanes int
}

const (
	defaultParallel = 16
	// defaultMaxLanes are remembered with what is known of them, 300 bytes each.
	// Others are found again in the store.
	defaultMaxLanes = 4096
)

// Open opens the journal in a folder, or makes one there, for this process
// alone. Nothing is delivered before Deliver.
func Open(dir string, opts Options) (*Journal, error) {
	opts = opts.withDefaults()
	s, err := openStore(dir, opts)
	if err != nil {
		return nil, err
	}
	return newJournal(s, opts), nil
}

func (opts Options) withDefaults() Options {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	if opts.fs == nil {
		opts.fs = vfs.Default
	}
	if opts.Parallel <= 0 {
		opts.Parallel = defaultParallel
	}
	if opts.maxLanes <= 0 {
		opts.maxLanes = defaultMaxLanes
	}
	return opts
}

func newJournal(s store, opts Options) *Journal {
	j := &Journal{store: s, log: opts.Log, observe: opts.ObserveAppend, parallel: opts.Parallel, maxLanes: opts.maxLanes,
		lanes: make(map[Hash]*lane), unlisted: s.totals().open > 0, readyAt: time.Now(), wake: make(chan struct{}, 1), retired: make(chan struct{})}
	if j.observe == nil {
		j.observe = func(time.Duration) {}
	}
	j.reserve = max(defaultReserve, (memTables+2)*opts.Memory)
	j.leave = sync.OnceValue(s.close)
	j.SetLimits(opts.Limits)
	j.ctx, j.cancel = context.WithCancel(context.Background())
	return j
}

// SetLimits changes the limits. Entries that are over the new ones stay.
func (j *Journal) SetLimits(lim Limits) {
	if lim.Reserve == 0 {
		lim.Reserve = j.reserve
	}
	lim = lim.withDefaults()
	j.limits.Store(&lim)
	j.store.bound(lim)
}

// Append keeps a write. When it returns a Live, the write is on disk, and its
// caller has to call Accept, or End with a final outcome; until then nobody else
// delivers it.
//
// When ctx ends while the disk is waited for, Append returns its error, and the
// write, if it gets to the disk, is delivered as an accepted one.
//
// Errors: ErrFull, ErrShare, ErrFailed, ErrClosed, ErrKeyReused, *Repeat.
func (j *Journal) Append(ctx context.Context, w Write) (*Live, error) {
	if err := ctx.Err(); err != nil {
		w.release()
		return nil, err
	}
	start := time.Now()
	l := &Live{j: j, entry: newEntry(&w, start)}
	result := make(chan error, 1)
	j.store.append(l.entry, l.hold, func(err error) {
		w.release()
		l.committed(err)
		result <- err
	})
	var err error
	select {
	case err = <-result:
	case <-j.store.failedC():
		err = j.store.failure()
	case <-ctx.Done():
		if l.abandon() {
			return nil, ctx.Err()
		}
		err = <-result
	}
	if err != nil {
		return nil, j.refused(err)
	}
	j.observe(time.Since(start))
	return l, nil
}

func (w *Write) release() {
	if w.Released != nil {
		w.Released()
	}
}

// Room reports whether a body of so many bytes may have some: ErrFull, or nil.
// Append decides; this one need not have the body.
func (j *Journal) Room(body int64) error {
	if t := j.store.totals(); t.bytes+body > j.limits.Load().MaxBytes {
		return j.refused(ErrFull)
	}
	return nil
}

func (j *Journal) refused(err error) error {
	var repeat *Repeat
	switch {
	case errors.As(err, &repeat):
		j.counts.repeats.Add(1)
		repeat.Accepted = repeat.State == Undelivered && j.accepted(repeat.ID)
	case errors.Is(err, ErrFull), errors.Is(err, ErrFailed):
		j.counts.refused.Add(1)
	}
	return err
}

// accepted reports whether an open entry's client was told so, or is gone.
func (j *Journal) accepted(id ID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lanes {
		for _, live := range l.held {
			if live.entry != nil && live.entry.ID == id {
				return live.accepted
			}
		}
	}
	return true
}

// Find is what is known of an entry: open, settled with its answer kept, or
// dead. ErrNotFound: never seen, or forgotten.
func (j *Journal) Find(id ID) (Status, error) {
	status, err := j.store.find(id)
	if status.State == Undelivered {
		status.Accepted = j.accepted(id)
	}
	return status, err
}

// Alive tells the journal that the application has answered some request that
// is not the journal's, with less than 500. What waits for an application that
// answered nobody is tried now; an entry that it fails on all the same may be at
// fault itself. Cheap while nothing is wrong: two atomic words.
func (j *Journal) Alive() {
	j.answered.Add(1)
	if j.troubled.Load() {
		j.recovered()
	}
}

// Err is why the journal takes nothing, or nil.
func (j *Journal) Err() error { return j.store.failure() }

// Failed is closed when the journal takes nothing any more.
func (j *Journal) Failed() <-chan struct{} { return j.store.failedC() }

// Leave gives the folder of a journal that has failed back, so that it can be
// opened anew. Attempts that run go on. Close is still to be called.
func (j *Journal) Leave() {
	if j.Err() != nil {
		_ = j.leave()
	}
}

// Retire takes nothing any more, delivers nothing new, and gives the folder back,
// so that it can be opened in another way. Attempts that run go on; what they come
// to cannot be noted. Close is still to be called.
func (j *Journal) Retire() error {
	j.retire.Do(func() { close(j.retired) })
	return j.leave()
}

// gone reports whether the journal has failed, retired or closed. Asked under j.mu it
// is asked either before Idle is, and the attempt counts there, or after it was true.
func (j *Journal) gone() bool {
	select {
	case <-j.retired:
		return true
	case <-j.ctx.Done():
		return true
	default:
		return j.Err() != nil
	}
}

// Idle reports whether no attempt runs, of a worker or a request. Whoever opens
// anew a journal that has failed or retired waits for that before Deliver, or an
// entry would be sent twice at once.
func (j *Journal) Idle() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.working == 0 && j.flying == 0
}

// Close stops the delivery and closes the store. Attempts that run see their
// context end; what they come to is not waited for, and is tried again after the
// next Open. A journal that has failed is given up, so that the folder can be
// opened anew.
func (j *Journal) Close() (err error) {
	err = ErrClosed
	j.closed.Do(func() {
		j.cancel()
		j.wg.Wait()
		if err = j.leave(); err != nil {
			err = fmt.Errorf("journal: close: %w", err)
		}
	})
	return err
}
