package caddymodule_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// loyal is an application with one thread that serves one connection until that
// ends, and sees no other meanwhile. It ends one itself after a request for /last,
// which it answers when last returns.
func loyal(t *testing.T, last func()) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serveLoyally(conn, last)
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func serveLoyally(conn net.Conn, last func()) {
	defer conn.Close()
	for in := bufio.NewReader(conn); ; {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		if req.URL.Path == "/last" {
			last()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		if req.Close {
			return
		}
	}
}

// TestKeptConnectionLocksNobodyOut: whoever serves one connection at a time waits for
// the next request on the one that is kept, whichever way that request goes.
func TestKeptConnectionLocksNobodyOut(t *testing.T) {
	const impatient = "name loyal\nconcurrency 1\ntimeouts {\n first_byte 2s\n abandon 1s\n}\n"
	for _, c := range []struct{ name, config string }{
		{"a probe", "app_proxy %[1]s {\n " + impatient + "health_uri /health\nhealth_interval 50ms\n}"},
		{"a request by the other way", "app_proxy %[1]s {\n " + impatient + "}"},
		{"another handler", "handle /other/* {\n app_proxy %[1]s {\n " + impatient + "}\n}\nhandle {\n app_proxy %[1]s {\n " + impatient + "}\n}"},
		{"another handler with another transport", "handle /other/* {\n app_proxy %[1]s {\n " + impatient + "transport http {\n keepalive 1m\n}\n}\n}\nhandle {\n app_proxy %[1]s {\n " + impatient + "}\n}"},
		{"another handler by the other way", "handle /other/* {\n app_proxy %[1]s {\n " + impatient + "direct off\n}\n}\nhandle {\n app_proxy %[1]s {\n " + impatient + "}\n}"},
		{"two handlers by the other way", "handle /other/* {\n app_proxy %[1]s {\n " + impatient + "direct off\n}\n}\nhandle {\n app_proxy %[1]s {\n " + impatient + "direct off\n}\n}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := open(t, fmt.Sprintf(c.config, loyal(t, nil)))
			fields := []string{"", "Incremental: ?1", "Upgrade: something\r\nConnection: Upgrade"}
			for i := range 18 {
				path := []string{"/", "/other/"}[i%2]
				field := fields[i/2%3]
				if strings.Contains(c.name, "handler") && i < 9 {
					field = ""
				}
				if status := askWith(t, d, path, field); status != 200 {
					t.Fatalf("request %d, for %s with %q: %d", i, path, field, status)
				}
			}
		})
	}
}

// TestKeptConnectionGoesBeforeThoseMadeReady: while an application ends its
// connections the next ones are made ready; when it keeps one, it waits there.
func TestKeptConnectionGoesBeforeThoseMadeReady(t *testing.T) {
	const waiting = 6
	queued := make(chan struct{})
	addr := loyal(t, func() { <-queued })
	d := open(t, "app_proxy "+addr+" {\n name loyal\n concurrency 1\n timeouts {\n first_byte 2s\n abandon 1s\n }\n}")
	statuses := make(chan int)
	ask := func(path string) {
		go func() { statuses <- askWith(t, d, path, "") }() // ends with the answer, which is taken below
	}
	ask("/last")
	eventually(t, "the first has its slot", func() bool { return poolOf(t, "loyal").InFlight == 1 })
	for range waiting {
		ask("/")
	}
	eventually(t, "the others wait", func() bool { return poolOf(t, "loyal").Waiting == waiting })
	close(queued)
	for range waiting + 1 {
		if status := <-statuses; status != 200 {
			t.Errorf("status %d", status)
		}
	}
}

func askWith(t *testing.T, d *door, path, fields string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", d.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(fields, "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			req.Header.Set(name, value)
		}
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode
}
