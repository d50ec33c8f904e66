package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/admission"
)

// refusal is an answer that the proxy makes up, as problem details (RFC 9457).
type refusal struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail"`
	Reason     string `json:"reason"`                // one word, for programs
	RetryAfter int    `json:"retry_after,omitempty"` // seconds
}

// refusalFor says what went wrong, for the client.
func (f *Front) refusalFor(err error) refusal {
	r := refusal{Type: "about:blank"}
	switch {
	case errors.Is(err, admission.ErrFull):
		r.Status, r.Reason = http.StatusServiceUnavailable, "queue-full"
		r.Detail = "Too many requests are waiting already."
	case errors.Is(err, admission.ErrWait):
		r.Status, r.Reason = http.StatusServiceUnavailable, "queue-wait"
		r.Detail = "The application had no time for this request."
	case errors.Is(err, admission.ErrHeld):
		r.Status, r.Reason = http.StatusServiceUnavailable, "held"
		r.Detail = "The application cannot be reached at the moment."
	case errors.Is(err, errTooLarge):
		r.Status, r.Reason = http.StatusRequestEntityTooLarge, "body-too-large"
		r.Detail = fmt.Sprintf("The body may have %d bytes at most.", f.cfg.BodyMax)
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.Status, r.Reason = http.StatusRequestTimeout, "body-too-slow"
		r.Detail = "The body did not arrive in time."
	case errors.Is(err, errBadBody):
		r.Status, r.Reason = http.StatusBadRequest, "body-broken"
		r.Detail = "The body did not arrive whole."
	default:
		f.log.Error("request refused", zap.Error(err))
		r.Status, r.Reason = http.StatusServiceUnavailable, "internal"
		r.Detail = "The request could not be taken in."
	}
	if r.Status == http.StatusServiceUnavailable {
		r.RetryAfter = retryAfter(f.queue.Stats(), rand.Float64())
	}
	r.Title = http.StatusText(r.Status)
	return r
}

// retryAfter is when the queue of now will have drained, in whole seconds, with
// up to a fifth of jitter (0 <= random < 1) so that the refused do not come back
// all at once.
func retryAfter(s admission.Snapshot, random float64) int {
	wait := 1.0
	if s.DrainRate > 0 {
		wait = float64(s.Waiting) / s.DrainRate
	}
	return int(math.Ceil(min(max(wait, 1)*(1+random/5), 120)))
}

func writeRefusal(w http.ResponseWriter, r refusal) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("front: refusal: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(text)+1))
	h.Set("Cache-Control", "no-store")
	if r.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(r.RetryAfter))
	}
	w.WriteHeader(r.Status)
	w.Write(append(text, '\n'))
	return nil
}
