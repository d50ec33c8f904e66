package caddymodule_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestNobodySmugglesPastTheDoor: what two readers could understand in two ways
// ends the connection, and what would lead past the door does not go through.
func TestNobodySmugglesPastTheDoor(t *testing.T) {
	a := newApp(t, mirror)
	d := open(t, "app_proxy "+a.addr)
	for _, c := range []struct {
		request string
		status  int
		closes  bool
		not     string // in what the application has got
	}{
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, true, "GET"},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 100\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 200, true, "smuggled"},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 200, false, ""},
		{"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", 200, false, "h2c"},
		{"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket, H2C\r\nConnection: Upgrade\r\n\r\n", 200, false, "Upgrade"},
		{"TRACE / HTTP/1.1\r\nHost: x\r\nCookie: secret=1\r\n\r\n", 405, false, "secret"},
		{"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", 405, true, "CONNECT"},
		{"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 405, true, "smuggled"},
		{"POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 200, true, "smuggled"},
		{"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 200, true, "smuggled"},
		{"POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabcGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 200, true, "smuggled"},
	} {
		conn, in := d.dial(strings.NewReplacer("Host: x\r", "Host: "+d.addr+"\r", "x:1", d.addr).Replace(c.request))
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(c.request, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != c.status {
			t.Errorf("%q: %d %q, %v", c.request, res.StatusCode, body, err)
		}
		if c.not != "" && strings.Contains(string(body), c.not) {
			t.Errorf("%q went through: %q", c.request, body)
		}
		if c.status == 405 && res.Header.Get("Allow") == "" {
			t.Errorf("%q: no Allow", c.request)
		}
		if res.Close != c.closes {
			t.Errorf("%q: closes %v", c.request, res.Close)
		}
		if c.closes {
			if rest, err := io.ReadAll(in); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%q: what follows is %q, %v", c.request, rest, err)
			}
		}
		conn.Close()
	}
}
