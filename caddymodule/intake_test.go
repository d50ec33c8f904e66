package caddymodule

import (
	"net"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// accept lets the intake accept n connections, and says how long that took.
func accept(d *intake, n int) ([]net.Conn, time.Duration) {
	start := time.Now()
	var conns []net.Conn
	for range n {
		c, _ := net.Pipe()
		d.changed(c, http.StateNew)
		conns = append(conns, c)
	}
	return conns, time.Since(start)
}

func newIntake() (d *intake, most int) {
	return &intake{atWork: make(map[net.Conn]bool), freed: make(chan struct{}, 1)}, intakePerCPU * runtime.GOMAXPROCS(0)
}

func TestAcceptingWaitsWhileManyAreAtWorkButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, most := newIntake()
		if _, took := accept(d, most); took != 0 {
			t.Errorf("the first %d waited %v", most, took)
		}
		if _, took := accept(d, 3); took != 3*intakeWait {
			t.Errorf("three more waited %v, want %v each", took, intakeWait)
		}
	})
}

func TestAcceptingGoesOnWhenSomebodyHasDoneHisWork(t *testing.T) {
	for name, done := range map[string]func(*intake, net.Conn){
		"closed":             func(d *intake, c net.Conn) { d.changed(c, http.StateClosed) },
		"hijacked":           func(d *intake, c net.Conn) { d.changed(c, http.StateHijacked) },
		"idle":               func(d *intake, c net.Conn) { d.changed(c, http.StateIdle) },
		"waits for its turn": func(d *intake, _ net.Conn) { d.resting(true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, most := newIntake()
				conns, _ := accept(d, most)
				go func() {
					time.Sleep(intakeWait / 2)
					done(d, conns[0])
				}()
				if _, took := accept(d, 1); took != intakeWait/2 {
					t.Errorf("waited %v, want %v", took, intakeWait/2)
				}
			})
		})
	}
}

func TestIntakeForgetsConnections(t *testing.T) {
	d, _ := newIntake()
	conns, _ := accept(d, 5)
	d.resting(true)
	d.resting(false)
	for i, c := range conns {
		d.changed(c, http.StateActive)
		if i%2 == 0 {
			d.changed(c, http.StateIdle)
		}
		d.changed(c, http.StateClosed)
	}
	if d.n != 0 || len(d.atWork) != 0 {
		t.Errorf("%d at work, %d remembered", d.n, len(d.atWork))
	}
}
