package front

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// TestWhoLeavesWithTheHeadInterruptsNothing: the function that watches for the
// client may run when the head has just been read. It must not cut the body off, or
// the slot would be away for as long as an abandoned one.
func TestWhoLeavesWithTheHeadInterruptsNothing(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	direct := upstream.NewDirect(upstream.DirectConfig{Dial: func(context.Context, string) (net.Conn, error) { return ours, nil }})
	defer direct.Close()
	rest := make(chan bool)
	go func() { // ends with the connection
		if _, err := http.ReadRequest(bufio.NewReader(theirs)); err != nil {
			t.Error(err)
		}
		io.WriteString(theirs, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		<-rest
		io.WriteString(theirs, "hello")
	}()
	a, err := direct.Send(t.Context(), "app", &upstream.Request{Method: "GET", Target: "/", Host: "app"})
	if err != nil {
		t.Fatal(err)
	}
	d := &delivery{}
	d.connected(a)
	if err := a.Head(); err != nil {
		t.Fatal(err)
	}
	d.interrupt()
	close(rest)
	if body, err := io.ReadAll(a); err != nil || string(body) != "hello" {
		t.Errorf("%q, %v", body, err)
	}
	a.Close()
}

// TestWhoseTimeIsUpIsLikeWhoLeaves: a deadline of the request's own context must not end
// the exchange while somebody else goes on with it.
func TestWhoseTimeIsUpIsLikeWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		direct := upstream.NewDirect(upstream.DirectConfig{Dial: func(context.Context, string) (net.Conn, error) { return ours, nil }})
		defer direct.Close()
		h, closeAll := newHouse(Config{Direct: direct}, admission.Config{}, nil)
		defer closeAll()
		go func() { // ends with the answer
			if _, err := http.ReadRequest(bufio.NewReader(theirs)); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Second)
			io.WriteString(theirs, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		h.Serve(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil), h.send)
		if h.inFlight() != 1 || w.Code != StatusClientClosedRequest {
			t.Errorf("%d slots out, status %d", h.inFlight(), w.Code)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if h.inFlight() != 0 || direct.Idle() != 1 {
			t.Errorf("%d slots out, %d connections kept", h.inFlight(), direct.Idle())
		}
	})
}

// TestSlotComesBackWhenTheAnswersWriterPanics: it is somebody else's code, and so is what
// changes the fields. The application may still be at it.
func TestSlotComesBackWhenTheAnswersWriterPanics(t *testing.T) {
	const stream = "Content-Type: text/event-stream\r\nContent-Length: 100000\r\n\r\nhalf"
	for _, answer := range []string{"Content-Length: 2\r\n\r\nok", "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 40000), stream} {
		for _, rule := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				direct := upstream.NewDirect(upstream.DirectConfig{Dial: func(context.Context, string) (net.Conn, error) { return ours, nil }})
				defer direct.Close()
				cfg := Config{Direct: direct, Abandon: time.Second}
				if rule {
					cfg.AmendAnswer = func(*http.Request, http.Header, int) { panic("a rule") }
				}
				h, closeAll := newHouse(cfg, admission.Config{}, nil)
				defer closeAll()
				go func() { // ends with the connection
					http.ReadRequest(bufio.NewReader(theirs))
					io.WriteString(theirs, "HTTP/1.1 200 OK\r\n"+answer)
					io.Copy(io.Discard, theirs)
				}()
				func() {
					defer func() { recover() }()
					h.Serve(panicking{httptest.NewRecorder()}, httptest.NewRequest("GET", "/", nil), h.send)
					t.Error("it does not panic")
				}()
				time.Sleep(time.Minute)
				synctest.Wait()
				if h.inFlight() != 0 {
					t.Errorf("%d slots out after %.30q, by a rule: %v", h.inFlight(), answer, rule)
				}
				theirs.Close()
			})
		}
	}
}

// panicking is a writer of somebody who did not think of something.
type panicking struct{ http.ResponseWriter }

func (panicking) WriteHeader(int) { panic("a writer") }
