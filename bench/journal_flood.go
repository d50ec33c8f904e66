package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A FloodRow is what came of writing as fast as the door takes it.
type FloodRow struct {
	Rate      int         `json:"rate,omitempty"` // wanted a second; 0: as many as it takes
	Writes    int         `json:"writes"`
	Seconds   float64     `json:"seconds"`
	PerSecond float64     `json:"per_second"`
	CPU       float64     `json:"cpu_us"`      // of the proxy, per write
	LoadCPU   float64     `json:"load_cpu_us"` // of the generator, per write
	Others    float64     `json:"others_core_percent"`
	Steal     float64     `json:"steal_percent"`
	Latency   Latency     `json:"latency"`
	Marks     []FloodMark `json:"marks"` // none, and after each quarter
	Depth     float64     `json:"undelivered_after_restart"`
	Restart   float64     `json:"restart_seconds"` // from the start of the process until a write was accepted
	MemoryAt  float64     `json:"resident_after_restart_mib"`
	Broken    string      `json:"broken,omitempty"`
}

// A FloodMark is how things stand when a quarter of the writes has been kept.
type FloodMark struct {
	Entries   int     `json:"entries"`
	PerSecond float64 `json:"per_second"` // in this quarter
	P99       float64 `json:"p99_ms"`     // in this quarter
	Resident  float64 `json:"resident_mib"`
	Own       float64 `json:"anonymous_mib"` // of it, what is no page of a file
}

const (
	floodClients = 256
	floodBody    = 1 << 10
	floodMost    = 10 * time.Minute
)

// A floodCaller writes over and over on one kept connection. It is used by one
// goroutine.
type floodCaller struct {
	net.Conn
	answers *bufio.Reader
	head    []byte
	request []byte
	noise   []byte // what bodies are cut from; it does not compress
	dice    *rand.Rand
}

func newFloodCaller(ctx context.Context, address string, number int, noise []byte) (*floodCaller, error) {
	dialer := net.Dialer{Timeout: answerTime}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, "POST /post HTTP/1.1\r\nHost: %s\r\nUser-Agent: portner-bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", address, floodBody)
	return &floodCaller{conn, bufio.NewReaderSize(conn, 2<<10), head, make([]byte, 0, len(head)+floodBody), noise, rand.New(rand.NewPCG(7, uint64(number)))}, nil
}

// write sends a body of its own and wants a 200.
func (c *floodCaller) write() error {
	c.SetDeadline(time.Now().Add(answerTime)) // an error shows in what follows
	at := c.dice.IntN(len(c.noise) - floodBody)
	c.request = append(append(c.request[:0], c.head...), c.noise[at:at+floodBody]...)
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	head, err := readHead(c.answers)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	status, length, err := parseHead(head)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("a wrong answer: %s", bytes.TrimSpace(head))
	}
	if err != nil {
		return err
	}
	_, err = c.answers.Discard(len(head) + length)
	return err
}

// flood is the load. Callers take numbers from one counter, and write down how
// long the write of that number took: from when it was sent, or with a rate from
// when it was to be sent.
type flood struct {
	next, done atomic.Int64
	took       []time.Duration
	rate       int // a second; 0: each caller writes again when it has its answer
}

// begin waits until a number is to be sent.
func (f *flood) begin(ctx context.Context, start time.Time, n int64) time.Time {
	if f.rate == 0 {
		return time.Now()
	}
	due := start.Add(time.Duration(float64(n) / float64(f.rate) * float64(time.Second)))
	wait(ctx, time.Until(due))
	return due
}

func (f *flood) run(ctx context.Context, callers []*floodCaller) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	began := time.Now()
	var writing sync.WaitGroup
	for _, c := range callers {
		writing.Go(func() { // ends with the last number, or with ctx after its answer
			for ctx.Err() == nil {
				n := f.next.Add(1) - 1
				if n >= int64(len(f.took)) {
					return
				}
				start := f.begin(ctx, began, n)
				if err := c.write(); err != nil {
					stop(err)
					return
				}
				f.took[n] = time.Since(start)
				f.done.Add(1)
			}
		})
	}
	writing.Wait()
	return context.Cause(ctx)
}

// floodScene fills the journal of a door without an application, kills the proxy,
// and starts it again.
func (l *journalLab) floodScene(ctx context.Context) (err error) {
	s, err := l.newSite("", fmt.Sprintf("max_bytes %dMiB", 64+l.entries>>9)) // 2 KiB for each
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.caddy.kill()) // an orderly end of a journal of that size is no question here
		s.caddy = nil
		l.forget(s)
	}()
	if err := s.startProxy(ctx); err != nil {
		return err
	}
	row := &FloodRow{Rate: l.rate}
	l.result.Flood = row
	if err := l.pour(ctx, s, row); err != nil {
		return err
	}
	if err := l.floodRestart(ctx, s, row); err != nil {
		return err
	}
	l.show.clear()
	l.judgeFlood(row)
	return l.draw("journal-flood", row.chart())
}

// pour writes all of it.
func (l *journalLab) pour(ctx context.Context, s *journalSite, row *FloodRow) error {
	ctx, cancel := context.WithTimeout(ctx, floodMost)
	defer cancel()
	noise := make([]byte, 1<<20)
	dice := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = byte(dice.Uint32())
	}
	var callers []*floodCaller
	defer func() {
		for _, c := range callers {
			c.Close()
		}
	}()
	for n := range floodClients {
		c, err := newFloodCaller(ctx, s.proxy, n, noise)
		if err != nil {
			return err
		}
		callers = append(callers, c)
	}
	f := &flood{took: make([]time.Duration, l.entries), rate: l.rate}
	if err := row.mark(s, f, 0, 0); err != nil {
		return err
	}
	used, err := cpuOf(s.caddy.cmd.Process.Pid)
	if err != nil {
		return err
	}
	before, own, start := takeUsage(&stage{peer: s.caddy}), ownCPU(), time.Now()
	poured := make(chan error, 1)
	go func() { poured <- f.run(ctx, callers) }() // ends with the last write, or with ctx
	err = l.watchFlood(ctx, s, f, row, poured)
	row.Seconds = time.Since(start).Seconds()
	usedThen, err2 := cpuOf(s.caddy.cmd.Process.Pid)
	u := before.since(&stage{peer: s.caddy})
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	row.Writes = int(f.done.Load())
	row.PerSecond = float64(row.Writes) / row.Seconds
	row.CPU = float64(usedThen-used) / float64(time.Microsecond) / float64(row.Writes)
	row.LoadCPU = float64(ownCPU()-own) / float64(time.Microsecond) / float64(row.Writes)
	row.Others = max(0, u.all-u.peer-100*row.LoadCPU*row.PerSecond/1e6)
	row.Steal = u.steal
	row.Latency = latencyOf(f.took)
	return nil
}

// watchFlood marks the quarters.
func (l *journalLab) watchFlood(ctx context.Context, s *journalSite, f *flood, row *FloodRow, poured <-chan error) error {
	since := time.Now()
	for quarter := 1; ; {
		select {
		case err := <-poured:
			if err == nil && quarter <= 4 {
				err = row.mark(s, f, len(f.took), time.Since(since))
			}
			return err
		case <-time.After(20 * time.Millisecond):
		}
		done := int(f.done.Load())
		l.show.say("flood: %d of %d", done, l.entries)
		if quarter < 4 && done >= quarter*len(f.took)/4 {
			if err := row.mark(s, f, done, time.Since(since)); err != nil {
				return err
			}
			since = time.Now()
			quarter++
		}
	}
}

// mark notes memory, and speed since the last mark.
func (row *FloodRow) mark(s *journalSite, f *flood, done int, took time.Duration) error {
	m := FloodMark{Entries: done}
	if n := len(row.Marks); n > 0 {
		last := row.Marks[n-1].Entries
		m.PerSecond = float64(done-last) / took.Seconds()
		m.P99 = latencyOf(f.took[last:max(last, done-floodClients)]).P99 // the last ones may not have been written down
	}
	var err error
	m.Resident, m.Own, err = resident(s.caddy)
	row.Marks = append(row.Marks, m)
	return err
}

// floodRestart kills the proxy and measures until the next one keeps a write.
func (l *journalLab) floodRestart(ctx context.Context, s *journalSite, row *FloodRow) (err error) {
	l.show.say("flood: starting the proxy with %d entries", row.Writes)
	if err := s.killProxy(); err != nil {
		return err
	}
	began := time.Now()
	if err := s.startProxy(ctx); err != nil {
		return err
	}
	c, err := newFloodCaller(ctx, s.proxy, floodClients, make([]byte, floodBody+1))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.write(); err != nil {
		return err
	}
	row.Restart = time.Since(began).Seconds()
	if row.Depth, err = s.metric("portner_journal_depth"); err != nil {
		return err
	}
	row.MemoryAt, _, err = resident(s.caddy)
	return err
}

// flatWithin is by how much memory may grow from the first quarter to the last.
const flatWithin = 1.25

func (l *journalLab) judgeFlood(row *FloodRow) {
	fmt.Printf("\n%d clients, 1 KiB each time, no application: %d writes in %.1f s, %.0f/s; p50 %.2f ms, p99 %.2f ms, max %.2f ms\n",
		floodClients, row.Writes, row.Seconds, row.PerSecond, row.Latency.P50, row.Latency.P99, row.Latency.Max)
	fmt.Printf("CPU for a write: proxy %.1f µs, generator %.1f µs; others used %.0f %% of a core, steal %.1f %%\n", row.CPU, row.LoadCPU, row.Others, row.Steal)
	fmt.Println("  entries   writes/s        p99   resident  its own")
	for _, m := range row.Marks {
		fmt.Printf("%9d %10.0f %7.2f ms %6.1f MiB %4.1f MiB\n", m.Entries, m.PerSecond, m.P99, m.Resident, m.Own)
	}
	fmt.Printf("killed and started again: the first write is kept after %.2f s, %.0f undelivered, %.1f MiB\n", row.Restart, row.Depth, row.MemoryAt)
	l.promised("flood", ">= 5,000 durable writes of 1 KiB a second at 256 connections, p99 <= 50 ms", row.PerSecond >= 5000 && row.Latency.P99 <= 50,
		"%.0f/s, p99 %.2f ms; %s cores for proxy and generator together, others took %.0f %% of one", row.PerSecond, row.Latency.P99, fmt.Sprint(l.result.CPUs), row.Others)
	first, last := row.Marks[1], row.Marks[len(row.Marks)-1]
	l.promised("flood", "memory flat over all entries", last.Resident <= flatWithin*first.Resident, "%.0f MiB at %d, %.0f MiB at %d", first.Resident, first.Entries, last.Resident, last.Entries)
	l.promised("flood", "start-up with all of them undelivered <= 5 s", row.Restart <= 5, "%.2f s until a write was kept, with %.0f entries", row.Restart, row.Depth)
	l.promised("flood", "none is lost by SIGKILL after the last answer", row.Depth == float64(row.Writes+1), "%d accepted and one more, %.0f there", row.Writes, row.Depth)
}

func (row *FloodRow) chart() chart {
	c := chart{title: "Journal: writes without an application", note: fmt.Sprintf("%d clients, 1 KiB each time, %.0f/s", floodClients, row.PerSecond)}
	var ticks []string
	var memory, own, speed, p99 []float64
	for i, m := range row.Marks {
		ticks = append(ticks, fmt.Sprintf("%dk", m.Entries/1000))
		memory, own = append(memory, m.Resident), append(own, m.Own)
		if i == 0 {
			m.PerSecond, m.P99 = math.NaN(), math.NaN()
		}
		speed, p99 = append(speed, m.PerSecond), append(p99, m.P99)
	}
	c.rows = [][]panel{{
		{title: "memory of the proxy", x: "entries", y: "MiB", ticks: ticks, series: []series{{"resident", memory}, {"of it anonymous", own}}},
		{title: "writes", x: "entries", y: "per second", ticks: ticks, wanted: 5000, series: []series{{"writes per second", speed}}},
		{title: "p99", x: "entries", y: "ms", ticks: ticks, wanted: 50, series: []series{{"p99", p99}}},
	}}
	return c
}

// ownCPU is what this program has used.
func ownCPU() time.Duration {
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used) // cannot fail with these arguments
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
