package upstream

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// deaf takes connections and reads nothing.
func deaf(t *testing.T) *application {
	end := make(chan struct{})
	a := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		conn.(*net.TCPConn).SetReadBuffer(1024)
		<-end
	})
	t.Cleanup(func() { close(end) })
	return a
}

// TestSendDoesNotWaitForWhoDoesNotRead: its caller could not end the exchange
// otherwise, and first_byte would not begin.
func TestSendDoesNotWaitForWhoDoesNotRead(t *testing.T) {
	app, d := deaf(t), newDirect(t, DirectConfig{})
	sent := make(chan *Answer)
	go func() {
		a, err := d.Send(t.Context(), app.address, &Request{Method: "GET", Target: "/", Host: "app",
			Header: map[string][]string{"Cookie": {strings.Repeat("x", 16<<20)}}})
		if err != nil {
			t.Error(err)
		}
		sent <- a
	}()
	select {
	case a := <-sent:
		a.Abort()
		if err := a.Head(); err == nil {
			t.Error("an aborted exchange has an answer")
		}
		a.Close()
	case <-time.After(20 * time.Second):
		t.Fatal("it waits")
	}
}

// TestRequestIsTheCallersAgainAfterSend: the second attempt is made of the same
// memory, while the first body may still be on its way.
func TestRequestIsTheCallersAgainAfterSend(t *testing.T) {
	app, d := deaf(t), newDirect(t, DirectConfig{})
	for range 20 {
		r := &Request{Method: "PUT", Target: "/", Host: "app", Body: io.LimitReader(endless{}, 64<<20), Length: 64 << 20}
		a, err := d.Send(t.Context(), app.address, r)
		if err != nil {
			t.Fatal(err)
		}
		u := a.upload
		a.Close()
		*r = Request{}
		<-u.done
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
