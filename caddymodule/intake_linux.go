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
