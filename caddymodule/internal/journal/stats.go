package journal

import (
	"sync/atomic"
	"time"
)

// counts of what has happened since Open.
type counts struct {
	appended, attempts, delivered, rejected, buried, repeats, refused, unreadable atomic.Int64
}

// Stats is a snapshot for metrics and pages.
type Stats struct {
	Depth       int64 // entries that are not delivered
	DeadLetters int64
	Bytes       int64         // of both
	MaxBytes    int64         // the limit of Bytes
	Oldest      time.Duration // age of the oldest entry that is not delivered; 0: none
	Answers     int64         // kept
	AnswerBytes int64
	Free        int64 // bytes of the disk, -1: unknown
	InFlight    int   // entries that workers have

	// Since Open.
	Appended   int64
	Attempts   int64 // of requests and workers
	Delivered  int64
	Rejected   int64 // accepted, then rejected
	Buried     int64 // became dead letters, the rejected among them
	Repeats    int64 // appends that were a client's own repeats
	Refused    int64 // appends that found the journal full or failed
	Unreadable int64 // entries that the disk has spoilt

	Failed  error    // why nothing is taken; nil: it is
	Damaged []string // places that cannot be read
}

// Stats reads a snapshot. It looks at the disk once or twice.
func (j *Journal) Stats() Stats {
	t := j.store.totals()
	s := Stats{
		Depth: t.open, DeadLetters: t.dead, Bytes: t.bytes, MaxBytes: j.limits.Load().MaxBytes, Answers: t.answers, AnswerBytes: t.answerBytes, Free: -1,
		Appended: j.counts.appended.Load(), Attempts: j.counts.attempts.Load(), Delivered: j.counts.delivered.Load(), Rejected: j.counts.rejected.Load(),
		Buried: j.counts.buried.Load(), Repeats: j.counts.repeats.Load(), Refused: j.counts.refused.Load(), Unreadable: j.counts.unreadable.Load(),
		Failed: j.store.failure(), Damaged: j.store.damaged(),
	}
	if free, ok := j.store.free(); ok {
		s.Free = free
	}
	if at, ok := j.store.oldest(); ok {
		s.Oldest = max(time.Since(at), 0)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s.InFlight = j.working
	return s
}
