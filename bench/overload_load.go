package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// A Load is one errand of the generator: whom to ask, how, and for how long.
type Load struct {
	Address   netip.AddrPort `json:"address"`
	Length    time.Duration  `json:"length"`
	Seed      uint64         `json:"seed"` // same seed, same arrivals
	KeepAlive bool           `json:"keep_alive"`
	Streams   []Stream       `json:"streams"`
}

// A Stream is the requests of one kind. With a rate it is an open loop: requests
// come as those of many people do (a Poisson process), however many are still
// waiting. Without one it is a closed loop: every connection asks again when it
// has its answer, and after a pause when it got none or a refusal.
type Stream struct {
	Name        string        `json:"name"`
	Path        string        `json:"path"`
	Body        int           `json:"body"` // bytes of a right answer; anyBody is all
	Rate        float64       `json:"rate"` // requests per second
	Even        bool          `json:"even"` // an open loop in step, not as people come
	Connections int           `json:"connections"`
	Clients     []netip.Addr  `json:"clients"` // source addresses, in turn
	Patience    time.Duration `json:"patience"`
	From        time.Duration `json:"from"`  // sends from here
	Until       time.Duration `json:"until"` // to here; 0 is the load's length
}

const anyBody = -1

// pause is what a connection of a closed loop waits after anything but a right
// answer. Without it a hundred refused connections would measure only how fast
// refusals are.
const pause = 100 * time.Millisecond

// A Tally is what happened to the requests of a stream. Requests that were open
// when the load ended are in Sent alone.
type Tally struct {
	Name     string          `json:"name"`
	Sent     int             `json:"sent"`
	Status   map[int]int     `json:"status"`    // complete answers by status; the right ones are not all of 200
	Wrong    int             `json:"wrong"`     // 200, and not the body that the application gives
	TimedOut int             `json:"timed_out"` // no complete answer within the patience
	Failed   int             `json:"failed"`    // refused or broken connections, answers that are not HTTP
	Failures map[string]int  `json:"failures"`
	Right    []time.Duration `json:"right"` // complete 200s with the right body: when, since the start
	Took     []time.Duration `json:"took"`  // and how long since the intended time, one for each
}

// Loaded is the generator's report.
type Loaded struct {
	Late    time.Duration `json:"late"` // p99 of sent minus intended, of open loops
	CPU     time.Duration `json:"cpu"`  // what the generator itself used
	Unsent  int           `json:"unsent"`
	Streams []Tally       `json:"streams"`
}

// maxOpen is the most connections of one generator; a load beyond is not sent
// and makes the cell void. Twenty times the capacity of 400/s is 8000 in a second.
const maxOpen = 16000

// arrivals are the points in time of an open loop.
type arrivals struct {
	rate float64
	even bool
	next time.Duration
	dice *rand.Rand
}

func newArrivals(s Stream, seed, number uint64) *arrivals {
	a := &arrivals{rate: s.Rate, even: s.Even, next: s.From, dice: rand.New(rand.NewPCG(seed, number))}
	if !s.Even { // the first of an even one comes at once
		a.step()
	}
	return a
}

func (a *arrivals) step() {
	gap := 1.0
	if !a.even {
		gap = a.dice.ExpFloat64()
	}
	a.next += time.Duration(gap / a.rate * float64(time.Second))
}

// fifo is a queue whose memory is used again.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) push(item T) { f.items = append(f.items, item) }
func (f *fifo[T]) empty() bool { return f.head == len(f.items) }
func (f *fifo[T]) first() T    { return f.items[f.head] }

func (f *fifo[T]) pop() T {
	item := f.items[f.head]
	var zero T
	f.items[f.head] = zero
	f.head++
	if f.head*2 > len(f.items) && f.head > 64 {
		f.items = f.items[:copy(f.items, f.items[f.head:])]
		f.head = 0
	}
	return item
}

// unpop puts an item before the first.
func (f *fifo[T]) unpop(item T) {
	if f.head > 0 {
		f.head--
		f.items[f.head] = item
		return
	}
	f.items = slices.Insert(f.items, 0, item)
}

// An answer is as much of an HTTP/1.x answer as has arrived.
type answer struct {
	status int
	body   int  // bytes, when complete
	keep   bool // the server keeps the connection
	done   bool
}

var (
	errNotHTTP = errors.New("not an HTTP/1 answer")
	errChunked = errors.New("a chunked answer, which the lab does not read")
	errCut     = errors.New("closed before the answer was complete")
)

// parseAnswer reads what the applications of the lab and the proxies before them
// send; eof says that no more will come.
func parseAnswer(got []byte, eof bool) (answer, error) {
	if len(got) >= 9 && !bytes.HasPrefix(got, []byte("HTTP/1.")) {
		return answer{}, errNotHTTP
	}
	head, rest, found := bytes.Cut(got, []byte("\r\n\r\n"))
	if !found {
		return answer{}, cutIf(eof)
	}
	if len(head) < 12 {
		return answer{}, errNotHTTP
	}
	status, err := strconv.Atoi(string(head[9:12]))
	if err != nil {
		return answer{}, errNotHTTP
	}
	a := answer{status: status, keep: head[7] == '1'}
	length := -1
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return answer{}, errNotHTTP
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return answer{}, errChunked
		case bytes.EqualFold(name, []byte("Connection")):
			a.keep = a.keep && !bytes.EqualFold(value, []byte("close"))
		}
	}
	switch {
	case length < 0: // the body ends with the connection
		a.keep, a.done, a.body = false, eof, len(rest)
	case len(rest) >= length:
		a.done, a.body = true, length
	default:
		return answer{}, cutIf(eof)
	}
	return a, nil
}

func cutIf(eof bool) error {
	if eof {
		return errCut
	}
	return nil
}

// overloadLoad is the generator as a process of its own, so that it can be given
// a core: a Load on standard input, a Loaded on standard output.
func overloadLoad(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("overload-load", flag.ContinueOnError)
	if err := parse(flags, args); err != nil {
		return err
	}
	var load Load
	if err := json.NewDecoder(os.Stdin).Decode(&load); err != nil {
		return fmt.Errorf("read the load: %w", err)
	}
	// Clients do not slow down because the proxy on their core is busy. It takes
	// root to say so to the scheduler; without it, more cells are void.
	runtime.LockOSThread()
	syscall.Setpriority(syscall.PRIO_PROCESS, 0, -10)
	result, err := generate(ctx, load)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
