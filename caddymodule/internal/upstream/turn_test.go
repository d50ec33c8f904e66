package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"
)

// counting answers each request with the length of its body.
func counting(t *testing.T) *application {
	return newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		conn.(*net.TCPConn).SetReadBuffer(1024)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, req.Body)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Length: "+strconv.FormatInt(n, 10)+"\r\n\r\n")
		}
	})
}

// TestRequestThatDoesNotFitIsSentWhole: the kernel takes a part of it at first.
func TestRequestThatDoesNotFitIsSentWhole(t *testing.T) {
	app := counting(t)
	d := NewDirect(DirectConfig{Dial: func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			conn.(*net.TCPConn).SetWriteBuffer(1024)
		}
		return conn, err
	}})
	t.Cleanup(d.Close)
	for range 3 { // on one connection
		body := make([]byte, inlineBody)
		a, err := d.Send(t.Context(), app.address, &Request{Method: "POST", Target: "/", Host: "app", Body: bytes.NewReader(body), Length: int64(len(body))})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Head(); err != nil {
			t.Fatal(err)
		}
		if want := (Field{"X-Length", strconv.Itoa(len(body))}); a.Fields[1] != want {
			t.Fatalf("the application has seen %v", a.Fields[1])
		}
		a.Close()
	}
	if n := len(app.conns); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestDeadlineBeforeSendingLosesNothing: whoever goes on without its client reads on
// with another deadline.
func TestDeadlineBeforeSendingLosesNothing(t *testing.T) {
	app, d := counting(t), newDirect(t, DirectConfig{})
	a, err := d.Send(t.Context(), app.address, &Request{Method: "POST", Target: "/", Host: "app", Body: bytes.NewReader([]byte("abc")), Length: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	a.SetDeadline(time.Unix(1, 0))
	if err := a.Head(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	a.SetDeadline(time.Time{})
	if err := a.Head(); err != nil || a.Fields[1].Value != "3" {
		t.Fatalf("%v, %v", a.Fields, err)
	}
}
