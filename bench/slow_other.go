//go:build !linux

package main

import "syscall"

// readsLittle does nothing: see slow_linux.go.
func readsLittle(string, string, syscall.RawConn) error { return nil }
