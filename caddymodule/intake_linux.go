package caddymodule

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// standing is how long ago something came on a connection last: on a new one,
// how long its request has stood at the door. The kernel counts in ticks of up to
// 10 ms.
func standing(c syscall.Conn) (age time.Duration, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			age, ok = time.Duration(info.Last_data_recv)*time.Millisecond, true
		}
	})
	return age, ok
}

// hangUp reads what has come and writes a last text, without waiting.
func hangUp(fd uintptr, text string) {
	var buf [4 << 10]byte
	for range 16 {
		if n, _ := unix.Read(int(fd), buf[:]); n < len(buf) {
			break
		}
	}
	unix.Write(int(fd), []byte(text))
}

// peek looks at what has come, without taking it and without waiting.
func peek(c syscall.Conn, buf []byte) (n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		n, _, _ = unix.Recvfrom(int(fd), buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return max(n, 0)
}

// unsentMost is how many bytes of an answer the kernel takes beyond those that are on
// their way: twice what Caddy writes at once.
const unsentMost = 128 << 10

// boundUnsent keeps the kernel from taking megabytes of an answer at once. It would take
// nothing more until a third of them has gone, and who reads steadily, but less than
// that in a minute, would be cut off by write_idle as one who reads nothing. It is said
// to the sockets that listen, and those that they accept have it of them.
func boundUnsent() {
	sockets, err := listening()
	if err != nil {
		return // then the kernel takes what it likes
	}
	for _, s := range sockets {
		unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentMost)
	}
}

// deferAccept sets TCP_DEFER_ACCEPT on the sockets that listen on a port: clients
// speak first in all that we serve. Who says nothing for a second is let in all
// the same (tcp(7)).
func deferAccept(port int) {
	eachListening(port, func(fd int) { unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 1) })
}

// longest is what the machine allows (net.core.somaxconn): the kernel takes no more.
const longest = 1 << 16

// setBacklog says how many the kernel keeps until they are accepted. To listen once
// more changes nothing else. Who comes to a full row is not answered, and his system
// tries again after a second.
func setBacklog(port, n int) {
	eachListening(port, func(fd int) { unix.Listen(fd, n) })
}

// eachListening calls do for the sockets that listen on a port. If they cannot be
// found, the flood only costs more.
func eachListening(port int, do func(fd int)) {
	sockets, err := listening()
	if err != nil {
		return
	}
	for _, s := range sockets {
		if s.port == port {
			do(s.fd)
		}
	}
}
