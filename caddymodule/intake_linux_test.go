package caddymodule

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// waiting is a connection at the door: it has sent its request, and nobody has
// looked at it for at least so long.
func waiting(t *testing.T, atLeast time.Duration) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	for range 1_000_000_000 { // the kernel's clock goes on by itself
		if age, ok := standing(server.(*net.TCPConn)); !ok || age >= atLeast {
			break
		}
	}
	return client, server
}

func TestWhoStandsAtTheDoorForTooLongIsTurnedAway(t *testing.T) {
	d := new(intake)
	client, server := waiting(t, tooLong+10*time.Millisecond)
	d.changed(server, http.StateNew)
	res, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || int64(len(body)) != res.ContentLength {
		t.Errorf("%d %v %q, %v", res.StatusCode, res.Header, body, err)
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection goes on: %v", err)
	}
}

func TestWhoComesAtOnceIsLetIn(t *testing.T) {
	d := new(intake)
	_, server := waiting(t, 0)
	d.changed(server, http.StateNew)
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// TestClearingGoesOnUntilTheNextAreFresh: or they would be too late as well.
func TestClearingGoesOnUntilTheNextAreFresh(t *testing.T) {
	d := new(intake)
	for _, c := range []struct {
		age     time.Duration
		tls     bool
		refused bool
	}{
		{tooLong, false, false},
		{tooLong + 1, false, true},
		{tooLong / 2, false, true},
		{fresh + 1, false, true},
		{fresh, false, false},
		{tooLong / 2, false, false},
		{tooLongTLS, true, false},
		{tooLongTLS + 1, true, true},
		{freshTLS + 1, true, true},
		{freshTLS, true, false},
	} {
		if got := d.turnsAway(c.age, c.tls); got != c.refused {
			t.Errorf("%v, TLS %v: turned away %v", c.age, c.tls, got)
		}
	}
}

func TestTurningAwayOverTLSHangsUp(t *testing.T) {
	client, server := waiting(t, 0)
	c := tls.Server(server, &tls.Config{})
	plain, overTLS := inner(c)
	if plain == nil || !overTLS {
		t.Fatal(plain, overTLS)
	}
	turnAway(c, plain, overTLS)
	if n, err := client.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestBellRingsAgainAndAgain(t *testing.T) {
	var b bell
	for range 100 {
		b.ring()
	}
}

func TestOnlyConnectionsInQuickSuccessionRingTheBell(t *testing.T) {
	d, now := new(intake), time.Now()
	rings := 0
	for range 10 * rowLength {
		now = now.Add(quickly + 1)
		if d.rush(now) {
			rings++
		}
	}
	if rings != 0 {
		t.Errorf("%d rings for connections that come one by one", rings)
	}
	for range 10 * rowLength {
		if d.rush(now) {
			rings++
		}
	}
	if rings != 10 {
		t.Errorf("%d rings for %d connections at once", rings, 10*rowLength)
	}
}
