package caddymodule_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
)

// dial opens a connection to the door and sends text.
func (d *door) dial(text string) (net.Conn, *bufio.Reader) {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		d.t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// newUpgrader is an application that speaks a line protocol after an upgrade.
func newUpgrader(t *testing.T) *app {
	return newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		rw.Flush()
		go func() { // ends with the connection
			defer conn.Close()
			for {
				line, err := rw.ReadString('\n')
				if err != nil {
					return
				}
				fmt.Fprintf(rw, "you said %s", line)
				rw.Flush()
			}
		}()
	})
}

const upgrade = "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

func TestWebsocketPassesTakesNoSlotAndOutlivesAReload(t *testing.T) {
	a := newUpgrader(t)
	config := "app_proxy " + a.addr + ` {
		name        ws
		concurrency 1
	}`
	d := open(t, config)
	conn, in := d.dial(fmt.Sprintf(upgrade, d.addr))
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v %v", res, err)
	}
	say := func(word string) {
		t.Helper()
		fmt.Fprintf(conn, "%s\n", word)
		if line, err := in.ReadString('\n'); err != nil || line != "you said "+word+"\n" {
			t.Fatalf("%q %v", line, err)
		}
	}
	say("hello")
	if status, _ := d.get("/beside"); status != 200 {
		t.Fatalf("status %d: the websocket holds the slot", status)
	}
	d.load("header X-New yes\n" + config)
	say("still there")
	d.load("respond gone 404")
	if line, err := in.ReadString('\n'); err == nil {
		t.Fatalf("the pool is gone, its websocket says %q", line)
	}
}

func TestEventsArriveOneByOne(t *testing.T) {
	next, closed := make(chan string), make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/events" {
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case event := <-next:
				fmt.Fprintf(w, "data: %s\n\n", event)
				http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				close(closed)
				return
			}
		}
	})
	d := open(t, "app_proxy "+a.addr+` {
		name        sse
		concurrency 1
	}`)
	go func() { next <- "one" }()
	res, err := d.do(t.Context(), "GET", "/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(res.Body)
	for _, event := range []string{"one", "two", "three"} {
		if event != "one" {
			next <- event
		}
		line, err := in.ReadString('\n')
		if err != nil || line != "data: "+event+"\n" {
			t.Fatalf("%q %v", line, err)
		}
		in.ReadString('\n')
	}
	// Who leaves a stream ends it: it has no end of its own to wait for.
	res.Body.Close()
	<-closed
	if status, _ := d.get("/next"); status != 200 {
		t.Fatalf("status %d", status)
	}
}

// TestWhoLeavesAStreamEndsItBehindACache: nobody else waits for it, as for a page,
// whatever the application says of its storage.
func TestWhoLeavesAStreamEndsItBehindACache(t *testing.T) {
	bothWays(t, func(t *testing.T, direct string) {
		for _, control := range []string{"no-cache", "max-age=60"} {
			ended := make(chan struct{})
			a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/events" {
					return
				}
				w.Header().Set("Content-Type", "text/event-stream")
				w.Header().Set("Cache-Control", control)
				io.WriteString(w, "data: one\n\n")
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
				close(ended)
			})
			d := open(t, "app_proxy "+a.addr+" {\n name sse\n concurrency 1\n cache 1MiB\n direct "+direct+"\n}")
			res, err := d.do(t.Context(), "GET", "/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(res.Body).ReadString('\n'); line != "data: one\n" {
				t.Fatalf("%q %v", line, err)
			}
			res.Body.Close()
			eventually(t, "a stream ends that says "+control, func() bool {
				select {
				case <-ended:
					return true
				default:
					return false
				}
			})
			if status, _ := d.get("/next"); status != 200 {
				t.Errorf("next: %d", status)
			}
		}
	})
}

func TestEarlyHintsAndTrailersPass(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "asked with %s", r.Trailer.Get("X-Ask"))
		w.Header().Set("X-Sum", "42")
	})
	d := open(t, "app_proxy "+a.addr)
	var hints []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, " ", h.Get("Link")))
		return nil
	}}
	req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "POST", d.url, struct{ io.Reader }{strings.NewReader("body")})
	req.Trailer = http.Header{"X-Ask": {"a trailer"}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(hints) != 1 || hints[0] != "103 </style.css>; rel=preload" {
		t.Errorf("early hints %q", hints)
	}
	if string(text) != "asked with a trailer" || res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("%q, trailer %v", text, res.Trailer)
	}
}

func TestEveryKindOfAnswerPasses(t *testing.T) {
	long := strings.Repeat("0123456789", 200_000)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		case "/length":
			w.Header().Set("Content-Length", fmt.Sprint(len(long)))
			io.WriteString(w, long)
		case "/chunked":
			io.WriteString(w, long[:10])
			http.NewResponseController(w).Flush()
			io.WriteString(w, long[10:])
		case "/closed":
			conn, rw, _ := http.NewResponseController(w).Hijack()
			fmt.Fprintf(rw, "HTTP/1.0 200 OK\r\n\r\n%s", long)
			rw.Flush()
			conn.Close()
		case "/500":
			w.WriteHeader(500)
		}
	})
	d := open(t, "app_proxy "+a.addr+" {\n name kinds\n concurrency 1\n}")
	for _, c := range []struct {
		method, path string
		status, size int
	}{
		{"GET", "/204", 204, 0},
		{"GET", "/304", 304, 0},
		{"GET", "/length", 200, len(long)},
		{"HEAD", "/length", 200, 0},
		{"GET", "/chunked", 200, len(long)},
		{"GET", "/closed", 200, len(long)},
		{"GET", "/500", 500, 0},
	} {
		res, err := d.do(t.Context(), c.method, c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || len(text) != c.size {
			t.Errorf("%s %s: %d with %d bytes (%v)", c.method, c.path, res.StatusCode, len(text), err)
		}
	}
	if p := poolOf(t, "kinds"); p.InFlight != 0 {
		t.Errorf("%d slots are missing", p.InFlight)
	}
}

func TestBodiesArriveWholeAndWithTheirLength(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %d %x %v", r.ContentLength, n, sum.Sum(nil), err)
	})
	d := open(t, "app_proxy "+a.addr+` {
		buffer {
			request 4KiB 1MiB
		}
	}`)
	for _, size := range []int{0, 1, 4096, 4097, 1 << 20} {
		for _, chunked := range []bool{false, true} {
			body := bytes.Repeat([]byte("x"), size)
			var reader io.Reader = bytes.NewReader(body)
			if chunked {
				reader = struct{ io.Reader }{reader}
			}
			res, err := d.do(t.Context(), "POST", "/", reader)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if want := fmt.Sprintf("%d %d %x <nil>", size, size, sha256.Sum256(body)); string(text) != want {
				t.Errorf("%d bytes, chunked %v: %s\nwant %s", size, chunked, text, want)
			}
		}
	}
}

func TestTooLongBodyIs413(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {})
	d := open(t, "app_proxy "+a.addr+` {
		buffer {
			request 1KiB 2KiB
		}
	}`)
	for _, chunked := range []bool{false, true} {
		var reader io.Reader = strings.NewReader(strings.Repeat("x", 2049))
		if chunked {
			reader = struct{ io.Reader }{reader}
		}
		res, err := d.do(t.Context(), "POST", "/", reader)
		if err != nil {
			t.Fatal(err)
		}
		if p := problem(t, res); p.Status != 413 || p.Reason != "body-too-large" {
			t.Errorf("%+v", p)
		}
	}
	if a.served.Load() != 0 {
		t.Error("the application saw it")
	}
}

func TestSlowUploadHoldsNoSlot(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s", text)
	})
	d := open(t, "app_proxy "+a.addr+` {
		name        uploads
		concurrency 1
	}`)
	conn, in := d.dial("POST / HTTP/1.1\r\nHost: " + d.addr + "\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n")
	if line, _ := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q", line)
	}
	in.ReadString('\n')
	io.WriteString(conn, "slo")
	if status, _ := d.get("/beside"); status != 200 {
		t.Fatalf("status %d", status)
	}
	if a.served.Load() != 1 {
		t.Fatal("the upload was sent before it was whole")
	}
	io.WriteString(conn, "wly")
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(res.Body); string(text) != "slowly" {
		t.Errorf("%q", text)
	}
}

func TestBrokenBodyIs400AndNeverSent(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {})
	d := open(t, "app_proxy "+a.addr)
	_, in := d.dial("POST / HTTP/1.1\r\nHost: " + d.addr + "\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := problem(t, res); p.Status != 400 || p.Reason != "body-broken" {
		t.Errorf("%+v", p)
	}
	if a.served.Load() != 0 {
		t.Error("the application saw it")
	}
}

func TestApplicationThatBreaksOffGivesItsSlotBack(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // who closes with something unread resets
		conn, rw, _ := http.NewResponseController(w).Hijack()
		defer conn.Close()
		switch r.URL.Path {
		case "/reset":
			conn.(*net.TCPConn).SetLinger(0)
		case "/garbage":
			rw.WriteString("what?\r\n\r\n")
		case "/short":
			rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		case "/long":
			rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + strings.Repeat("half", 1_000_000))
		case "/ok":
			rw.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
		}
		rw.Flush()
	})
	d := open(t, "app_proxy "+a.addr+" {\n name breaks\n concurrency 1\n}")
	for _, path := range []string{"/reset", "/close", "/garbage", "/short", "/long"} {
		res, err := d.do(t.Context(), "POST", path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
		if path == "/long" {
			if res.StatusCode != 200 || err == nil {
				t.Errorf("%s: %d %v: the client must see that the answer is not whole", path, res.StatusCode, err)
			}
		} else if res.StatusCode != 502 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
		if status, body := d.get("/ok"); status != 200 || body != "ok" {
			t.Errorf("after %s: %d %q", path, status, body)
		}
	}
	eventually(t, "all slots are back", func() bool { return poolOf(t, "breaks").InFlight == 0 })
}
