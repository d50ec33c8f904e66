package caddymodule

import (
	"context"
	"errors"
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
// deals connections to both. When one is closed, what is queued at it is reset,
// and net/http closes connections whose request it reads after Shutdown began. So
// all connections are steered to the old socket until the new config runs: one
// that is refused takes nobody with it. Between the start of the new config and
// the stop of the old one they are steered to the new socket, and the old server
// gets a moment to read what it has accepted.
//
// A reuseport group keeps its sockets in the order of binding, so of two the
// second is the new one; a program that names an index beyond the group's end is
// ignored (socket(7), SO_ATTACH_REUSEPORT_CBPF; kernel, net/core/sock_reuseport.c).

// handoverTime is how long the old server goes on after the last connection was
// dealt to it: a few round trips, in which a client sends its request.
const handoverTime = 300 * time.Millisecond

// The places of the sockets in their group.
const oldSocket, newSocket = 0, 1

// handover is an event handler for "started", said to the new config, and "stopping",
// said to the old one. Caddy emits them one after the other, and waits for both, between
// the start of the new config and the stop of the old one. Not every config has a door.
type handover struct{ log *zap.Logger }

func init() {
	// Go listens by Multipath TCP, whose sockets cannot be steered. The runtime
	// takes notice of the change.
	os.Setenv("GODEBUG", strings.Trim(os.Getenv("GODEBUG")+",multipathtcp=0", ","))
}

// listenForHandover must be called while the config is provisioned: before its
// sockets are bound.
func listenForHandover(ctx caddy.Context) error {
	if err := keepOld(); err != nil {
		ctx.Logger().Warn("new connections may be reset during this reload", zap.Error(err))
	}
	loaded, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("app_proxy: %w", err)
	}
	events, h := loaded.(*caddyevents.App), handover{ctx.Logger()}
	return errors.Join(events.On("started", h), events.On("stopping", h))
}

// Handle implements caddyevents.Handler.
func (h handover) Handle(_ context.Context, e caddy.Event) error {
	if e.Name() == "started" {
		boundUnsent()
	}
	both, err := useNew()
	if err != nil {
		h.log.Warn("new connections may be reset while the old config stops", zap.Error(err))
	}
	if both && e.Name() == "stopping" {
		time.Sleep(handoverTime)
	}
	return nil
}

// useNew steers to the new sockets, and reports whether there are old ones.
func useNew() (both bool, err error) {
	groups, err := sharing()
	if err != nil {
		return false, err
	}
	for _, group := range groups {
		both = both || len(group) > 1
	}
	return both, steer(groups, newSocket)
}

// keepOld waits until each listening socket has its address for itself, and steers to
// it. Caddy does not wait until sockets are closed: a third one would be bound beside
// two, and take the place of the first when that is closed, so that the second, which
// is to stop next, got everything.
func keepOld() error {
	for deadline := time.Now().Add(handoverTime); ; time.Sleep(time.Millisecond) {
		groups, err := sharing()
		if err != nil {
			return err
		}
		if err = steer(groups, oldSocket); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// steer makes groups of listening sockets deal new connections to one place alone.
func steer(groups map[string][]int, place int) (failed error) {
	for addr, group := range groups {
		if len(group) > place+1 {
			failed = fmt.Errorf("steering %s: there are %d sockets", addr, len(group))
		} else if err := attach(group, place); err != nil {
			failed = fmt.Errorf("steering %s: %w", addr, err)
		}
	}
	return failed
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

// attach gives a group of sockets the program that names a place. Any of them takes it
// for all, and any may be closed meanwhile.
func attach(group []int, place int) error {
	program, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: uint32(place)}})
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(program))
	for i, ins := range program {
		filter[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	for _, fd := range group {
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
		if err == nil {
			return nil
		}
	}
	return err
}
