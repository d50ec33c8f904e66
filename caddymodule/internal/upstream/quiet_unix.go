//go:build unix

package upstream

import "syscall"

// quiet reports whether there is nothing to read on a connection, and it is not
// closed either.
func quiet(fd uintptr) bool {
	var b [1]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n <= 0 && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK)
}
