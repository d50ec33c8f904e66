package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// Request is what is sent to an application.
type Request struct {
	Method string
	Target string // as in the request line: path and query
	Host   string

	// Header is sent except for the names that Drop reports, and except for those
	// by which a message is framed or a connection kept: they are written here.
	// Names are canonical. Drop may be nil.
	Header map[string][]string
	Drop   interface{ Drops(name string) bool }
	// Extra fields are sent besides.
	Extra []Field

	// Body is read once. Length is its length in bytes; negative: unknown, it is
	// sent in chunks, with Trailer at its end.
	Body    io.Reader
	Length  int64
	Trailer map[string][]string

	// Fresh asks for a connection of which the application cannot be about to
	// think that it is idle: for requests that must not be sent twice.
	Fresh bool
}

// ErrRequest is wrapped by errors about a request that cannot be written without
// the application understanding something else.
var ErrRequest = errors.New("request cannot be sent")

// ErrBody is the ErrRequest of a body that cannot be read to the end that was said:
// the same request may be sent another time.
var ErrBody = fmt.Errorf("%w: its body is not whole", ErrRequest)

// framing are the fields that say where a message ends or what becomes of the
// connection. A request is framed anew (RFC 9112, section 6.3).
func framing(name string) bool {
	switch textproto.CanonicalMIMEHeaderKey(name) {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Trailer":
		return true
	}
	return false
}

// appendHead writes the request line and the fields to buf. What could end a line
// is an error, whoever has put it there.
func (r *Request) appendHead(buf []byte, last bool) ([]byte, error) {
	if !isToken(r.Method) || !isTarget(r.Target) || !isTarget(r.Host) {
		return nil, fmt.Errorf("upstream: %w: method %.20q, target %.100q, host %.100q", ErrRequest, r.Method, r.Target, r.Host)
	}
	buf = append(buf, r.Method...)
	buf = append(buf, ' ')
	buf = append(buf, r.Target...)
	buf = append(buf, " HTTP/1.1\r\nHost: "...)
	buf = append(buf, r.Host...)
	buf = append(buf, "\r\n"...)
	var err error
	for name, values := range r.Header {
		if framing(name) || r.Drop != nil && r.Drop.Drops(name) {
			continue
		}
		for _, value := range values {
			if buf, err = appendField(buf, name, value); err != nil {
				return nil, err
			}
		}
	}
	for _, f := range r.Extra {
		if buf, err = appendField(buf, f.Name, f.Value); err != nil {
			return nil, err
		}
	}
	if last {
		buf = append(buf, "Connection: close\r\n"...)
	}
	return append(r.appendFraming(buf), "\r\n"...), nil
}

// Check returns the error that Send would have for the request's head. It is for
// whoever must know before.
func (r *Request) Check() error {
	head, err := r.appendHead(newText(), false)
	if err == nil {
		dropText(head)
	}
	return err
}

func appendField(buf []byte, name, value string) ([]byte, error) {
	if err := checkField(name, value); err != nil {
		return nil, err
	}
	buf = append(buf, name...)
	buf = append(buf, ": "...)
	buf = append(buf, value...)
	return append(buf, "\r\n"...), nil
}

func checkField(name, value string) error {
	if !isToken(name) || !isFieldValue(value) {
		return fmt.Errorf("upstream: %w: the field %.40q has characters that end a line", ErrRequest, name)
	}
	return nil
}

// CheckFields returns an error that wraps ErrRequest when one of the fields cannot
// be written. It is for requests that are sent by somebody else.
func CheckFields(headers ...map[string][]string) error {
	for _, h := range headers {
		for name, values := range h {
			if strings.HasPrefix(name, ":") {
				continue // HTTP/2's own, for who knows them
			}
			for _, value := range values {
				if err := checkField(name, value); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *Request) appendFraming(buf []byte) []byte {
	switch {
	case r.Length > 0, r.Length == 0 && (r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH"):
		buf = append(buf, "Content-Length: "...)
		buf = strconv.AppendInt(buf, r.Length, 10)
		buf = append(buf, "\r\n"...)
	case r.Length < 0:
		buf = append(buf, "Transfer-Encoding: chunked\r\n"...)
		if names := r.trailerNames(); len(names) > 0 {
			buf = append(buf, "Trailer: "...)
			buf = append(buf, strings.Join(names, ", ")...)
			buf = append(buf, "\r\n"...)
		}
	}
	return buf
}

// trailerNames are those of the trailer that can be sent: the others say what
// must be known before (RFC 9110, section 6.5.1).
func (r *Request) trailerNames() []string {
	var names []string
	for name := range r.Trailer {
		if isToken(name) && !framing(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// writeBody sends the body. A body that is shorter or longer than was said is an
// error: the application would take what comes next for the rest of it.
func (r *Request) writeBody(w io.Writer) error {
	if r.Length < 0 {
		return r.writeChunks(w)
	}
	n, err := io.Copy(w, io.LimitReader(r.Body, r.Length))
	if err == nil && n < r.Length {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (r *Request) writeChunks(w io.Writer) error {
	data := make([]byte, chunkSize)
	frame := make([]byte, 0, chunkSize+32)
	for {
		n, err := r.Body.Read(data)
		if n > 0 {
			frame = strconv.AppendInt(frame[:0], int64(n), 16)
			frame = append(frame, "\r\n"...)
			frame = append(frame, data[:n]...)
			if _, werr := w.Write(append(frame, "\r\n"...)); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	frame = append(frame[:0], "0\r\n"...)
	for _, name := range r.trailerNames() {
		for _, value := range r.Trailer[name] {
			var err error
			if frame, err = appendField(frame, name, value); err != nil {
				return err
			}
		}
	}
	_, err := w.Write(append(frame, "\r\n"...))
	return err
}

// chunkSize is how much of a body of unknown length is sent at once.
const chunkSize = 32 << 10

// isTarget reports whether s can stand in a request line or be a host: visible
// characters only.
func isTarget(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	return s != ""
}
