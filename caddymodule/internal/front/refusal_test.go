package front

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/portner/portner/caddymodule/internal/admission"
)

// refused is the answer to a request that is refused for err, the verdict, and
// what was logged.
func refused(t *testing.T, r *http.Request, err error) (*http.Response, string, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	f := New(nil, nil, Config{Places: NewPlaces("news")}, zap.New(core))
	w := httptest.NewRecorder()
	x := &exchange{front: f, began: time.Now()}
	if err := f.refuse(w, r, x, err); err != nil {
		t.Fatal(err)
	}
	return w.Result(), x.Verdict, logs
}

func TestEveryReasonHasItsWord(t *testing.T) {
	queue := func(reason error) error {
		return fmt.Errorf("x: %w", &admission.Refusal{Reason: reason, Wait: 2500 * time.Millisecond, Ahead: 7})
	}
	for _, c := range []struct {
		err    error
		status int
		reason string
		again  bool // it makes sense to come again
		logged int
	}{
		{queue(admission.ErrFull), 503, "queue-full", true, 0},
		{queue(admission.ErrWait), 503, "queue-wait", true, 0},
		{queue(admission.ErrShed), 503, "queue-shed", true, 0},
		{queue(admission.ErrExcess), 429, "client-excess", true, 0},
		{queue(admission.ErrHeld), 503, "held", true, 0},
		{admission.ErrHeld, 503, "held", true, 0},
		{errTooLarge, 413, "body-too-large", false, 0},
		{fmt.Errorf("%w: %w", errBadBody, os.ErrDeadlineExceeded), 408, "body-too-slow", false, 0},
		{fmt.Errorf("%w: %w", errBadBody, errors.New("unexpected EOF")), 400, "body-broken", false, 0},
		{errMethod, 405, "method", false, 0},
		{errors.New("disk full"), 503, "internal", true, 1},
	} {
		res, verdict, logs := refused(t, httptest.NewRequest("POST", "/", nil), c.err)
		var body struct {
			Type, Title, Detail, Reason string
			Status                      int
			RetryAfter                  int `json:"retry_after"`
			Wait                        float64
			Ahead                       int
		}
		if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
			t.Fatalf("%s: %v", c.reason, err)
		}
		if res.StatusCode != c.status || body.Status != c.status || body.Reason != c.reason || verdict != c.reason {
			t.Errorf("%v: status %d, verdict %s, %+v", c.err, res.StatusCode, verdict, body)
		}
		if body.Type != "about:blank" || body.Title != http.StatusText(c.status) || body.Detail == "" || strings.Contains(body.Detail, "disk") {
			t.Errorf("%s: %+v", c.reason, body)
		}
		if res.Header.Get("Content-Type") != "application/problem+json" || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", c.reason, res.Header)
		}
		after := res.Header.Get("Retry-After")
		if c.again != (after != "") || c.again && after != strconv.Itoa(body.RetryAfter) {
			t.Errorf("%s: Retry-After %q, %+v", c.reason, after, body)
		}
		var q *admission.Refusal
		if errors.As(c.err, &q) && (body.Wait != 2.5 || body.Ahead != 7 || body.RetryAfter < 2) {
			t.Errorf("%s: %+v of %v", c.reason, body, q)
		}
		if n := logs.Len(); n != c.logged {
			t.Errorf("%s: %d lines in the log: %v", c.reason, n, logs.All())
		}
	}
}

func TestRetryAfterIsBoundedAndSpread(t *testing.T) {
	for _, c := range []struct {
		wait, random, round float64
		want                int
	}{
		{0, 0, 0, 1}, {0, 0.99, 0, 1}, {0, 0.99, 0.99, 2}, {1, 0, 0.99, 1}, {1.5, 0, 0, 1}, {1.5, 0, 0.5, 2},
		{10, 0, 0, 10}, {10, 0.99, 0, 11}, {10, 0.99, 0.1, 12},
		{120, 0, 0, 120}, {1e9, 0.99, 0.99, 120},
	} {
		if got := retryAfter(c.wait, c.random, c.round); got != c.want {
			t.Errorf("%v s, random %v and %v: %d, want %d", c.wait, c.random, c.round, got, c.want)
		}
	}
	// Also those who have little to wait for do not come at the same second.
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, wait := range []float64{0, 0.3, 1, 1.9, 2, 3.5, 4.99, 8, 60} {
		seconds := make(map[int]int)
		sum := 0
		for range 10_000 {
			s := retryAfter(wait, rnd.Float64(), rnd.Float64())
			seconds[s]++
			sum += s
		}
		want := max(wait, 1) + max(wait/5, 1)/2
		if mean := float64(sum) / 10_000; math.Abs(mean-want) > 0.1 {
			t.Errorf("%v s: %.2f s in the mean, want %.2f", wait, mean, want)
		}
		for s, n := range seconds {
			if n > 7600 {
				t.Errorf("%v s: %d of 10000 come back after %d s", wait, n, s)
			}
		}
	}
}

func TestOnlyBrowsersThatLookGetThePage(t *testing.T) {
	const chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
	for _, c := range []struct {
		method, accept string
		err            error
		page           bool
	}{
		{"GET", chrome, admission.ErrFull, true},
		{"GET", chrome, admission.ErrHeld, true},
		{"GET", chrome, admission.ErrExcess, true},
		{"HEAD", chrome, admission.ErrFull, true},
		{"POST", chrome, admission.ErrFull, false}, // it would be sent as a GET
		{"GET", "*/*", admission.ErrFull, false},
		{"GET", "application/json", admission.ErrFull, false},
		{"GET", "", admission.ErrFull, false},
		{"GET", chrome, errTooLarge, false}, // coming again does not help
	} {
		r := httptest.NewRequest(c.method, "/", nil)
		r.Header.Set("Accept", c.accept)
		res, _, _ := refused(t, r, c.err)
		page := strings.HasPrefix(res.Header.Get("Content-Type"), "text/html")
		if page != c.page || (len(res.Cookies()) == 1) != c.page {
			t.Errorf("%s for %q, %v: %v", c.method, c.accept, c.err, res.Header)
		}
		if res.Header.Get("Vary") != "Accept" || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", res.Header)
		}
		n, err := strconv.Atoi(res.Header.Get("Content-Length"))
		if err != nil || n == 0 {
			t.Errorf("Content-Length %q", res.Header.Get("Content-Length"))
		}
		var b strings.Builder
		if res.Write(&b); c.method == "HEAD" && strings.Contains(b.String(), "One moment") {
			t.Errorf("HEAD with a body: %s", b.String())
		} else if c.page && c.method == "GET" && (!strings.Contains(b.String(), `http-equiv="refresh"`) || !strings.Contains(b.String(), "One moment")) {
			t.Errorf("page: %s", b.String())
		}
	}
}

func TestPageEscapesWhatItSays(t *testing.T) {
	var b strings.Builder
	if err := waitingPage.Execute(&b, refusal{Detail: `<script>alert("1")</script>`, RetryAfter: 3}); err != nil {
		t.Fatal(err)
	}
	if page := b.String(); strings.Contains(page, "<script>") || !strings.Contains(page, "&lt;script&gt;") || strings.Contains(page, "requests wait") {
		t.Error(page)
	}
}

func TestWhoHasLeftIsToldNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	res, verdict, logs := refused(t, httptest.NewRequest("GET", "/", nil).WithContext(ctx), context.Canceled)
	if res.StatusCode != StatusClientClosedRequest || verdict != "left" || logs.Len() != 0 {
		t.Errorf("%d %s %v", res.StatusCode, verdict, logs.All())
	}
}

func TestConnectionOfABrokenBodyIsClosed(t *testing.T) {
	for proto, want := range map[string]string{"HTTP/1.1": "close", "HTTP/2.0": ""} {
		r := httptest.NewRequest("POST", "/", strings.NewReader("x"))
		r.Proto, r.ProtoMajor = proto, int(proto[5]-'0')
		res, _, _ := refused(t, r, errTooLarge)
		if got := res.Header.Get("Connection"); got != want {
			t.Errorf("%s: Connection %q", proto, got)
		}
	}
}
