package caddymodule_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBodyThatFailsIsItsSendersFault: a body that goes on while it comes, and does not
// come whole, is no failure of the application, whose other requests go on.
func TestBodyThatFailsIsItsSendersFault(t *testing.T) {
	const silent = "Content-Length: 100\r\n\r\nx"
	type client struct {
		body    string
		leaves  bool
		status  int
		verdict string
	}
	for _, c := range []struct {
		readBody, first string
		clients         []client
	}{
		{"500ms", "1m", []client{
			{silent, false, 408, "body-too-slow"},
			{"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\nno length\r\n", false, 400, "body-broken"},
			{silent, true, 499, "left"},
		}},
		{"1h", "200ms", []client{{silent, false, 408, "body-too-slow"}}},
	} {
		got := make(chan bool)
		act := func(w http.ResponseWriter, r *http.Request) {
			io.ReadFull(r.Body, make([]byte, 1))
			got <- true
			io.Copy(io.Discard, r.Body)
		}
		a, b := newApp(t, act), newApp(t, act)
		log := filepath.Join(t.TempDir(), "log")
		d := openWith(t, "admin off\nservers {\n timeouts {\n read_body "+c.readBody+"\n }\n}", "log {\n output file "+log+"\n}\napp_proxy "+a.addr+" "+b.addr+` {
			name          flowing
			concurrency   3
			fail_duration 1h
			timeouts {
				first_byte `+c.first+`
			}
		}`)
		for _, k := range c.clients {
			conn, in := d.dial("POST / HTTP/1.1\r\nHost: " + d.addr + "\r\nIncremental: ?1\r\n" + k.body)
			conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			<-got
			if k.leaves {
				conn.Close()
			} else if res, err := http.ReadResponse(in, nil); err != nil {
				t.Errorf("%s: %v", k.verdict, err)
			} else {
				if p := problem(t, res); res.StatusCode != k.status || p.Reason != k.verdict || !res.Close {
					t.Errorf("%s: %d %+v, closes: %v", k.verdict, res.StatusCode, p, res.Close)
				}
				if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
					t.Errorf("%s: and then %q, %v", k.verdict, rest, err)
				}
			}
			eventually(t, "the access log says "+k.verdict, func() bool {
				text, _ := os.ReadFile(log)
				return strings.Contains(string(text), fmt.Sprintf(`"status":%d,`, k.status)) && strings.Contains(string(text), `"`+k.verdict+`"`)
			})
		}
		eventually(t, "the slots are back", func() bool { return poolOf(t, "flowing").InFlight == 0 })
		if p := poolOf(t, "flowing"); len(p.Ready) != 2 {
			t.Errorf("ready are %v", p.Ready)
		}
	}
}

// TestResetConversationIsTheApplicationsFault: its transport closes the body then, and
// who reads that finds an error.
func TestResetConversationIsTheApplicationsFault(t *testing.T) {
	transport := overH2C(t)
	a := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.ReadFull(r.Body, make([]byte, 1))
		panic(http.ErrAbortHandler)
	}))
	a.Config.Protocols = transport.Protocols
	a.Start()
	defer a.Close()
	d := openWith(t, "admin off\nservers {\n protocols h1 h2c\n}", "app_proxy "+a.Listener.Addr().String()+" {\n transport http {\n  versions h2c\n }\n}")
	for _, kind := range []string{"application/grpc", "text/plain"} {
		body, says := io.Pipe()
		defer says.Close()
		req, err := http.NewRequestWithContext(t.Context(), "POST", d.url, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Incremental", "?1")
		req.Header.Set("Content-Type", kind)
		go io.WriteString(says, "x")
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if p := problem(t, res); p.Reason != "upstream-failed" {
			t.Errorf("%s: %+v", kind, p)
		}
	}
}

// TestFirstByteBeginsWithTheEndOfTheBody: who is still asked cannot answer.
func TestFirstByteBeginsWithTheEndOfTheBody(t *testing.T) {
	const first = 200 * time.Millisecond
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/late" {
			<-r.Context().Done()
		}
	})
	d := open(t, "app_proxy "+a.addr+" {\n name asked\n timeouts {\n first_byte 200ms\n abandon 200ms\n }\n}")
	for path, status := range map[string]int{"/": 200, "/late": 504} {
		conn, in := d.dial("POST " + path + " HTTP/1.1\r\nHost: " + d.addr + "\r\nIncremental: ?1\r\nContent-Length: 5\r\n\r\n")
		for range 5 {
			<-time.After(first / 2)
			io.WriteString(conn, "x")
		}
		asked := time.Now()
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if took := time.Since(asked); res.StatusCode != status || status == 504 && took < first/2 {
			t.Errorf("%s: %d after %v", path, res.StatusCode, took)
		}
	}
}
