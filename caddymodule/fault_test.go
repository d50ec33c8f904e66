package caddymodule_test

import "testing"

// TestRequestThatCannotBeSentIsNoFaultOfTheUpstream: with one failure allowed, a
// client could take an application away from everybody else.
func TestRequestThatCannotBeSentIsNoFaultOfTheUpstream(t *testing.T) {
	a, b := newRawApp(t, "tcp", "127.0.0.1:0"), newRawApp(t, "tcp", "127.0.0.1:0") // the last one would be spared
	a.says(ok5, false)
	b.says(ok5, false)
	for _, direct := range []string{"on", "off"} {
		d := open(t, "app_proxy "+a.Addr().String()+" "+b.Addr().String()+` {
			name          unsendable
			concurrency   1
			hold          0
			direct        `+direct+`
			fail_duration 1h
			max_fails     1
			header_up     X-Up {http.request.uri.query.x}
		}`)
		for range 3 {
			if status, _ := d.get("/?x=%0a"); status != 400 {
				t.Errorf("direct %s: %d", direct, status)
			}
		}
		if p := poolOf(t, "unsendable"); len(p.Ready) != 2 || p.InFlight != 0 {
			t.Errorf("direct %s: %+v", direct, p)
		}
		if status, _ := d.get("/"); status != 200 {
			t.Errorf("direct %s: next: %d", direct, status)
		}
	}
}
