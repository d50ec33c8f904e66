package main

import "testing"

func TestStealIsReadFromProcStat(t *testing.T) {
	const stat = "cpu  100 2 30 400 5 6 7 50 90 1\ncpu0 1 1 1 1 1 1 1 1 0 0\nintr 12\n"
	got, ok := parseCPU([]byte(stat))
	if want := (cpuTime{all: 600, stolen: 50}); !ok || got != want {
		t.Errorf("got %v %t, want %v", got, ok, want)
	}
	for _, broken := range []string{"", "cpu 1 2 3\n", "cpu a b c d e f g h\n", "cpu0 1 1 1 1 1 1 1 1\n"} {
		if got, ok := parseCPU([]byte(broken)); ok {
			t.Errorf("%q is read as %v", broken, got)
		}
	}
}
