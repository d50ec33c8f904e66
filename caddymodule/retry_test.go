package caddymodule_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRequestIsSentOnceMoreOnlyWhereThatIsHarmless: the first attempt fails in some
// way, the second would succeed.
func TestRequestIsSentOnceMoreOnlyWhereThatIsHarmless(t *testing.T) {
	var seen atomic.Int32
	first := func(act func(*net.TCPConn, *bufio.Reader)) func(*net.TCPConn, *bufio.Reader) {
		return func(c *net.TCPConn, in *bufio.Reader) {
			if seen.Add(1) == 1 {
				act(c, in)
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}
	}
	for _, c := range []struct {
		method, field string
		act           func(*net.TCPConn, *bufio.Reader)
		status        int
		sent          int32
	}{
		{"GET", "", reset, 200, 2},
		{"GET", "", leave, 200, 2},
		{"HEAD", "", reset, 200, 2},
		{"OPTIONS", "", reset, 200, 2},
		{"PUT", "", reset, 200, 2},
		{"DELETE", "", reset, 200, 2},
		{"POST", "", reset, 502, 1},
		{"PATCH", "", reset, 502, 1},
		{"BREW", "", reset, 502, 1},
		{"POST", "Idempotency-Key", reset, 200, 2},
		{"PATCH", "X-Idempotency-Key", leave, 200, 2},
		{"GET", "", says("H", reset), 502, 1},                                            // it has begun to answer
		{"GET", "", says("what?\r\n\r\n", leave), 502, 1},                                // nor is nonsense silence
		{"GET", "", says("HTTP/1.1 100 Continue\r\n\r\n", leave), 502, 1},                // nor that
		{"GET", "", says("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", leave), 503, 1}, // its own word
	} {
		seen.Store(0)
		a := newFickle(t, map[string]func(*net.TCPConn, *bufio.Reader){"/x": first(c.act)})
		d := open(t, "app_proxy "+a.Addr().String())
		req, err := http.NewRequestWithContext(t.Context(), c.method, d.url+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.field != "" {
			req.Header.Set(c.field, "k1")
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.status || seen.Load() != c.sent {
			t.Errorf("%s %s: %d, sent %d times; want %d, %d times", c.method, c.field, res.StatusCode, seen.Load(), c.status, c.sent)
		}
	}
}

// TestWhatNeverArrivedIsAlwaysSentAgain: a write, and without a key, when nobody
// took the connection.
func TestWhatNeverArrivedIsAlwaysSentAgain(t *testing.T) {
	a := newApp(t, func(http.ResponseWriter, *http.Request) {})
	d := open(t, "app_proxy "+freeAddr(t)+" "+a.addr+" {\n lb_policy first\n}")
	for range 20 {
		res, err := d.do(t.Context(), "POST", "/", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != 200 {
			t.Fatal(res.StatusCode)
		}
	}
	if served := a.served.Load(); served != 20 {
		t.Errorf("20 requests arrived %d times", served)
	}
}

// TestRulesForFieldsAreAppliedToEachAttemptAnew: not to what the one before has made.
func TestRulesForFieldsAreAppliedToEachAttemptAnew(t *testing.T) {
	bothWays(t, func(t *testing.T, direct string) {
		got := make(chan string, 1)
		a := newApp(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("X-Up") })
		d := open(t, "app_proxy "+freeAddr(t)+" "+a.addr+" {\n lb_policy first\n direct "+direct+"\n header_up X-Up a aa\n}")
		if status := askWith(t, d, "/", "X-Up: a"); status != 200 {
			t.Fatal(status)
		}
		if value := <-got; value != "aa" {
			t.Errorf("the second attempt has %q", value)
		}
	})
}

// TestFewAreSentAgainAtOnce: of ten that fail together three are sent again.
func TestFewAreSentAgainAtOnce(t *testing.T) {
	const clients, again = 10, 3
	var seen atomic.Int32
	all, go2 := make(chan bool), make(chan bool)
	a := newFickle(t, map[string]func(*net.TCPConn, *bufio.Reader){"/x": func(c *net.TCPConn, in *bufio.Reader) {
		switch n := seen.Add(1); {
		case n == clients:
			close(all)
			fallthrough
		case n < clients:
			<-all
			reset(c, in)
		default:
			<-go2
			io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}
	}})
	d := open(t, "app_proxy "+a.Addr().String()+" {\n concurrency 20\n}")
	got := make(chan int, clients)
	for range clients {
		go func() {
			res, err := d.do(t.Context(), "GET", "/x", nil)
			if err != nil {
				t.Error(err)
				got <- 0
				return
			}
			res.Body.Close()
			got <- res.StatusCode
		}()
	}
	for range clients - again {
		if status := <-got; status != 502 {
			t.Errorf("%d, want 502", status)
		}
	}
	close(go2)
	for range again {
		if status := <-got; status != 200 {
			t.Errorf("%d, want 200", status)
		}
	}
	if n := seen.Load(); n != clients+again {
		t.Errorf("%d were sent, want %d", n, clients+again)
	}
}
