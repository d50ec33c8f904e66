package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// closing ends its connections itself.
func closing(t *testing.T) *application {
	return newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		if readRequest(r) == nil {
			io.WriteString(conn, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
}

// taught is a Direct that knows the application's manners.
func taught(t *testing.T, a *application) *Direct {
	d := newDirect(t, DirectConfig{})
	if _, err := a.ask(d, &Request{}); err != nil {
		t.Fatal(err)
	}
	<-a.conns
	return d
}

func (a *application) begin(d *Direct) *Answer {
	a.t.Helper()
	answer, err := d.Send(a.t.Context(), a.address, &Request{Method: "GET", Target: "/", Host: "app"})
	if err != nil {
		a.t.Fatal(err)
	}
	return answer
}

// prepare asks for a connection, and returns the application's end of it.
func (a *application) prepare(d *Direct) net.Conn {
	d.Ready(a.address)
	return <-a.conns
}

func TestNextConnectionIsThereBeforeItsRequest(t *testing.T) {
	a := closing(t)
	d := taught(t, a)
	first := a.begin(d)
	<-a.conns
	ready := a.prepare(d)
	d.Ready(a.address) // one exchange is followed by one
	first.Close()
	second := a.begin(d)
	defer second.Close()
	if got, want := second.conn.LocalAddr().String(), ready.RemoteAddr().String(); got != want {
		t.Errorf("the next request went by %s, and %s was ready", got, want)
	}
	if err := second.Head(); err != nil || second.Status != 200 {
		t.Errorf("status %d, %v", second.Status, err)
	}
	if ahead := d.cfg.Ready.ahead.Load(); ahead != 0 {
		t.Errorf("%d connections are ready", ahead)
	}
}

// TestApplicationThatReadsToOurEndIsNotKeptWaiting: Werkzeug serves nobody between its
// answer and our end of the connection.
func TestApplicationThatReadsToOurEndIsNotKeptWaiting(t *testing.T) {
	for _, c := range []struct {
		server string
		ends   bool // our end comes without our having closed
	}{{"Werkzeug/3.1.3 Python/3.11.7", true}, {"gunicorn", false}} {
		t.Run(c.server, func(t *testing.T) {
			ended := make(chan error, 3)
			a := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
				if readRequest(r) != nil {
					return
				}
				io.WriteString(conn, "HTTP/1.0 200 OK\r\nServer: "+c.server+"\r\nContent-Length: 2\r\n\r\nok")
				conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // only who must not see an end waits for it
				_, err := r.ReadByte()
				ended <- err
			})
			d := taught(t, a)
			<-ended
			first := a.begin(d)
			<-a.conns
			a.prepare(d)
			if err := first.Head(); err != nil {
				t.Error(err)
			}
			first.Close()
			<-ended
			second := a.begin(d)
			defer second.Close() // after the application has seen the end, or has not
			if err := second.Head(); err != nil || second.Status != 200 {
				t.Errorf("status %d, %v", second.Status, err)
			}
			if err := <-ended; (err == io.EOF) != c.ends {
				t.Errorf("the application reads %v before it is answered for", err)
			}
		})
	}
}

// TestConnectionIsClosedLaterWhereNobodyWaitsForIt: a slot and a connection are back
// before that.
func TestConnectionIsClosedLaterWhereNobodyWaitsForIt(t *testing.T) {
	const werkzeug = "HTTP/1.0 200 OK\r\nServer: Werkzeug/3.1.3\r\nContent-Length: 2\r\n\r\nok"
	for _, c := range []struct {
		name, says string
		last       bool // it was told that nothing follows the request
		later      bool
		kept       int
	}{
		{"it keeps connections", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, false, 1},
		{"it would keep one on which nothing can follow", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true, true, 0},
		{"it ends them", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false, true, 0},
		{"it reads to our end", werkzeug, false, false, 0},
		{"it has read to our end", werkzeug, true, true, 0},
		{"its answer breaks off", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok", false, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
				readRequest(r)
				io.WriteString(conn, c.says)
			})
			d := newDirect(t, DirectConfig{})
			answer := a.begin(d)
			if c.last {
				answer.conn.endSending()
			}
			if err := answer.Head(); err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, answer)
			rest := answer.Part()
			if (rest != nil) != c.later {
				t.Errorf("left to be closed: %v", rest)
			}
			if rest != nil {
				if err := rest.Close(); err != nil {
					t.Errorf("closed before: %v", err)
				}
			}
			if busy, idle := d.stocks[a.address].busy, d.Idle(); busy != 0 || idle != c.kept {
				t.Errorf("%d busy, %d kept", busy, idle)
			}
		})
	}
}

// TestReadyConnectionsAreUsedInTheirOrder: an application with a single thread has
// taken the first, and reads from no other.
func TestReadyConnectionsAreUsedInTheirOrder(t *testing.T) {
	a := closing(t)
	d := taught(t, a)
	var running []*Answer
	for range 3 {
		running = append(running, a.begin(d))
		<-a.conns
	}
	var want, got []string
	for range 3 {
		want = append(want, a.prepare(d).RemoteAddr().String())
	}
	for _, r := range running {
		r.Close()
		next := a.begin(d)
		got = append(got, next.conn.LocalAddr().String())
		defer next.Close()
	}
	if !slices.Equal(got, want) {
		t.Errorf("used %v, made %v", got, want)
	}
}

func TestApplicationThatKeepsConnectionsGetsNoneAhead(t *testing.T) {
	a := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	d := taught(t, a)
	running := a.begin(d)
	defer running.Close()
	d.Ready(a.address)
	if ahead := d.cfg.Ready.ahead.Load(); ahead != 0 {
		t.Errorf("%d connections are ready or being made", ahead)
	}
}

func TestDroppedConnectionIsClosed(t *testing.T) {
	a := closing(t)
	d := taught(t, a)
	running := a.begin(d)
	defer running.Close()
	<-a.conns
	ready := a.prepare(d)
	d.cfg.Ready.Drop(a.address)
	if _, err := ready.Read(make([]byte, 1)); err == nil {
		t.Error("something came by a dropped connection")
	}
}

// TestConnectionThatComesTooLateIsClosed: nobody waits for it any more.
func TestConnectionThatComesTooLateIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		dialled := make(chan struct{})
		var r Ready
		r.prepare("app", 1, func(context.Context, string) (net.Conn, error) {
			<-dialled
			return ours, nil
		})
		r.Drop("app")
		close(dialled)
		synctest.Wait()
		if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("it is open: %v", err)
		}
		if r.ahead.Load() != 0 || len(r.conns) != 0 {
			t.Errorf("%d ahead, %d addresses", r.ahead.Load(), len(r.conns))
		}
	})
}

func TestReadyConnectionIsNotKeptForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		var r Ready
		r.prepare("app", 1, func(context.Context, string) (net.Conn, error) { return ours, nil })
		began := time.Now()
		if _, err := theirs.Read(make([]byte, 1)); err != io.EOF || time.Since(began) != readyFor {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if r.take("app") != nil || r.ahead.Load() != 0 {
			t.Error("it can still be had")
		}
	})
}

// TestRequestOnAReadyConnectionMayComeTooLate: whether the application has seen it
// cannot be told, as with a connection that was used before.
func TestRequestOnAReadyConnectionMayComeTooLate(t *testing.T) {
	var first sync.Once
	a := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		if readRequest(r) == nil {
			first.Do(func() { io.WriteString(conn, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n") })
		}
	})
	d := taught(t, a)
	running := a.begin(d)
	defer running.Close()
	<-a.conns
	if err := running.Head(); !errors.Is(err, ErrSilent) {
		t.Errorf("a connection that was made for its request: %v", err)
	}
	a.prepare(d)
	next := a.begin(d)
	defer next.Close()
	if err := next.Head(); !errors.Is(err, ErrStale) {
		t.Errorf("a connection that was ready: %v", err)
	}
}

func TestReadyConnectionThatWasClosedIsNotUsed(t *testing.T) {
	a := closing(t)
	d := taught(t, a)
	running := a.begin(d)
	defer running.Close()
	<-a.conns
	a.prepare(d).Close()
	next := a.begin(d)
	defer next.Close()
	if err := next.Head(); err != nil {
		t.Error(err)
	}
}
