package caddymodule_test

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/portner/portner/caddymodule"
)

// TestWhoSendsTooMuchIsToldSo: a client that is still sending sees why it is refused,
// and not a reset connection.
func TestWhoSendsTooMuchIsToldSo(t *testing.T) {
	a := newApp(t, mirror)
	d := open(t, "app_proxy "+a.addr+" {\n buffer {\n request 4KiB 1MiB\n }\n}")
	piece := strings.Repeat("x", 256<<10)
	for what, request := range map[string]struct{ head, piece, end string }{
		"length": {"Content-Length: 4194304\r\n\r\n", piece, ""},
		"chunks": {"Transfer-Encoding: chunked\r\n\r\n", "40000\r\n" + piece + "\r\n", "0\r\n\r\n"},
		"asked":  {"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", "40000\r\n" + piece + "\r\n", "0\r\n\r\n"},
	} {
		conn, in := d.dial("POST / HTTP/1.1\r\nHost: " + d.addr + "\r\n" + request.head)
		for i := range 16 {
			if i == 8 { // the answer is there, or on its way
				res, err := finalAnswer(in, nil)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if p := problem(t, res); res.StatusCode != 413 || p.Reason != "body-too-large" || !res.Close {
					t.Errorf("%s: %d %+v, closes: %v", what, res.StatusCode, p, res.Close)
				}
			}
			if _, err := io.WriteString(conn, request.piece); err != nil {
				t.Fatalf("%s: after %d pieces: %v", what, i, err)
			}
		}
		io.WriteString(conn, request.end)
		if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
			t.Errorf("%s: and then %q, %v", what, rest, err)
		}
	}
}

// TestUploadThatComesTooSlowlyIs408: by every protocol that can be spoken without
// TLS; the application never hears of it, and the next request is served.
func TestUploadThatComesTooSlowlyIs408(t *testing.T) {
	a := newApp(t, mirror)
	d := openWith(t, "admin off\nservers {\n protocols h1 h2c\n}", "app_proxy "+a.addr+` {
		name        dawdling
		concurrency 1
		buffer {
			min_rate 1KiB 100ms
		}
	}`)
	for what, request := range map[string]string{
		"nothing of it":       "Content-Length: 100\r\n\r\n",
		"a byte of it":        "Content-Length: 100\r\n\r\nx",
		"a chunk of it":       "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
		"nothing after a 100": "Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
		"a part of the rest":  "Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100_000),
	} {
		_, in := d.dial("POST / HTTP/1.1\r\nHost: " + d.addr + "\r\n" + request)
		res, err := finalAnswer(in, nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if p := problem(t, res); res.StatusCode != 408 || p.Reason != "body-too-slow" || !res.Close {
			t.Errorf("%s: %d %+v, closes: %v", what, res.StatusCode, p, res.Close)
		}
		if rest, _ := io.ReadAll(in); len(rest) > 0 {
			t.Errorf("%s: and then %q", what, rest)
		}
	}

	transport := overH2C(t)
	body, never := io.Pipe()
	defer never.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", d.url, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if p := problem(t, res); res.ProtoMajor != 2 || res.StatusCode != 408 || p.Reason != "body-too-slow" {
		t.Errorf("%s: %d %+v", res.Proto, res.StatusCode, p)
	}

	if a.served.Load() != 0 {
		t.Errorf("the application got %d of them", a.served.Load())
	}
	if status, _ := d.get("/next"); status != 200 {
		t.Errorf("next: %d", status)
	}
	eventually(t, "no memory is taken", func() bool { return caddymodule.Buffered() == 0 })
}

// TestThousandTricklingUploadsHoldNoSlot: nor do they take more memory than a
// connection does.
func TestThousandTricklingUploadsHoldNoSlot(t *testing.T) {
	a := newApp(t, func(http.ResponseWriter, *http.Request) {})
	d := open(t, "app_proxy "+a.addr+` {
		name        trickling
		concurrency 1
		buffer {
			min_rate 1B 10m
		}
	}`)
	const uploads = 1000
	before := held()
	conns := make([]net.Conn, uploads)
	for i := range conns {
		conn, in := d.dial("POST / HTTP/1.1\r\nHost: " + d.addr + "\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
		if line, err := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("upload %d: %q, %v", i, line, err)
		}
		conns[i] = conn
	}
	for range 5 {
		for i, conn := range conns {
			if _, err := io.WriteString(conn, "x"); err != nil {
				t.Fatalf("upload %d: %v", i, err)
			}
		}
		for range 20 {
			if status, _ := d.get("/beside"); status != 200 {
				t.Fatalf("beside them: %d", status)
			}
		}
		if p := poolOf(t, "trickling"); p.InFlight != 0 || p.Waiting != 0 {
			t.Errorf("with uploads alone inside: %+v", p)
		}
	}
	const announced = 4 << 10
	if got := caddymodule.Buffered(); got > uploads*(announced+1) || got < uploads {
		t.Errorf("they have %d bytes of buffers", got)
	}
	const aConnection = 64 << 10 // both ends of it, with goroutines
	if grown := held() - before; grown > uploads*aConnection {
		t.Errorf("they have %d bytes of memory", grown)
	}
	for _, conn := range conns {
		conn.Close()
	}
	eventually(t, "all memory is back", func() bool { return caddymodule.Buffered() == 0 })
	if a.served.Load() != 100 {
		t.Errorf("the application got %d requests, want 100", a.served.Load())
	}
}

// held is how much memory is in use, after a collection.
func held() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
