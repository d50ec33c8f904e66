package upstream

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is a connection to an application, with what has been read of it and not
// been asked for.
type conn struct {
	net.Conn
	direct  *Direct
	address string
	maxHead int
	raw     syscall.RawConn // nil: it cannot be looked at without reading
	peek    func(fd uintptr)
	quiet   bool // the outcome of peek
	turn    turn
	ours    bool // its bytes go through nobody but the system

	uses  int       // exchanges, this one included
	heard bool      // a byte of the answer has come
	ahead bool      // it was there before there was a request for it
	last  bool      // it is to have one request, and the application waits for our end of it
	told  bool      // that nothing follows
	since time.Time // idle since

	deadline atomic.Int64 // for reading, since epoch

	buf  []byte // [r:w] has been read and not been asked for
	r, w int
	head head

	answer  Answer
	aborted atomic.Bool
}

// readSize is how much is read at once where nobody knows how much comes.
const readSize = 4 << 10

func newConn(d *Direct, address string, plain net.Conn) *conn {
	c := &conn{Conn: plain, direct: d, address: address, maxHead: d.cfg.MaxHead, buf: make([]byte, readSize)}
	if s, ok := plain.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn()
	}
	switch plain.(type) {
	case *net.TCPConn, *net.UnixConn:
		c.ours = turns && c.raw != nil
	}
	c.peek = func(fd uintptr) { c.quiet = quiet(fd) } // made once: it escapes
	c.turn.visit = c.turnOver                         // the same
	return c
}

// begin makes the connection ready for an exchange.
func (c *conn) begin() {
	c.uses++
	c.heard = false
}

// endSending tells the application that nothing follows the request (RFC 9112,
// section 9.6). Whoever reads to our end after an answer goes on at once then, and
// not when we have been told of the answer's end and have closed.
func (c *conn) endSending() {
	c.told = true
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite() // if it fails, reading says why
	}
}

// alive reports whether an idle connection can take a request: the application
// has not closed it, and has sent nothing unasked.
func (c *conn) alive() bool {
	if c.raw == nil {
		return true
	}
	c.quiet = false
	return c.raw.Control(c.peek) == nil && c.quiet
}

// within sets a deadline for reading that is between d/2 and 3/2 d from now: to set
// the runtime's timer for each request costs more than it is worth to be exact.
func (c *conn) within(d time.Duration, now time.Time) {
	left := time.Duration(c.deadline.Load()) - now.Sub(epoch)
	if left < d/2 || left > d+d/2 {
		c.setDeadline(now.Add(d))
	}
}

func (c *conn) setDeadline(t time.Time) {
	c.deadline.Store(int64(t.Sub(epoch)))
	c.SetReadDeadline(t)
}

// epoch is what deadlines are counted from, by a clock that nobody sets.
var epoch = time.Now()

// done ends an exchange. What it returns is not kept, and to be closed; nil: it is.
func (c *conn) done(again bool) io.Closer {
	c.answer.upload = nil
	c.turn.end()
	if !again || c.r != c.w || c.aborted.Load() {
		if c.answer.Status >= 200 {
			c.direct.learn(c.address, c.answer.drains)
		}
		c.direct.give(c.address, nil)
		return c.Conn
	}
	if cap(c.buf) > readSize {
		c.buf = make([]byte, readSize)
	}
	c.r, c.w = 0, 0
	c.direct.give(c.address, c)
	return nil
}

// fill reads more into the buffer, which grows up to a head's size.
func (c *conn) fill() error {
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		c.buf = slices.Grow(c.buf, len(c.buf))[:2*len(c.buf)]
	}
	n, err := c.receive()
	if c.w += n; n > 0 {
		c.heard = true
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// readHead reads one head. It is valid until the next one.
func (c *conn) readHead() (*head, error) {
	for seen := 0; ; {
		end, err := headEnd(c.buf[c.r:c.w], seen)
		if err != nil {
			return nil, err
		}
		if end > c.maxHead || end == 0 && c.w-c.r > c.maxHead {
			return nil, broken("its head is longer than %d bytes", c.maxHead)
		}
		if end > 0 {
			text := string(c.buf[c.r : c.r+end])
			c.r += end
			return &c.head, c.head.parse(text, c.head.fields)
		}
		seen = c.w - c.r
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// buffered reports whether a read would not wait.
func (c *conn) buffered() bool { return c.r < c.w }

// read reads into p, first what is in the buffer.
func (c *conn) read(p []byte) (int, error) {
	if c.r < c.w {
		n := copy(p, c.buf[c.r:c.w])
		c.r += n
		return n, nil
	}
	if len(p) >= readSize {
		return c.Conn.Read(p)
	}
	if err := c.fill(); err != nil {
		return 0, err
	}
	return c.read(p)
}

// maxLine is the longest line between chunks.
const maxLine = 4 << 10

// hasLine reports whether a line can be read without waiting.
func (c *conn) hasLine() bool { return bytes.IndexByte(c.buf[c.r:c.w], '\n') >= 0 }

// readLine reads a line that ends with CRLF, without it. It is valid until the
// next read.
func (c *conn) readLine() ([]byte, error) {
	for {
		buf := c.buf[c.r:c.w]
		if i := bytes.IndexByte(buf, '\n'); i >= 0 {
			c.r += i + 1
			if i == 0 || buf[i-1] != '\r' || bytes.IndexByte(buf[:i-1], '\r') >= 0 {
				return nil, broken("a line between chunks ends without CR, or has one within")
			}
			return buf[:i-1], nil
		}
		if len(buf) > maxLine {
			return nil, broken("a line between chunks is longer than %d bytes", maxLine)
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// appender is a buffer as a writer.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}
