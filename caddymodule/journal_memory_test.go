package caddymodule_test

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"
)

// mostLive is how much more of the heap was live at the most until stop is called.
func mostLive() (stop func() int64) {
	before := debug.SetGCPercent(20)
	runtime.GC()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	first, most := int64(live[0].Value.Uint64()), int64(0)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(live)
			most = max(most, int64(live[0].Value.Uint64())-first)
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	}()
	return func() int64 {
		close(end)
		<-ended
		debug.SetGCPercent(before)
		return most
	}
}

// Forty clients with 8 MiB each are not in memory together: 64 MiB may be on
// their way to the disk, as a body and as a record, and what Pebble gathers.
func TestLongWritesAreNotInMemoryTogether(t *testing.T) {
	const clients, size, bound = 40, 8 << 20, 320 << 20
	if underRace {
		t.Skip("the race detector's memory is not ours")
	}
	a := newTaker(t)
	d := open(t, journalled(t, a, "respond 200\n per_client off"))
	d.away(t)
	body := strings.Repeat("long ", size/5+1)[:size]
	stop := mostLive()
	var left sync.WaitGroup
	for range clients {
		left.Go(func() {
			for t.Context().Err() == nil { // so many uploads at once may be too many for the door
				res, err := client.Post(d.url+"/post", "text/plain", strings.NewReader(body))
				if err != nil {
					continue
				}
				if res.Body.Close(); res.StatusCode == 200 {
					return
				}
			}
		})
	}
	left.Wait()
	if most := stop(); most > bound {
		t.Errorf("%d MiB more of the heap were live, want at most %d", most>>20, bound>>20)
	}
	a.answer = func(int, http.ResponseWriter, string) bool { return false } // it takes them, and remembers none
	a.start(t)
	eventually(t, "all are delivered", func() bool { return a.attempts() >= 1+clients })
}

// A body that is in a file is sent from there, to begin with, and then from the journal.
func TestLongWriteArrivesWholeAtEveryAttempt(t *testing.T) {
	a := newTaker(t)
	a.start(t)
	var bodies []string
	a.answer = func(n int, w http.ResponseWriter, body string) bool {
		bodies = append(bodies, body)
		if n < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n == 3
	}
	d := open(t, journalled(t, a, "answer_within 10s"))
	body := strings.Repeat("long ", 100<<10)
	if res, _ := d.post(t, body); res.StatusCode != 202 {
		t.Errorf("status %d", res.StatusCode)
	}
	eventually(t, "it is taken", func() bool { return len(a.has()) == 1 })
	for n, got := range bodies {
		if got != body {
			t.Errorf("attempt %d: %d bytes, want %d", n+1, len(got), len(body))
		}
	}
}
