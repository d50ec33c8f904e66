package main

import (
	"path/filepath"
	"testing"
	"time"
)

// TestEveryItemArrivesOnce is the whole way from end to end, with both real
// programs: a thousand items, one at a time, as the course's client sends them,
// over HTTP and HTTPS. It is about correctness; how long it takes is measured by
// go run ./bench simulator.
func TestEveryItemArrivesOnce(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	items, source, err := loadItems("", root, 1000)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(source)
	b, err := build(t.Context(), root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, over := range []struct {
		name string
		tls  bool
	}{{"http", false}, {"https", true}} {
		t.Run(over.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "site")
			run, err := simulate(t.Context(), b, filepath.Join(root, "Caddyfile"), dir, items, over.tls, 5*time.Second, newProgress())
			if err != nil {
				t.Fatal(err)
			}
			if run.Late > 0 || len(run.Lost) > 0 {
				t.Errorf("%d late, %d lost, with a patience of five seconds", run.Late, len(run.Lost))
			}
			for _, promise := range run.broken() {
				t.Error(promise)
			}
		})
	}
}
