package caddymodule_test

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"
)

// deafAddr is an address that takes no connection and refuses none: its queue of
// them is full.
func deafAddr(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		cancel()
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Skip("the queue of connections does not get full")
	return ""
}

// TestConnectBoundsTheDial: after it the upstream counts as away.
func TestConnectBoundsTheDial(t *testing.T) {
	bothWays(t, func(t *testing.T, direct string) {
		d := open(t, "app_proxy "+deafAddr(t)+` {
			name   deaf
			hold   0
			direct `+direct+`
			timeouts {
				connect 300ms
			}
		}`)
		began := time.Now()
		res, err := d.do(t.Context(), "GET", "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		if p := problem(t, res); p.Status != 503 || p.Reason != "held" || took < 250*time.Millisecond || took > 900*time.Millisecond {
			t.Errorf("%d %s after %v", p.Status, p.Reason, took)
		}
	})
}
