package caddymodule

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestHeapLooksLarger: the next collection is due when as much as the ballast has
// come to what is alive, and as much again.
func TestHeapLooksLarger(t *testing.T) {
	defer func(before []byte) { ballast = before }(ballast)
	ballast = nil
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	makeBallast()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.NextGC < 2*heapFloor {
		t.Errorf("the next collection is due at %d bytes", m.NextGC)
	}
}

func TestBallastIsNotForThoseWhoCollectOtherwiseOrHaveLittle(t *testing.T) {
	defer func(before []byte) { ballast = before }(ballast)
	ballast = nil
	t.Setenv("GOGC", "50")
	if makeBallast(); len(ballast) != 0 {
		t.Error("GOGC is set")
	}
	t.Setenv("GOGC", "")
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(16*heapFloor - 1))
	if makeBallast(); len(ballast) != 0 {
		t.Error("memory is scarce")
	}
}
