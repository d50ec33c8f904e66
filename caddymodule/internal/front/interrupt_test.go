package front

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/portner/portner/caddymodule/internal/upstream"
)

// TestWhoLeavesWithTheHeadInterruptsNothing: the function that watches for the
// client may run when the head has just been read. It must not cut the body off, or
// the slot would be away for as long as an abandoned one.
func TestWhoLeavesWithTheHeadInterruptsNothing(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	direct := upstream.NewDirect(upstream.DirectConfig{Dial: func(context.Context, string) (net.Conn, error) { return ours, nil }})
	defer direct.Close()
	rest := make(chan bool)
	go func() { // ends with the connection
		if _, err := http.ReadRequest(bufio.NewReader(theirs)); err != nil {
			t.Error(err)
		}
		io.WriteString(theirs, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		<-rest
		io.WriteString(theirs, "hello")
	}()
	a, err := direct.Send(t.Context(), "app", &upstream.Request{Method: "GET", Target: "/", Host: "app"})
	if err != nil {
		t.Fatal(err)
	}
	d := &delivery{}
	d.connected(a)
	if err := a.Head(); err != nil {
		t.Fatal(err)
	}
	d.interrupt()
	close(rest)
	if body, err := io.ReadAll(a); err != nil || string(body) != "hello" {
		t.Errorf("%q, %v", body, err)
	}
	a.Close()
}
