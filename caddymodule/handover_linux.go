package caddymodule

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A reload must not lose those who are at the door but not inside.
//
// Caddy binds a new socket beside the old one (SO_REUSEPORT), and the kernel
// deals connections to both. When the old one is closed, what is queued at it
// is reset, and net/http closes connections whose request it reads after
// Shutdown began. So, between the start of the new config and the stop of the
// old one, new connections are steered to the new sockets, and the old server
// gets a moment to read what it has accepted.
//
// A reuseport group keeps its sockets in the order of binding, so of two the
// second is the new one; a program that names an index beyond the group's end is
// ignored (socket(7), SO_ATTACH_REUSEPORT_CBPF; kernel, net/core/sock_reuseport.c).

// handoverTime is how long the old server goes on after the last connection was
// dealt to it: a few round trips, in which a client sends its request.
const handoverTime = 300 * time.Millisecond

// handover is an event handler for "stopping", which Caddy emits, and waits for,
// between the start of the new config and the stop of the old one.
type handover struct{ log *zap.Logger }

func init() {
	// Go listens by Multipath TCP, whose sockets cannot be steered. The runtime
	// takes notice of the change.
	os.Setenv("GODEBUG", strings.Trim(os.Getenv("GODEBUG")+",multipathtcp=0", ","))
}

// listenForHandover must be called while the config is provisioned.
func listenForHandover(ctx caddy.Context) error {
	app, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("app_proxy: %w", err)
	}
	return app.(*caddyevents.App).On("stopping", handover{ctx.Logger()})
}

// Handle implements caddyevents.Handler.
func (h handover) Handle(ctx context.Context, _ caddy.Event) error {
	steered, err := steer()
	if err != nil {
		h.log.Warn("new connections may be reset while the old config stops", zap.Error(err))
	}
	if steered > 0 {
		time.Sleep(handoverTime)
	}
	return nil
}

// steer makes every group of listening TCP sockets that this process has two of
// deal new connections to the second alone. It returns the number of groups.
func steer() (int, error) {
	sockets, err := listening()
	if err != nil {
		return 0, err
	}
	groups := make(map[string][]int)
	for _, s := range sockets {
		if set, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT); err == nil && set == 1 {
			groups[s.addr] = append(groups[s.addr], s.fd)
		}
	}
	steered := 0
	for key, group := range groups {
		if len(group) != 2 {
			continue
		}
		if err := steerToSecond(group[0]); err != nil {
			return steered, fmt.Errorf("steering %s: %w", key, err)
		}
		steered++
	}
	return steered, nil
}

// listener is a listening TCP socket of this process.
type listener struct {
	fd   int
	addr string // with the family
	port int
}

// listening finds them. A descriptor that was closed and opened as something else
// meanwhile fails one of the questions.
func listening() ([]listener, error) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("finding listening sockets: %w", err)
	}
	var found []listener
	for _, entry := range fds {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if set, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || set != 1 {
			continue
		}
		name, err := unix.Getsockname(fd)
		if err != nil {
			continue
		}
		switch a := name.(type) {
		case *unix.SockaddrInet4:
			found = append(found, listener{fd, fmt.Sprint("tcp4 ", a.Addr, a.Port), a.Port})
		case *unix.SockaddrInet6:
			found = append(found, listener{fd, fmt.Sprint("tcp6 ", a.Addr, a.Port, a.ZoneId), a.Port})
		}
	}
	return found, nil
}

func steerToSecond(fd int) error {
	program, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 1}})
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(program))
	for i, ins := range program {
		filter[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}
