//go:build unix

package upstream

import (
	"os"
	"syscall"
)

// turns: a connection of the system's can be written and read by its descriptor.
const turns = true

// quiet reports whether there is nothing to read on a connection, and it is not
// closed either.
func quiet(fd uintptr) bool {
	var b [1]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n <= 0 && wouldBlock(err)
}

// sendSome sends as much of p as there is room for.
func sendSome(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err = syscall.Write(int(fd), p)
		switch {
		case err == syscall.EINTR:
		case wouldBlock(err):
			return 0, nil
		default:
			return max(n, 0), os.NewSyscallError("write", err)
		}
	}
}

// readSome reads what there is; again: nothing yet.
func readSome(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(int(fd), p)
		switch {
		case err == syscall.EINTR:
		case wouldBlock(err):
			return 0, true, nil
		default:
			return max(n, 0), false, os.NewSyscallError("read", err)
		}
	}
}

func wouldBlock(err error) bool { return err == syscall.EAGAIN || err == syscall.EWOULDBLOCK }
