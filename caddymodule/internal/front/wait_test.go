package front

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/portner/portner/caddymodule/internal/admission"
)

// TestWaitingRequestCostsTwoKilobytes at the most, beyond what net/http has of it:
// the exchange, the ticket, and what tells their clients apart.
func TestWaitingRequestCostsTwoKilobytes(t *testing.T) {
	const n, most = 2000, 2 << 10
	h, closeAll := newHouse(Config{Client: func(r *http.Request) string { return r.RemoteAddr }},
		admission.Config{Depth: n, Wait: time.Hour}, application(nil))
	defer closeAll()
	busy, err := h.queue.Admit(t.Context(), admission.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Release()

	ctx, cancel := context.WithCancel(t.Context())
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		r.RemoteAddr = fmt.Sprint("client ", i)
		w := httptest.NewRecorder()
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-begin
			h.Serve(w, r, h.send)
		})
	}
	ready.Wait()
	before := heap()
	close(begin)
	for h.queue.Stats().Waiting < n {
		time.Sleep(time.Millisecond)
	}
	each := (heap() - before) / n
	t.Logf("%d bytes each", each)
	if each > most || each < 500 { // less cannot be
		t.Errorf("%d bytes for a request that waits, want %d at the most", each, most)
	}
	cancel()
	done.Wait()
}

// heap is how much memory is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first has put into pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
