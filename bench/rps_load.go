package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// An Errand is what the generator of rps is to do: ask one proxy for one page
// over and over.
type Errand struct {
	Address     string        `json:"address"`
	Protocol    string        `json:"protocol"`
	Certificate string        `json:"certificate"` // file, for TLS
	Body        int           `json:"body"`        // bytes of a right answer, and the path
	Connections int           `json:"connections"`
	Warm        time.Duration `json:"warm"` // asked before, without counting
	Length      time.Duration `json:"length"`
	Processes   []int         `json:"processes"` // of the proxy
	Metrics     string        `json:"metrics"`   // URL of a Go process's own, or empty
}

// A Yield is what came of an errand.
type Yield struct {
	Answers int           `json:"answers"`
	Elapsed time.Duration `json:"elapsed"`
	CPU     time.Duration `json:"cpu"`      // of the proxy, for these answers
	LoadCPU time.Duration `json:"load_cpu"` // of the generator, from its start to its end
	Allocs  float64       `json:"allocs"`   // of the proxy, per answer; -1 is unknown
	Trouble string        `json:"trouble"`  // the first thing that went wrong, which ended it
}

// rpsLoad is the generator as a process of its own, so that it can be given a
// core: an Errand on standard input, a Yield on standard output.
func rpsLoad(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("rps-load", flag.ContinueOnError)
	if err := parse(flags, args); err != nil {
		return err
	}
	var e Errand
	if err := json.NewDecoder(os.Stdin).Decode(&e); err != nil {
		return fmt.Errorf("read the errand: %w", err)
	}
	y, err := e.do(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(y)
}

// A caller is one connection. It is used by one goroutine.
type caller interface {
	ask() error // one request and its right answer, or why not
	Close() error
}

// do returns an error when nothing could be measured at all; that the proxy did
// not do its part is in the Yield.
func (e Errand) do(ctx context.Context) (*Yield, error) {
	perScrape, err := e.scrapeCost(ctx)
	if err != nil {
		return nil, err
	}
	var callers []caller
	defer func() {
		for _, c := range callers {
			c.Close()
		}
	}()
	for range e.Connections {
		c, err := e.call(ctx)
		if err != nil {
			return &Yield{Allocs: -1, Trouble: err.Error()}, nil
		}
		callers = append(callers, c)
	}

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var answers atomic.Int64
	var asking sync.WaitGroup
	for _, c := range callers {
		asking.Go(func() { // ends with ctx, after the answer that it waits for
			for ctx.Err() == nil {
				if err := c.ask(); err != nil {
					stop(err)
					return
				}
				answers.Add(1)
			}
		})
	}
	y, err := e.watch(ctx, &answers, perScrape)
	cause := context.Cause(ctx)
	stop(nil)
	stuck := time.AfterFunc(5*time.Second, func() { // nobody answers any more
		for _, c := range callers {
			c.Close()
		}
	})
	asking.Wait()
	stuck.Stop()
	if cause != nil && !errors.Is(cause, context.Canceled) {
		return &Yield{Allocs: -1, Trouble: cause.Error()}, nil
	}
	return y, err
}

// watch reads the counters at both ends of the time that counts. The clock of
// the proxy is read next to them by the generator itself: who starts both would
// read it too late. Reading the metrics costs the proxy something, so that is
// done outside of that time.
func (e Errand) watch(ctx context.Context, answers *atomic.Int64, perScrape float64) (*Yield, error) {
	wait(ctx, e.Warm)
	allocated, err1 := e.allocated(ctx)
	countedFrom := answers.Load()
	begin, err2 := e.mark(answers)
	wait(ctx, e.Length)
	end, err3 := e.mark(answers)
	allocatedThen, err4 := e.allocated(ctx)
	if err := errors.Join(err1, err2, err3, err4, ctx.Err()); err != nil {
		return nil, err
	}
	y := &Yield{
		Answers: int(end.answers - begin.answers), Elapsed: end.at.Sub(begin.at), CPU: end.cpu - begin.cpu, Allocs: -1,
	}
	if counted := answers.Load() - countedFrom; e.Metrics != "" && counted > 0 {
		y.Allocs = max(0, allocatedThen-allocated-perScrape) / float64(counted)
	}
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used) // cannot fail with these arguments
	y.LoadCPU = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	return y, nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// A mark is all counters at one moment.
type mark struct {
	at      time.Time
	answers int64
	cpu     time.Duration
}

func (e Errand) mark(answers *atomic.Int64) (mark, error) {
	m := mark{at: time.Now(), answers: answers.Load()}
	for _, pid := range e.Processes {
		used, err := cpuOf(pid)
		if err != nil {
			return m, err
		}
		m.cpu += used
	}
	return m, nil
}

// scrapeCost is how much a proxy allocates to tell its metrics.
func (e Errand) scrapeCost(ctx context.Context) (float64, error) {
	_, err0 := e.allocated(ctx) // the first makes buffers
	before, err1 := e.allocated(ctx)
	after, err2 := e.allocated(ctx)
	return after - before, errors.Join(err0, err1, err2)
}

// allocated is how many objects a Go process has allocated since its start, by
// its own metrics.
func (e Errand) allocated(ctx context.Context) (float64, error) {
	if e.Metrics == "" {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.Metrics, nil)
	if err != nil {
		return 0, err
	}
	resp, err := localClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, found := bytes.CutPrefix(lines.Bytes(), []byte("go_memstats_mallocs_total ")); found {
			return strconv.ParseFloat(string(value), 64)
		}
	}
	return 0, fmt.Errorf("%s has no go_memstats_mallocs_total", e.Metrics)
}

// answerTime is when an answer is too late even for a machine that does
// something else.
const answerTime = 20 * time.Second

func (e Errand) call(ctx context.Context) (caller, error) {
	p, ok := findProtocol(e.Protocol)
	if !ok {
		return nil, fmt.Errorf("there is no protocol %q", e.Protocol)
	}
	dialer := net.Dialer{Timeout: answerTime}
	plain, err := dialer.DialContext(ctx, "tcp", e.Address)
	if err != nil {
		return nil, err
	}
	conn, err := e.secure(ctx, plain, p)
	if err == nil && p.alpn == "h2" {
		var c *http2Caller
		if c, err = newHTTP2Caller(conn, e.Address, e.Body, wholeWindow); err == nil {
			return c, nil
		}
	}
	if err != nil {
		plain.Close()
		return nil, err
	}
	return newHTTP1Caller(conn, e.Address, e.Body), nil
}

func (e Errand) secure(ctx context.Context, conn net.Conn, p protocol) (net.Conn, error) {
	if !p.secure {
		return conn, nil
	}
	pem, err := os.ReadFile(e.Certificate)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s is no certificate", e.Certificate)
	}
	host, _, err := net.SplitHostPort(e.Address)
	if err != nil {
		return nil, err
	}
	client := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: host, NextProtos: []string{p.alpn}})
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	// A server that negotiates nothing speaks HTTP/1.1.
	if got := cmp.Or(client.ConnectionState().NegotiatedProtocol, "http/1.1"); got != p.alpn {
		return nil, fmt.Errorf("the proxy wants %s, and not %s", got, p.alpn)
	}
	return client, nil
}
