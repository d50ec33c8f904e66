package front

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFieldsGoOnAsTheRulesSay: RFC 9110, sections 7.6.1 and 7.6.3; RFC 7239; RFC
// 8470; and what the operator trusts.
func TestFieldsGoOnAsTheRulesSay(t *testing.T) {
	arrived := time.UnixMilli(1_700_000_000_123)
	for _, c := range []struct {
		what    string
		change  func(r *http.Request)
		header  map[string]string // ", " parts field lines
		trusted bool
		want    []string // among what goes on
		not     []string
	}{
		{what: "an address of IPv4", want: []string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: example.com", `Forwarded: for=192.0.2.1;proto=http;host="example.com"`, "Via: 1.1 Caddy", "X-Request-Start: t=1700000000123"}},
		{what: "an address of IPv6", change: from("[2001:db8::1]:4711"), want: []string{"X-Forwarded-For: 2001:db8::1", `Forwarded: for="[2001:db8::1]";proto=http;host="example.com"`}},
		{what: "an address of IPv6 with a zone", change: from("[fe80::1%eth0]:4711"), want: []string{"X-Forwarded-For: fe80::1", `Forwarded: for="[fe80::1]";proto=http;host="example.com"`}},
		{what: "no address", change: from("@"), want: []string{`Forwarded: for=unknown;proto=http;host="example.com"`}, not: []string{"X-Forwarded-For"}},
		{what: "a host with quotes", change: func(r *http.Request) { r.Host = `a"b\c` }, want: []string{"Forwarded: for=192.0.2.1;proto=http"}, not: []string{`host="a"`}},
		{what: "TLS", change: func(r *http.Request) { r.TLS = &tls.ConnectionState{HandshakeComplete: true} }, want: []string{"X-Forwarded-Proto: https", `Forwarded: for=192.0.2.1;proto=https;host="example.com"`}, not: []string{"Early-Data"}},
		{what: "early data", change: func(r *http.Request) { r.TLS = new(tls.ConnectionState) }, want: []string{"Early-Data: 1"}},
		{what: "HTTP/1.0", change: proto(1, 0), want: []string{"Via: 1.0 Caddy"}},
		{what: "HTTP/2", change: proto(2, 0), want: []string{"Via: 2.0 Caddy"}},
		{what: "HTTP/3", change: proto(3, 0), want: []string{"Via: 3.0 Caddy"}},

		{what: "forged", header: map[string]string{"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil", "Forwarded": "for=6.6.6.6", "X-Request-Start": "t=1"},
			want: []string{"X-Forwarded-For: 192.0.2.1", "X-Request-Start: t=1700000000123"}, not: []string{"6.6.6.6", "evil", "https", "t=1\n"}},
		{what: "said by a trusted proxy", trusted: true, header: map[string]string{"X-Forwarded-For": "6.6.6.6, 7.7.7.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "front", "Forwarded": `for="[2001:db8::7]"`, "X-Request-Start": "t=1"},
			want: []string{"X-Forwarded-For: 6.6.6.6, 7.7.7.7, 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: front", `Forwarded: for="[2001:db8::7]", for=192.0.2.1;proto=http;host="example.com"`, "X-Request-Start: t=1"}},

		{what: "an id", header: map[string]string{"X-Request-Id": "abc-123/x=Y.z:_+"}, want: []string{"X-Request-Id: abc-123/x=Y.z:_+"}},
		{what: "an id that is a script", header: map[string]string{"X-Request-Id": "<script>"}, not: []string{"script"}},
		{what: "an id that is too long", header: map[string]string{"X-Request-Id": strings.Repeat("a", maxRequestID+1)}, not: []string{strings.Repeat("a", maxRequestID)}},
		{what: "two ids", header: map[string]string{"X-Request-Id": "aaaa-1, bbbb-2"}, not: []string{"aaaa-1", "bbbb-2"}},

		{what: "hop by hop", header: map[string]string{"Connection": "close, X-Hop, x-Other", "X-Hop": "1", "X-Other": "1", "Keep-Alive": "5", "Proxy-Connection": "x", "Proxy-Authorization": "x", "Te": "gzip", "Trailer": "X", "Transfer-Encoding": "chunked", "Upgrade": "x", "X-End": "1"},
			want: []string{"X-End: 1"}, not: []string{"X-Hop", "X-Other", "Connection", "Keep-Alive", "Proxy-", "Te:", "Trailer", "Transfer-Encoding", "Upgrade"}},
		{what: "trailers are wanted", header: map[string]string{"Te": "gzip, trailers;q=0.5", "Connection": "te"}, want: []string{"Te: trailers"}},
		{what: "Connection lists what is made", header: map[string]string{"Connection": "X-Forwarded-For, Via, X-Request-Id"}, want: []string{"X-Forwarded-For: 192.0.2.1", "Via: 1.1 Caddy", "X-Request-Id: "}},
		{what: "ours", header: map[string]string{"Portner-Attempt": "9", "Portner_attempt": "9", "X-Accel-Mapping": "/=/", "X-Sendfile-Type": "X", "Expect": "100-continue"}, not: []string{"Portner", "X-Accel", "X-Sendfile", "Expect"}},
		{what: "end to end", header: map[string]string{"Authorization": "Basic b'c2lt'", "Cookie": "a=1", "Accept": "x", "Via": "1.0 before"}, want: []string{"Authorization: Basic b'c2lt'", "Cookie: a=1", "Accept: x", "Via: 1.0 before"}},
	} {
		r := httptest.NewRequest("GET", "http://example.com/", nil)
		if c.change != nil {
			c.change(r)
		}
		for name, value := range c.header {
			r.Header[name] = strings.Split(value, ", ")
		}
		text := onwardText(r, arrived, c.trusted)
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", c.what, want, text)
			}
		}
		for _, not := range c.not {
			if strings.Contains(text, not) {
				t.Errorf("%s: %q in\n%s", c.what, not, text)
			}
		}
	}
}

// onwardText is what goes on of a request, a line each.
func onwardText(r *http.Request, arrived time.Time, trusted bool) string {
	var o onward
	o.prepare(r, arrived, trusted)
	var lines []string
	for name, values := range r.Header {
		for _, value := range values {
			if !o.Drops(name) {
				lines = append(lines, name+": "+value+"\n")
			}
		}
	}
	for _, f := range o.made {
		lines = append(lines, f.Name+": "+f.Value+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func from(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }

func proto(major, minor int) func(*http.Request) {
	return func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = major, minor }
}
