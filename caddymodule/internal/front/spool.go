package front

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Budget is the memory that all buffers share, those of requests and those of
// answers. What does not fit in it goes to temporary files. Safe for concurrent use.
type Budget struct {
	// Max is in bytes. Default DefaultBudget.
	Max  int64
	used atomic.Int64

	keeping   turns        // of long bodies that go to a journal; beside Max
	lingering atomic.Int32 // connections that are read to be closed; beside Max
}

// DefaultBudget is what the buffers of a process take at the most: enough for a
// few thousand answers on their way, a part of the smallest servers' memory.
const DefaultBudget = 256 << 20

// Used is how much is taken, in bytes.
func (b *Budget) Used() int64 { return b.used.Load() }

func (b *Budget) take(n int64) bool {
	most := b.Max
	if most == 0 {
		most = DefaultBudget
	}
	if b.used.Add(n) <= most {
		return true
	}
	b.used.Add(-n)
	return false
}

func (b *Budget) give(n int64) { b.used.Add(-n) }

// Sizes of the buffers into which an answer is read at once. A page of a small
// application fits into the second; the smallest is for when the budget is used up.
const (
	tinyBuffer  = 4 << 10
	pageBuffer  = 32 << 10
	largeBuffer = 256 << 10
)

var (
	tinyBuffers  = sync.Pool{New: func() any { b := make([]byte, tinyBuffer); return &b }}
	chunkPool    = sync.Pool{New: func() any { b := make([]byte, pageBuffer); return &b }}
	largeBuffers = sync.Pool{New: func() any { b := make([]byte, largeBuffer); return &b }}
)

// buffer is for an answer of so many bytes, or for its beginning. There is always a
// tiny one: whoever is served needs one or two, and Max is passed by those alone.
func (b *Budget) buffer(length int64) *[]byte {
	switch {
	case length > pageBuffer && length <= largeBuffer && b.take(largeBuffer):
		return largeBuffers.Get().(*[]byte)
	case b.take(pageBuffer):
		return chunkPool.Get().(*[]byte)
	}
	b.used.Add(tinyBuffer)
	return tinyBuffers.Get().(*[]byte)
}

func (b *Budget) release(buf *[]byte) {
	switch len(*buf) {
	case largeBuffer:
		largeBuffers.Put(buf)
		b.give(largeBuffer)
	case pageBuffer:
		chunkPool.Put(buf)
		b.give(pageBuffer)
	default:
		tinyBuffers.Put(buf)
		b.give(tinyBuffer)
	}
}

// spool holds what an application has said and its client has not taken yet: in
// memory, behind that in a temporary file without a name, and behind that the
// application has to wait. One goroutine fills it and one reads it, until the
// reader closes it; what comes then is thrown away.
//
// Always: bytes come out in the order in which they went in; while there are any
// in the file, none go to memory.
type spool struct {
	budget *Budget
	memory int64     // the most in memory
	most   int64     // the most at all; <= 0: no bound
	until  time.Time // the filler waits for the reader no longer; zero: for ever

	mu      sync.Mutex
	changed sync.Cond // mu; something was added or taken, or an end has come
	chunks  []chunk   // mu; oldest first
	inMem   int64     // mu; bytes of pooled chunks, with their free parts
	filling bool      // mu; somebody writes to the free part of the last chunk
	file    *os.File  // set once by the filler, closed when both have ended
	read    int64     // mu; of the file
	written int64     // mu; of the file
	noFile  bool      // mu; there can be none: memory and waiting must do
	err     error     // mu; how the filling ended; io.EOF: well
	closed  bool      // mu; nobody reads any more
	users   int       // mu; filler and reader
}

// chunk is a part of the memory; [r:w] has not been taken.
type chunk struct {
	b       []byte
	r, w    int
	pooled  bool  // b belongs to chunkPool
	charged int64 // to the budget
}

// chunkSize is that of chunkPool.
const chunkSize = pageBuffer

var errSpoolClosed = errors.New("front: nobody reads this answer")

func (f *Front) newSpool(d *delivery) *spool {
	s := newSpool(f.cfg.Memory, f.cfg.AnswerMemory, f.cfg.AnswerMax)
	if f.cfg.Whole > 0 {
		s.until = d.began.Add(f.cfg.Whole)
	}
	return s
}

func newSpool(budget *Budget, memory, most int64) *spool {
	s := &spool{budget: budget, memory: memory, most: most, users: 2}
	s.changed.L = &s.mu
	return s
}

// begin adds what is there already. It is the caller's again after Close.
func (s *spool) begin(p []byte) {
	if len(p) > 0 {
		s.chunks = append(s.chunks, chunk{b: p, w: len(p)})
	}
}

// fill reads src to its end, as fast as it comes, and returns its error: io.EOF
// when all is well; errWhole when the reader has let it wait until then. Then end
// must be called.
func (s *spool) fill(src io.Reader) error {
	scratch := s.budget.buffer(0)
	defer s.budget.release(scratch)
	for {
		var n int
		var err error
		if room, ok := s.room(); ok {
			n, err = src.Read(room)
			s.added(n)
		} else {
			n, err = src.Read(*scratch)
			if !s.spill((*scratch)[:n]) {
				return errWhole
			}
		}
		if err != nil {
			return err
		}
	}
}

// room is free memory behind the last chunk, to be followed by added. There is
// none while the file is not empty.
func (s *spool) room() ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written > s.read || s.closed {
		return nil, false
	}
	if s.written > 0 { // all of the file has been read: it begins anew
		s.read, s.written = 0, 0
		s.file.Truncate(0)
	}
	if n := len(s.chunks); n == 0 || s.chunks[n-1].w == len(s.chunks[n-1].b) {
		if s.inMem+chunkSize > s.memory || !s.budget.take(chunkSize) {
			return nil, false
		}
		s.inMem += chunkSize
		s.chunks = append(s.chunks, chunk{b: *chunkPool.Get().(*[]byte), pooled: true, charged: chunkSize})
	}
	s.filling = true
	c := &s.chunks[len(s.chunks)-1]
	return c.b[c.w:], true
}

// added notes that n bytes were put into the room.
func (s *spool) added(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filling = false
	if s.closed {
		return
	}
	s.chunks[len(s.chunks)-1].w += n
	s.changed.Broadcast()
}

// spill puts p into the file, when there is room in it. It reports false when there
// was none until the end of all waiting.
func (s *spool) spill(p []byte) bool {
	for len(p) > 0 {
		s.mu.Lock()
		for !s.closed && s.fullLocked(int64(len(p))) {
			if !s.waitLocked() {
				s.mu.Unlock()
				return false
			}
		}
		if !s.closed && s.noFile {
			s.budget.used.Add(int64(len(p))) // in place of what the reader has just taken
			s.chunks = append(s.chunks, chunk{b: bytes.Clone(p), w: len(p), charged: int64(len(p))})
			s.changed.Broadcast()
		}
		done, at := s.closed || s.noFile, s.written
		s.mu.Unlock()
		if done {
			return true
		}
		n, err := s.writeAt(p, at)
		p = p[n:]
		s.mu.Lock()
		s.written += int64(n)
		s.noFile = s.noFile || err != nil // the disk is full, perhaps: go on without it
		s.changed.Broadcast()
		s.mu.Unlock()
	}
	return true
}

// fullLocked reports whether n more bytes must wait for the reader.
func (s *spool) fullLocked(n int64) bool {
	return s.noFile && s.unreadLocked() || s.written-s.read+n > s.fileSize()
}

// waitLocked waits for the reader, but not beyond s.until.
func (s *spool) waitLocked() bool {
	if !s.until.IsZero() {
		left := time.Until(s.until)
		if left <= 0 {
			return false
		}
		defer time.AfterFunc(left, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.changed.Broadcast()
		}).Stop()
	}
	s.changed.Wait()
	return true
}

func (s *spool) unreadLocked() bool {
	return s.written > s.read || len(s.chunks) > 1 || len(s.chunks) == 1 && s.chunks[0].r < s.chunks[0].w
}

// fileSize is how large the file gets: behind that it begins anew, or it would
// grow for as long as the reader is a little late.
func (s *spool) fileSize() int64 {
	if s.most <= 0 {
		return math.MaxInt64
	}
	return max(s.most-s.memory, chunkSize)
}

// inFile is where in the file the byte at stands, and how many can follow it.
func (s *spool) inFile(at int64) (offset, room int64) {
	offset = at % s.fileSize()
	return offset, s.fileSize() - offset
}

func (s *spool) writeAt(p []byte, at int64) (int, error) {
	if s.file == nil {
		file, err := os.CreateTemp("", "portner-answer-*")
		if err != nil {
			return 0, err
		}
		os.Remove(file.Name())
		s.mu.Lock()
		s.file = file
		s.mu.Unlock()
	}
	offset, room := s.inFile(at)
	return s.file.WriteAt(p[:min(int64(len(p)), room)], offset)
}

// end notes how the filling has ended.
func (s *spool) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.leaveLocked()
	s.changed.Broadcast()
}

// leaveLocked closes the file when neither filler nor reader is left.
func (s *spool) leaveLocked() {
	if s.users--; s.users == 0 && s.file != nil {
		s.file.Close()
	}
}

// Read waits for something to read. After the last byte it returns the error by
// which the filling has ended.
func (s *spool) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if len(s.chunks) > 1 && s.chunks[0].r == s.chunks[0].w {
			s.dropLocked()
			continue
		}
		switch {
		case s.closed:
			return 0, errSpoolClosed
		case len(s.chunks) > 0 && s.chunks[0].r < s.chunks[0].w:
			return s.takeLocked(p), nil
		case s.written > s.read:
			return s.readFileLocked(p)
		case s.err != nil:
			return 0, s.err
		}
		s.changed.Wait()
	}
}

// ready reports whether Read would not wait.
func (s *spool) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil || s.unreadLocked()
}

func (s *spool) takeLocked(p []byte) int {
	c := &s.chunks[0]
	n := copy(p, c.b[c.r:c.w])
	if c.r += n; c.r == len(c.b) {
		s.dropLocked()
	}
	s.changed.Broadcast()
	return n
}

// dropLocked gives the first chunk back.
func (s *spool) dropLocked() {
	c := s.chunks[0]
	last := len(s.chunks) == 1
	s.chunks[0] = chunk{}
	s.chunks = s.chunks[1:]
	s.budget.give(c.charged)
	if !c.pooled {
		return
	}
	s.inMem -= chunkSize
	if !last || !s.filling { // else it is still written to
		chunkPool.Put(&c.b)
	}
}

// readFileLocked reads from the file with the lock released; the filler only adds
// behind.
func (s *spool) readFileLocked(p []byte) (int, error) {
	for len(s.chunks) > 0 {
		s.dropLocked() // read to its end, and the file is behind it
	}
	offset, room := s.inFile(s.read)
	p = p[:min(int64(len(p)), s.written-s.read, room)]
	file := s.file
	s.mu.Unlock()
	n, err := file.ReadAt(p, offset)
	s.mu.Lock()
	if n == 0 && err != nil {
		return 0, err
	}
	s.read += int64(n)
	s.changed.Broadcast()
	return n, nil
}

// Close ends the reading. It is safe to call twice.
func (s *spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	for len(s.chunks) > 0 {
		s.dropLocked()
	}
	s.leaveLocked()
	s.changed.Broadcast()
	return nil
}
