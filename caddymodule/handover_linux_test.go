package caddymodule

import (
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listenBeside listens at an address that others listen at.
func listenBeside(t *testing.T, addr string) net.Listener {
	t.Helper()
	cfg := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return err
	}}
	l, err := cfg.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// reload is what a reload does to the sockets, but for closing the old one.
func reload(t *testing.T, addr string) net.Listener {
	t.Helper()
	l := listenBeside(t, addr)
	if both, err := useNew(); err != nil || !both {
		t.Fatal(both, err)
	}
	return l
}

// TestNewSocketIsNotBoundBesideTwoOthers: the kernel would give it the place of
// the first when that is closed, and connections would go to one that is about to
// be closed.
func TestNewSocketIsNotBoundBesideTwoOthers(t *testing.T) {
	first := listenBeside(t, "127.0.0.1:0")
	addr := first.Addr().String()
	second := reload(t, addr)
	if keepOld() == nil {
		t.Error("the first is open, and another may be bound")
	}
	first.Close()
	if err := keepOld(); err != nil {
		t.Errorf("the first is closed: %v", err)
	}
	third := reload(t, addr)
	second.Close()
	for range 100 {
		client, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := third.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
	}
}

// TestSocketOfARefusedConfigGetsNothing: it is closed at once, with all it was dealt.
func TestSocketOfARefusedConfigGetsNothing(t *testing.T) {
	first := listenBeside(t, "127.0.0.1:0")
	addr := first.Addr().String()
	for range 2 { // the second time there was a reload before
		if err := keepOld(); err != nil {
			t.Fatal(err)
		}
		refused := listenBeside(t, addr)
		var clients []net.Conn
		for range 20 {
			client, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			clients = append(clients, client)
		}
		refused.Close()
		first.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
		for range clients {
			server, err := first.Accept()
			if err != nil {
				t.Fatal(err)
			}
			server.Close()
		}
		second := reload(t, addr)
		first.Close()
		first = second
	}
}
