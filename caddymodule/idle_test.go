package caddymodule_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func init() { caddy.RegisterModule(patience{}) }

// patience is a listener wrapper that tells until when the server reads from its
// connections.
type patience struct{}

var readUntil = make(chan time.Time, 100)

func (patience) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.listeners.patience", New: func() caddy.Module { return new(patience) }}
}

func (patience) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (patience) WrapListener(l net.Listener) net.Listener { return patientListener{l} }

type patientListener struct{ net.Listener }

func (l patientListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return patientConn{c}, err
}

type patientConn struct{ net.Conn }

func (c patientConn) SetReadDeadline(t time.Time) error {
	readUntil <- t
	return c.Conn.SetReadDeadline(t)
}

// TestAnswerWhoseEndComesLateIsWhole: an application that is silent for longer than
// Caddy lets a write take, and then ends, has given a whole answer.
func TestAnswerWhoseEndComesLateIsWhole(t *testing.T) {
	const idle = 250 * time.Millisecond
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "data: x\n\n")
		http.NewResponseController(w).Flush()
		<-time.After(2 * idle)
	})
	for _, words := range []string{"direct on", "direct off", "cache 1MiB"} {
		d := openWith(t, fmt.Sprintf("admin off\nservers {\n timeouts {\n write_idle %v\n }\n}", idle), "app_proxy "+a.addr+" {\n name late_end\n "+words+"\n}")
		for _, kind := range []string{"text/plain", "text/event-stream"} {
			res, err := client.Get(d.url + "/?type=" + kind)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || string(text) != "data: x\n\n" {
				t.Errorf("%s, %s: %q, %v", words, kind, text, err)
			}
		}
	}
}

// TestConversationMayPause: neither side has to say anything for as long as Caddy
// gives a body that is read.
func TestConversationMayPause(t *testing.T) {
	const idle = 250 * time.Millisecond
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		c.EnableFullDuplex()
		c.Flush()
		var b [1]byte
		for {
			if _, err := r.Body.Read(b[:]); err != nil {
				return
			}
			w.Write(b[:])
			c.Flush()
		}
	})
	d := openWith(t, fmt.Sprintf("admin off\nservers {\n protocols h1 h2c\n timeouts {\n read_body_idle %v\n }\n}", idle), "app_proxy "+a.addr+" {\n name pausing\n}")
	transport := overH2C(t)
	body, says := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", d.url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Incremental", "?1")
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for _, word := range []string{"a", "b", "c"} {
		if _, err := io.WriteString(says, word); err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := io.ReadFull(res.Body, b[:]); err != nil || string(b[:]) != word {
			t.Fatalf("said %s, heard %q, %v", word, b, err)
		}
		<-time.After(2 * idle)
	}
	says.Close()
	if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
		t.Errorf("at the end %q, %v", rest, err)
	}
}

// TestMinRateAloneSaysHowABodyMayCome: where the operator has not said anything else,
// Caddy's minute ends nothing that min_rate allows.
func TestMinRateAloneSaysHowABodyMayCome(t *testing.T) {
	a := newApp(t, mirror)
	for _, c := range []struct {
		server, handler string
		within          bool // Caddy ends it within a minute
	}{
		{"", "", false},
		{"timeouts {\n read_body_idle 1m\n }\n", "", true},
		{"timeouts {\n read_body_idle 59s\n }\n", "", true},
		{"", "timeouts {\n read_timeout 50s\n}\n", true},
	} {
		d := openWith(t, "admin off\nservers {\n "+c.server+"listener_wrappers {\n patience\n }\n}",
			"route {\n"+c.handler+"app_proxy "+a.addr+" {\n buffer {\n min_rate off\n }\n}\n}")
		_, in := d.dial("POST / HTTP/1.1\r\nHost: " + d.addr + "\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1")
		res, err := http.ReadResponse(in, nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%+v: %v, %v", c, res, err)
		}
		io.Copy(io.Discard, in) // until the server has done with it
		var longest time.Duration
		for len(readUntil) > 0 {
			longest = max(longest, time.Until(<-readUntil))
		}
		if longest < 45*time.Second || longest <= time.Minute != c.within {
			t.Errorf("%+v: it may be silent for %v", c, longest)
		}
	}
}
