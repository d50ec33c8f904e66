package journal

import (
	"context"
	"fmt"
	"time"
)

// None is a journal that could not be opened: it keeps nothing, refuses every
// write with ErrFailed, and says why. It stands in until Open succeeds.
func None(why error, opts Options) *Journal {
	s := &noStore{why: fmt.Errorf("%w: %w", ErrFailed, why), failed: make(chan struct{})}
	close(s.failed)
	return newJournal(s, opts.withDefaults())
}

// noStore is the store of a journal that is not open.
type noStore struct {
	why    error
	failed chan struct{}
}

func (s *noStore) bound(Limits)                                                  {}
func (s *noStore) append(_ *Entry, _ func(), done func(error))                   { done(s.why) }
func (s *noStore) restore(_ context.Context, _ *Entry, _ *ending, d func(error)) { d(s.why) }
func (s *noStore) settle(_ *Entry, _ *ending, _ time.Duration, d func(error))    { d(s.why) }
func (s *noStore) bury(_ *Entry, _ *ending, done func(error))                    { done(s.why) }
func (s *noStore) note(_ *Entry, _ tries, done func(error))                      { done(s.why) }
func (s *noStore) revive(_ uint64, done func(error))                             { done(s.why) }
func (s *noStore) drop(_ uint64, done func(error))                               { done(s.why) }

func (s *noStore) next(Hash, uint64) (uint64, tries, bool, error)       { return 0, tries{}, false, s.why }
func (s *noStore) load(uint64) (*Entry, error)                          { return nil, s.why }
func (s *noStore) lanes(Hash, int) ([]Hash, error)                      { return nil, s.why }
func (s *noStore) find(ID) (Status, error)                              { return Status{}, s.why }
func (s *noStore) overdue(time.Time, int) ([]uint64, error)             { return nil, s.why }
func (s *noStore) expire(time.Time, int) (int, error)                   { return 0, s.why }
func (s *noStore) scan(State, uint64, func(*Entry, *ending) bool) error { return s.why }
func (s *noStore) oldest() (time.Time, bool)                            { return time.Time{}, false }
func (s *noStore) free() (int64, bool)                                  { return 0, false }
func (s *noStore) totals() totals                                       { return totals{} }
func (s *noStore) failure() error                                       { return s.why }
func (s *noStore) failedC() <-chan struct{}                             { return s.failed }
func (s *noStore) damaged() []string                                    { return nil }
func (s *noStore) close() error                                         { return nil }
