package caddymodule_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portner/portner/caddymodule"
)

// TestOddRequests sends what few clients send. Whatever the answer is, the slot
// is back and the next request is answered.
func TestOddRequests(t *testing.T) {
	a := newApp(t, mirror)
	d := open(t, "app_proxy "+a.addr+` {
		name        odd
		concurrency 1
		buffer {
			request 1KiB 2KiB
		}
	}`)
	line := func(format string, args ...any) string { return fmt.Sprintf(format, args...) + "\r\n" }
	host := line("Host: %s", d.addr)
	for _, c := range []struct {
		what, request string
		want          string // beginning of the answer, or part of its body after '…'
	}{
		{"absolute form", line("GET http://%s/x?y HTTP/1.1", d.addr) + line("Host: elsewhere.test") + "\r\n", "HTTP/1.1 200 OK…GET " + d.addr + "/x?y"},
		{"HTTP/1.0", line("GET /old HTTP/1.0") + host + "\r\n", "HTTP/1.0 200 OK…/old"},
		{"CONNECT", line("CONNECT %s HTTP/1.1", d.addr) + host + "\r\n", "HTTP/1.1 405…method"},
		{"TRACE", line("TRACE / HTTP/1.1") + host + "\r\n", "HTTP/1.1 405"},
		{"OPTIONS *", line("OPTIONS * HTTP/1.1") + host + "\r\n", "HTTP/1.1 200 OK"},
		{"unknown method", line("BREW /pot HTTP/1.1") + host + "\r\n", "HTTP/1.1 200 OK…BREW"},
		{"HEAD with a body", line("HEAD / HTTP/1.1") + host + line("Content-Length: 3") + "\r\nabc", "HTTP/1.1 200 OK"},
		{"GET with a body", line("GET / HTTP/1.1") + host + line("Content-Length: 3") + "\r\nabc", `HTTP/1.1 200 OK…"abc"`},
		{"DELETE, chunked", line("DELETE / HTTP/1.1") + host + line("Transfer-Encoding: chunked") + "\r\n3\r\nabc\r\n0\r\n\r\n", `HTTP/1.1 200 OK…"abc"`},
		{"a length and chunks", line("POST / HTTP/1.1") + host + line("Content-Length: 3") + line("Transfer-Encoding: chunked") + "\r\n3\r\nabc\r\n0\r\n\r\n", `HTTP/1.1 200 OK…"abc"`},
		{"two lengths", line("POST / HTTP/1.1") + host + line("Content-Length: 3") + line("Content-Length: 4") + "\r\nabcd", "HTTP/1.1 400"},
		{"negative length", line("POST / HTTP/1.1") + host + line("Content-Length: -1") + "\r\n", "HTTP/1.1 400"},
		{"unknown coding", line("POST / HTTP/1.1") + host + line("Transfer-Encoding: rot13") + "\r\n", "HTTP/1.1 501"},
		{"Expect 100 and too long", line("POST / HTTP/1.1") + host + line("Expect: 100-continue") + line("Content-Length: 4096") + "\r\n", "HTTP/1.1 413"},
		{"Expect something else", line("POST / HTTP/1.1") + host + line("Expect: wonders") + "\r\n", "HTTP/1.1 417"},
		{"upgrade to HTTP/2", line("GET / HTTP/1.1") + host + line("Connection: Upgrade, HTTP2-Settings") + line("Upgrade: h2c") + line("HTTP2-Settings: AAMAAABkAAQAAP__") + "\r\n", "HTTP/1.1 200 OK"},
		{"upgrade, with a body", line("POST / HTTP/1.1") + host + line("Connection: Upgrade") + line("Upgrade: x") + line("Content-Length: 3") + "\r\nabc", `HTTP/1.1 200 OK…"abc"`},
		{"upgrade, too long", line("POST / HTTP/1.1") + host + line("Connection: Upgrade") + line("Upgrade: x") + line("Content-Length: 3000") + "\r\n", "HTTP/1.1 413"},
		{"big header", line("GET / HTTP/1.1") + host + line("X-Big: %s", strings.Repeat("x", 10_000)) + "\r\n", "HTTP/1.1 200 OK"},
		{"too big a header", line("GET / HTTP/1.1") + host + line("X-Big: %s", strings.Repeat("x", 2_000_000)) + "\r\n", "HTTP/1.1 431"},
		{"many headers", line("GET / HTTP/1.1") + host + strings.Repeat(line("X-Many: x"), 500) + "\r\n", "HTTP/1.1 200 OK"},
		{"long path", line("GET /%s HTTP/1.1", strings.Repeat("x", 10_000)) + host + "\r\n", "HTTP/1.1 200 OK"},
		{"escaped path", line("GET /a%%2Fb//c/../%%00?%%zz HTTP/1.1") + host + "\r\n", "HTTP/1.1 200 OK…/a%2Fb//c/../%00?%zz"},
		{"no header end", line("GET / HTTP/1.1") + host, ""},
		{"rubbish", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "HTTP/1.1 400"},
		{"smuggled header", line("GET / HTTP/1.1") + host + line("Portner-Attempt: 9") + line("portner_attempt: 9") + "\r\n", "HTTP/1.1 200 OK"},
	} {
		conn, in := d.dial(c.request)
		start, inside, _ := strings.Cut(c.want, "…")
		if c.want != "" {
			head, err := in.ReadString('\n')
			if !strings.HasPrefix(head, start) {
				t.Errorf("%s: %q %v, want %q", c.what, head, err, c.want)
			} else if inside != "" {
				res, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader(head), in)), nil)
				if err != nil {
					t.Errorf("%s: %v", c.what, err)
				} else if text, _ := io.ReadAll(res.Body); !bytes.Contains(text, []byte(inside)) {
					t.Errorf("%s: %.300q, want %q", c.what, text, inside)
				} else if strings.Contains(strings.ToLower(string(text)), "portner") && c.want != "HTTP/1.1 405…method" {
					t.Errorf("%s: the application saw our header: %s", c.what, text)
				}
			}
		}
		conn.Close()
		if status, _ := d.get("/next"); status != 200 {
			t.Errorf("after %s: %d", c.what, status)
		}
	}
	eventually(t, "all slots are back", func() bool { return poolOf(t, "odd").InFlight == 0 })
	if a.most.Load() != 1 {
		t.Errorf("%d at once", a.most.Load())
	}
}

// TestPipelinedRequestsAreAnsweredInOrder: HTTP/1.1 allows to ask again before the
// answer has come.
func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.URL.Path, text)
	})
	d := open(t, "app_proxy "+a.addr+" {\n name pipe\n concurrency 1\n}")
	var text strings.Builder
	for n := range 20 {
		fmt.Fprintf(&text, "POST /%d HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\n\r\nbody", n, d.addr)
	}
	_, in := d.dial(text.String())
	for n := range 20 {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if want := fmt.Sprintf("/%d body", n); err != nil || string(body) != want {
			t.Fatalf("%q %v, want %q", body, err, want)
		}
	}
}

// TestConnectionStaysGoodAfterARefusal: what is left of a refused body must not be
// taken for the next request.
func TestConnectionStaysGoodAfterARefusal(t *testing.T) {
	a := newApp(t, mirror)
	d := open(t, "app_proxy "+a.addr+" {\n buffer {\n request 1KiB 2KiB\n }\n}")
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: " + d.addr + "\r\n\r\n"
	body := smuggled + strings.Repeat("x", 3000)
	_, in := d.dial(fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", d.addr, len(body), body))
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 413 {
		t.Fatal(res, err)
	}
	io.Copy(io.Discard, res.Body)
	if res, err := http.ReadResponse(in, nil); err == nil {
		t.Errorf("and then %d", res.StatusCode)
	}
	if a.served.Load() != 0 {
		t.Error("the application saw it")
	}
}

// TestReloadStorm renames, removes and brings back pools while requests come. A
// request that is let in is answered by the application, whoever is reloaded.
func TestReloadStorm(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond) // work
		fmt.Fprint(w, "done")
	})
	b := newApp(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "done") })
	pool := func(name, addrs string) string {
		return "app_proxy " + addrs + " {\n name " + name + "\n concurrency 1\n queue {\n wait 60s\n depth 1000\n }\n}"
	}
	configs := []string{
		pool("storm", a.addr),
		pool("storm", a.addr+" "+b.addr),
		pool("storm", a.addr+" "+freeAddr(t)),
		"respond /* away\n" + pool("other", b.addr),
		pool("storm", b.addr),
		pool("storm", a.addr),
		"header X-New yes\n" + pool("storm", a.addr),
	}
	d := open(t, configs[0])
	stop := make(chan bool)
	var wg sync.WaitGroup
	var answered, left, shed, door atomic.Int32
	for n := range 20 {
		wg.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithCancel(t.Context())
				leaves := (n+round)%4 == 0
				if leaves {
					time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, cancel)
				}
				res, err := d.do(ctx, "POST", "/", strings.NewReader("x"))
				var text []byte
				if err == nil {
					text, err = io.ReadAll(res.Body)
					res.Body.Close()
				}
				cancel()
				switch {
				case err == nil && res.StatusCode == 200 && (string(text) == "done" || string(text) == "away"):
					answered.Add(1)
				case leaves:
					left.Add(1)
				case err == nil && res.StatusCode == 503 && strings.Contains(string(text), "queue-shed"):
					shed.Add(1)
				case res == nil:
					door.Add(1) // reload_test.go looks at those
				default:
					t.Errorf("%v %v %q", res, err, text)
				}
			}
		})
	}
	for range 4 {
		for _, config := range configs[1:] {
			d.load(config)
		}
	}
	close(stop)
	wg.Wait()
	t.Logf("%d answered, %d left, %d refused, %d lost at the door", answered.Load(), left.Load(), shed.Load(), door.Load())
	eventually(t, "all slots are back", func() bool { p := poolOf(t, "storm"); return p.InFlight == 0 && p.Waiting == 0 })
	eventually(t, "no pool is left over", func() bool { return len(caddymodule.Retiring()) == 0 })
	if a.most.Load() != 1 || b.most.Load() > 1 {
		t.Errorf("the applications saw %d and %d requests at once", a.most.Load(), b.most.Load())
	}
}

// TestRetryBesideAnExchangeThatGoesOn: after response_header_timeout the exchange
// is not over, and lb_retries begins another beside it, at another upstream.
func TestRetryBesideAnExchangeThatGoesOn(t *testing.T) {
	leave := make(chan bool)
	free := sync.OnceFunc(func() { close(leave) })
	defer free()
	slow := newApp(t, func(w http.ResponseWriter, r *http.Request) { <-leave })
	fast := newApp(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "fast") })
	d := open(t, "app_proxy "+slow.addr+" "+fast.addr+` {
		name        beside
		concurrency 50
		lb_policy   round_robin
		lb_retries  3
		header_up   X-To {upstream_hostport}
		transport http {
			response_header_timeout 20ms
		}
	}`)
	for n := range 20 {
		if status, body := d.get("/"); status != 200 || body != "fast" {
			t.Fatal(n, status, body)
		}
	}
	if p := poolOf(t, "beside"); p.InFlight != int(slow.inFlight.Load()) || p.InFlight == 0 {
		t.Errorf("%d slots are out, and %d requests are at the slow one", p.InFlight, slow.inFlight.Load())
	}
	free()
	eventually(t, "all slots are back", func() bool { return poolOf(t, "beside").InFlight == 0 })
}
