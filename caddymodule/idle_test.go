package caddymodule_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

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
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	defer transport.CloseIdleConnections()
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
