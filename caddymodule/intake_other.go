//go:build !linux

package caddymodule

import (
	"syscall"
	"time"
)

// standing cannot be told here.
func standing(syscall.Conn) (time.Duration, bool) { return 0, false }

func hangUp(uintptr, string) {}

func peek(syscall.Conn, []byte) int { return 0 }

func deferAccept(int) {}

const longest = 0

func setBacklog(port, n int) {}
