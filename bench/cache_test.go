package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestHitThatCostsMoreThanPromisedIsSaid(t *testing.T) {
	for _, c := range []struct {
		ratios []float64
		missed bool
	}{
		{[]float64{1.3, 0.9, 1.1}, false},
		{[]float64{1.3, 0.9, 1.11}, true},
	} {
		b := &cacheLab{pairs: []CachePair{{"hit-1k", c.ratios}}}
		if err := b.report(""); errors.Is(err, errHitCost) != c.missed {
			t.Errorf("%v: %v", c.ratios, err)
		}
	}
}

func TestVarnishListensWhereItIsTold(t *testing.T) {
	p := post{dir: t.TempDir(), plain: "127.0.0.1:1", app: "127.0.0.1:2"}
	file := filepath.Join(p.dir, "varnish.conf")
	if err := os.WriteFile(file, []byte(varnishKeeper(p)), 0o600); err != nil {
		t.Fatal(err)
	}
	args := varnishArgs(file)
	if i := slices.Index(args, "-a"); i < 0 || args[i+1] != p.plain {
		t.Errorf("%q", args)
	}
}
