package caddymodule

import (
	"os"
	"runtime/debug"
	"sync"
)

// A proxy has a small heap and makes garbage fast: 17,000 requests a second are
// 170 MB, and with 8 MB alive Go collects twenty times a second, which is an eighth
// of all the processor time. So the heap is made to look larger by a piece that
// nobody touches: it has no pages, only an address, but the next collection is due
// when twice as much is there. It costs as much memory for garbage as the piece is
// long: heapFloor, or on a small machine a thirty-second part of its memory.
const heapFloor = 64 << 20

// ballast keeps the piece alive.
var ballast []byte

// raiseHeap makes the ballast once.
var raiseHeap = sync.OnceFunc(makeBallast)

// makeBallast does so unless somebody has said how to collect (GOGC).
func makeBallast() {
	if os.Getenv("GOGC") == "" {
		ballast = make([]byte, min(heapFloor, debug.SetMemoryLimit(-1)/32, machineMemory()/32))
	}
}
