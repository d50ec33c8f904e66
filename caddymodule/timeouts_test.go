package caddymodule_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"strings"
	"sync"
	"testing"
	"time"
)

// dribbles writes text, a byte every 50 ms.
func dribbles(text string) func(*net.TCPConn, *bufio.Reader) {
	return func(c *net.TCPConn, _ *bufio.Reader) {
		for i := range len(text) {
			if _, err := io.WriteString(c, text[i:i+1]); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// TestWholeBoundsTheExchangeFromItsBeginning: also before the head of the answer, and
// where there is no other bound.
func TestWholeBoundsTheExchangeFromItsBeginning(t *testing.T) {
	const begun = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
	dribbled := strings.Repeat("x", 1000)
	rows := []struct {
		what   string
		act    func(*net.TCPConn, *bufio.Reader)
		status int
		broken bool
	}{
		{"is silent", silent, 504, false},
		{"dribbles its head", dribbles("HTTP/1.1 200 OK\r\n" + dribbled), 504, false},
		{"sends interim answers", dribbles(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 50)), 504, false},
		{"dribbles its body", says(begun, dribbles(dribbled)), 200, true},
	}
	acts := make(map[string]func(*net.TCPConn, *bufio.Reader))
	for i, row := range rows {
		acts[fmt.Sprintf("/%d", i)] = row.act
	}
	bothWays(t, func(t *testing.T, direct string) {
		for _, firstByte := range []string{"0", "30s"} {
			a := newFickle(t, acts)
			d := open(t, "app_proxy "+a.Addr().String()+` {
				name        slow
				concurrency 10
				direct      `+direct+`
				timeouts {
					first_byte `+firstByte+`
					whole      1s
				}
			}`)
			var clients sync.WaitGroup
			for i, row := range rows {
				clients.Go(func() {
					began := time.Now()
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					res, err := d.do(ctx, http.MethodGet, fmt.Sprintf("/%d", i), nil)
					if err != nil {
						t.Errorf("%s: %v", row.what, err)
						return
					}
					text, err := io.ReadAll(res.Body)
					res.Body.Close()
					if res.StatusCode != row.status || (err != nil) != row.broken {
						t.Errorf("%s: %d, want %d; %v", row.what, res.StatusCode, row.status, err)
					}
					if row.status == 504 && !strings.Contains(string(text), `"upstream-timeout"`) {
						t.Errorf("%s: %.300s", row.what, text)
					}
					if took := time.Since(began); took < 900*time.Millisecond || took > 5*time.Second {
						t.Errorf("%s: it took %v", row.what, took)
					}
				})
			}
			clients.Wait()
			eventually(t, "the slots are back", func() bool { return poolOf(t, "slow").InFlight == 0 })
		}
	})
}

// TestHangingScriptGivesItsSlotBack: FastCGI's transport looks at its context while it
// dials, and then waits for as long as the application likes.
func TestHangingScriptGivesItsSlotBack(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	go fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // ends with the listener
		switch r.URL.Path {
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: one\n\n")
			w.(http.Flusher).Flush()
			<-hang
		case "/hang":
			<-hang
		}
	}))
	d := open(t, "app_proxy "+l.Addr().String()+" {\n name script\n concurrency 1\n transport fastcgi {\n root /srv\n }\n timeouts {\n first_byte 3s\n abandon 100ms\n }\n}")
	idle := func() bool { return poolOf(t, "script").InFlight == 0 }

	res, err := d.do(t.Context(), http.MethodGet, "/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); line != "data: one\n" {
		t.Fatalf("%q %v", line, err)
	}
	res.Body.Close()
	eventually(t, "the slot of a stream is back whose client has left", idle)

	if status, _ := d.get("/hang"); status != 504 {
		t.Errorf("status %d", status)
	}
	eventually(t, "the slot of a script that hangs is back", idle)
	if status, _ := d.get("/next"); status != 200 {
		t.Errorf("next: %d", status)
	}
}
