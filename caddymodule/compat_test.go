package caddymodule_test

import (
	"bufio"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mirror answers with what it was asked.
func mirror(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s%s %q\n", r.Proto, r.Method, r.Host, r.URL, text)
	r.Header.Write(w)
}

func TestHeadersAndRequestsAreRewritten(t *testing.T) {
	a := newApp(t, mirror)
	for _, c := range []struct {
		lines string
		ask   []string // headers
		want  []string // in the mirror's text; not, when it begins with '!'
	}{
		{"header_up Host {upstream_hostport}", nil, []string{" " + a.addr + "/"}},
		{"header_up X-To {http.reverse_proxy.upstream.host}:{http.reverse_proxy.upstream.port}", nil, []string{"X-To: " + a.addr}},
		{"header_up X-Address {http.reverse_proxy.upstream.address}", nil, []string{"X-Address: tcp/" + a.addr}},
		{"header_up -X-Secret", []string{"X-Secret: s"}, []string{"!X-Secret"}},
		{"header_up +X-More two", []string{"X-More: one"}, []string{"X-More: one", "X-More: two"}},
		{"header_up X-Name ^(.)(.*)$ $2$1", []string{"X-Name: porter"}, []string{"X-Name: orterp"}},
		{"method POST", nil, []string{"HTTP/1.1 POST"}},
		{"rewrite /app{uri}", nil, []string{"/app/"}},
		{"method GET\nrewrite /auth?from={path}", nil, []string{"GET", "/auth?from=%2F"}},
		{"", []string{"X-Forwarded-For: 192.0.2.7"}, []string{"X-Forwarded-For: 127.0.0.1\r\n"}},
		{"trusted_proxies private_ranges", []string{"X-Forwarded-For: 192.0.2.7"}, []string{"X-Forwarded-For: 192.0.2.7, 127.0.0.1"}},
		{"trusted_proxies 192.0.2.0/24", []string{"X-Forwarded-For: 192.0.2.7"}, []string{"X-Forwarded-For: 127.0.0.1\r\n"}},
		{"", []string{"Connection: x-hop", "X-Hop: h", "Te: deflate", "Keep-Alive: 5"}, []string{"!X-Hop", "!Te:", "!Keep-Alive"}},
	} {
		d := open(t, "app_proxy "+a.addr+" {\n"+c.lines+"\n}")
		_, text := d.ask(c.ask...)
		for _, want := range c.want {
			unwanted, not := strings.CutPrefix(want, "!")
			if not == strings.Contains(text, strings.TrimPrefix(unwanted, "!")) {
				t.Errorf("%q: %q in %q", c.lines, want, text)
			}
		}
	}
}

func TestBodyStaysWithARequestWhoseMethodIsKept(t *testing.T) {
	a := newApp(t, mirror)
	for lines, want := range map[string]string{
		"":                           `POST`,
		"method PUT":                 `PUT`,
		"method PUT\nrewrite /other": `/other "the body"`,
		"method GET":                 `GET`,
	} {
		d := open(t, "app_proxy "+a.addr+" {\n"+lines+"\n}")
		res, err := d.do(t.Context(), "POST", "/", strings.NewReader("the body"))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		line, _, _ := strings.Cut(string(text), "\n")
		if hasBody := strings.HasSuffix(line, `"the body"`); !strings.Contains(line, want) || hasBody != (lines != "method GET") {
			t.Errorf("%q: %s", lines, line)
		}
	}
}

func TestAnswersAreRewritten(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "app")
		w.Header().Set("X-Kind", "plain")
		w.WriteHeader(502)
		io.WriteString(w, "from the application")
	})
	for _, c := range []struct {
		lines, header, value string
		status               int
		body                 string
	}{
		{"header_down -X-Kind", "X-Kind", "", 502, "from the application"},
		{"header_down X-From {http.reverse_proxy.upstream.hostport}", "X-From", a.addr, 502, "from the application"},
		{"header_down X-Kind plain fancy", "X-Kind", "fancy", 502, "from the application"},
		{"replace_status 203", "X-Kind", "plain", 203, "from the application"},
		{"@bad status 502\nreplace_status @bad 299", "", "", 299, "from the application"},
		{"@bad status 404\nreplace_status @bad 299", "", "", 502, "from the application"},
		{"@bad status 5xx\nhandle_response @bad {\n respond \"sorry, {rp.status_code} {rp.header.X-Kind}\" 200\n}", "", "", 200, "sorry, 502 plain"},
		{"handle_response {\n header X-Seen yes\n copy_response_headers {\n include X-Kind\n }\n copy_response 201\n}", "X-Kind", "plain", 201, "from the application"},
	} {
		d := open(t, "app_proxy "+a.addr+" {\n name rewritten\n concurrency 1\n"+c.lines+"\n}")
		for range 3 {
			res, body := d.ask()
			if res.StatusCode != c.status || body != c.body || c.header != "" && res.Header.Get(c.header) != c.value {
				t.Errorf("%q: %d %q, %s: %q", c.lines, res.StatusCode, body, c.header, res.Header.Get(c.header))
			}
		}
		eventually(t, "the slot is back", func() bool { return poolOf(t, "rewritten").InFlight == 0 })
	}
}

// TestForwardAuth: handle_response without an answer goes on to the next handler,
// which finds the body untouched.
func TestForwardAuth(t *testing.T) {
	auth := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-User") == "" {
			w.WriteHeader(401)
		}
	})
	a := newApp(t, mirror)
	d := open(t, `route {
		app_proxy `+auth.addr+` {
			method GET
			rewrite /auth
			@good status 2xx
			handle_response @good {
			}
		}
		app_proxy `+a.addr+`
	}`)
	for user, want := range map[string]int{"": 401, "porter": 200} {
		req, _ := http.NewRequestWithContext(t.Context(), "POST", d.url, strings.NewReader("the body"))
		req.Header.Set("X-User", user)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != want || want == 200 && !strings.Contains(string(text), `"the body"`) {
			t.Errorf("%q: %d %s", user, res.StatusCode, text)
		}
	}
}

func TestUpstreamsOfEveryKind(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(mirror))
	defer secure.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	clear := httptest.NewUnstartedServer(http.HandlerFunc(mirror))
	clear.Config.Protocols = new(http.Protocols)
	clear.Config.Protocols.SetUnencryptedHTTP2(true)
	clear.Start()
	defer clear.Close()
	socket := serveSocket(t, http.HandlerFunc(mirror))
	cgi, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer cgi.Close()
	go fcgi.Serve(cgi, http.HandlerFunc(mirror))

	host := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	for _, c := range []struct{ directive, want string }{
		{"app_proxy https://" + host(secure) + " {\n transport http {\n tls_insecure_skip_verify\n }", "HTTP/1.1 POST"},
		{"app_proxy " + host(secure) + " {\n transport http {\n tls\n tls_trust_pool file " + ca + "\n tls_server_name example.com\n }", "HTTP/1.1 POST"},
		{"app_proxy h2c://" + host(clear) + " {", "HTTP/2.0 POST"},
		{"app_proxy " + host(clear) + " {\n transport http {\n versions h2c\n }", "HTTP/2.0 POST"},
		{"app_proxy unix/" + socket + " {", "HTTP/1.1 POST"},
		{"app_proxy " + cgi.Addr().String() + " {\n transport fastcgi {\n root /srv\n }", "HTTP/1.1 POST"},
	} {
		d := open(t, c.directive+"\n name kind\n concurrency 1\n health_uri /health\n health_interval 1ms\n health_method POST\n health_request_body ping\n}")
		for _, body := range []string{"the body", ""} {
			res, err := d.do(t.Context(), "POST", "/path?q=1", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(res.Body)
			res.Body.Close()
			line, _, _ := strings.Cut(string(text), "\n")
			if err != nil || res.StatusCode != 200 || !strings.HasPrefix(line, c.want) || !strings.HasSuffix(line, fmt.Sprintf("%q", body)) {
				t.Errorf("%s: %d %v %s", c.directive, res.StatusCode, err, line)
			}
		}
		if p := poolOf(t, "kind"); p.Held {
			t.Errorf("%s: its probe failed", c.directive)
		}
	}
}

// serveSocket serves on a unix socket and returns its path.
func serveSocket(t *testing.T, h http.Handler) string {
	dir, err := os.MkdirTemp("", "portner") // shorter than t.TempDir: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "app.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() {
		s.Close()
		os.RemoveAll(dir)
	})
	return path
}

func TestApplicationBehindASocketIsWaitedFor(t *testing.T) {
	path := serveSocket(t, http.HandlerFunc(mirror))
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	d := open(t, "app_proxy unix/"+path+" {\n name socket\n}")
	done := make(chan int)
	go func() {
		status, _ := d.get("/")
		done <- status
	}()
	eventually(t, "it waits", func() bool { p := poolOf(t, "socket"); return p.Held && p.Waiting == 1 })
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if status := <-done; status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestWrongCertificateIsABadGateway(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.HandlerFunc(mirror))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // the handshake fails
	secure.StartTLS()
	defer secure.Close()
	d := open(t, "app_proxy https://"+secure.Listener.Addr().String()+" {\n name untrusted\n}")
	if status, _ := d.get("/"); status != 502 {
		t.Errorf("status %d", status)
	}
	eventually(t, "the slot is back", func() bool { return poolOf(t, "untrusted").InFlight == 0 })
}

func TestFlushIntervalSendsWhatThereIs(t *testing.T) {
	leave := make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "first")
		http.NewResponseController(w).Flush()
		<-leave
		io.WriteString(w, "later")
	})
	d := open(t, "app_proxy "+a.addr+" {\n flush_interval -1\n}")
	res, err := d.do(t.Context(), "GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(res.Body, head); err != nil || string(head) != "first" {
		t.Errorf("%q %v", head, err)
	}
	close(leave)
	if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "later" {
		t.Errorf("%q %v", rest, err)
	}
}

func TestUpgradeWithAWrongAnswer(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		protocol, ok := strings.CutPrefix(r.URL.Path, "/101/")
		if !ok {
			w.WriteHeader(400)
			io.WriteString(w, "no websockets here")
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
		rw.Flush()
	})
	d := open(t, "app_proxy "+a.addr+" {\n name switching\n concurrency 1\n}")
	for _, c := range []struct {
		request string
		status  int
	}{
		{"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 400},
		{"GET /101/other HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 502},
		{"GET /101/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 502},
		{"GET /101/websocket HTTP/1.1\r\n", 502},
		{"POST /101/websocket HTTP/1.1\r\nContent-Length: 0\r\n", 502},
	} {
		_, in := d.dial(c.request + "Host: " + d.addr + "\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		if err != nil || res.StatusCode != c.status {
			t.Errorf("%q: %v %v, want %d", c.request, res, err, c.status)
		}
		if p := poolOf(t, "switching"); p.InFlight != 0 {
			eventually(t, "the slot is back", func() bool { return poolOf(t, "switching").InFlight == 0 })
		}
	}
}

// TestDepartureIsA499 looks into the access log.
func TestDepartureIsA499(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	entered, leave := make(chan bool, 10), make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		<-leave
	})
	d := open(t, `log {
		output file `+file+`
	}
	app_proxy `+a.addr+` {
		name        departures
		concurrency 1
	}`)
	defer close(leave)
	depart := func(path string, when func()) {
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan bool)
		go func() {
			d.do(ctx, "POST", path, strings.NewReader("x"))
			close(left)
		}()
		when()
		cancel()
		<-left
		eventually(t, path+" is in the log", func() bool { return logged(t, file, path) != "" })
		if line := logged(t, file, path); !strings.Contains(line, `"status":499`) {
			t.Errorf("%s: %s", path, line)
		}
	}
	depart("/sent", func() { <-entered })
	depart("/waiting", func() {
		eventually(t, "it waits", func() bool { return poolOf(t, "departures").Waiting == 1 })
	})
}

// logged is the line of the log that has the text.
func logged(t *testing.T, file, text string) string {
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.Contains(lines.Text(), text) {
			return lines.Text()
		}
	}
	return ""
}
