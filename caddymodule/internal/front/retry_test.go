package front

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portner/portner/caddymodule/internal/admission"
)

// TestNothingIsSentAgainInAnOverload: it would be more of what is too much already.
func TestNothingIsSentAgainInAnOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, closeAll := newHouse(Config{}, admission.Config{Wait: 200 * time.Millisecond, Depth: 1000}, nil)
		defer closeAll()
		end := time.Now().Add(5 * time.Second)
		var clients sync.WaitGroup
		for range 100 {
			clients.Go(func() {
				for time.Now().Before(end) {
					if slot, err := h.queue.Admit(t.Context(), admission.Ask{Route: "/"}); err == nil {
						time.Sleep(20 * time.Millisecond)
						slot.Served()
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		time.Sleep(4 * time.Second)
		get := httptest.NewRequest("GET", "/", nil)
		silent := func() *exchange { return &exchange{front: h.Front, unheard: true} }
		if !h.queue.Overloaded() || silent().maySendAgain(get) {
			t.Errorf("overloaded: %v, and it is sent again", h.queue.Overloaded())
		}
		clients.Wait()
		if slot, err := h.queue.Admit(t.Context(), admission.Ask{Route: "/"}); err == nil {
			slot.Served()
		}
		x := silent()
		if h.queue.Overloaded() || !x.maySendAgain(get) || x.maySendAgain(get) {
			t.Errorf("overloaded: %v; it must be sent once more, and only once", h.queue.Overloaded())
		}
	})
}

func TestBudgetForSendingAgainIsAFifthOrThree(t *testing.T) {
	for inFlight, want := range map[int64]int{0: 3, 1: 3, 15: 3, 19: 3, 20: 4, 100: 20, 1000: 200} {
		var b retryBudget
		b.inFlight.Store(inFlight)
		var again [1001]int
		got := 0
		for got < len(again) && b.take(&again[got]) {
			got++
		}
		if got != want {
			t.Errorf("of %d in flight %d are sent again, want %d", inFlight, got, want)
		}
		b.give(again[0])
		if !b.take(&again[0]) {
			t.Errorf("of %d in flight one has ended, and no other may be sent again", inFlight)
		}
	}
}

// TestBudgetForSendingAgainCountsWhatTheApplicationHas: who uploads or waits is no
// reason to send more.
func TestBudgetForSendingAgainCountsWhatTheApplicationHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan bool)
		h, closeAll := newHouse(Config{}, admission.Config{Wait: time.Minute}, application(func(r *http.Request) (*http.Response, error) {
			<-answer
			return answerWith(text("ok")), nil
		}))
		defer closeAll()
		var clients sync.WaitGroup
		for range 9 {
			clients.Go(func() { h.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), h.send) })
		}
		clients.Go(func() {
			h.Serve(httptest.NewRecorder(), httptest.NewRequest("POST", "/", &slowly{time.Second, strings.NewReader("x")}), h.send)
		})
		synctest.Wait()
		if n := h.retries.inFlight.Load(); n != 1 {
			t.Errorf("%d count, and the application has one", n)
		}
		close(answer)
		clients.Wait()
		if n := h.retries.inFlight.Load(); n != 0 {
			t.Errorf("%d count when all have left", n)
		}
	})
}
