package front

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
)

// body is a request body that was read to its end. Its beginning is in memory,
// the rest in a temporary file without a name. It is read any number of times,
// also at once; the last one to release it closes the file.
type body struct {
	mem  []byte
	file *os.File // nil when all is in memory
	size int64
	refs atomic.Int32

	budget  *Budget
	charged int64 // to the budget, for mem
}

// noBody is everybody's: there is nothing to release.
var noBody = &body{}

// errTooLarge: the body is longer than BodyMax, or than somebody before us allows.
var errTooLarge = errors.New("request body is too large")

// errBadBody wraps what went wrong on the client's side.
var errBadBody = errors.New("request body could not be read")

// bodyFault is what was wrong with a body, for an error of reading it.
func bodyFault(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return fmt.Errorf("%w: %w", errTooLarge, large)
	}
	return fmt.Errorf("%w: %w", errBadBody, err)
}

func isBodyFault(err error) bool {
	return errors.Is(err, errTooLarge) || errors.Is(err, errBadBody)
}

// errTooSlow: the body comes more slowly than it must.
var errTooSlow = errors.New("request body comes too slowly")

// readBody takes the body in, within the bounds of Config. It returns errTooLarge,
// errTooSlow, an error that wraps errBadBody, the context's error when the client
// left, or that of the temporary file.
func (f *Front) readBody(w http.ResponseWriter, r *http.Request) (*body, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 { // Caddy wraps even no body
		return noBody, nil
	}
	most := f.cfg.BodyMax
	if most > 0 && r.ContentLength > most {
		return nil, bodyFault(&http.MaxBytesError{Limit: most})
	}
	src := r.Body
	if most > 0 {
		src = http.MaxBytesReader(w, r.Body, most)
	}
	if f.cfg.Unwatch != nil {
		if end := f.cfg.Unwatch(r.Context()); end != nil {
			defer end()
		}
	}
	b := &body{budget: f.cfg.Memory}
	b.refs.Store(1)
	paced := f.pace(w, src)
	err := b.takeIn(paced, r.ContentLength, f.cfg.BodyMemory)
	late := paced.stop()
	if err == nil && !late {
		return b, nil
	}
	b.release()
	switch {
	case errors.Is(err, errTooLarge):
		return nil, err
	case late: // net/http ends the request's context with it
		return nil, errTooSlow
	case r.Context().Err() != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return nil, r.Context().Err()
	}
	return nil, err
}

// takeIn reads src to its end: into memory, as far as the bound and the budget
// reach, and then into a file. length is that of the body; negative: not known.
func (b *body) takeIn(src io.Reader, length, memory int64) error {
	if length >= 0 {
		memory = min(memory, length)
	}
	for b.grow(memory + 1) { // one more tells whether there is more
		n, err := src.Read(b.mem[len(b.mem):cap(b.mem)])
		b.mem = b.mem[:len(b.mem)+n]
		b.size += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return bodyFault(err)
		}
	}
	return b.spill(src)
}

// firstRoom is the first piece of memory for a body that may need more; so much
// a client gets by announcing a body.
const firstRoom = 4 << 10

// grow sees to it that there is room in memory, and reports false when there is
// not.
func (b *body) grow(most int64) bool {
	have := int64(cap(b.mem))
	if int64(len(b.mem)) < have {
		return true
	}
	next := min(max(2*have, firstRoom), most)
	if next <= have || !b.budget.take(next-have) {
		return false
	}
	b.charged = next
	b.mem = append(make([]byte, 0, next), b.mem...)
	return true
}

// spill reads the rest of src into a temporary file.
func (b *body) spill(src io.Reader) error {
	file, err := os.CreateTemp("", "portner-body-*")
	if err != nil {
		return fmt.Errorf("front: body: %w", err)
	}
	b.file = file
	if err := os.Remove(file.Name()); err != nil {
		return fmt.Errorf("front: body: %w", err)
	}
	reader := &markedReader{src: src}
	buf := b.budget.buffer(0)
	defer b.budget.release(buf)
	n, err := io.CopyBuffer(writerOnly{file}, reader, *buf)
	b.size += n
	switch {
	case reader.err != nil:
		return bodyFault(reader.err)
	case err != nil:
		return fmt.Errorf("front: body: %w", err)
	}
	return nil
}

// markedReader remembers that it was the source that failed.
type markedReader struct {
	src io.Reader
	err error
}

func (m *markedReader) Read(p []byte) (int, error) {
	n, err := m.src.Read(p)
	if err != nil && err != io.EOF {
		m.err = err
	}
	return n, err
}

// open reads the body from its beginning. Closing the reader does nothing.
func (b *body) open() io.ReadCloser {
	switch {
	case b.size == 0:
		return http.NoBody
	case b.file == nil:
		return io.NopCloser(bytes.NewReader(b.mem))
	}
	inMemory := int64(len(b.mem))
	return io.NopCloser(io.MultiReader(bytes.NewReader(b.mem), io.NewSectionReader(b.file, 0, b.size-inMemory)))
}

// retain keeps the body for one more user, who must release it.
func (b *body) retain() {
	if b != nil && b != noBody {
		b.refs.Add(1)
	}
}

func (b *body) release() {
	if b == nil || b == noBody || b.refs.Add(-1) != 0 {
		return
	}
	if b.charged > 0 {
		b.budget.give(b.charged)
	}
	if b.file != nil {
		b.file.Close()
	}
}
