package caddymodule_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// insistent is a client that goes on sending, whatever it is told meanwhile: half of
// its pieces when it has its answer.
type insistent struct {
	head, first, piece, end string
	shy                     bool // it sends no piece before
}

const (
	pieceLen = 64 << 10
	pieces   = 64
)

var aPiece = strings.Repeat("x", pieceLen)

func byLength(head string) insistent {
	return insistent{head: fmt.Sprintf("%sContent-Length: %d\r\n", head, pieces*pieceLen), piece: aPiece}
}

func inChunks(head string) insistent {
	return insistent{head: head + "Transfer-Encoding: chunked\r\n", piece: fmt.Sprintf("%x\r\n%s\r\n", pieceLen, aPiece), end: "0\r\n\r\n"}
}

// refusedBy sends it all, and reports the answer, which must be there in time, say
// that the connection is closed, and be the only one.
func (c insistent) refusedBy(d *door) (status int, text string, err error) {
	d.t.Helper()
	conn, in := d.dial(c.head + "\r\n" + c.first)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	answered, sent := make(chan bool), make(chan error, 1)
	go func() { // ends with the pieces or with the connection
		for i := range pieces {
			if i == pieces/2 || c.shy {
				<-answered
			}
			if _, err := io.WriteString(conn, c.piece); err != nil {
				sent <- fmt.Errorf("after %d of %d pieces: %w", i, pieces, err)
				return
			}
		}
		_, err := io.WriteString(conn, c.end)
		sent <- err
	}()
	status, text, err = onlyAnswer(c.head, in)
	close(answered)
	if serr := <-sent; serr != nil {
		return status, text, serr
	}
	if rest, rerr := io.ReadAll(in); err == nil && (len(rest) > 0 || rerr != nil) {
		err = fmt.Errorf("and then %q, %v", rest, rerr)
	}
	return status, text, err
}

// finalAnswer reads the answer to a request, past any 100.
func finalAnswer(in *bufio.Reader, r *http.Request) (*http.Response, error) {
	res, err := http.ReadResponse(in, r)
	for err == nil && res.StatusCode == 100 {
		res, err = http.ReadResponse(in, r)
	}
	return res, err
}

// onlyAnswer reads the answer to a request, behind which the connection is closed.
func onlyAnswer(head string, in *bufio.Reader) (status int, text string, err error) {
	method, _, _ := strings.Cut(head, " ")
	res, err := finalAnswer(in, &http.Request{Method: method})
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(res.Body)
	if err == nil && !res.Close {
		err = fmt.Errorf("it does not say that it is the last")
	}
	return res.StatusCode, string(b), err
}

// TestWhoSendsTooMuchForCaddyIsToldSo: the bound may be that of request_body.
func TestWhoSendsTooMuchForCaddyIsToldSo(t *testing.T) {
	a := newApp(t, mirror)
	d := open(t, "request_body {\n max_size 4KB\n}\napp_proxy "+a.addr)
	status, text, err := inChunks("POST / HTTP/1.1\r\nHost: " + d.addr + "\r\n").refusedBy(d)
	if status != 413 || !strings.Contains(text, "at most") || !strings.Contains(text, " 4000 bytes") || err != nil {
		t.Errorf("%d %s %v", status, text, err)
	}
}

// TestWhoIsRefusedMayGoOnSending: the body that nobody reads is no reason to see a
// reset in place of the answer.
func TestWhoIsRefusedMayGoOnSending(t *testing.T) {
	a := newTurnstile(t)
	t.Setenv("TMPDIR", t.TempDir()+"/nowhere")
	d := open(t, "app_proxy "+a.addr+" {\n name unread\n concurrency 1\n queue {\n wait 0\n }\n route GET /status {\n respond_status\n }\n}")
	d.visit("/")
	<-a.entered
	host := " HTTP/1.1\r\nHost: " + d.addr + "\r\n"
	for head, want := range map[string]string{
		"POST /" + host + "Incremental: ?1\r\n": "503 queue-wait",
		"TRACE /" + host:                        "405 method",
		"GET /status" + host:                    "200 Alive",
		"POST /" + host:                         "503 internal",
	} {
		for what, c := range map[string]insistent{"length": byLength(head), "chunks": inChunks(head)} {
			status, text, err := c.refusedBy(d)
			if word := strings.TrimPrefix(want, fmt.Sprint(status, " ")); !strings.Contains(text, word) || err != nil {
				t.Errorf("%q, %s: %d %s %v", head, what, status, text, err)
			}
		}
	}
}

// TestRefusalWaitsForNoBody: the client may send it only when it was told to.
func TestRefusalWaitsForNoBody(t *testing.T) {
	a := newTurnstile(t)
	d := open(t, "app_proxy "+a.addr+" {\n name impatient\n concurrency 1\n queue {\n wait 0\n }\n}")
	d.visit("/")
	<-a.entered
	for _, fields := range []string{
		"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
		"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n",
		"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
		"Content-Length: 100\r\n\r\nx",
		"Content-Length: 1000000\r\n\r\nx",
		"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
	} {
		request := "POST / HTTP/1.1\r\nHost: " + d.addr + "\r\nIncremental: ?1\r\n" + fields
		conn, in := d.dial(request)
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		first, err := in.Peek(12)
		if string(first) != "HTTP/1.1 503" {
			t.Errorf("%q: %q %v", fields, first, err)
			continue
		}
		if _, _, err := onlyAnswer(request, in); err != nil {
			t.Errorf("%q: %v", fields, err)
		}
		if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
			t.Errorf("%q: and then %q, %v", fields, rest, err)
		}
	}
}

// TestShortBodyThatIsRefusedCostsNoConnection: it is here already.
func TestShortBodyThatIsRefusedCostsNoConnection(t *testing.T) {
	a := newTurnstile(t)
	d := open(t, "app_proxy "+a.addr+" {\n name reused\n concurrency 1\n queue {\n wait 0\n }\n}")
	d.visit("/")
	<-a.entered
	conn, in := d.dial("")
	for _, length := range []int{5, 100_000, 0} {
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nIncremental: ?1\r\nContent-Length: %d\r\n\r\n%s", d.addr, length, strings.Repeat("x", length))
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%d bytes: %v", length, err)
		}
		if p := problem(t, res); p.Reason != "queue-wait" || res.Close {
			t.Errorf("%d bytes: %+v, closes: %v", length, p, res.Close)
		}
	}
}

// TestAnswerBeforeTheBodysEndIsTheLast: what is left of the body is not taken for
// another request, and its client sees the answer although it goes on sending.
func TestAnswerBeforeTheBodysEndIsTheLast(t *testing.T) {
	a := newFickle(t, map[string]func(*net.TCPConn, *bufio.Reader){
		"/stays":    says("HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nwell", silent),
		"/closes":   says("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 4\r\n\r\nwell", silent),
		"/chunks":   says("HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\n\r\n", silent),
		"/smuggled": func(*net.TCPConn, *bufio.Reader) { t.Error("the rest was taken for a request") },
	})
	d := open(t, "app_proxy "+a.Addr().String())
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: " + d.addr + "\r\n\r\n"
	for _, path := range []string{"/stays", "/closes", "/chunks"} {
		head := "POST " + path + " HTTP/1.1\r\nHost: " + d.addr + "\r\nIncremental: ?1\r\n"
		length, chunks, trickle := byLength(head), inChunks(head), byLength(head)
		length.piece = strings.Repeat(smuggled, pieceLen/len(smuggled)) + strings.Repeat("\n", pieceLen%len(smuggled))
		trickle.first, trickle.piece, trickle.shy = "x", "", true
		clients := map[string]insistent{"trickle": trickle}
		if path != "/chunks" { // whose end comes when its client pauses
			clients["length"], clients["chunks"] = length, chunks
		}
		for what, c := range clients {
			if status, text, err := c.refusedBy(d); status != 401 || text != "well" || err != nil {
				t.Errorf("%s, %s: %d %q %v", path, what, status, text, err)
			}
		}
	}
}

// TestWhoseBodyCannotBeReadMayGoOnSending: nobody knows where it ends.
func TestWhoseBodyCannotBeReadMayGoOnSending(t *testing.T) {
	a := newApp(t, mirror)
	d := open(t, "app_proxy "+a.addr+" {\n buffer {\n min_rate 1KiB 100ms\n }\n}")
	post := "POST / HTTP/1.1\r\nHost: " + d.addr + "\r\n"
	broken, slow, slower := inChunks(post), inChunks(post), byLength(post)
	broken.first = "nonsense\r\n"
	slow.first, slow.shy, slower.shy = "1\r\nx\r\n", true, true
	for what, c := range map[string]insistent{"broken": broken, "slow chunks": slow, "slow": slower} {
		want := "408 body-too-slow"
		if what == "broken" {
			want = "400 body-broken"
		}
		status, text, err := c.refusedBy(d)
		if word := strings.TrimPrefix(want, fmt.Sprint(status, " ")); !strings.Contains(text, word) || err != nil {
			t.Errorf("%s: %d %s %v", what, status, text, err)
		}
	}
}

// TestClientsFaultIsNotTheApplications: not in a conversation either.
func TestClientsFaultIsNotTheApplications(t *testing.T) {
	a, b := newApp(t, mirror), newApp(t, mirror) // the last one would be spared
	d := open(t, "request_body {\n max_size 4KB\n}\napp_proxy "+a.addr+" "+b.addr+" {\n name faultless\n fail_duration 1h\n max_fails 1\n}")
	post := "POST / HTTP/1.1\r\nHost: " + d.addr + "\r\nIncremental: ?1\r\n"
	broken := inChunks(post)
	broken.first = "nonsense\r\n"
	for want, c := range map[string]insistent{"413 body-too-large": inChunks(post), "400 body-broken": broken} {
		status, text, err := c.refusedBy(d)
		if word := strings.TrimPrefix(want, fmt.Sprint(status, " ")); !strings.Contains(text, word) || err != nil {
			t.Errorf("%s: %d %s %v", want, status, text, err)
		}
		if p := poolOf(t, "faultless"); len(p.Ready) != 2 {
			t.Errorf("%s: %+v", want, p)
		}
	}
}
