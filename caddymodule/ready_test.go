package caddymodule_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// serial is an application with one thread that ends its connections itself, as
// development servers are: while it waits for a request on one, it sees no other.
type serial struct {
	addr     string
	requests atomic.Int32
	empty    atomic.Int32 // connections that brought nothing
	waited   atomic.Int64 // the longest time for a first byte, in ns
}

func newSerial(t *testing.T) *serial {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a, done := &serial{addr: l.Addr().String()}, make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.serve(conn)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return a
}

func (a *serial) serve(conn net.Conn) {
	defer conn.Close()
	began := time.Now()
	r := bufio.NewReader(conn)
	_, err := r.Peek(1)
	a.waited.Store(max(a.waited.Load(), int64(time.Since(began))))
	if err != nil {
		a.empty.Add(1)
		return
	}
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	io.Copy(io.Discard, req.Body)
	a.requests.Add(1)
	fmt.Fprint(conn, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
	r.ReadByte() // for the other side to close, as Werkzeug does
}

// TestApplicationWithOneThreadIsNeverLeftWaiting: connections are made ahead of
// their requests for it, and it would wait on one while the request, a probe, or a
// request by the way of reverse_proxy stands behind it.
func TestApplicationWithOneThreadIsNeverLeftWaiting(t *testing.T) {
	const clients, rounds = 50, 10
	a := newSerial(t)
	config := fmt.Sprintf(`app_proxy %s {
		name        serial
		concurrency 1
		queue {
			wait  60s
			depth 1000
		}
		health_uri      /health
		health_interval 5ms
	}`, a.addr)
	d := open(t, config)
	statuses := make(chan int, clients*rounds)
	visit := func(c, round int) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", d.url, nil)
		if err != nil {
			t.Error(err)
			return
		}
		if (c+round)%7 == 0 {
			req.Header.Set("Connection", "Upgrade") // goes by the way of reverse_proxy
			req.Header.Set("Upgrade", "something")
		}
		res, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		res.Body.Close()
		statuses <- res.StatusCode
	}
	left := make(chan struct{}, clients)
	for c := range clients {
		go func() {
			for round := range rounds {
				visit(c, round)
			}
			left <- struct{}{}
		}()
	}
	for n := range clients {
		<-left
		if n%10 == 5 {
			d.load("header X-Config " + fmt.Sprint(n) + "\n" + config)
		}
	}
	close(statuses)
	got := make(map[int]int)
	for s := range statuses {
		got[s]++
	}
	t.Logf("statuses %v, %d requests, %d connections without one, the longest wait for a first byte %v",
		got, a.requests.Load(), a.empty.Load(), time.Duration(a.waited.Load()))
	if got[200] != clients*rounds {
		t.Errorf("statuses %v", got)
	}
	// A stall lasts until the connection expires, after two seconds.
	if waited := time.Duration(a.waited.Load()); waited > 1500*time.Millisecond {
		t.Errorf("the application waited %v on a connection while others stood behind it", waited)
	}
}

// TestConnectionForSomebodyWhoLeftIsClosed: the application must not wait for a
// request on it.
func TestConnectionForSomebodyWhoLeftIsClosed(t *testing.T) {
	entered, leave := make(chan string), make(chan bool)
	empty := make(chan time.Duration, 10)
	var accepted atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			began := time.Now()
			go func() { // ends with the connection
				defer conn.Close()
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					empty <- time.Since(began)
					return
				}
				entered <- req.URL.Path
				<-leave
				fmt.Fprint(conn, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}()
		}
	}()
	d := open(t, fmt.Sprintf("app_proxy %s {\nname left\nconcurrency 1\n}", l.Addr()))
	ask := func(ctx context.Context, path string) {
		if res, err := d.do(ctx, "GET", path, nil); err == nil {
			res.Body.Close()
		}
	}
	waiting := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprint(n, " wait"), func() bool { return poolOf(t, "left").Waiting == n })
	}
	done := make(chan bool)
	go func() { // the application shows that it ends its connections
		ask(t.Context(), "/teaches")
		close(done)
	}()
	<-entered
	second, third := make(chan bool), make(chan bool)
	go func() {
		<-done
		ask(t.Context(), "/first")
	}()
	leave <- true
	<-entered // first
	go func() {
		ask(t.Context(), "/second")
		close(second)
	}()
	waiting(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		ask(ctx, "/third")
		close(third)
	}()
	waiting(2)
	leave <- true
	if path := <-entered; path != "/second" {
		t.Fatalf("%s is served before /second", path)
	}
	eventually(t, "a connection is there for the third", func() bool { return accepted.Load() == 4 })
	cancel()
	<-third
	waiting(0)
	leave <- true
	<-second
	if waited := <-empty; waited > 1500*time.Millisecond {
		t.Errorf("the application waited %v for a request of nobody", waited)
	}
}
