package caddymodule

import (
	"net"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
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
	if err := (handover{}).Handle(t.Context(), caddy.Event{}); err != nil {
		t.Fatal(err)
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
	if settled() {
		t.Error("the first is open, and another may be bound")
	}
	first.Close()
	if !settled() {
		t.Error("the first is closed")
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
