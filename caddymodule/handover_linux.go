package caddymodule

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// steered are the addresses whose old socket may still be open.
var steered struct {
	sync.Mutex
	addrs []string // mu
}

// handover is an event handler for "stopping", which Caddy emits, and waits for,
// between the start of the new config and the stop of the old one.
type handover struct{ log *zap.Logger }

func init() {
	// Go listens by Multipath TCP, whose sockets cannot be steered. The runtime
	// takes notice of the change.
	os.Setenv("GODEBUG", strings.Trim(os.Getenv("GODEBUG")+",multipathtcp=0", ","))
}

// listenForHandover must be called while the config is provisioned: before its
// sockets are bound.
func listenForHandover(ctx caddy.Context) error {
	if !settled() {
		ctx.Logger().Warn("sockets of the config before last are still open; new connections may be reset while the last one stops")
	}
	app, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("app_proxy: %w", err)
	}
	return app.(*caddyevents.App).On("stopping", handover{ctx.Logger()})
}

// Handle implements caddyevents.Handler.
func (h handover) Handle(ctx context.Context, _ caddy.Event) error {
	addrs, err := steer()
	if err != nil {
		h.log.Warn("new connections may be reset while the old config stops", zap.Error(err))
	}
	if len(addrs) > 0 {
		time.Sleep(handoverTime)
	}
	steered.Lock()
	defer steered.Unlock()
	steered.addrs = addrs
	return nil
}

// settled waits until the sockets that connections were steered away from are
// closed, and reports whether they are. Caddy does not wait for that. A third
// socket would be bound beside both otherwise, and take the place of the first when
// that is closed, so that the second, which is to stop next, got everything.
func settled() bool {
	steered.Lock()
	defer steered.Unlock()
	for deadline := time.Now().Add(handoverTime); len(steered.addrs) > 0; time.Sleep(time.Millisecond) {
		groups, err := sharing()
		if err != nil || !slices.ContainsFunc(steered.addrs, func(addr string) bool { return len(groups[addr]) > 1 }) {
			steered.addrs = nil
		} else if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// steer makes every group of listening TCP sockets that this process has two of
// deal new connections to the second alone. It returns the addresses of these.
func steer() (addrs []string, err error) {
	groups, err := sharing()
	if err != nil {
		return nil, err
	}
	for addr, group := range groups {
		if len(group) < 2 {
			continue
		}
		if len(group) > 2 {
			return addrs, fmt.Errorf("steering %s: there are %d sockets", addr, len(group))
		}
		if err := steerToSecond(group[0]); err != nil {
			return addrs, fmt.Errorf("steering %s: %w", addr, err)
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// sharing finds the listening sockets that may share their address, by address.
func sharing() (map[string][]int, error) {
	sockets, err := listening()
	if err != nil {
		return nil, err
	}
	groups := make(map[string][]int)
	for _, s := range sockets {
		if set, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT); err == nil && set == 1 {
			groups[s.addr] = append(groups[s.addr], s.fd)
		}
	}
	return groups, nil
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
