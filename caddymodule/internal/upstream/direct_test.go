package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// application answers every request on a connection by what say makes of it; an
// empty text closes the connection.
type application struct {
	t       *testing.T
	address string
	conns   chan net.Conn // as they come
}

// newApplication serves each connection by serve, which reads requests itself.
func newApplication(t *testing.T, serve func(conn net.Conn, r *bufio.Reader)) *application {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &application{t: t, address: l.Addr().String(), conns: make(chan net.Conn, 100)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.conns <- conn
			go func() { // ends with the connection
				defer conn.Close()
				serve(conn, bufio.NewReader(conn))
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return a
}

// answering answers every request without a body by the same text.
func answering(t *testing.T, text string) *application {
	return newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		for readRequest(r) == nil {
			io.WriteString(conn, text)
		}
	})
}

func readRequest(r *bufio.Reader) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "\r\n" {
			return nil
		}
	}
}

func newDirect(t *testing.T, cfg DirectConfig) *Direct {
	cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	d := NewDirect(cfg)
	t.Cleanup(d.Close)
	return d
}

// got is an answer as a test looks at it.
type got struct {
	Status  int
	Fields  string
	Body    string
	Trailer string
}

func fieldText(fields []Field) string {
	var lines []string
	for _, f := range fields {
		lines = append(lines, f.Name+": "+f.Value)
	}
	return strings.Join(lines, "\n")
}

// ask sends a request and reads its answer, three bytes at a time.
func (a *application) ask(d *Direct, r *Request) (got, error) {
	a.t.Helper()
	if r.Method == "" {
		r.Method = "GET"
	}
	if r.Target == "" {
		r.Target = "/"
	}
	r.Host = "app"
	answer, err := d.Send(a.t.Context(), a.address, r)
	if err != nil {
		return got{}, err
	}
	defer answer.Close()
	answer.SetDeadline(time.Now().Add(10 * time.Second))
	for answer.Status < 200 {
		if err := answer.Head(); err != nil {
			return got{}, err
		}
	}
	g := got{Status: answer.Status, Fields: fieldText(answer.Fields)}
	var body bytes.Buffer
	_, err = io.CopyBuffer(struct{ io.Writer }{&body}, answer, make([]byte, 3))
	g.Body, g.Trailer = body.String(), fieldText(answer.Trailer)
	return g, err
}

func TestAnswersAreReadAsTheyAreFramed(t *testing.T) {
	tests := []struct {
		name   string
		method string
		text   string
		want   got
		kept   int // connections afterwards
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-app:  a b \r\n\r\nhello", got{200, "Content-Length: 5\nX-App: a b", "hello", ""}, 1},
		{"no body", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", got{200, "Content-Length: 0", "", ""}, 1},
		{"no reason", "GET", "HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n", got{299, "Content-Length: 0", "", ""}, 1},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", got{200, "Content-Length: 5", "", ""}, 1},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", got{204, "", "", ""}, 1},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", got{304, "Content-Length: 5", "", ""}, 1},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n00A;x=\"y\"\r\n wonderful\r\n0\r\n\r\n", got{200, "Transfer-Encoding: Chunked", "hello wonderful", ""}, 1},
		{"trailer", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\nContent-Length: 7\r\nY: 2\r\n\r\n", got{200, "Transfer-Encoding: chunked\nTrailer: X-Sum", "hello", "X-Sum: 1\nY: 2"}, 1},
		{"interim", "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!", got{200, "Content-Length: 1", "!", ""}, 1},
		{"close", "GET", "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\n!", got{200, "Connection: x, Close\nContent-Length: 1", "!", ""}, 0},
		{"old", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n!", got{200, "Content-Length: 1", "!", ""}, 0},
		{"old, kept", "GET", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\n!", got{200, "Connection: Keep-Alive\nContent-Length: 1", "!", ""}, 1},
		{"more than was said", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!!", got{200, "Content-Length: 1", "!", ""}, 0},
		{"body of a HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!", got{200, "Content-Length: 1", "", ""}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := newDirect(t, DirectConfig{})
			app := answering(t, test.text)
			g, err := app.ask(d, &Request{Method: test.method})
			if err != nil || g != test.want {
				t.Errorf("got %+v, %v; want %+v", g, err, test.want)
			}
			if d.Idle() != test.kept {
				t.Errorf("%d connections are kept, want %d", d.Idle(), test.kept)
			}
		})
	}
}

func TestAnswerThatEndsWithTheConnectionIsWhole(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		readRequest(r)
		io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\n"+strings.Repeat("x", 10000))
	})
	g, err := app.ask(d, &Request{})
	if err != nil || len(g.Body) != 10000 || d.Idle() != 0 {
		t.Errorf("%d bytes, %v, %d connections kept", len(g.Body), err, d.Idle())
	}
}

func TestBrokenAnswersAreRefused(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	tests := map[string]string{
		"no HTTP":                   "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"another version":           "HTTP/2.0 200 OK\r\n\r\n",
		"two digits":                "HTTP/1.1 20 OK\r\n\r\n",
		"sign":                      "HTTP/1.1 +20 OK\r\n\r\n",
		"status 0xx":                "HTTP/1.1 099 OK\r\n\r\n",
		"two lengths":               ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n!!",
		"the same length twice":     ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n!",
		"list of lengths":           ok + "Content-Length: 1, 1\r\n\r\n!",
		"signed length":             ok + "Content-Length: +1\r\n\r\n!",
		"negative length":           ok + "Content-Length: -1\r\n\r\n!",
		"length with no number":     ok + "Content-Length: \r\n\r\n",
		"length too large":          ok + "Content-Length: 9223372036854775808\r\n\r\n",
		"length and chunks":         ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"another coding":            ok + "Transfer-Encoding: gzip\r\n\r\n",
		"two codings":               ok + "Transfer-Encoding: gzip, chunked\r\n\r\n",
		"chunks twice":              ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"chunks in HTTP/1.0":        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"obs-fold":                  ok + "X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
		"lone LF":                   "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
		"lone LF between fields":    ok + "X: a\nContent-Length: 0\r\n\r\n",
		"lone CR":                   ok + "X: a\rContent-Length: 1\r\n\r\n",
		"space before the colon":    ok + "Content-Length : 0\r\n\r\n",
		"no colon":                  ok + "Content-Length\r\n\r\n",
		"no name":                   ok + ": x\r\n\r\n",
		"NUL":                       ok + "X: a\x00b\r\n\r\n",
		"unasked 101":               "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
		"too long":                  ok + "X: " + strings.Repeat("x", 10<<10) + "\r\n\r\n",
		"too long, without end":     ok + "X: " + strings.Repeat("x", 100<<10),
		"interim answers, for ever": strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxInterim+1),
	}
	const chunked = ok + "Transfer-Encoding: chunked\r\n\r\n"
	maps.Copy(tests, map[string]string{
		"size with a sign":       chunked + "+1\r\n!\r\n0\r\n\r\n",
		"size with 0x":           chunked + "0x1\r\n!\r\n0\r\n\r\n",
		"size with spaces first": chunked + " 1\r\n!\r\n0\r\n\r\n",
		"size, space, extension": chunked + "1 ;x\r\n!\r\n0\r\n\r\n",
		"size too large":         chunked + "1000000000000000\r\n!\r\n0\r\n\r\n",
		"no size":                chunked + "\r\n!\r\n0\r\n\r\n",
		"longer than its size":   chunked + "1\r\n!!\r\n0\r\n\r\n",
		"chunk ends with LF":     chunked + "1\r\n!\n0\r\n\r\n",
		"size ends with LF":      chunked + "1\n!\r\n0\r\n\r\n",
		"CR in an extension":     chunked + "1;x\ry\r\n!\r\n0\r\n\r\n",
		"endless extension":      chunked + "1;" + strings.Repeat("x", 5<<10),
		"obs-fold in trailer":    chunked + "0\r\nX: 1\r\n y\r\n\r\n",
		"endless trailer":        chunked + "0\r\n" + strings.Repeat("X: 1\r\n", 10<<10),
	})
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDirect(t, DirectConfig{MaxHead: 8 << 10})
			app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
				readRequest(r)
				io.WriteString(conn, text)
				io.Copy(io.Discard, r) // the connection stays: nothing ends by its end
			})
			g, err := app.ask(d, &Request{})
			if !errors.Is(err, ErrBroken) && !errors.Is(err, ErrUnasked) {
				t.Errorf("got %.200v, %v", g, err)
			}
			if d.Idle() != 0 {
				t.Error("the connection is kept")
			}
		})
	}
}

func TestAnswerThatBreaksOffIsAnError(t *testing.T) {
	for _, text := range []string{
		"", "HTTP", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n",
	} {
		d := newDirect(t, DirectConfig{})
		app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
			readRequest(r)
			io.WriteString(conn, text)
		})
		if g, err := app.ask(d, &Request{}); !errors.Is(err, ErrClosed) && (text != "" || !errors.Is(err, ErrSilent)) {
			t.Errorf("%q: got %+v, %v", text, g, err)
		}
	}
}

func TestConnectionIsUsedAgain(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	app := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!")
	for range 10 {
		if _, err := app.ask(d, &Request{Fresh: true}); err != nil {
			t.Fatal(err)
		}
	}
	if len(app.conns) != 1 {
		t.Errorf("%d connections for ten requests, one after another", len(app.conns))
	}
}

// TestClosedConnectionIsNotUsed: a POST on a connection that the application has
// closed would be lost.
func TestClosedConnectionIsNotUsed(t *testing.T) {
	closed := make(chan struct{}, 10)
	d := newDirect(t, DirectConfig{})
	app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		readRequest(r)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!")
		conn.Close()
		closed <- struct{}{}
	})
	for i := range 5 {
		if _, err := app.ask(d, &Request{Method: "POST"}); err != nil {
			t.Fatal(i, err)
		}
		<-closed
	}
}

func TestConnectionWithUnaskedWordsIsNotUsed(t *testing.T) {
	read, said := make(chan struct{}), make(chan struct{})
	d := newDirect(t, DirectConfig{})
	app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		for readRequest(r) == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nme")
			<-read
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
			said <- struct{}{}
		}
	})
	for i := range 5 {
		g, err := app.ask(d, &Request{})
		if err != nil || g.Body != "me" {
			t.Fatal(i, g, err)
		}
		read <- struct{}{}
		<-said
	}
}

// TestStaleConnectionIsTold: closed in the moment in which the request is on its
// way.
func TestStaleConnectionIsTold(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		readRequest(r)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!")
		readRequest(r)
	})
	if _, err := app.ask(d, &Request{}); err != nil {
		t.Fatal(err)
	}
	if _, err := app.ask(d, &Request{}); !errors.Is(err, ErrStale) {
		t.Errorf("got %v, want ErrStale", err)
	}
}

func TestRequestIsWrittenWhole(t *testing.T) {
	long := strings.Repeat("0123456789", 100_000)
	tests := []struct {
		name string
		r    Request
		want []string // lines in any order
		body string
	}{
		{"plain", Request{Method: "GET", Target: "/x?y=1", Header: map[string][]string{"Accept": {"a", "b"}, "Content-Length": {"7"}, "Transfer-Encoding": {"chunked"}, "Connection": {"close"}, "Host": {"evil"}}},
			[]string{"GET /x?y=1 HTTP/1.1", "Host: app", "Accept: a", "Accept: b"}, ""},
		{"empty POST", Request{Method: "POST"}, []string{"POST / HTTP/1.1", "Host: app", "Content-Length: 0"}, ""},
		{"short", Request{Method: "POST", Body: strings.NewReader("hello"), Length: 5}, []string{"POST / HTTP/1.1", "Host: app", "Content-Length: 5"}, "hello"},
		{"long", Request{Method: "PUT", Body: strings.NewReader(long), Length: int64(len(long))}, []string{"PUT / HTTP/1.1", "Host: app", "Content-Length: 1000000"}, long},
		{"chunks", Request{Method: "PUT", Body: strings.NewReader("hello"), Length: -1, Trailer: map[string][]string{"X-Sum": {"1"}, "Content-Length": {"9"}}},
			[]string{"PUT / HTTP/1.1", "Host: app", "Transfer-Encoding: chunked", "Trailer: X-Sum"}, "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{"dropped and extra", Request{Header: map[string][]string{"Te": {"trailers"}, "Via": {"1.1 a"}}, Drop: dropping("Te"), Extra: []Field{{"Via", "1.1 Portner"}}},
			[]string{"GET / HTTP/1.1", "Host: app", "Via: 1.1 a", "Via: 1.1 Portner"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			lines := make(chan []string, 1)
			body := make(chan string, 1)
			d := newDirect(t, DirectConfig{})
			app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
				var head []string
				for {
					line, err := r.ReadString('\n')
					if err != nil || line == "\r\n" {
						break
					}
					head = append(head, strings.TrimSuffix(line, "\r\n"))
				}
				lines <- head
				b := make([]byte, len(test.body))
				io.ReadFull(r, b)
				body <- string(b)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			})
			if _, err := app.ask(d, &test.r); err != nil {
				t.Fatal(err)
			}
			got, want := <-lines, slices.Clone(test.want)
			if got[0] != want[0] {
				t.Errorf("request line %q, want %q", got[0], want[0])
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if b := <-body; b != test.body {
				t.Errorf("body %.100q, want %.100q", b, test.body)
			}
		})
	}
}

type dropping string

func (d dropping) Drops(name string) bool { return name == string(d) }

func TestRequestThatCouldBeTwoIsNotSent(t *testing.T) {
	for _, r := range []*Request{
		{Method: "GET /x HTTP/1.1\r\nHost: y\r\n\r\nGET"},
		{Method: "GET", Target: "/ HTTP/1.1\r\nX: y"},
		{Header: map[string][]string{"X": {"a\r\nY: b"}}},
		{Header: map[string][]string{"X": {"a\nY: b"}}},
		{Header: map[string][]string{"X: b\r\nY": {"a"}}},
		{Extra: []Field{{"X", "\x00"}}},
	} {
		d := newDirect(t, DirectConfig{})
		app := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		if _, err := app.ask(d, r); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %v, want ErrRequest", r, err)
		}
		if err := r.Check(); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: Check says %v, want ErrRequest", r, err)
		}
	}
}

// TestBodyThatFailsEndsTheConnection: the application must not take what comes
// next for the rest.
func TestBodyThatFailsEndsTheConnection(t *testing.T) {
	for _, length := range []int64{10, 10 << 20, -1} {
		d := newDirect(t, DirectConfig{})
		app := newApplication(t, func(conn net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
		lost := errors.New("the file is gone")
		body := io.MultiReader(strings.NewReader("hello"), failingReader{lost})
		_, err := app.ask(d, &Request{Method: "PUT", Body: body, Length: length})
		if !errors.Is(err, ErrBody) || !errors.Is(err, ErrRequest) || !errors.Is(err, lost) {
			t.Errorf("length %d: got %v", length, err)
		}
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// TestEarlyAnswerIsHeard: the application says no before it has read the body.
func TestEarlyAnswerIsHeard(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		readRequest(r)
		io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
		io.Copy(io.Discard, r) // until Close
	})
	endless := strings.NewReader(strings.Repeat("x", 50<<20))
	g, err := app.ask(d, &Request{Method: "PUT", Body: endless, Length: endless.Size()})
	if err != nil || g.Status != 413 || g.Body != "no" {
		t.Errorf("got %+v, %v", g, err)
	}
	if d.Idle() != 0 {
		t.Error("a connection with half a body in it is kept")
	}
}

func TestHeadCanBeAskedForAgainAfterItsDeadline(t *testing.T) {
	goOn := make(chan struct{})
	d := newDirect(t, DirectConfig{})
	app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		readRequest(r)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nCont")
		<-goOn
		io.WriteString(conn, "ent-Length: 1\r\n\r\n!")
		readRequest(r)
	})
	a, err := d.Send(t.Context(), app.address, &Request{Method: "GET", Target: "/", Host: "app"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	a.SetDeadline(time.Now().Add(time.Millisecond))
	if err := a.Head(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want a deadline", err)
	}
	close(goOn)
	a.SetDeadline(time.Time{})
	if err := a.Head(); err != nil || a.Status != 200 {
		t.Fatal(a.Status, err)
	}
}

func TestAbortEndsReading(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		readRequest(r)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n!")
		readRequest(r)
	})
	a, err := d.Send(t.Context(), app.address, &Request{Method: "GET", Target: "/", Host: "app"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Head(); err != nil {
		t.Fatal(err)
	}
	go a.Abort()
	if _, err := io.ReadAll(a); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	a.Close()
	if d.Idle() != 0 {
		t.Error("an aborted connection is kept")
	}
}

// TestConnectionWithoutAHeadIsNotKept: the answer is still to come, and would be taken
// for that to the next request.
func TestConnectionWithoutAHeadIsNotKept(t *testing.T) {
	for _, interim := range []string{"", "HTTP/1.1 103 Early Hints\r\n\r\n"} {
		d := newDirect(t, DirectConfig{})
		app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
			readRequest(r)
			io.WriteString(conn, interim)
			readRequest(r)
		})
		a, err := d.Send(t.Context(), app.address, &Request{Method: "GET", Target: "/", Host: "app"})
		if err != nil {
			t.Fatal(err)
		}
		if interim != "" {
			if err := a.Head(); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := a.Read(make([]byte, 1)); n > 0 || err != ErrClosed || a.Ended() {
			t.Errorf("before its head the answer has %d bytes, %v, ended %v", n, err, a.Ended())
		}
		if a.Close(); d.Idle() != 0 {
			t.Errorf("after %q the connection is kept", interim)
		}
	}
}

func TestIdleConnectionsAreClosedInTime(t *testing.T) {
	d := newDirect(t, DirectConfig{IdleTimeout: time.Millisecond})
	ended := make(chan struct{})
	app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		readRequest(r)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		readRequest(r)
		close(ended)
	})
	if _, err := app.ask(d, &Request{}); err != nil {
		t.Fatal(err)
	}
	<-ended
	if d.Idle() != 0 {
		t.Error("closed, and still kept")
	}
}

func BenchmarkDirect(b *testing.B) {
	for _, size := range []int{0, 1 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			text := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				r := bufio.NewReader(conn)
				for readRequest(r) == nil {
					conn.Write(text)
				}
			}()
			d := NewDirect(DirectConfig{Dial: func(ctx context.Context, address string) (net.Conn, error) { return net.Dial("tcp", address) }})
			defer d.Close()
			r := &Request{Method: "GET", Target: "/", Host: "app", Header: map[string][]string{"Accept": {"*/*"}, "User-Agent": {"bench"}}}
			buf := make([]byte, 128<<10)
			b.ReportAllocs()
			for b.Loop() {
				a, err := d.Send(b.Context(), l.Addr().String(), r)
				if err != nil {
					b.Fatal(err)
				}
				a.SetDeadline(time.Now().Add(time.Minute))
				if err := a.Head(); err != nil {
					b.Fatal(err)
				}
				for {
					if _, err := a.Read(buf); err != nil {
						break
					}
				}
				a.Close()
			}
		})
	}
}
