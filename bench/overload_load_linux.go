package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
)

// A generator sends a load. It is one thread around epoll: with a goroutine and
// a net.Conn for each request it would take the core that it shares with the
// proxy for itself, at 6,000 new connections a second.
type generator struct {
	load    Load
	to      syscall.SockaddrInet4
	epoll   int
	begun   time.Time
	conns   []*conn // by file descriptor
	open    int
	streams []*stream
	late    []time.Duration
	unsent  int
	buf     [64 << 10]byte
	events  [256]syscall.EpollEvent
}

type stream struct {
	Stream
	tally    Tally
	request  []byte
	arrivals *arrivals   // open loop; nil in a closed one
	resume   fifo[again] // closed loop: connections that pause, earliest first
	waiting  fifo[*ask]  // oldest first; the finished ones are skipped
	idle     [][]*conn   // kept connections by client; some are closed by now
	turn     int
}

// again says that a client of a closed loop asks once more.
type again struct {
	at     time.Duration
	client int
}

// An ask is one request with all that it takes.
type ask struct {
	stream   *stream
	client   int
	intended time.Duration
	conn     *conn
	got      []byte // of the answer, when it comes in pieces
	done     bool
}

type conn struct {
	fd     int // -1 when closed
	client int
	ask    *ask // nil when idle
	sent   bool // the request
	reused bool
}

func generate(ctx context.Context, load Load) (*Loaded, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // there is little, and it should stay out of the way

	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	defer syscall.Close(epoll)
	if epoll >= 31 {
		return nil, fmt.Errorf("epoll: its descriptor is %d, and wait wants a small one", epoll)
	}
	g := &generator{load: load, epoll: epoll,
		to: syscall.SockaddrInet4{Addr: load.Address.Addr().As4(), Port: int(load.Address.Port())}}
	for i, s := range load.Streams {
		g.streams = append(g.streams, newStream(s, load, uint64(i)))
	}
	g.begun = time.Now()
	defer g.closeAll()
	for g.now() < load.Length && ctx.Err() == nil {
		next := g.sendAndExpire()
		if g.over() {
			break
		}
		if err := g.receive(next - g.now()); err != nil {
			return nil, err
		}
	}
	return g.report(), ctx.Err()
}

// over reports whether nothing will be sent and nothing is waited for.
func (g *generator) over() bool {
	for _, s := range g.streams {
		if !s.waiting.empty() || g.now() < s.Until {
			return false
		}
	}
	return true
}

func newStream(s Stream, load Load, number uint64) *stream {
	if s.Until == 0 {
		s.Until = load.Length
	}
	connection := "close"
	if load.KeepAlive {
		connection = "keep-alive"
	}
	st := &stream{
		Stream:  s,
		tally:   Tally{Name: s.Name, Status: make(map[int]int), Failures: make(map[string]int)},
		request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: portner-bench\r\nAccept: */*\r\nConnection: %s\r\n\r\n", s.Path, load.Address, connection),
		idle:    make([][]*conn, len(s.Clients)),
	}
	if s.Rate > 0 {
		st.arrivals = newArrivals(s, load.Seed, number)
		return st
	}
	for i := range s.Connections {
		st.resume.push(again{s.From, i % len(s.Clients)})
	}
	return st
}

func (g *generator) now() time.Duration { return time.Since(g.begun) }

// sendAndExpire sends what is due and gives up what is overdue. It returns when
// there will be more of that.
func (g *generator) sendAndExpire() time.Duration {
	next := g.load.Length
	for _, s := range g.streams {
		next = min(next, g.sendDue(s), g.expire(s))
		if g.now() < s.Until {
			next = min(next, s.Until)
		}
	}
	return next
}

// receive waits for answers, at most d.
func (g *generator) receive(d time.Duration) error {
	ready, err := g.wait(d)
	if err != nil {
		return err
	}
	for _, event := range ready {
		if c := g.conns[event.Fd]; c != nil {
			g.step(c)
		}
	}
	return nil
}

const never = 1<<63 - 1

// sendDue returns when the next one is due.
func (g *generator) sendDue(s *stream) time.Duration {
	now := g.now()
	if s.arrivals == nil {
		for !s.resume.empty() && s.resume.first().at <= now {
			client := s.resume.pop().client
			if now < s.Until {
				g.send(&ask{stream: s, client: client, intended: now})
			}
		}
		if s.resume.empty() {
			return never
		}
		return s.resume.first().at
	}
	for ; s.arrivals.next <= now && s.arrivals.next < s.Until; s.arrivals.step() {
		a := &ask{stream: s, client: s.turn % len(s.Clients), intended: s.arrivals.next}
		s.turn++
		g.late = append(g.late, g.now()-a.intended)
		g.send(a)
	}
	if s.arrivals.next >= s.Until {
		return never
	}
	return s.arrivals.next
}

// expire returns when the oldest waiting one will have lost its patience.
func (g *generator) expire(s *stream) time.Duration {
	for now := g.now(); !s.waiting.empty(); s.waiting.pop() {
		a := s.waiting.first()
		if overdue := a.intended + s.Patience; !a.done && overdue > now {
			return overdue
		}
		if !a.done {
			s.tally.TimedOut++
			g.finish(a, false)
		}
	}
	return never
}

// wait sleeps at most d, to a few microseconds: epoll_wait alone knows only
// milliseconds, so select waits for the epoll descriptor.
func (g *generator) wait(d time.Duration) ([]syscall.EpollEvent, error) {
	var readable syscall.FdSet
	readable.Bits[0] = 1 << g.epoll
	timeout := syscall.NsecToTimeval(int64(max(d, 0)))
	if n, err := syscall.Select(g.epoll+1, &readable, nil, nil, &timeout); err != nil && !errors.Is(err, syscall.EINTR) {
		return nil, fmt.Errorf("select: %w", err)
	} else if n <= 0 {
		return nil, nil
	}
	n, err := syscall.EpollWait(g.epoll, g.events[:], 0)
	if err != nil && !errors.Is(err, syscall.EINTR) {
		return nil, fmt.Errorf("epoll_wait: %w", err)
	}
	return g.events[:max(n, 0)], nil
}

func (g *generator) send(a *ask) {
	a.stream.tally.Sent++
	a.stream.waiting.push(a)
	g.connect(a)
}

// connect gives the request a connection, a kept one if there is one.
func (g *generator) connect(a *ask) {
	for idle := &a.stream.idle[a.client]; len(*idle) > 0; {
		c := (*idle)[len(*idle)-1]
		*idle = (*idle)[:len(*idle)-1]
		if c.fd >= 0 {
			a.conn, c.ask, c.sent, c.reused = c, a, false, true
			g.step(c)
			return
		}
	}
	if g.open >= maxOpen {
		g.unsent++
		g.fail(a, errors.New("too many connections for the generator"))
		return
	}
	fd, err := g.dial(a.stream.Clients[a.client])
	if err != nil {
		g.fail(a, err)
		return
	}
	c := &conn{fd: fd, client: a.client, ask: a}
	a.conn = c
	for len(g.conns) <= fd {
		g.conns = append(g.conns, nil)
	}
	g.conns[fd] = c
	g.open++

	// On the loopback interface the connection is usually there by now, and epoll
	// need not tell when it can be written to.
	interest := uint32(syscall.EPOLLIN)
	c.sent, err = g.write(c)
	if !c.sent {
		interest |= syscall.EPOLLOUT
	}
	if err == nil {
		err = syscall.EpollCtl(g.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: interest, Fd: int32(fd)})
	}
	if err != nil {
		g.fail(a, err)
	}
}

const ipBindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT: ports run out per pair of addresses, not per client

func (g *generator) dial(client netip.Addr) (fd int, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: client.As4()})
	}
	if err == nil {
		err = syscall.Connect(fd, &g.to)
	}
	if err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// write reports false when the connection is not there yet.
func (g *generator) write(c *conn) (bool, error) {
	n, err := syscall.Write(c.fd, c.ask.stream.request)
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOTCONN):
		return false, nil
	case err != nil:
		return false, err
	case n < len(c.ask.stream.request):
		return false, errors.New("a request of 150 bytes was written in part")
	}
	return true, nil
}

// step does what can be done on a connection.
func (g *generator) step(c *conn) {
	a := c.ask
	if a == nil { // an idle one that the server closes
		g.close(c)
		return
	}
	if !c.sent {
		var err error
		c.sent, err = g.write(c)
		if err == nil && c.sent && !c.reused {
			err = syscall.EpollCtl(g.epoll, syscall.EPOLL_CTL_MOD, c.fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(c.fd)})
		}
		if err != nil {
			g.broken(c, err)
			return
		}
	}
	n, err := syscall.Read(c.fd, g.buf[:])
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return
	case err != nil:
		g.broken(c, err)
		return
	case n == 0 && len(a.got) == 0:
		g.broken(c, errCut)
		return
	}
	got := g.buf[:n]
	if len(a.got) > 0 || n == 0 {
		a.got = append(a.got, got...)
		got = a.got
	}
	answer, err := parseAnswer(got, n == 0)
	switch {
	case err != nil:
		g.fail(a, err)
	case answer.done:
		g.count(a, answer)
	case len(a.got) == 0:
		a.got = append(a.got, got...)
	}
}

// broken asks once more on a new connection when it was a kept one that the
// server has closed meanwhile, as browsers do.
func (g *generator) broken(c *conn, err error) {
	a := c.ask
	if !c.reused || len(a.got) > 0 {
		g.fail(a, err)
		return
	}
	g.close(c)
	a.conn = nil
	g.connect(a)
}

func (g *generator) count(a *ask, got answer) {
	s, now := a.stream, g.now()
	s.tally.Status[got.status]++
	right := got.status == 200 && (s.Body == anyBody || got.body == s.Body)
	switch {
	case right:
		s.tally.Right = append(s.tally.Right, now)
		s.tally.Took = append(s.tally.Took, now-a.intended)
	case got.status == 200:
		s.tally.Wrong++
	}
	if c := a.conn; g.load.KeepAlive && got.keep {
		c.ask, a.conn = nil, nil
		s.idle[c.client] = append(s.idle[c.client], c)
	}
	g.finish(a, right)
}

func (g *generator) fail(a *ask, err error) {
	a.stream.tally.Failed++
	a.stream.tally.Failures[err.Error()]++
	g.finish(a, false)
}

// finish ends a request, and in a closed loop lets its client ask again.
func (g *generator) finish(a *ask, right bool) {
	a.done = true
	if a.conn != nil {
		g.close(a.conn)
		a.conn = nil
	}
	if a.stream.arrivals != nil {
		return
	}
	at := g.now()
	if !right {
		at += pause
	}
	// Earliest first: who got an answer goes before those who pause.
	if right && !a.stream.resume.empty() {
		a.stream.resume.unpop(again{at, a.client})
		return
	}
	a.stream.resume.push(again{at, a.client})
}

func (g *generator) close(c *conn) {
	if c.fd < 0 {
		return
	}
	syscall.Close(c.fd) // epoll forgets it
	g.conns[c.fd] = nil
	g.open--
	c.fd = -1
}

func (g *generator) closeAll() {
	for _, c := range g.conns {
		if c != nil {
			g.close(c)
		}
	}
}

func (g *generator) report() *Loaded {
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used) // cannot fail with these arguments
	slices.Sort(g.late)
	r := &Loaded{
		Late:   quantile(g.late, 0.99),
		CPU:    time.Duration(used.Utime.Nano() + used.Stime.Nano()),
		Unsent: g.unsent,
	}
	for _, s := range g.streams {
		maps.DeleteFunc(s.tally.Status, func(_, n int) bool { return n == 0 })
		r.Streams = append(r.Streams, s.tally)
	}
	return r
}
