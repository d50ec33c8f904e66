package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/journal"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// refusal is an answer that the proxy makes up, as problem details (RFC 9457).
type refusal struct {
	Type       string  `json:"type"`
	Title      string  `json:"title"`
	Status     int     `json:"status"`
	Detail     string  `json:"detail"`
	Reason     string  `json:"reason"`                // one word, for programs
	RetryAfter int     `json:"retry_after,omitempty"` // seconds
	Wait       float64 `json:"wait,omitempty"`        // seconds; what the queue will take
	Ahead      int     `json:"ahead,omitempty"`       // requests that wait
}

// reasons are admission's, in words for programs and for people.
var reasons = []struct {
	err    error
	status int
	reason string
	detail string
}{
	{admission.ErrFull, http.StatusServiceUnavailable, "queue-full", "Too many requests are waiting already."},
	{admission.ErrWait, http.StatusServiceUnavailable, "queue-wait", "The application has no time for this request before it is too late."},
	{admission.ErrShed, http.StatusServiceUnavailable, "queue-shed", "The application is overloaded."},
	{admission.ErrExcess, http.StatusTooManyRequests, "client-excess", "Too many requests of yours are waiting already."},
	{admission.ErrHeld, http.StatusServiceUnavailable, "held", "The application cannot be reached at the moment."},
	{errTooLarge, http.StatusRequestEntityTooLarge, "body-too-large", "The body is too long."},
	{errBadAnswer, http.StatusBadGateway, "upstream-failed", "The application gave no answer that can be passed on."},
	{errNoAnswer, http.StatusGatewayTimeout, "upstream-timeout", "The application gave no answer in time."},
	{upstream.ErrRequest, http.StatusBadRequest, "request-unsendable", "The target or a field of the request has what cannot be passed on."},
	{errOnlyIfCached, http.StatusGatewayTimeout, "not-cached", "It is not in the cache."},
	{errMethod, http.StatusMethodNotAllowed, "method", "There are no tunnels here, and no echoes."},
	{journal.ErrShare, http.StatusInsufficientStorage, "journal-share", "Too many writes of yours are kept already."},
	{journal.ErrFull, http.StatusInsufficientStorage, "journal-full", "There is no room to keep more writes."},
	{journal.ErrFailed, http.StatusServiceUnavailable, "journal-failed", "Writes cannot be kept at the moment."},
	{journal.ErrClosed, http.StatusServiceUnavailable, "journal-closed", "Writes cannot be kept at the moment."},
	{errNoJournal, http.StatusServiceUnavailable, "journal-closed", "Writes cannot be kept at the moment."},
	{journal.ErrKeyReused, http.StatusUnprocessableEntity, "key-reused", "This Idempotency-Key was used for another request."},
	{errRepeat, http.StatusConflict, "repeat", "This request was accepted already, and its answer is not there yet, or no longer."},
	{errLongKey, http.StatusBadRequest, "key-too-long", "An Idempotency-Key may have 255 bytes at most."},
	{errTooSlow, http.StatusRequestTimeout, "body-too-slow", "The body comes too slowly."},
	{os.ErrDeadlineExceeded, http.StatusRequestTimeout, "body-too-slow", "The body did not arrive in time."},
	{errBadBody, http.StatusBadRequest, "body-broken", "The body did not arrive whole."},
}

// refusalFor says what went wrong, for the client.
func (f *Front) refusalFor(err error) refusal {
	r := refusal{
		Type: "about:blank", Status: http.StatusServiceUnavailable, Reason: "internal",
		Detail: "The request could not be taken in.",
	}
	for _, known := range reasons {
		if errors.Is(err, known.err) {
			r.Status, r.Reason, r.Detail = known.status, known.reason, known.detail
			break
		}
	}
	if r.Reason == "internal" {
		f.log.Error("request refused", zap.Error(err))
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		r.Detail = fmt.Sprintf("The body may have %d bytes at most.", large.Limit)
	}
	var full *admission.Refusal
	if errors.As(err, &full) {
		r.Wait, r.Ahead = full.Wait.Round(time.Millisecond).Seconds(), full.Ahead
	}
	if r.Status == http.StatusServiceUnavailable || r.Status == http.StatusTooManyRequests {
		r.RetryAfter = retryAfter(r.Wait, rand.Float64(), rand.Float64())
	}
	r.Title = http.StatusText(r.Status)
	return r
}

// retryAfter is when the queue of now will have drained, in whole seconds, and up to
// a fifth later, but up to a second at the least, so that the refused do not come
// back all at once. 0 <= random, round < 1; a part of a second is a whole one as
// often as it is large: rounded one way, all small waits would be the same.
func retryAfter(wait, random, round float64) int {
	later := max(wait, 1) + random*max(wait/5, 1)
	return int(min(later+round, 120))
}

// refuse answers a request that goes no further.
func (f *Front) refuse(w http.ResponseWriter, r *http.Request, x *exchange, err error) error {
	if x.kept.standIn(err) {
		return nil
	}
	if x.kept != nil { // which has nothing for anybody
		w = x.kept.w
		x.kept.found.AddTo(w.Header())
	}
	// net/http ends the context of a request whose body it may read no longer.
	tooSlow := errors.Is(err, errTooSlow) || errors.Is(err, os.ErrDeadlineExceeded)
	if r.Context().Err() != nil && !tooSlow {
		x.Verdict = "left"
		w.WriteHeader(StatusClientClosedRequest)
		return nil
	}
	no := f.refusalFor(err)
	x.Verdict = no.Reason
	h := w.Header()
	x.forgo(w, r, tooSlow || isBodyFault(err))
	h.Set("Cache-Control", "no-store")
	h.Add("Vary", "Accept")
	if no.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(no.RetryAfter))
	}
	var text strings.Builder
	if no.RetryAfter > 0 && isBrowsing(r) {
		f.cfg.Places.give(h, x.came(), x.ask.Place, time.Now(), r.TLS != nil)
		h.Set("Content-Type", "text/html; charset=utf-8")
		if err := waitingPage.Execute(&text, no); err != nil {
			return fmt.Errorf("front: refusal: %w", err)
		}
	} else {
		h.Set("Content-Type", "application/problem+json")
		if err := json.NewEncoder(&text).Encode(no); err != nil {
			return fmt.Errorf("front: refusal: %w", err)
		}
	}
	h.Set("Content-Length", strconv.Itoa(text.Len()))
	w.WriteHeader(no.Status)
	if r.Method != http.MethodHead {
		w.Write([]byte(text.String()))
	}
	return nil
}

// isBrowsing reports whether a person looks at the answer and would see it again
// by himself: a page that was asked for by GET.
func isBrowsing(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		strings.Contains(r.Header.Get("Accept"), "text/html")
}

// waitingPage looks again by itself. It needs nothing from anywhere.
var waitingPage = template.Must(template.New("waiting").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="{{.RetryAfter}}"><meta name="robots" content="noindex"><title>One moment, please</title>
<style>:root{color-scheme:light dark}body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto 0;padding:0 1.5rem;text-align:center}
progress{width:100%;accent-color:#0a7}</style></head>
<body><h1>One moment, please</h1>
<p>{{.Detail}}</p><p>This page looks again by itself in {{.RetryAfter}} seconds; you keep your place.</p>
<progress aria-label="waiting"></progress>
{{if .Ahead}}<p><small>{{.Ahead}} requests wait at the moment.</small></p>{{end}}</body></html>
`))
