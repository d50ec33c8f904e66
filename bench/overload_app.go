package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A server is the built-in application: workers that take one request at a time from one
// listening queue and close the connection after the answer, as gunicorn's
// prefork does. What waits, waits in the kernel.
//
//	/        a page: some CPU, or some sleep
//	/slow    a page that sleeps
//	/status  Alive
//
// A second port takes POST /workers?n=4 while it runs.
type server struct {
	work  func()
	slow  time.Duration
	crew  *crew
	pages map[string][]byte
}

// overloadApp is the built-in application as a process of its own, so that it
// can be given a core. It ends with the process that started it.
func overloadApp(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("overload-app", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:5000", "`address` of the pages")
	control := flags.String("control", "", "`address` of the control URL (default none)")
	workers := flags.Int("workers", 1, "how many requests at once")
	turns := flags.Int("turns", 0, "CPU work of a page, in `turns` of a loop; see -calibrate")
	sleep := flags.Duration("sleep", 0, "how long a page sleeps, besides")
	slow := flags.Duration("slow", 3*time.Second, "how long /slow sleeps")
	calibrate := flags.Duration("calibrate", 0, "say how many turns take this much CPU, and end")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *calibrate > 0 {
		fmt.Println(turnsIn(*calibrate))
		return nil
	}
	if *workers < 1 {
		fmt.Fprintln(flags.Output(), "-workers is at least 1")
		return errUsage
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func(parent int) { // ends with the parent, or with this process
		for range time.Tick(time.Second) {
			if os.Getppid() != parent {
				cancel()
			}
		}
	}(os.Getppid())
	app := &server{
		work:  func() { churn(*turns); time.Sleep(*sleep) },
		slow:  *slow,
		crew:  newCrew(*workers),
		pages: map[string][]byte{"/": page("a page", 2000), "/slow": page("a slow page", 200), "/status": []byte("Alive")},
	}
	ln, err := listenWithQueue(*listen, 2048) // gunicorn's backlog
	if err != nil {
		return err
	}
	if *control != "" {
		steering, err := net.Listen("tcp", *control)
		if err != nil {
			return err
		}
		go http.Serve(steering, http.HandlerFunc(app.steer)) // ends with the process
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	return app.serve(ln)
}

func page(title string, size int) []byte {
	b := fmt.Appendf(nil, "<!doctype html>\n<title>%s</title>\n<p>", title)
	return append(append(b, bytes.Repeat([]byte("portner "), size/8)...), '\n')
}

// listenWithQueue listens with a queue of that many connections; package net
// always takes the system's longest.
func listenWithQueue(address string, backlog int) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), backlog) }) // again: only the length changes
	return ln, errors.Join(err, failed)
}

// serve accepts a connection only when there is a worker for it.
func (a *server) serve(ln net.Listener) error {
	for {
		a.crew.take()
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		} else if err != nil {
			return err
		}
		go func() { // ends with the request
			defer a.crew.giveBack()
			a.answer(conn)
		}()
	}
}

// answer has a thread of its own, so that the system shares the core among the
// workers as it does among processes.
func (a *server) answer(conn net.Conn) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second)) // a worker waits for the request, as gunicorn's
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return // the client has left, or says something else
	}
	switch r.URL.Path {
	case "/":
		a.work()
	case "/slow":
		time.Sleep(a.slow)
	}
	body, ok := a.pages[r.URL.Path]
	status := http.StatusOK
	if !ok {
		status = http.StatusNotFound
	}
	head := fmt.Appendf(make([]byte, 0, 4096), "HTTP/1.1 %d %s\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
		status, http.StatusText(status), len(body))
	conn.Write(append(head, body...)) // nobody to tell when the client has left
}

func (a *server) steer(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	if r.Method != http.MethodPost || r.URL.Path != "/workers" || err != nil || n < 1 {
		http.Error(w, "POST /workers?n=4", http.StatusBadRequest)
		return
	}
	a.crew.resize(n)
	fmt.Fprintln(w, n)
}

// A crew is some workers, of whom some are busy.
type crew struct {
	mu    sync.Mutex
	freed sync.Cond // mu
	size  int       // mu; >= 1
	busy  int       // mu; > size only after a worker was taken away at work
}

func newCrew(size int) *crew {
	c := &crew{}
	c.freed.L = &c.mu
	c.resize(size)
	return c
}

func (c *crew) take() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.busy >= c.size {
		c.freed.Wait()
	}
	c.busy++
}

func (c *crew) giveBack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	c.freed.Signal()
}

func (c *crew) resize(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size = size
	c.freed.Broadcast()
	runtime.GOMAXPROCS(size + 2)
}

var churned atomic.Uint64 // keeps the compiler from leaving the loop out

// churn uses the CPU: the same work for every page, as a program does, and not
// the same time.
func churn(turns int) {
	x := uint64(turns) | 1
	for range turns {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	churned.Store(x)
}

// turnsIn finds how much churn takes d when nobody disturbs: the fastest of
// many tries.
func turnsIn(d time.Duration) int {
	const turns = 200_000
	best := time.Duration(1<<63 - 1)
	for begun := time.Now(); time.Since(begun) < 500*time.Millisecond; {
		try := time.Now()
		churn(turns)
		best = min(best, time.Since(try))
	}
	return int(float64(turns) * float64(d) / float64(best))
}
