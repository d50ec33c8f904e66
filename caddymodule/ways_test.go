package caddymodule_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// rawApp is an application that answers every request by the same bytes, and
// keeps what it was asked.
type rawApp struct {
	net.Listener
	mu     sync.Mutex
	answer string   // mu; to whoever asks; "" closes the connection
	closes bool     // mu; after an answer
	heard  []string // mu
}

func newRawApp(t *testing.T, network, address string) *rawApp {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	a := &rawApp{Listener: l}
	var open sync.Map
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(conn, true)
			go a.serve(conn) // ends with the connection
		}
	}()
	t.Cleanup(func() {
		l.Close()
		open.Range(func(conn, _ any) bool { conn.(net.Conn).Close(); return true })
	})
	return a
}

func (a *rawApp) serve(conn net.Conn) {
	defer conn.Close()
	for in := bufio.NewReader(conn); ; {
		heard, err := readMessage(in, "")
		if err != nil {
			return
		}
		a.mu.Lock()
		a.heard = append(a.heard, heard.String())
		answer, closes := a.answer, a.closes
		a.mu.Unlock()
		io.WriteString(conn, answer)
		if closes || answer == "" {
			return
		}
	}
}

// says sets the answer, and forgets what was heard.
func (a *rawApp) says(answer string, closes bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer, a.closes, a.heard = answer, closes, nil
}

func (a *rawApp) was() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.heard, "\n")
}

// message is a request or an answer without what may differ from one time to the
// next: order, chunks, and the fields in differs.
type message struct {
	first   string
	fields  []string
	body    string
	trailer []string
	broken  bool // it ends before its end
}

func (m message) String() string {
	slices.Sort(m.fields)
	slices.Sort(m.trailer)
	text := m.first + "\n" + strings.Join(m.fields, "\n") + "\n" + strconv.Quote(m.body)
	for _, line := range m.trailer {
		text += "\ntrailer " + line
	}
	if m.broken {
		text += "\nbroken off"
	}
	return text + "\n"
}

var differs = []struct {
	field *regexp.Regexp
	with  string
}{
	{regexp.MustCompile(`^Date: .*`), "Date: now"},
	{regexp.MustCompile(`^(X-Request-Id: )[0-9a-f]{32}$`), "${1}made"},
	{regexp.MustCompile(`^(X-Request-Start: t=)\d{13}$`), "${1}now"},
	{regexp.MustCompile(`dur=\d+\.\d`), "dur=some"},
	{regexp.MustCompile(`^(X-Took: )[\d.]+m?µ?s?$`), "${1}some"},
}

func readFieldLines(r *bufio.Reader) (lines []string, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return lines, err
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return lines, nil
		}
		name, value, _ := strings.Cut(line, ":")
		line = http.CanonicalHeaderKey(name) + ":" + value
		for _, d := range differs {
			line = d.field.ReplaceAllString(line, d.with)
		}
		lines = append(lines, line)
	}
}

// readMessage reads one message. method is that of the request to an answer, and
// empty for a request.
func readMessage(r *bufio.Reader, method string) (m message, err error) {
	first, err := r.ReadString('\n')
	if err != nil {
		return m, err
	}
	m.first = strings.TrimSpace(first)
	if m.fields, err = readFieldLines(r); err != nil {
		return m, err
	}
	field := func(name string) (value string) {
		for _, line := range m.fields {
			if rest, ok := strings.CutPrefix(line, name+": "); ok {
				value = rest
			}
		}
		return value
	}
	var body []byte
	status, _ := strconv.Atoi(strings.Split(m.first+"  ", " ")[1])
	switch length, err := strconv.Atoi(field("Content-Length")); {
	case method == "HEAD", method != "" && (status < 200 || status == 204 || status == 304):
	case field("Transfer-Encoding") == "chunked":
		body, err = io.ReadAll(httputil.NewChunkedReader(r))
		m.broken = err != nil
		if err == nil {
			m.trailer, err = readFieldLines(r)
			m.broken = err != nil
		}
	case err == nil:
		body = make([]byte, length)
		n, err := io.ReadFull(r, body)
		body, m.broken = body[:n], err != nil
	case method != "":
		body, err = io.ReadAll(r)
		m.broken = err != nil
	}
	m.body = string(body)
	return m, nil
}

// asked sends text to the door and returns all answers to it, one below the other.
// method is that of the request.
func (d *door) asked(method, text string) string {
	d.t.Helper()
	conn, in := d.dial(text)
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	var all []string
	for {
		m, err := readMessage(in, method)
		if err == io.EOF {
			return strings.Join(all, "\n")
		}
		if err != nil {
			return strings.Join(append(all, "and then "+err.Error()), "\n")
		}
		all = append(all, m.String())
	}
}

// way is a request, an answer to it, and what must come out at both ends whichever
// way they go.
type way struct {
	name    string
	words   string // in the block of app_proxy
	site    string // behind app_proxy
	options string // global ones
	request string // without Host and Connection: close
	answer  string
	closes  bool // the application closes behind it

	client []string // what the client must have got, among other things
	not    []string // what neither may have got
	app    []string // what the application must have got
	again  bool     // the request may be pipelined behind itself: the connection stays

	// differ says why the ways are not the same, and dropped is what is left out of
	// both for it.
	differ  string
	dropped *regexp.Regexp
}

// framed is how a body is framed, which the direct way may know better: it has read
// a short one to its end. And net/http guesses the type of some that have none.
var framed = regexp.MustCompile(`(?m)^(Content-Length: \d+|Transfer-Encoding: chunked|Content-Type: text/plain; charset=utf-8)\n`)

const ok5 = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

var ways = []way{
	{name: "GET", request: "GET / HTTP/1.1\r\n\r\n", answer: ok5, client: []string{"HTTP/1.1 200 OK", `"hello"`, "Via: 1.1 Caddy", "Server-Timing: queue;dur=some, app;dur=some"}, app: []string{"GET / HTTP/1.1", "Via: 1.1 Caddy", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Request-Id: made", "X-Request-Start: t=now", "Forwarded: for=127.0.0.1;proto=http;host="}},
	{name: "status without a reason", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n", client: []string{"HTTP/1.1 299"}},
	{name: "empty body", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", client: []string{"Content-Length: 0"}},
	{name: "chunks", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", client: []string{`"hello world"`}},
	{name: "no chunk", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", client: []string{`""`}},
	{name: "until it closes", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\n\r\nhello", closes: true, client: []string{`"hello"`}},
	{name: "long, with length", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300000), client: []string{"Content-Length: 300000"}},
	{name: "long, in chunks", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("y", 4096)+"\r\n", 100) + "0\r\n\r\n"},
	{name: "long, until it closes", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.0 200 OK\r\n\r\n" + strings.Repeat("z", 200000), closes: true},
	{name: "application of HTTP/1.0", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", closes: true, client: []string{"HTTP/1.1 200 OK", "Via: 1.0 Caddy"}},
	{name: "client of HTTP/1.0", request: "GET / HTTP/1.0\r\n\r\n", answer: ok5, client: []string{"HTTP/1.0 200 OK", `"hello"`}, app: []string{"GET / HTTP/1.1", "Via: 1.0 Caddy"}},
	{name: "client of HTTP/1.0, chunks", request: "GET / HTTP/1.0\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", client: []string{"HTTP/1.0 200 OK", `"hello"`}},
	{name: "client of HTTP/1.0, early hints", request: "GET / HTTP/1.0\r\n\r\n", answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok5, client: []string{`"hello"`}, not: []string{"103 Early"}},
	{name: "client of HTTP/1.0, early hints through the cache", words: "cache 1MiB", request: "GET / HTTP/1.0\r\n\r\n", answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok5, client: []string{`"hello"`}, not: []string{"103 Early"}},

	{name: "HEAD", request: "HEAD / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", client: []string{"Content-Length: 5"}, app: []string{"HEAD / HTTP/1.1"}},
	{name: "HEAD, chunks", request: "HEAD / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{name: "204", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 204 No Content\r\nX-App: 1\r\n\r\n", client: []string{"HTTP/1.1 204 No Content", "X-App: 1"}},
	{name: "304", request: "GET / HTTP/1.1\r\nIf-None-Match: \"x\"\r\n\r\n", answer: "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n", client: []string{"HTTP/1.1 304 Not Modified", `Etag: "x"`}},
	{name: "304 with a length", request: "GET / HTTP/1.1\r\nIf-None-Match: \"x\"\r\n\r\n", answer: "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\nContent-Length: 5\r\n\r\n", client: []string{"HTTP/1.1 304 Not Modified"}},
	{name: "redirect", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 302 Found\r\nLocation: //elsewhere/\r\nContent-Length: 0\r\n\r\n", client: []string{"Location: //elsewhere/"}},
	{name: "application's own 502", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno", client: []string{"HTTP/1.1 502", `"no"`}},

	{name: "POST", request: "POST /post HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody", answer: ok5, app: []string{"POST /post HTTP/1.1", "Content-Length: 4", `"body"`}},
	{name: "POST of nothing", request: "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", answer: ok5, app: []string{"Content-Length: 0"}},
	{name: "POST of nothing, without a length", request: "POST / HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"Content-Length: 0"}},
	{name: "PUT in chunks", request: "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n", answer: ok5, app: []string{"Content-Length: 6", `"abcdef"`}},
	{name: "no chunk in the request", request: "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", answer: ok5, app: []string{"Content-Length: 0"}},
	{name: "PATCH of nothing", request: "PATCH / HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"Content-Length: 0"}},
	{name: "DELETE with a body", request: "DELETE /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", answer: ok5, app: []string{`"ab"`}},
	{name: "GET with a body", request: "GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", answer: ok5, app: []string{`"ab"`}},
	{name: "long body", request: "POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("b", 300000), answer: ok5, app: []string{"Content-Length: 300000"}},
	{name: "Expect", request: "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody", answer: ok5, client: []string{"HTTP/1.1 100 Continue", "HTTP/1.1 200 OK"}, not: []string{"Expect"}, app: []string{`"body"`}},
	{name: "unasked 100", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 100 Continue\r\n\r\n" + ok5, client: []string{"HTTP/1.1 200 OK"},
		differ: "reverse_proxy passes it on", dropped: regexp.MustCompile(`(?s)HTTP/1.1 100 Continue.*?\"\"\n\n`)},

	{name: "trailer of a request", request: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", answer: ok5, app: []string{"Transfer-Encoding: chunked", "Trailer: X-Sum", "trailer X-Sum: 1", `"abc"`}},
	{name: "our fields in a request's trailer", request: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: Portner-Attempt, X-Sum\r\n\r\n3\r\nabc\r\n0\r\nPortner-Attempt: 9\r\nX-Sum: 1\r\n\r\n", answer: ok5, app: []string{"trailer X-Sum: 1"}, not: []string{"Portner"}},
	{name: "trailer", request: "GET / HTTP/1.1\r\nTE: trailers\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", client: []string{"Trailer: X-Sum", "trailer X-Sum: 1", `"hello"`}, app: []string{"Te: trailers"}},
	{name: "trailer, twice", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n", client: []string{"trailer X-Sum: 1", "trailer X-Sum: 2"}},
	{name: "unannounced trailer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", client: []string{"trailer X-Sum: 1", `"hello"`}},
	{name: "long, with a trailer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n30d40\r\n" + strings.Repeat("t", 200000) + "\r\n0\r\nX-Sum: 1\r\n\r\n", client: []string{"trailer X-Sum: 1"}},
	{name: "our fields in a trailer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Portner-Load, X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nPortner-Load: 50%\r\n\r\n", client: []string{"trailer X-Sum: 1"}, not: []string{"Portner"}},
	{name: "our fields in an unannounced trailer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nPortner-Load: 50%\r\n\r\n", not: []string{"Portner"}},

	{name: "early hints", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" + ok5, client: []string{"HTTP/1.1 103 Early Hints", "Link: </x>; rel=preload", "HTTP/1.1 200 OK"}},
	{name: "several interim answers", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\nLink: </y>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </z>\r\n\r\n" + ok5, client: []string{"HTTP/1.1 102 Processing", "Link: </x>", "Link: </y>", "Link: </z>"}},
	{name: "our fields in early hints", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nPortner-Load: 50%\r\n\r\n" + ok5, client: []string{"Link: </x>"}, not: []string{"Portner"}},
	{name: "hop-by-hop fields in early hints", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nKeep-Alive: timeout=5\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n" + ok5, client: []string{"Link: </x>"}, not: []string{"X-Hop", "Keep-Alive"}},

	{name: "repeated fields", request: "GET / HTTP/1.1\r\nX-A: 1\r\nx-a: 2\r\nAccept: a\r\nAccept: b\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-B: 1\r\nX-B: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n", client: []string{"X-B: 1", "X-B: 2", "Set-Cookie: a=1", "Set-Cookie: b=2"}, app: []string{"X-A: 1", "X-A: 2", "Accept: a", "Accept: b"}},
	{name: "empty fields", request: "GET / HTTP/1.1\r\nX-A:\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-B:\r\nContent-Length: 0\r\n\r\n", client: []string{"X-B: "}, app: []string{"X-A: "}},
	{name: "fields beyond ASCII", request: "GET / HTTP/1.1\r\nX-A: æ\xff\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-B: ø\xfe\r\nContent-Length: 0\r\n\r\n", client: []string{"X-B: ø\xfe"}, app: []string{"X-A: æ\xff"}},
	{name: "Authorization of the course's client", request: "GET / HTTP/1.1\r\nAuthorization: Basic b'c2ltOnNpbQ=='\r\n\r\n", answer: ok5, app: []string{"Authorization: Basic b'c2ltOnNpbQ=='"}},
	{name: "cookies", request: "GET / HTTP/1.1\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n", answer: ok5, app: []string{"Cookie: a=1", "Cookie: b=2"}},
	{name: "hop-by-hop fields", request: "GET / HTTP/1.1\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\nProxy-Connection: x\r\nTe: gzip\r\nX-End: 1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: x\r\nX-End: 1\r\nContent-Length: 0\r\n\r\n", client: []string{"X-End: 1"}, app: []string{"X-End: 1"}, not: []string{"X-Hop", "Keep-Alive", "Proxy-", "Te:"}},
	{name: "Connection lists odd things", request: "GET / HTTP/1.1\r\nConnection: , x-a ,, \"\r\nX-A: 1\r\nX-B: 1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nConnection: close, x-a\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n", closes: true, app: []string{"X-B: 1"}, not: []string{"X-A"},
		differ: "net/http takes the Connection of an answer that closes away, with what it lists", dropped: regexp.MustCompile(`X-A: 1\n`)},
	{name: "Connection lists what is made for the application", request: "GET / HTTP/1.1\r\nConnection: X-Forwarded-For, X-Request-Id, Forwarded, Via\r\n\r\n", answer: ok5, app: []string{"X-Forwarded-For: 127.0.0.1", "X-Request-Id: made", "Forwarded: for=127.0.0.1", "Via: 1.1 Caddy"}},
	{name: "Te: trailers", request: "GET / HTTP/1.1\r\nTe: trailers;q=0.5, deflate\r\nConnection: Te\r\n\r\n", answer: ok5, app: []string{"Te: trailers"}},
	{name: "our fields", request: "GET / HTTP/1.1\r\nPortner-Attempt: 9\r\nportner_attempt: 9\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nPortner-Load: 10%\r\nportner_load: 1\r\nEndpoint-Load-Metrics: TEXT cpu_utilization=0.3\r\nContent-Length: 0\r\n\r\n", not: []string{"Portner", "Endpoint-Load"}},
	{name: "fields that Caddy sets", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nServer: app/1\r\nVia: 1.1 inner\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer-Timing: db;dur=3\r\nAlt-Svc: h3=\":1\"\r\nContent-Length: 0\r\n\r\n", client: []string{"Server: app/1", "Via: 1.1 inner"}},
	{name: "Via of the client", request: "GET / HTTP/1.1\r\nVia: 1.0 before\r\n\r\n", answer: ok5, app: []string{"Via: 1.0 before"}},
	{name: "User-Agent", request: "GET / HTTP/1.1\r\nUser-Agent: x\r\nAccept-Encoding: br\r\n\r\n", answer: ok5, app: []string{"User-Agent: x", "Accept-Encoding: br"}},
	{name: "coded answer", request: "GET / HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz", client: []string{"Content-Encoding: gzip", `"xyz"`}},

	{name: "forged forwarding", request: "GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Request-Start: t=1\r\nEarly-Data: 1\r\n\r\n", answer: ok5, app: []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http"}, not: []string{"6.6.6.6", "evil", "t=1\n"}},
	{name: "forwarding by a trusted proxy of the handler", words: "trusted_proxies 127.0.0.0/8", request: "GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: front.test\r\nForwarded: for=6.6.6.6\r\nX-Request-Start: t=1\r\n\r\n", answer: ok5, app: []string{"X-Forwarded-For: 6.6.6.6, 7.7.7.7, 127.0.0.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: front.test", "Forwarded: for=6.6.6.6, for=127.0.0.1", "X-Request-Start: t=1"}},
	{name: "forwarding by a trusted proxy of the server", options: "servers {\n trusted_proxies static 127.0.0.0/8\n}", request: "GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\r\n", answer: ok5, app: []string{"X-Forwarded-For: 6.6.6.6, 127.0.0.1", "X-Forwarded-Proto: https"}},
	{name: "trusted proxies, and this is none", words: "trusted_proxies 10.0.0.0/8", request: "GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n", answer: ok5, not: []string{"6.6.6.6"}},
	{name: "trusted proxy that says nothing", words: "trusted_proxies 127.0.0.0/8", request: "GET / HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"X-Forwarded-For: 127.0.0.1"}},
	{name: "request id of the client", request: "GET / HTTP/1.1\r\nX-Request-Id: abc-123\r\n\r\n", answer: ok5, app: []string{"X-Request-Id: abc-123"}},
	{name: "odd request id", request: "GET / HTTP/1.1\r\nX-Request-Id: a\"b c\r\n\r\n", answer: ok5, app: []string{"X-Request-Id: made"}},
	{name: "two request ids", request: "GET / HTTP/1.1\r\nX-Request-Id: a\r\nX-Request-Id: b\r\n\r\n", answer: ok5, app: []string{"X-Request-Id: made"}},

	{name: "header_up sets", words: "header_up X-Up {http.request.host}-{rp.upstream.hostport}-{rp.upstream.address}", request: "GET / HTTP/1.1\r\nX-Up: old\r\n\r\n", answer: ok5, app: []string{"X-Up: "}, not: []string{"old"}},
	{name: "header_up adds", words: "header_up +X-Up new\nheader_up +X-Forwarded-For 9.9.9.9", request: "GET / HTTP/1.1\r\nX-Up: old\r\n\r\n", answer: ok5, app: []string{"X-Up: old", "X-Up: new", "X-Forwarded-For: 9.9.9.9"}},
	{name: "header_up deletes", words: "header_up -X-Up*\nheader_up -User-Agent\nheader_up -X-Forwarded-Host\nheader_up -Forwarded\nheader_up -Via", request: "GET / HTTP/1.1\r\nX-Up: 1\r\nX-Upper: 2\r\nUser-Agent: x\r\n\r\n", answer: ok5, not: []string{"X-Up", "User-Agent", "X-Forwarded-Host"},
		differ: "net/http says its own User-Agent then", dropped: regexp.MustCompile(`User-Agent: Go-http-client/1.1\n`)},
	{name: "header_up replaces", words: "header_up X-Up ^a(.*)$ b$1", request: "GET / HTTP/1.1\r\nX-Up: abc\r\n\r\n", answer: ok5, app: []string{"X-Up: bbc"}},
	{name: "header_up of the host", words: "header_up Host {rp.upstream.hostport}", request: "GET / HTTP/1.1\r\n\r\n", answer: ok5},
	{name: "header_up of the id", words: "header_up X-Request-Id mine\nheader_up X-Request-Start never", request: "GET / HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"X-Request-Id: mine", "X-Request-Start: never"}},
	{name: "header_up of an IPv4 client", words: "header_up X-Real-IP {remote_host}\nheader_up X-Client {client_ip}", request: "GET / HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"X-Real-Ip: 127.0.0.1", "X-Client: 127.0.0.1"}},
	{name: "header_up that would end a line", words: "header_up X-Up {http.request.uri.query.x}", request: "GET /?x=a%0d%0aEvil:1 HTTP/1.1\r\n\r\n", answer: ok5, client: []string{"HTTP/1.1 400", "request-unsendable"}, not: []string{"Evil"}},
	{name: "trailer of a request that would end a line", request: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: a\x01b\r\n\r\n", answer: ok5, client: []string{"HTTP/1.1 400", "body-broken"}, not: []string{"X-Sum: a"}},
	{name: "header_down sets", words: "header_down X-Down {rp.upstream.host}\nheader_down X-Took {rp.upstream.latency}", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-Down: a\r\nX-Down: b\r\nContent-Length: 0\r\n\r\n", client: []string{"X-Down: 127.0.0.1"}},
	{name: "header_down adds and deletes", words: "header_down +X-Down c\nheader_down -X-Gone\nheader_down -Server", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-Down: a\r\nX-Gone: 1\r\nServer: x\r\nContent-Length: 0\r\n\r\n", client: []string{"X-Down: a", "X-Down: c"}, not: []string{"X-Gone", "Server: x"}},
	{name: "header_down replaces", words: "header_down Location http://(.*) https://$1", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", client: []string{"Location: https://x/"}},

	{name: "double slash", request: "GET //x HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"GET //x HTTP/1.1"}},
	{name: "escaped slash", request: "GET /%2F HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"GET /%2F HTTP/1.1"}},
	{name: "empty query", request: "GET /a? HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"GET /a? HTTP/1.1"}},
	{name: "broken escape in the query", request: "GET /?x=%zz&y=1;z HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"GET /?x=%zz&y=1;z HTTP/1.1"}},
	{name: "dots", request: "GET /a/../b/./c HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"GET /a/../b/./c HTTP/1.1"}},
	{name: "bytes in the path", request: "GET /æ\xff\"<>|?ø#x HTTP/1.1\r\n\r\n", answer: ok5},
	{name: "absolute form", request: "GET http://%s/x?y HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"GET /x?y HTTP/1.1"}},
	{name: "OPTIONS", request: "OPTIONS /x HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"OPTIONS /x HTTP/1.1"}},
	{name: "OPTIONS *", request: "OPTIONS * HTTP/1.1\r\n\r\n", answer: ok5},
	{name: "method that nobody knows", request: "BREW /pot HTTP/1.1\r\n\r\n", answer: ok5, app: []string{"BREW /pot HTTP/1.1"}},
	{name: "server_timing off", words: "server_timing off", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nServer-Timing: db;dur=3.0\r\nContent-Length: 0\r\n\r\n", not: []string{"queue;dur"}},
	{name: "event stream", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\ndata: 2\n\n", closes: true, client: []string{`"data: 1\n\ndata: 2\n\n"`}},
	{name: "event stream in chunks", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n", client: []string{`"data: 1\n\n"`}},
	{name: "stream with a length", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\nContent-Length: 5\r\n\r\nhello", client: []string{`"hello"`}},

	{name: "two requests", request: "GET /1 HTTP/1.1\r\n\r\n", answer: ok5, again: true},
	{name: "two requests, chunks", request: "POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},

	{name: "garbage", request: "GET / HTTP/1.1\r\n\r\n", answer: "what?\r\n\r\n", closes: true, client: []string{"HTTP/1.1 502", "upstream-failed"}},
	{name: "nothing", request: "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", answer: "", client: []string{"HTTP/1.1 502"}},
	{name: "half a head", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-", closes: true, client: []string{"HTTP/1.1 502"}},
	{name: "nothing, and the site answers for errors", site: "handle_errors {\n respond \"sorry for {err.status_code}\"\n}", request: "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", answer: "", client: []string{"HTTP/1.1 502", `"sorry for 502"`}},
	{name: "the application's own error, and the site answers for errors", site: "handle_errors {\n respond \"sorry for {err.status_code}\"\n}", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", client: []string{"HTTP/1.1 500", `"no"`}},
	{name: "unasked 101", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", client: []string{"HTTP/1.1 502"}},
	{name: "endless interim answers", request: "GET / HTTP/1.1\r\n\r\n", answer: strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 1000), closes: true, client: []string{"HTTP/1.1 502"},
		differ: "how many is too many", dropped: regexp.MustCompile(`HTTP/1.1 102 Processing\nServer: Caddy\n""\n\n`)},
	{name: "long answer that breaks off", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n" + strings.Repeat("x", 400000), closes: true, client: []string{"HTTP/1.1 200 OK", "broken off"}},
	{name: "long chunked answer that breaks off", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n61A80\r\n" + strings.Repeat("x", 400000) + "\r\n", closes: true, client: []string{"HTTP/1.1 200 OK", "broken off"}},
}

func TestBothWaysAreTheSame(t *testing.T) {
	a := newRawApp(t, "tcp", "127.0.0.1:0")
	waysAreTheSame(t, a, a.Addr().String(), ways)
}

func TestBothWaysAreTheSameThroughASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	a := newRawApp(t, "unix", path)
	var some []way
	for _, w := range ways {
		switch w.name {
		case "GET", "POST", "chunks", "early hints", "trailer", "header_up sets", "header_down sets", "nothing", "long, with length":
			w.client = slices.DeleteFunc(slices.Clone(w.client), func(s string) bool { return s == "X-Down: 127.0.0.1" })
			some = append(some, w)
		}
	}
	waysAreTheSame(t, a, "unix/"+path, some)
}

func waysAreTheSame(t *testing.T, a *rawApp, address string, rows []way) {
	var d *door
	last := "none"
	got := make(map[string][2]string) // by direct: client, application
	for _, direct := range []string{"on", "off"} {
		for i, w := range rows {
			if d == nil || last != direct+w.words+w.site+w.options {
				config := fmt.Sprintf("app_proxy %s {\n name ways\n concurrency 1\n direct %s\n %s\n}\n%s", address, direct, w.words, w.site)
				if d == nil {
					d = open(t, config)
				}
				d.options = w.options
				d.load(config)
				last = direct + w.words + w.site + w.options
			}
			a.says(w.answer, w.closes)
			client := d.asked(strings.Fields(w.request)[0], d.rawRequest(w))
			app := strings.ReplaceAll(a.was(), d.addr, "DOOR")
			what := fmt.Sprintf("%s, direct %s", w.name, direct)
			for _, want := range w.client {
				if !strings.Contains(client, want) {
					t.Errorf("%s: the client got no %q:\n%.1000s", what, want, client)
				}
			}
			for _, want := range w.app {
				if !strings.Contains(app, want) {
					t.Errorf("%s: the application got no %q:\n%.1000s", what, want, app)
				}
			}
			client = framed.ReplaceAllString(client, "")
			if w.dropped != nil {
				client, app = w.dropped.ReplaceAllString(client, ""), w.dropped.ReplaceAllString(app, "")
			}
			for _, not := range w.not {
				if strings.Contains(app, not) || strings.Contains(client, not) {
					t.Errorf("%s: %q went through:\n%.1000s\n%.1000s", what, not, app, client)
				}
			}
			key := fmt.Sprint(i)
			if direct == "on" {
				got[key] = [2]string{client, app}
				continue
			}
			if before := got[key]; before[0] != client || before[1] != app {
				t.Errorf("%s: the ways differ (known: %q).\nThe client got by the direct way:\n%.1500s\nand by reverse_proxy:\n%.1500s\nThe application got by the direct way:\n%.1500s\nand by reverse_proxy:\n%.1500s",
					w.name, w.differ, before[0], client, before[1], app)
			}
		}
	}
	eventually(t, "all slots are back", func() bool { return poolOf(t, "ways").InFlight == 0 })
}

// rawRequest puts Host and, at the last one, Connection: close into a request.
func (d *door) rawRequest(w way) string {
	head, rest, _ := strings.Cut(w.request, "\r\n")
	head = strings.ReplaceAll(head, "http://%s", "http://"+d.addr)
	host := "\r\nHost: " + d.addr
	text := head + host + "\r\nConnection: close\r\n" + rest
	if w.again {
		text = head + host + "\r\n" + rest + text
	}
	return text
}
