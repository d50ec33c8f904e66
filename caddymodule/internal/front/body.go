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
}

// noBody is everybody's: there is nothing to release.
var noBody = &body{}

// errTooLarge: the body is longer than BodyMax.
var errTooLarge = errors.New("request body is too large")

// errBadBody wraps what went wrong on the client's side.
var errBadBody = errors.New("request body could not be read")

// readBody reads at most max bytes, memory of them into memory. It returns
// errTooLarge, an error that wraps errBadBody, the context's error when the
// client left, or that of the temporary file.
func readBody(w http.ResponseWriter, r *http.Request, memory, max int64) (*body, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 { // Caddy wraps even no body
		return noBody, nil
	}
	b := &body{}
	b.refs.Store(1)
	if max > 0 && r.ContentLength > max {
		return nil, errTooLarge
	}
	src := r.Body
	if max > 0 {
		src = http.MaxBytesReader(w, r.Body, max)
	}
	fail := func(err error) (*body, error) {
		b.release()
		var large *http.MaxBytesError
		switch {
		case errors.As(err, &large):
			return nil, errTooLarge
		case r.Context().Err() != nil:
			return nil, r.Context().Err()
		}
		return nil, err
	}

	var head bytes.Buffer
	n, err := io.CopyN(&head, src, memory+1) // one more tells whether there is more
	b.mem, b.size = head.Bytes(), n
	if err == io.EOF {
		return b, nil
	}
	if err != nil {
		return fail(fmt.Errorf("%w: %w", errBadBody, err))
	}

	reader := &markedReader{src: src}
	file, err := os.CreateTemp("", "portner-body-*")
	if err != nil {
		return fail(fmt.Errorf("front: body: %w", err))
	}
	b.file = file
	if err := os.Remove(file.Name()); err != nil {
		return fail(fmt.Errorf("front: body: %w", err))
	}
	n, err = io.Copy(file, reader)
	b.size += n
	switch {
	case reader.err != nil:
		return fail(fmt.Errorf("%w: %w", errBadBody, reader.err))
	case err != nil:
		return fail(fmt.Errorf("front: body: %w", err))
	}
	return b, nil
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
	if b != nil {
		b.refs.Add(1)
	}
}

func (b *body) release() {
	if b != nil && b.refs.Add(-1) == 0 && b.file != nil {
		b.file.Close()
	}
}
