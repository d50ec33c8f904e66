package front

import (
	"io"
	"net"
	"net/http"
	"time"
)

// A connection that is closed over unread bytes is reset, and whoever is still sending
// then never sees the answer (RFC 9112, section 9.6). net/http would wait, but does not
// know the body behind those that Caddy puts before it. And where the connection is to
// be kept it answers when the body is here, or has not come for a minute.

const (
	// lingering is how long a client may go on sending what nobody wants, and silence
	// how long it may pause: who sends nothing any more has seen the answer.
	lingering, silence = 5 * time.Second, time.Second
	// maxLingering bounds how many do so at once; with more, connections are closed.
	maxLingering = 256
	// maxUnread is how much of a body is read to keep its connection, as by net/http.
	maxUnread = 256 << 10
)

// forgo is called before the head of an answer that does not need the body. Where some
// of that is unread the answer says that the connection is closed, unless it is short,
// whole and here already, which that of a client who waits for 100 Continue (RFC 9110,
// section 10.1.1) is not.
func (x *exchange) forgo(w http.ResponseWriter, r *http.Request, faulty bool) {
	if r.ProtoMajor != 1 || x.body != nil || r.ContentLength == 0 || x.flow.over() {
		return
	}
	if !faulty && x.Upstream == "" && r.ContentLength > 0 && r.ContentLength <= maxUnread && r.Header["Expect"] == nil {
		c := http.NewResponseController(w)
		src, _ := x.front.beneath(r)
		if c.SetReadDeadline(time.Now().Add(quick)) == nil {
			if _, err := io.Copy(io.Discard, src); err == nil {
				c.SetReadDeadline(time.Time{})
				return
			}
		}
	}
	w.Header().Set("Connection", "close")
	x.forgone = true
}

// linger sends the answer and reads what still comes of a body that was forgone, for a
// while. The body knows where it ends; where it can be read no further, since it is
// broken or came too slowly, the connection is read in its place. The end of an answer
// in chunks comes behind that: nobody but net/http can write it.
func (x *exchange) linger(w http.ResponseWriter, r *http.Request) {
	x.flow.stop(w)
	if !x.forgone {
		return
	}
	c := http.NewResponseController(w)
	now := &x.front.cfg.Memory.lingering
	defer now.Add(-1)
	if now.Add(1) > maxLingering {
		c.SetReadDeadline(time.Unix(1, 0)) // nor shall net/http wait
		return
	}
	if c.Flush() != nil {
		return
	}
	src, conn := x.front.beneath(r)
	rest := &awaited{src: src, within: c.SetReadDeadline, until: time.Now().Add(lingering)}
	if _, err := io.Copy(io.Discard, rest); err == nil || conn == nil || !time.Now().Before(rest.next) {
		return
	}
	rest.src, rest.within = conn, conn.SetReadDeadline
	io.Copy(io.Discard, rest)
}

// beneath is a request's body without those that bound it, and its connection.
func (f *Front) beneath(r *http.Request) (body io.Reader, conn net.Conn) {
	if f.cfg.Beneath != nil {
		body, conn = f.cfg.Beneath(r.Context())
	}
	if body == nil {
		body = r.Body
	}
	return body, conn
}

// awaited is read until a time, and while there are no pauses.
type awaited struct {
	src         io.Reader
	within      func(deadline time.Time) error
	next, until time.Time
}

func (a *awaited) Read(p []byte) (int, error) {
	a.next = time.Now().Add(silence)
	if a.until.Before(a.next) {
		a.next = a.until
	}
	if err := a.within(a.next); err != nil {
		return 0, err
	}
	return a.src.Read(p)
}
