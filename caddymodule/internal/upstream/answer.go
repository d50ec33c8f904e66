package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Answer is what an application says to one request: first Head, then Read until
// io.EOF, then Close, once. It belongs to one goroutine at a time; Abort and
// SetDeadline may be called by any.
type Answer struct {
	Status  int
	Minor   int     // of HTTP/1
	Fields  []Field // valid until Close
	Length  int64   // of the body in bytes; negative: not known before its end
	Trailer []Field // complete after io.EOF

	conn        *conn
	toHEAD      bool
	interim     int // answers before the final one
	state       bodyState
	left        int64 // of the body, or of the chunk
	trailerSize int
	close       bool // the connection ends with this answer
	drains      bool // and the application waits for our end of it
	upload      *upload
}

// bodyState is what comes next of a body.
type bodyState uint8

const (
	bodyUnknown bodyState = iota // a head
	bodyNone                     // nothing: it has ended
	bodySized                    // left bytes
	bodyToEnd                    // whatever comes until the connection ends
	chunkLength                  // the line with a chunk's size
	chunkData                    // left bytes of a chunk
	chunkEnd                     // the CRLF behind a chunk's data
	trailerLine                  // a field of the trailer, or its end
	bodyBroken                   // nothing: an error was seen
)

// isLine reports whether a line comes next.
func (s bodyState) isLine() bool { return s == chunkLength || s == chunkEnd || s == trailerLine }

// upload is a body that is sent while the answer may come.
type upload struct {
	done chan struct{}
	err  error // before done
}

var (
	// ErrStale: the application had closed the connection before it could see the
	// request, as far as can be told: it was there before, and not one byte came back.
	ErrStale = errors.New("the application has closed the connection while it was idle")
	// ErrClosed: the connection ended before the answer did.
	ErrClosed = errors.New("the application closed the connection before its answer was complete")
	// ErrSilent: the connection ended before a byte of the answer had come.
	ErrSilent = errors.New("the application closed the connection without an answer")
	// ErrUnasked: the application speaks another protocol from now on, which
	// nobody has asked for.
	ErrUnasked = errors.New("the application switches to a protocol that nobody has asked for")
)

// maxInterim bounds the interim answers to one request.
const maxInterim = 100

// Head reads the next head. While Status is less than 200 it is that of an interim answer (RFC 9110, section 15.2), and
// another one follows. After an error for which errors.Is(err,
// os.ErrDeadlineExceeded) holds it may be called again. All other errors are
// final; Close follows.
func (a *Answer) Head() error {
	h, err := a.conn.readHead()
	if err != nil {
		return a.lost(err)
	}
	a.Status, a.Minor, a.Fields = h.status, h.minor, h.fields
	if h.status == 101 {
		return a.fail(fmt.Errorf("upstream: %w", ErrUnasked))
	}
	if h.status >= 200 {
		a.begin(h)
	} else if a.interim++; a.interim > maxInterim {
		return a.fail(broken("it has more than %d interim answers", maxInterim))
	}
	return nil
}

// lost says what the end of a connection means before an answer.
func (a *Answer) lost(err error) error {
	sent := a.upload.failed()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case errors.Is(err, ErrBroken):
	case a.conn.heard || a.conn.aborted.Load():
		err = fmt.Errorf("upstream: %w: %w", ErrClosed, err)
	case errors.Is(sent, ErrRequest):
		err = sent
	case a.conn.uses > 1 || a.conn.ahead:
		err = fmt.Errorf("upstream: %w: %w", ErrStale, err)
	default:
		err = fmt.Errorf("upstream: %w: %w", ErrSilent, err)
	}
	return a.fail(err)
}

func (a *Answer) fail(err error) error {
	a.state, a.close = bodyBroken, true
	return err
}

// begin takes over the head of the final answer. HEAD, 204 and 304 have no body,
// whatever they say of one (RFC 9112, section 6.3).
func (a *Answer) begin(h *head) {
	a.Length, a.close, a.drains = h.length, h.close, h.drains()
	switch {
	case a.toHEAD || h.status == 204 || h.status == 304 || h.length == 0:
		a.state = bodyNone
	case h.chunks:
		a.state = chunkLength
	case h.length > 0:
		a.state, a.left = bodySized, h.length
	default:
		a.state, a.close = bodyToEnd, true
	}
}

// Ended reports whether the body was read to its end, or has none.
func (a *Answer) Ended() bool { return a.state == bodyNone }

// Last reports whether the connection ends with this answer. Then the answer may be
// looked at after Close.
func (a *Answer) Last() bool { return a.close }

// Buffered reports whether Read has something at hand.
func (a *Answer) Buffered() bool { return a.state == bodyNone || a.conn.buffered() }

// SetDeadline bounds all reading from now on; the zero time is none. A read that
// fails with os.ErrDeadlineExceeded can be tried again after a new one. It may be
// called at any time before Close has begun, by anybody.
func (a *Answer) SetDeadline(t time.Time) { a.conn.setDeadline(t) }

// Within sets a deadline about d from now, between a half of it and one and a half.
func (a *Answer) Within(d time.Duration, now time.Time) { a.conn.within(d, now) }

// Read reads the body. It implements io.Reader; the last bytes of a body come
// with io.EOF where that is known without waiting.
func (a *Answer) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for a.state.isLine() {
		if err := a.step(); err != nil {
			return 0, a.cut(err)
		}
	}
	switch a.state {
	case bodyNone:
		return 0, io.EOF
	case bodyBroken, bodyUnknown:
		return 0, ErrClosed
	case bodyToEnd:
		n, err := a.conn.read(p)
		if err == io.EOF {
			a.state = bodyNone
			return n, io.EOF
		}
		return n, a.cut(err)
	}
	n, err := a.conn.read(p[:min(int64(len(p)), a.left)])
	if a.left -= int64(n); a.left > 0 {
		return n, a.cut(err)
	}
	if a.state == bodySized {
		a.state = bodyNone
		return n, io.EOF
	}
	a.state = chunkEnd
	for a.state.isLine() && a.conn.hasLine() {
		if err := a.step(); err != nil {
			return n, a.cut(err)
		}
	}
	if a.state == bodyNone {
		return n, io.EOF
	}
	return n, nil
}

// cut makes the error of a body that has not come to its end.
func (a *Answer) cut(err error) error {
	switch {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case errors.Is(err, ErrBroken):
		return a.fail(err)
	}
	return a.fail(fmt.Errorf("upstream: %w: %w", ErrClosed, err))
}

// step reads one line of what stands between chunks and behind them (RFC 9112,
// section 7.1).
func (a *Answer) step() error {
	line, err := a.conn.readLine()
	if err != nil {
		return err
	}
	switch a.state {
	case chunkEnd:
		if len(line) > 0 {
			return broken("a chunk is longer than it says")
		}
		a.state = chunkLength
	case chunkLength:
		return a.chunkSize(line)
	case trailerLine:
		return a.trailerField(line)
	}
	return nil
}

func (a *Answer) chunkSize(line []byte) error {
	digits, extension, extended := bytes.Cut(line, []byte(";"))
	if !extended {
		digits = bytes.TrimRight(digits, " \t")
	}
	size, ok := parseHex(digits)
	if !ok || !isFieldValue(string(extension)) {
		return broken("the size of a chunk is %.20q", line)
	}
	a.state, a.left = chunkData, size
	if size == 0 {
		a.state = trailerLine
	}
	return nil
}

// parseHex reads a chunk's size of up to 15 digits, so that it fits.
func parseHex(digits []byte) (n int64, ok bool) {
	for _, c := range digits {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | int64(c)
	}
	return n, len(digits) > 0 && len(digits) <= 15
}

// trailerField takes a field that follows the last chunk (RFC 9112, section
// 7.1.2). Those that belong before the body are dropped (RFC 9110, section 6.5.1).
func (a *Answer) trailerField(line []byte) error {
	if len(line) == 0 {
		a.state = bodyNone
		return nil
	}
	if a.trailerSize += len(line); a.trailerSize > a.conn.maxHead {
		return broken("its trailer is longer than %d bytes", a.conn.maxHead)
	}
	fields, err := parseFields(string(line)+"\r\n\r\n", nil)
	if err != nil {
		return err
	}
	for _, f := range fields {
		if !framing(f.Name) {
			a.Trailer = append(a.Trailer, f)
		}
	}
	return nil
}

// Close gives the connection back. It is used again when the answer was read to
// its end and the application goes on; else it is closed. The answer must not be
// used after it.
func (a *Answer) Close() {
	if rest := a.Part(); rest != nil {
		rest.Close()
	}
}

// Part does what Close does, but where the application does not wait for the end of a
// connection that has had its last answer, closing it is left to the caller: it takes as
// long as sending a request, and the next one should not wait for it.
func (a *Answer) Part() (rest io.Closer) {
	again := a.state == bodyNone && !a.close && !a.conn.told
	waited := a.state != bodyNone || a.drains && !a.conn.told
	if a.upload != nil {
		select {
		case <-a.upload.done:
			again = again && a.upload.err == nil
		default:
			again, waited = false, true // the rest of the body would be taken for a request
		}
	}
	rest = a.conn.done(again)
	if rest != nil && waited {
		rest.Close()
		return nil
	}
	return rest
}

// Abort closes the connection: whoever reads gets an error. It may be called at
// any time before Close has begun, by anybody.
func (a *Answer) Abort() {
	a.conn.aborted.Store(true)
	a.conn.Conn.Close()
}

// failed is the error of an upload that has ended with one.
func (u *upload) failed() error {
	if u == nil {
		return nil
	}
	select {
	case <-u.done:
		return u.err
	default:
		return nil
	}
}
