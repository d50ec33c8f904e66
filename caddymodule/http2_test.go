package caddymodule_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// TestBothWaysAreTheSameForClientsOfHTTP2 asks over TLS, as browsers do.
func TestBothWaysAreTheSameForClientsOfHTTP2(t *testing.T) {
	a := newRawApp(t, "tcp", "127.0.0.1:0")
	rows := []struct {
		what, method, body string
		header             http.Header
		answer             string
		client, app        []string
	}{
		{what: "GET", method: "GET", answer: ok5, client: []string{"200", `"hello"`, "Via: 1.1 Caddy"}, app: []string{"GET /x?y HTTP/1.1", "Via: 2.0 Caddy", "X-Forwarded-Proto: https", "Forwarded: for=127.0.0.1;proto=https;host="}},
		{what: "cookies in several fields", method: "GET", header: http.Header{"Cookie": {"a=1; b=2", "c=3"}}, answer: ok5, app: []string{"Cookie: a=1; b=2; c=3"}}, // RFC 9113, section 8.2.3
		{what: "HEAD", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", client: []string{"200", "Content-Length: 5"}},
		{what: "204", method: "GET", answer: "HTTP/1.1 204 No Content\r\n\r\n", client: []string{"204"}},
		{what: "POST", method: "POST", body: "body", answer: ok5, app: []string{"Content-Length: 4", `"body"`}},
		{what: "chunks", method: "GET", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", client: []string{`"hello world"`}},
		{what: "long", method: "GET", answer: "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300000), client: []string{"Content-Length: 300000"}},
		{what: "trailer", method: "GET", header: http.Header{"Te": {"trailers"}}, answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", client: []string{"trailer X-Sum: 1"}, app: []string{"Te: trailers"}},
		{what: "early hints", method: "GET", answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok5, client: []string{"103 Link: </x>", `"hello"`}},
		{what: "hop-by-hop fields", method: "GET", answer: "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", client: []string{"200"}},
		{what: "garbage", method: "GET", answer: "what?\r\n\r\n", client: []string{"502", "upstream-failed"}},
		{what: "breaks off", method: "GET", answer: "HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n" + strings.Repeat("x", 400000), client: []string{"200", "broken off"}},
	}
	got := make(map[string]string)
	for _, direct := range []string{"on", "off"} {
		addr := freeAddr(t)
		site := fmt.Sprintf("respond /unused 404\n}\nhttps://%s {\n tls internal\n app_proxy %s {\n name h2\n concurrency 1\n direct %s\n }", addr, a.Addr(), direct)
		openWith(t, "admin off\nskip_install_trust\nauto_https disable_redirects\nservers {\n protocols h1 h2\n}\nlog {\n level ERROR\n}", site)
		transport := &http.Transport{ForceAttemptHTTP2: true, DisableCompression: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		eventually(t, "there is a certificate", func() bool {
			conn, err := tls.Dial("tcp", addr, transport.TLSClientConfig.Clone())
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
		for _, row := range rows {
			a.says(row.answer, row.what == "garbage" || row.what == "breaks off")
			client := overHTTP2(t, transport, "https://"+addr+"/x?y", row.method, row.body, row.header)
			app := strings.ReplaceAll(a.was(), addr, "DOOR")
			for _, want := range row.client {
				if !strings.Contains(client, want) {
					t.Errorf("%s, direct %s: the client got no %q:\n%.500s", row.what, direct, want, client)
				}
			}
			for _, want := range row.app {
				if !strings.Contains(app, want) {
					t.Errorf("%s, direct %s: the application got no %q:\n%.500s", row.what, direct, want, app)
				}
			}
			both := framed.ReplaceAllString(client, "") + app
			if direct == "on" {
				got[row.what] = both
			} else if got[row.what] != both {
				t.Errorf("%s: the ways differ:\n%.1000s\nand by reverse_proxy:\n%.1000s", row.what, got[row.what], both)
			}
		}
		transport.CloseIdleConnections()
		eventually(t, "all slots are back", func() bool { return poolOf(t, "h2").InFlight == 0 })
	}
}

// overHTTP2 is what a client sees, interim answers first.
func overHTTP2(t *testing.T, transport *http.Transport, url, method, body string, header http.Header) string {
	t.Helper()
	var interim []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		interim = append(interim, fmt.Sprintf("%d Link: %s", code, h.Get("Link")))
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = slices.Clone(values)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Fatalf("%s", res.Proto)
	}
	text, err := io.ReadAll(res.Body)
	m := message{first: res.Status, body: string(text), broken: err != nil}
	for name, values := range res.Header {
		for _, value := range values {
			m.fields = append(m.fields, alike(name+": "+value))
		}
	}
	for name, values := range res.Trailer {
		m.trailer = append(m.trailer, name+": "+strings.Join(values, ", "))
	}
	return strings.Join(interim, "\n") + "\n" + m.String()
}

// alike is a field line without what differs from one time to the next.
func alike(line string) string {
	for _, d := range differs {
		line = d.field.ReplaceAllString(line, d.with)
	}
	return line
}
