package caddymodule_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// fickle is an application that does to each connection what the path of its
// request says.
type fickle struct {
	net.Listener
	acts map[string]func(c *net.TCPConn, in *bufio.Reader)
}

func newFickle(t *testing.T, acts map[string]func(*net.TCPConn, *bufio.Reader)) *fickle {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &fickle{Listener: l, acts: acts}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go a.serve(conn.(*net.TCPConn)) // ends with the connection
		}
	}()
	return a
}

// serve looks at the head alone: whether the body is read is the act's matter.
func (a *fickle) serve(conn *net.TCPConn) {
	defer conn.Close()
	for in := bufio.NewReader(conn); ; {
		first, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := readFieldLines(in); err != nil {
			return
		}
		act := a.acts[strings.Fields(first)[1]]
		if act == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell")
			continue
		}
		act(conn, in)
		return
	}
}

// says writes text, and does then.
func says(text string, then func(c *net.TCPConn, in *bufio.Reader)) func(*net.TCPConn, *bufio.Reader) {
	return func(c *net.TCPConn, in *bufio.Reader) {
		io.WriteString(c, text)
		then(c, in)
	}
}

// linger keeps the connection and reads nothing.
func linger(*net.TCPConn, *bufio.Reader) { <-neverEnding }

var neverEnding = make(chan bool)

func reset(c *net.TCPConn, _ *bufio.Reader)      { c.SetLinger(0) }
func leave(*net.TCPConn, *bufio.Reader)          {}
func silent(c *net.TCPConn, in *bufio.Reader)    { io.Copy(io.Discard, in) }
func afterBody(c *net.TCPConn, in *bufio.Reader) { io.CopyN(io.Discard, in, longBody) }

const longBody = 8 << 20 // more than the buffers of both kernels

// TestApplicationThatMisbehaves is the table of docs/caddyfile.md: the status, the
// slot back, the next request well, by both ways.
func TestApplicationThatMisbehaves(t *testing.T) {
	rows := []struct {
		what   string
		act    func(*net.TCPConn, *bufio.Reader)
		post   bool           // a long body, or none
		status map[string]int // by direct
		reason string         // of a problem; empty: the application's own answer
		broken string         // by which way the client sees an answer that breaks off
	}{
		{what: "resets", act: reset, status: both(502), reason: "upstream-failed"},
		{what: "resets during the body", act: reset, post: true, status: both(502), reason: "upstream-failed"},
		{what: "resets within its head", act: says("HTTP/1.1 200 OK\r\nContent-", reset), status: both(502), reason: "upstream-failed"},
		{what: "closes without a word", act: leave, status: both(502), reason: "upstream-failed"},
		{what: "closes after the body", act: afterBody, post: true, status: both(502), reason: "upstream-failed"},
		{what: "closes within its head", act: says("HTTP/1.1 200 OK\r\nContent-", leave), status: both(502), reason: "upstream-failed"},
		{what: "closes within a short answer", act: says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", leave), status: map[string]int{"on": 502, "off": 200}, reason: "upstream-failed", broken: "off"},
		{what: "closes within a long answer", act: says("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 500_000), leave), status: both(200), broken: "on off"},
		{what: "says garbage", act: says("\x16\x03\x01 what?\r\n\r\n", leave), status: both(502), reason: "upstream-failed"},
		{what: "has no end of its head", act: says("HTTP/1.1 200 OK\r\n"+strings.Repeat("X-Long: "+strings.Repeat("x", 1000)+"\r\n", 300), leave), status: both(502), reason: "upstream-failed"},
		{what: "contradicts itself", act: says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", leave), status: both(502), reason: "upstream-failed"},
		{what: "switches the protocol", act: says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", linger), status: both(502), reason: "upstream-failed"},
		{what: "says more than its answer", act: says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwellHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", linger), status: both(200)},
		{what: "answers before the body", act: says("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nwell", linger), post: true, status: both(413)},
		{what: "answers before the body, and goes", act: says("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nwell", reset), post: true, status: map[string]int{"on": 413}}, // reverse_proxy may notice the reset first
		{what: "is silent", act: silent, status: both(504), reason: "upstream-timeout"},
	}
	acts := make(map[string]func(*net.TCPConn, *bufio.Reader))
	for i, row := range rows {
		acts[fmt.Sprintf("/%d", i)] = row.act
	}
	bothWays(t, func(t *testing.T, direct string) {
		a := newFickle(t, acts)
		d := open(t, "app_proxy "+a.Addr().String()+` {
			name        fickle
			concurrency 1
			direct      `+direct+`
			queue {
				wait 60s
			}
			transport http {
				max_response_header 64KiB
			}
			timeouts {
				first_byte 500ms
				abandon    50ms
			}
		}`)
		for i, row := range rows {
			method, body := http.MethodGet, io.Reader(nil)
			if row.post {
				method, body = http.MethodPost, strings.NewReader(strings.Repeat("b", longBody))
			}
			res, err := d.do(t.Context(), method, fmt.Sprintf("/%d", i), body)
			if err != nil {
				t.Errorf("%s: %v", row.what, err)
				continue
			}
			text, err := io.ReadAll(res.Body)
			res.Body.Close()
			if row.status[direct] == 0 {
				res.StatusCode, text = 0, []byte("well")
			}
			broken := slices.Contains(strings.Fields(row.broken), direct)
			if res.StatusCode != row.status[direct] || (err != nil) != broken {
				t.Errorf("%s: %d, want %d; %v", row.what, res.StatusCode, row.status[direct], err)
			}
			if want := fmt.Sprintf("%q", row.reason); !broken && row.reason != "" && !strings.Contains(string(text), want) {
				t.Errorf("%s: %.300s, want %s", row.what, text, want)
			}
			if row.reason == "" && !broken && string(text) != "well" {
				t.Errorf("%s: %.300q", row.what, text)
			}
			if status, text := d.get("/next"); status != 200 || text != "well" {
				t.Errorf("after one that %s: %d %q", row.what, status, text)
			}
			eventually(t, "the slot is back", func() bool { return poolOf(t, "fickle").InFlight == 0 })
		}
	})
}

func both(status int) map[string]int { return map[string]int{"on": status, "off": status} }
