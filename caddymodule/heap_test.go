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
	if m.NextGC < 2*uint64(min(heapFloor, machineMemory()/32)) {
		t.Errorf("the next collection is due at %d bytes", m.NextGC)
	}
}

func TestBallastHeedsWhoCollectsOtherwiseAndWhoHasLittle(t *testing.T) {
	defer func(before []byte) { ballast = before }(ballast)
	ballast = nil
	t.Setenv("GOGC", "50")
	if makeBallast(); len(ballast) != 0 {
		t.Error("GOGC is set")
	}
	t.Setenv("GOGC", "")
	const limit = 320 << 20
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(limit))
	if makeBallast(); len(ballast) > limit/32 {
		t.Errorf("%d of %d bytes", len(ballast), limit)
	}
}
