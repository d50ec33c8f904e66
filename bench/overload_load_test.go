package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestArrivalsHaveTheirRateAndComeAsPeopleDo(t *testing.T) {
	const rate, length = 1000.0, 20 * time.Second
	a := newArrivals(Stream{Rate: rate, From: time.Second}, 1, 2)
	var gaps []float64
	for last := time.Second; a.next < time.Second+length; a.step() {
		gaps = append(gaps, (a.next - last).Seconds())
		last = a.next
	}
	if got := float64(len(gaps)) / length.Seconds(); math.Abs(got-rate) > 0.03*rate {
		t.Errorf("%.0f a second, want %.0f", got, rate)
	}
	// Of a Poisson process, the standard deviation of the gaps is their mean.
	var squares float64
	for _, gap := range gaps {
		squares += (gap - 1/rate) * (gap - 1/rate)
	}
	if deviation := math.Sqrt(squares / float64(len(gaps))); math.Abs(deviation*rate-1) > 0.05 {
		t.Errorf("the standard deviation of the gaps is %.2f of their mean, want 1", deviation*rate)
	}
}

func TestArrivalsAreTheSameForEveryPeer(t *testing.T) {
	a, b, other := newArrivals(Stream{Rate: 5}, 1, 0), newArrivals(Stream{Rate: 5}, 1, 0), newArrivals(Stream{Rate: 5}, 2, 0)
	differs := false
	for range 100 {
		if a.next != b.next {
			t.Fatalf("%v and %v with the same seed", a.next, b.next)
		}
		differs = differs || a.next != other.next
		a.step()
		b.step()
		other.step()
	}
	if !differs {
		t.Error("another seed gives the same arrivals")
	}
}

func TestEvenArrivalsBeginAtOnceAndKeepStep(t *testing.T) {
	a := newArrivals(Stream{Rate: 4, Even: true, From: time.Second}, 1, 0)
	for _, want := range []time.Duration{1000, 1250, 1500, 1750} {
		if a.next != want*time.Millisecond {
			t.Fatalf("at %v, want %v ms", a.next, int64(want))
		}
		a.step()
	}
}

func TestAnswersAreReadAsTheyCome(t *testing.T) {
	for _, c := range []struct {
		got  string
		eof  bool
		want answer
		err  error
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", false, answer{200, 2, true, true}, nil},
		{"HTTP/1.1 200 OK\r\ncontent-length:2\r\nConnection: Close\r\n\r\nab", false, answer{200, 2, false, true}, nil},
		{"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false, answer{503, 0, false, true}, nil},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", false, answer{}, nil},
		{"HTTP/1.1 200 OK\r\nContent-Le", false, answer{}, nil},
		{"HTT", false, answer{}, nil},
		{"", false, answer{}, nil},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", true, answer{}, errCut},
		{"HTTP/1.1 200 OK\r\n", true, answer{}, errCut},
		{"HTTP/1.0 200 OK\r\n\r\nabc", false, answer{200, 3, false, false}, nil}, // until the end
		{"HTTP/1.0 200 OK\r\n\r\nabc", true, answer{200, 3, false, true}, nil},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, answer{}, errChunked},
		{"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n", false, answer{}, errNotHTTP},
		{"HTTP/1.1 2x0 OK\r\n\r\n", false, answer{}, errNotHTTP},
		{"HTTP/1.1\r\n\r\n", false, answer{}, errNotHTTP},
		{"SSH-2.0-OpenSSH", false, answer{}, errNotHTTP},
	} {
		got, err := parseAnswer([]byte(c.got), c.eof)
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			t.Errorf("%q (end %t) is %+v, %v; want %+v, %v", c.got, c.eof, got, err, c.want, c.err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"), true)
	f.Fuzz(func(t *testing.T, got []byte, eof bool) {
		if a, err := parseAnswer(got, eof); err == nil && a.done && a.body > len(got) {
			t.Errorf("%q has a body of %d bytes", got, a.body)
		}
	})
}

func TestAFifoKeepsOrder(t *testing.T) {
	var f fifo[int]
	next := 0
	for i := range 1000 {
		f.push(i)
		if i%3 == 0 {
			continue
		}
		if got := f.pop(); got != next {
			t.Fatalf("got %d, want %d", got, next)
		}
		next++
	}
	f.unpop(-1)
	if got := f.pop(); got != -1 {
		t.Errorf("got %d, want the one that was put first", got)
	}
	for ; !f.empty(); next++ {
		if got := f.pop(); got != next {
			t.Fatalf("got %d, want %d", got, next)
		}
	}
	if next != 1000 {
		t.Errorf("%d came out of 1000", next)
	}
}

// askFor runs a load against a handler, in this process.
func askFor(t *testing.T, keepAlive bool, handler http.HandlerFunc, streams ...Stream) *Loaded {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the generator needs Linux")
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	length := time.Duration(0)
	for i := range streams {
		if streams[i].Until == 0 {
			streams[i].Until = 300 * time.Millisecond
		}
		length = max(length, streams[i].Until)
	}
	got, err := generate(t.Context(), Load{Address: netip.MustParseAddrPort(server.Listener.Addr().String()), Length: length + time.Second,
		Seed: 1, KeepAlive: keepAlive, Streams: streams})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestOnlyRightAnswersCount(t *testing.T) {
	for _, c := range []struct {
		what    string
		handler http.HandlerFunc
		of      func(Tally) int
	}{
		{"right", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "four") }, func(t Tally) int { return len(t.Right) }},
		{"refused", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); fmt.Fprint(w, "four") }, func(t Tally) int { return t.Status[503] }},
		{"another body", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "five!") }, func(t Tally) int { return t.Wrong }},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4")
			fmt.Fprint(w, "fo")
		}, func(t Tally) int { return t.Failed }},
		{"late", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(700 * time.Millisecond)
			fmt.Fprint(w, "four")
		},
			func(t Tally) int { return t.TimedOut }},
	} {
		got := askFor(t, false, c.handler, Stream{Name: pageStream, Path: "/", Body: 4, Rate: 50, Clients: crowd, Patience: 500 * time.Millisecond}).Streams[0]
		if got.Sent < 5 || c.of(got) != got.Sent || (c.what == "right") != (len(got.Right) > 0) {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}

func TestLatencyCountsFromTheIntendedTime(t *testing.T) {
	got := askFor(t, false, func(w http.ResponseWriter, _ *http.Request) { time.Sleep(50 * time.Millisecond) },
		Stream{Path: "/", Body: 0, Rate: 40, Even: true, Clients: crowd, Patience: time.Second}).Streams[0]
	for i, took := range got.Took {
		step := 25 * time.Millisecond
		if due := got.Right[i] - took; due%step != 0 || took < 50*time.Millisecond {
			t.Errorf("number %d was due at %v and took %v", i, due, took)
		}
	}
	if len(got.Took) != 12 {
		t.Errorf("%d answers to 40 a second for 300 ms", len(got.Took))
	}
}

func TestClientsAreToldApartByTheirAddress(t *testing.T) {
	var mu sync.Mutex
	counts := make(map[string]int)
	askFor(t, false, func(_ http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		mu.Lock()
		defer mu.Unlock()
		counts[r.URL.Path+host]++
	}, Stream{Path: "/a", Rate: 100, Even: true, Clients: addresses(10, 3), Patience: time.Second},
		Stream{Path: "/b", Connections: 2, Clients: addresses(99, 1), Patience: time.Second})
	mu.Lock()
	defer mu.Unlock()
	if counts["/a127.0.0.10"] != 10 || counts["/a127.0.0.11"] != 10 || counts["/a127.0.0.12"] != 10 || counts["/b127.0.0.99"] < 10 || len(counts) != 4 {
		t.Errorf("saw %v", counts)
	}
}

func TestAClosedLoopAsksAgainAndPausesAfterARefusal(t *testing.T) {
	busy := make(chan struct{}, 3)
	got := askFor(t, false, func(w http.ResponseWriter, _ *http.Request) {
		select {
		case busy <- struct{}{}:
			time.Sleep(10 * time.Millisecond)
			<-busy
		default:
			t.Error("more than 3 at once")
		}
	}, Stream{Path: "/", Connections: 3, Clients: crowd, Patience: time.Second}).Streams[0]
	if len(got.Right) < 30 || len(got.Right) != got.Sent {
		t.Errorf("%d of %d right, want about 90", len(got.Right), got.Sent)
	}
	got = askFor(t, false, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
		Stream{Path: "/", Connections: 3, Clients: crowd, Patience: time.Second}).Streams[0]
	if got.Sent > 9 || got.Sent < 3 || got.Status[429] != got.Sent {
		t.Errorf("%+v, want 3 connections that ask at most 3 times in 300 ms", got)
	}
}

func TestKeptConnectionsAreUsedAgain(t *testing.T) {
	var mu sync.Mutex
	distinct := make(map[string]bool)
	got := askFor(t, true, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		distinct[r.RemoteAddr] = true
	}, Stream{Path: "/", Rate: 100, Even: true, Clients: addresses(1, 2), Patience: time.Second}).Streams[0]
	mu.Lock()
	defer mu.Unlock()
	if len(got.Right) != 30 || len(distinct) > 15 {
		t.Errorf("%d right answers on %d connections, want 30 on a few", len(got.Right), len(distinct))
	}
}
