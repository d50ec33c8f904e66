package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// cpuOf is the CPU time of a process and all threads it ever had. It is the
// scheduler's own count in nanoseconds: /proc/<pid>/stat has ticks of 10 ms, and
// the tasks' schedstat is as old as their last switch and forgets those that
// ended.
func cpuOf(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED of include/linux/posix-timers_types.h; the bit for one thread is not set
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &used); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(used.Nano()), nil
}
