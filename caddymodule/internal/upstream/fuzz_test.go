package upstream

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// spoken is a connection on which the application has said everything already.
type spoken struct {
	io.Reader
	sent *bytes.Buffer
}

func (s spoken) Write(p []byte) (int, error)      { return s.sent.Write(p) }
func (s spoken) Close() error                     { return nil }
func (s spoken) LocalAddr() net.Addr              { return nil }
func (s spoken) RemoteAddr() net.Addr             { return nil }
func (s spoken) SetDeadline(time.Time) error      { return nil }
func (s spoken) SetReadDeadline(time.Time) error  { return nil }
func (s spoken) SetWriteDeadline(time.Time) error { return nil }

// FuzzAnswer holds our reading of an answer against the standard library's: what
// ours accepts, that accepts too, and both see the same.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-App: a\r\n\r\nhello",
		"HTTP/1.0 200 OK\r\n\r\nhello",
		"HTTP/1.1 204\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, toHEAD bool) {
		method := http.MethodGet
		if toHEAD {
			method = http.MethodHead
		}
		d := NewDirect(DirectConfig{Dial: func(context.Context, string) (net.Conn, error) {
			return spoken{bytes.NewReader(text), new(bytes.Buffer)}, nil
		}})
		defer d.Close()
		a, err := d.Send(t.Context(), "", &Request{Method: method, Target: "/", Host: "app"})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		for a.Status < 200 {
			if a.Head() != nil {
				return
			}
		}
		body, err := io.ReadAll(a)
		if err != nil {
			return
		}
		theirs, theirBody, err := standard(text, method)
		if err != nil {
			t.Fatalf("we accept what the standard library refuses: %v", err)
		}
		if a.Status != theirs.StatusCode || a.Minor != theirs.ProtoMinor || !bytes.Equal(body, theirBody) {
			t.Fatalf("we read %d, HTTP/1.%d and %q, the standard library %d, %s and %q", a.Status, a.Minor, body, theirs.StatusCode, theirs.Proto, theirBody)
		}
		ours := make(http.Header)
		for _, field := range a.Fields {
			if field.Name != "Transfer-Encoding" && field.Name != "Trailer" { // which it keeps elsewhere
				ours[field.Name] = append(ours[field.Name], field.Value)
			}
		}
		for name, values := range theirs.Header {
			if name == "Trailer" {
				continue
			}
			if got := strings.Join(ours[name], "\n"); got != strings.Join(values, "\n") {
				t.Fatalf("%s: we read %q, the standard library %q", name, got, values)
			}
			delete(ours, name)
		}
		if theirs.Close && theirs.Header["Connection"] == nil {
			delete(ours, "Connection") // which it takes away where it says close
		}
		if len(ours) > 0 {
			t.Fatalf("we see fields that the standard library does not: %v", ours)
		}
	})
}

// standard reads the final answer as http.Transport does.
func standard(text []byte, method string) (*http.Response, []byte, error) {
	r := bufio.NewReader(bytes.NewReader(text))
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return nil, nil, err
		}
		if res.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(res.Body)
		return res, body, err
	}
}

// hostOf is the host that the standard library sees: that of a target with one goes
// first (RFC 9112, section 3.2.2).
func hostOf(target, host string) string {
	if u, err := url.Parse(target); err == nil && u.Host != "" && !strings.HasPrefix(target, "/") {
		return u.Host
	}
	return host
}

// FuzzRequest: what we send is one request to the standard library, and the one
// that was meant.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/x?y=z", "app", "Accept", "text/html", "", int64(0))
	f.Add("POST", "/", "app", "Content-Length", "1", "hello", int64(5))
	f.Add("PUT", "*", "[::1]:80", "X", "a\r\nb", "hello", int64(-1))
	f.Fuzz(func(t *testing.T, method, target, host, name, value, body string, length int64) {
		if length >= 0 {
			length = int64(len(body))
		}
		sent := new(bytes.Buffer)
		d := NewDirect(DirectConfig{Dial: func(context.Context, string) (net.Conn, error) {
			return spoken{strings.NewReader("HTTP/1.1 200 OK\r\n\r\n"), sent}, nil
		}})
		defer d.Close()
		a, err := d.Send(t.Context(), "", &Request{
			Method: method, Target: target, Host: host, Header: map[string][]string{name: {value}},
			Body: strings.NewReader(body), Length: length,
		})
		if err != nil {
			return
		}
		if a.upload != nil {
			<-a.upload.done
		}
		defer a.Close()
		r := bufio.NewReader(bytes.NewReader(sent.Bytes()))
		got, err := http.ReadRequest(r)
		if err != nil {
			// The target's own syntax is net/url's business, which has parsed it before.
			if strings.Contains(err.Error(), "invalid URI") || strings.Contains(err.Error(), "parse ") || strings.Contains(err.Error(), "malformed Host") {
				return
			}
			t.Fatalf("%q: %v", sent.Bytes(), err)
		}
		gotBody, err := io.ReadAll(got.Body)
		if err != nil || got.Method != method || string(gotBody) != body && length != 0 {
			t.Fatalf("%q is read as %s with %q, %v", sent.Bytes(), got.Method, gotBody, err)
		}
		if r.Buffered() > 0 {
			t.Fatalf("%q is more than one request", sent.Bytes())
		}
		wantHost := hostOf(target, host)
		if method == http.MethodConnect { // its target is the host
			wantHost = got.Host
		}
		if got.RequestURI != target || got.Host != wantHost {
			t.Fatalf("%q is read as for %q at %q, want %q at %q", sent.Bytes(), got.RequestURI, got.Host, target, wantHost)
		}
		want := make(http.Header)
		if !framing(name) {
			want.Add(name, strings.Trim(value, " \t"))
		}
		if want.Get("Pragma") == "no-cache" { // which it translates
			want.Set("Cache-Control", "no-cache")
		}
		for _, ours := range []string{"Content-Length", "Transfer-Encoding"} { // which have been looked at with the body
			got.Header.Del(ours)
		}
		if !reflect.DeepEqual(got.Header, want) {
			t.Fatalf("%q is read with the fields %q, want %q", sent.Bytes(), got.Header, want)
		}
	})
}
