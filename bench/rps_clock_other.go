//go:build !linux

package main

import (
	"errors"
	"time"
)

func cpuOf(int) (time.Duration, error) {
	return 0, errors.New("rps needs Linux (the CPU clocks of other processes)")
}
