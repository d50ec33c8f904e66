package caddymodule_test

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestWhoEndsHisSideHasLeft: net/http reads the end of the client's side and ends the
// request's context, as for one whose connection is gone. The application is not cut
// off; an answer that was there at once is given.
func TestWhoEndsHisSideHasLeft(t *testing.T) {
	goOn := make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-goOn
		}
		io.WriteString(w, "ok")
	})
	d := open(t, "app_proxy "+a.addr+" {\n name half\n concurrency 1\n}")
	conn, in := d.dial("GET /slow HTTP/1.1\r\nHost: " + d.addr + "\r\n\r\n")
	defer conn.Close()
	eventually(t, "the application has it", func() bool { return a.inFlight.Load() == 1 })
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 499 {
		t.Errorf("%v, %v; has net/http learned to tell? Then docs/contract.md is wrong", res, err)
	}
	if poolOf(t, "half").InFlight != 1 {
		t.Error("the application is still at it, and its slot is free")
	}
	close(goOn)
	eventually(t, "the slot is back", func() bool { return poolOf(t, "half").InFlight == 0 })
}
