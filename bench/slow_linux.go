package main

import (
	"errors"
	"syscall"
)

// readsLittle makes the kernel keep little for a connection: with short segments
// the sender's buffer is small, and so is ours. Else megabytes lie between the two,
// and nobody is slow.
func readsLittle(_, _ string, c syscall.RawConn) (err error) {
	cerr := c.Control(func(fd uintptr) {
		err = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400),
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10))
	})
	return errors.Join(cerr, err)
}
