package upstream

import (
	"bufio"
	"context"
	"net"
	"testing"
)

// TestKeptConnectionsAreSharedByTheirLike: those of one kind use each other's, those
// of another close them.
func TestKeptConnectionsAreSharedByTheirLike(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, c := range []struct {
		first, second string
		conns         int // for three requests, by the first, the second, the first
	}{{"a", "a", 1}, {"a", "b", 3}} {
		app := answering(t, ok)
		ready := new(Ready)
		first := newDirect(t, DirectConfig{Ready: ready, Kind: c.first})
		second := newDirect(t, DirectConfig{Ready: ready, Kind: c.second})
		for _, d := range []*Direct{first, second, first} {
			if _, err := app.ask(d, &Request{}); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(app.conns); got != c.conns {
			t.Errorf("kinds %s and %s: %d connections, want %d", c.first, c.second, got, c.conns)
		}
	}
}

// TestSharedConnectionsOutliveOneOfTheirUsers: a reload closes the direct way of the
// old configuration, when that of the new one is there.
func TestSharedConnectionsOutliveOneOfTheirUsers(t *testing.T) {
	app := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	ready := new(Ready)
	before, after := newDirect(t, DirectConfig{Ready: ready}), newDirect(t, DirectConfig{Ready: ready})
	if _, err := app.ask(before, &Request{}); err != nil {
		t.Fatal(err)
	}
	before.Close()
	before.Close()
	if _, err := app.ask(after, &Request{}); err != nil || len(app.conns) != 1 || after.Idle() != 1 {
		t.Errorf("%v, %d connections, %d kept", err, len(app.conns), after.Idle())
	}
	if after.Close(); after.Idle() != 0 || ready.keeping.Load() != 0 || len(ready.kinds) != 0 {
		t.Errorf("%d kept by %d", after.Idle(), ready.keeping.Load())
	}
}

func TestClearClosesWhatIsKept(t *testing.T) {
	ended := make(chan bool, 1)
	app := newApplication(t, func(conn net.Conn, r *bufio.Reader) {
		readRequest(r)
		conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
		readRequest(r)
		ended <- true
	})
	d := newDirect(t, DirectConfig{})
	if _, err := app.ask(d, &Request{}); err != nil {
		t.Fatal(err)
	}
	other := 0
	leave := d.cfg.Ready.Join(&Keeper{Drop: func(string) { other++ }})
	d.cfg.Ready.Clear(app.address, nil)
	<-ended
	leave()
	d.cfg.Ready.Clear(app.address, nil)
	if d.Idle() != 0 || other != 1 {
		t.Errorf("%d are kept, the other was asked %d times", d.Idle(), other)
	}
}

// BenchmarkTakeBesideNobody: to be alone costs nothing.
func BenchmarkTakeBesideNobody(b *testing.B) {
	d := NewDirect(DirectConfig{Dial: func(context.Context, string) (net.Conn, error) { return spoken{}, nil }})
	defer d.Close()
	for b.Loop() {
		c, err := d.take(b.Context(), "app", false)
		if err != nil {
			b.Fatal(err)
		}
		d.give("app", c)
	}
}
