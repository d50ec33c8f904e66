package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
)

// cpuTime is what /proc/stat has counted since the machine started, in clock ticks.
type cpuTime struct {
	all, stolen uint64
}

// readCPU reports false where there is no /proc/stat.
func readCPU() (cpuTime, bool) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTime{}, false
	}
	return parseCPU(stat)
}

// parseCPU reads the line "cpu user nice system idle iowait irq softirq steal
// guest guest_nice". The last two are in user and nice already.
func parseCPU(stat []byte) (cpuTime, bool) {
	lines := bufio.NewScanner(bytes.NewReader(stat))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 9 || fields[0] != "cpu" {
			continue
		}
		var t cpuTime
		for i, field := range fields[1:9] {
			ticks, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return cpuTime{}, false
			}
			t.all += ticks
			if i == 7 {
				t.stolen = ticks
			}
		}
		return t, true
	}
	return cpuTime{}, false
}

// stealSince is the share of CPU time, in percent, that the host gave to
// somebody else since before. A measurement with much of it says little; -1
// means unknown.
func stealSince(before cpuTime) float64 {
	now, ok := readCPU()
	if !ok || now.all <= before.all {
		return -1
	}
	return 100 * float64(now.stolen-before.stolen) / float64(now.all-before.all)
}
