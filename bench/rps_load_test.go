package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

func TestOnlyComparableHeadsAreRead(t *testing.T) {
	for _, c := range []struct {
		head           string
		status, length int
		err            error
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", 200, 7, nil},
		{"HTTP/1.1 503 \r\nx: y\r\ncontent-length:0\r\n\r\n", 503, 0, nil},
		{"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 7\r\n\r\n", 200, 7, nil},
		{"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n", 0, 0, errNotKept},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0, errNoLength},
		{"HTTP/1.1 200 OK\r\n\r\n", 0, 0, errNoLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n", 0, 0, errNotHTTP},
		{"HTTP/1.1 2x0 OK\r\nContent-Length: 7\r\n\r\n", 0, 0, errNotHTTP},
		{"HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n", 0, 0, errNotHTTP},
		{"HTTP/1.1 20\r\n\r\n", 0, 0, errNotHTTP},
		{"\r\n\r\n", 0, 0, errNotHTTP},
	} {
		status, length, err := parseHead([]byte(c.head))
		if status != c.status || length != c.length || !errors.Is(err, c.err) {
			t.Errorf("%q is %d, %d, %v", c.head, status, length, err)
		}
	}
}

func TestAHeadMayComeInPieces(t *testing.T) {
	const head = "GET /0 HTTP/1.1\r\nHost: a\r\n\r\n"
	r := bufio.NewReader(iotest.OneByteReader(strings.NewReader(head + "GET /1")))
	if got, err := readHead(r); err != nil || string(got) != head {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := readHead(bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", 100)), 16)); !errors.Is(err, errBigHead) {
		t.Errorf("a head without an end is %v", err)
	}
}

// served is the responder of rps, or a handler with TLS, for an errand.
func served(t *testing.T, protocol string, handler http.HandlerFunc) Errand {
	t.Helper()
	p, _ := findProtocol(protocol)
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	if p.secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	e := Errand{Address: s.Listener.Addr().String(), Protocol: protocol, Connections: 3, Warm: 20 * time.Millisecond, Length: 100 * time.Millisecond, Processes: []int{os.Getpid()}}
	if p.secure {
		e.Certificate = filepath.Join(t.TempDir(), "cert.pem")
		writeFile(t, e.Certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	}
	return e
}

func do(t *testing.T, e Errand) *Yield {
	t.Helper()
	if _, err := cpuOf(os.Getpid()); err != nil {
		t.Skip(err) // elsewhere than on Linux
	}
	y, err := e.do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return y
}

func TestRightAnswersAreCounted(t *testing.T) {
	for _, p := range protocols {
		e := served(t, p.name, func(w http.ResponseWriter, r *http.Request) {
			if (r.ProtoMajor == 2) != (p.alpn == "h2") {
				w.WriteHeader(http.StatusHTTPVersionNotSupported)
			}
			w.Header().Set("Content-Length", "102400")
			w.Write(make([]byte, 102400))
		})
		e.Body = 102400
		y := do(t, e)
		if y.Trouble != "" || y.Answers == 0 || y.Elapsed < e.Length || y.CPU <= 0 || y.Allocs != -1 {
			t.Errorf("%s: %+v", p.name, y)
		}
	}
}

func TestAWrongAnswerEndsTheErrand(t *testing.T) {
	for _, p := range protocols {
		for _, c := range []struct {
			name   string
			answer http.HandlerFunc
			want   string
		}{
			{"status", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "5")
				w.WriteHeader(503)
				w.Write([]byte("12345"))
			}, "status 503 and 5 bytes, not 200 and 5"},
			{"size", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("1234")) }, "status 200 and 4 bytes, not 200 and 5"},
			{"broken", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ""},
		} {
			e := served(t, p.name, c.answer)
			e.Body, e.Length = 5, 5*time.Second // it ends long before
			if y := do(t, e); y.Trouble == "" || !strings.Contains(y.Trouble, c.want) || y.Answers != 0 {
				t.Errorf("%s, %s: %+v", p.name, c.name, y)
			}
		}
	}
}

func TestAProxyThatIsNotThereIsTrouble(t *testing.T) {
	e := served(t, "h1", nil)
	e.Protocol = "h2-tls"
	e.Certificate = filepath.Join(t.TempDir(), "none")
	if y := do(t, e); !strings.Contains(y.Trouble, "none") {
		t.Errorf("%+v", y)
	}
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	e.Protocol, e.Address = "h1", "127.0.0.1:"+ports[0]
	if y := do(t, e); y.Trouble == "" {
		t.Errorf("%+v", y)
	}
}

func TestHTTP2IsNotReplacedByHTTP1(t *testing.T) {
	e := served(t, "h1-tls", nil)
	s := httptest.NewUnstartedServer(nil)
	s.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
	s.StartTLS()
	defer s.Close()
	e.Address, e.Protocol = s.Listener.Addr().String(), "h2-tls"
	writeFile(t, e.Certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	if y := do(t, e); y.Trouble == "" {
		t.Errorf("%+v", y)
	}
}

func TestTheHTTP2WindowIsGivenBack(t *testing.T) {
	e := served(t, "h2-tls", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 100<<10)) })
	plain, err := net.Dial("tcp", e.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	p, _ := findProtocol(e.Protocol)
	conn, err := e.secure(t.Context(), plain, p)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newHTTP2Caller(conn, e.Address, 100<<10, 256<<10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 { // the third waits for ever if nothing is given back
		if err := c.ask(); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
}

func TestAllocationsComeFromTheProxysOwnMetrics(t *testing.T) {
	allocated := 0.0
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		allocated += 1000
		fmt.Fprintf(w, "go_memstats_mallocs 3\ngo_memstats_mallocs_total %g\n", 1e9+allocated)
	}))
	defer metrics.Close()
	e := Errand{Metrics: metrics.URL}
	if cost, err := e.scrapeCost(t.Context()); err != nil || cost != 1000 {
		t.Errorf("a scrape costs %v, %v", cost, err)
	}
	nothing := httptest.NewServer(http.NotFoundHandler())
	defer nothing.Close()
	e.Metrics = nothing.URL
	if _, err := e.do(t.Context()); err == nil {
		t.Error("metrics without allocations are taken")
	}
}

func TestTheApplicationOfRPSAnswersByPath(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- newResponder([]int{0, 100}).serve(ln) }()
	base := "http://" + ln.Addr().String()
	for path, want := range map[string]int{"/0": 0, "/102400": 102400, "/status": 5} {
		if status, body, err := get(localClient, base+path); err != nil || status != 200 || len(body) != want {
			t.Errorf("%s is %d, %d bytes, %v", path, status, len(body), err)
		}
	}
	if _, _, err := get(localClient, base+"/1024"); err == nil {
		t.Error("a size that it does not have is answered")
	}
	ln.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestTheCPUClockCountsAllThreads(t *testing.T) {
	before, err := cpuOf(os.Getpid())
	if err != nil {
		t.Skip(err) // elsewhere than on Linux
	}
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	for ctx.Err() == nil {
		churn(1000)
	}
	least := used()
	got, err := cpuOf(os.Getpid())
	most := used()
	if err != nil || got <= before || got < least-time.Millisecond || got > most+time.Millisecond {
		t.Errorf("%v before, then %v, %v; the kernel says %v to %v", before, got, err, least, most)
	}
	if _, err := cpuOf(1 << 23); err == nil {
		t.Error("a process that is not there has used CPU")
	}
}
