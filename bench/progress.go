package main

import (
	"fmt"
	"os"
	"time"
)

// A progress is one line on a terminal that says how far we are; elsewhere it
// is silent. Not for concurrent use.
type progress struct {
	shown bool
	last  time.Time
}

func newProgress() *progress {
	info, err := os.Stderr.Stat()
	return &progress{shown: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// say replaces the line, at most ten times a second.
func (p *progress) say(format string, args ...any) {
	if now := time.Now(); p.shown && now.Sub(p.last) > 100*time.Millisecond {
		p.last = now
		fmt.Fprintf(os.Stderr, "\r\x1b[K"+format, args...)
	}
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
