package upstream

import "io"

// turn is where sending a request becomes reading its answer. Both are done in one
// visit to the runtime's poller: a read by itself, right behind the write, finds
// nothing yet, and every request would pay for a system call in vain.
type turn struct {
	text  []byte // the request, until it is sent
	out   []byte // what of it is still to be sent; empty: nothing
	n     int    // how much of the answer has come
	err   error  // of reading it
	visit func(fd uintptr) (done bool)
}

// receive reads into the room in the buffer, when all that is to be sent is sent. What
// a deadline or the end of the connection kept from being sent is so until the next
// call.
func (c *conn) receive() (int, error) {
	t := &c.turn
	if len(t.out) > 0 {
		t.n, t.err = 0, nil
		if err := c.raw.Read(t.visit); err != nil {
			return 0, err
		}
		if len(t.out) == 0 {
			return t.n, t.err
		}
		// The rest does not fit in what the kernel keeps for the application.
		if _, err := c.Conn.Write(t.out); err != nil {
			c.answer.upload = ended(err)
		}
		t.end()
	}
	return c.Conn.Read(c.buf[c.w:])
}

func (t *turn) begin(text []byte) { t.text, t.out = text, text }

// end forgets the request: it is sent, or shall not be.
func (t *turn) end() {
	if t.text != nil {
		dropText(t.text)
		t.text, t.out = nil, nil
	}
}

// turnOver is a visit: the first one sends, and the others come when there is
// something to read.
func (c *conn) turnOver(fd uintptr) (done bool) {
	t := &c.turn
	if len(t.out) > 0 {
		n, err := sendSome(fd, t.out)
		t.out = t.out[n:]
		switch {
		case err != nil: // reading says why
			c.answer.upload = ended(err)
			t.end()
		case len(t.out) > 0:
			return true
		default:
			t.end()
			return false
		}
	}
	n, again, err := readSome(fd, c.buf[c.w:])
	if again {
		return false
	}
	if t.n, t.err = n, err; n == 0 && err == nil {
		t.err = io.EOF
	}
	return true
}
