package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A usage is what was used of the CPUs, in percent of one core.
type usage struct {
	elapsed        time.Duration
	peer, app, all float64
	steal          float64 // percent of all cores; -1 is unknown
}

// ticksPerSecond is the unit of /proc: USER_HZ, which is 100 on every Linux that
// Go runs on.
const ticksPerSecond = 100

type usageBefore struct {
	at             time.Time
	cpu            cpuTime
	busy           uint64
	peer, app      uint64
	known, counted bool
}

func takeUsage(s *stage) usageBefore {
	b := usageBefore{at: time.Now(), peer: groupTicks(s.peer), app: groupTicks(s.app)}
	b.cpu, b.known = readCPU()
	b.busy, b.counted = busyTicks()
	return b
}

func (b usageBefore) since(s *stage) usage {
	u := usage{elapsed: time.Since(b.at), steal: -1}
	percent := func(before, now uint64) float64 {
		return 100 * max(0, float64(now)-float64(before)) / ticksPerSecond / u.elapsed.Seconds()
	}
	u.peer = percent(b.peer, groupTicks(s.peer))
	u.app = percent(b.app, groupTicks(s.app))
	if busy, ok := busyTicks(); ok && b.counted {
		u.all = percent(b.busy, busy)
	}
	if b.known {
		u.steal = stealSince(b.cpu)
	}
	return u
}

// busyTicks are those in which some process ran, on all cores.
func busyTicks() (uint64, bool) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	t, ok := parseCPU(stat)
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	if !ok || len(fields) < 6 {
		return 0, false
	}
	idle, err1 := strconv.ParseUint(fields[4], 10, 64)
	wait, err2 := strconv.ParseUint(fields[5], 10, 64)
	return t.all - t.stolen - idle - wait, err1 == nil && err2 == nil
}

// groupTicks is the CPU time of a process and of those it has started, where
// there is a /proc. One that ends in between takes its time with it.
func groupTicks(p *process) uint64 {
	if p == nil {
		return 0
	}
	var sum uint64
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, name := range stats {
		if stat, err := os.ReadFile(name); err == nil {
			if group, ticks, ok := parseProcess(stat); ok && group == p.cmd.Process.Pid {
				sum += ticks
			}
		}
	}
	return sum
}

// parseProcess reads "pid (name) state parent group … utime stime …".
func parseProcess(stat []byte) (group int, ticks uint64, ok bool) {
	_, rest, found := cutLast(string(stat), ") ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 13 {
		return 0, 0, false
	}
	var user, system uint64
	if n, err := fmt.Sscan(fields[2]+" "+fields[11]+" "+fields[12], &group, &user, &system); err != nil || n != 3 {
		return 0, 0, false
	}
	return group, user + system, true
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
