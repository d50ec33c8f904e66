package caddymodule_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// TestReloadLosesNobodyAtTheDoor reloads while clients come as fast as they can,
// each on a connection of its own.
func TestReloadLosesNobodyAtTheDoor(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {})
	config := "header X-Config %d\napp_proxy " + a.addr
	d := open(t, fmt.Sprintf(config, 0))
	stop := make(chan bool)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := d.do(t.Context(), "GET", "/", nil)
				if err != nil {
					t.Error(err)
					continue
				}
				res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("status %d", res.StatusCode)
				}
			}
		})
	}
	for n := range 10 {
		d.load(fmt.Sprintf(config, n+1))
	}
	close(stop)
	wg.Wait()
	t.Logf("%d requests, 10 reloads", a.served.Load())
}
