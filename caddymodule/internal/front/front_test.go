package front

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/route"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// house is a front with one upstream, and what is around it.
type house struct {
	*Front
	queue *admission.Queue
	send  Sender                        // what reverseproxy does: claim, round trip, copy the answer
	last  atomic.Pointer[http.Response] // of those that send has passed on
}

// errDial is what the application's address answers while nobody listens.
var errDial = errors.New("connection refused")

// newHouse makes a house with one slot. rt is the application. It must be closed
// in the bubble where it was made.
func newHouse(cfg Config, admit admission.Config, rt http.RoundTripper) (h *house, closeAll func()) {
	cfg.Detach = func(ctx context.Context) context.Context { return ctx }
	cfg.Unreached = func(err error) bool { return errors.Is(err, errDial) }
	cfg.Templates, cfg.Places = new(route.Templates), NewPlaces("app")
	admit.Limit = 1
	queue := admission.New()
	health := upstream.New(queue.SetReady, zap.NewNop())
	queue.Apply(admit, []admission.Target{{Key: "app"}})
	health.Apply(upstream.Config{}, []string{"app"})
	h = &house{Front: New(queue, health, cfg, zap.NewNop()), queue: queue}
	rt = h.RoundTripper(rt)
	h.send = func(w http.ResponseWriter, r *http.Request) error {
		if _, ok := Claim(r.Context()); !ok {
			return errors.New("nothing claimed")
		}
		res, err := rt.RoundTrip(r)
		if err != nil {
			return err
		}
		h.last.Store(res)
		defer res.Body.Close()
		w.WriteHeader(res.StatusCode)
		_, err = io.Copy(w, res.Body)
		return err
	}
	return h, health.Close
}

// application is a round tripper that is a handler.
type application func(r *http.Request) (*http.Response, error)

func (a application) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func answerWith(body io.ReadCloser) *http.Response {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: body}
}

func text(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

func (h *house) inFlight() int { return h.queue.Stats().InFlight }

// slowly gives its bytes after a while.
type slowly struct {
	after time.Duration
	io.Reader
}

func (s *slowly) Read(p []byte) (int, error) {
	time.Sleep(s.after)
	s.after = 0
	return s.Reader.Read(p)
}

func TestHoldBeginsWhenTheApplicationCannotBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dialled, up time.Time
		h, closeAll := newHouse(Config{}, admission.Config{}, application(func(r *http.Request) (*http.Response, error) {
			if dialled.IsZero() {
				dialled = time.Now()
				up = dialled.Add(10 * time.Second)
			}
			if time.Now().Before(up) {
				return nil, errDial
			}
			return answerWith(text("at last")), nil
		}))
		defer closeAll()
		w := httptest.NewRecorder()
		upload := httptest.NewRequest("POST", "/", &slowly{2 * time.Minute, strings.NewReader("slow upload")})
		if err := h.Serve(w, upload, h.send); err != nil || w.Code != 200 {
			t.Errorf("%v, %d %s: an upload that took longer than all patience is not held at all", err, w.Code, w.Body)
		}
	})
}

func TestAttemptsToReachTheApplicationEnd(t *testing.T) {
	for _, c := range []struct{ hold, atLeast, atMost time.Duration }{
		{30 * time.Second, 25 * time.Second, 35 * time.Second},
		{10 * time.Minute, 9 * time.Minute, 11 * time.Minute},
		{-1, 0, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			h, closeAll := newHouse(Config{Hold: c.hold}, admission.Config{Hold: c.hold}, application(func(r *http.Request) (*http.Response, error) {
				tries++
				return nil, errDial
			}))
			defer closeAll()
			w, start := httptest.NewRecorder(), time.Now()
			err := h.Serve(w, httptest.NewRequest("GET", "/", nil), h.send)
			if took := time.Since(start); err != nil || w.Code != 503 || took < c.atLeast || took > c.atMost {
				t.Errorf("hold %s: %v, %d after %s", c.hold, err, w.Code, took)
			}
			if tries > 20_000 {
				t.Errorf("hold %s: %d attempts", c.hold, tries)
			}
		})
	}
}

// TestAttemptsEndWhereNobodyMinds is the same for a pool whose monitor is closed,
// so that no failure has a consequence.
func TestAttemptsEndWhereNobodyMinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, closeAll := newHouse(Config{}, admission.Config{}, application(func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return nil, errDial
		}))
		closeAll()
		w, start := httptest.NewRecorder(), time.Now()
		if err := h.Serve(w, httptest.NewRequest("GET", "/", nil), h.send); err != nil || w.Code != 503 || time.Since(start) > 2*tryFor {
			t.Errorf("%v, %d after %s", err, w.Code, time.Since(start))
		}
	})
}

func TestSlotComesBackWhenTheSenderPanics(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when+" the round trip", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				closed := false
				h, closeAll := newHouse(Config{}, admission.Config{}, application(func(r *http.Request) (*http.Response, error) {
					return answerWith(&closing{strings.NewReader("an answer that nobody reads"), &closed}), nil
				}))
				defer closeAll()
				func() {
					defer func() { recover() }()
					h.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), func(w http.ResponseWriter, r *http.Request) error {
						Claim(r.Context())
						if when == "after" {
							h.RoundTripper(application(func(r *http.Request) (*http.Response, error) {
								return answerWith(&closing{strings.NewReader("unread"), &closed}), nil
							})).RoundTrip(r)
						}
						panic(http.ErrAbortHandler)
					})
				}()
				synctest.Wait()
				if n := h.inFlight(); n != 0 || closed != (when == "after") {
					t.Errorf("%d slots out, answer closed: %v", n, closed)
				}
			})
		})
	}
}

func TestPanicOfTheTransportIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, closeAll := newHouse(Config{Error: asItIs}, admission.Config{}, application(func(r *http.Request) (*http.Response, error) {
			panic("a transport that somebody has written")
		}))
		defer closeAll()
		err := h.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), h.send)
		if err == nil || !strings.Contains(err.Error(), "somebody has written") || h.inFlight() != 0 {
			t.Errorf("%v, %d slots out", err, h.inFlight())
		}
	})
}

// asItIs hands errors on.
func asItIs(_ int, err error) error { return err }

type closing struct {
	io.Reader
	closed *bool
}

func (c *closing) Close() error { *c.closed = true; return nil }

// TestTimeoutWithinTheAnswerKeepsTheSlotAWhile: the transport has given up, the
// application perhaps not.
func TestTimeoutWithinTheAnswerKeepsTheSlotAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, closeAll := newHouse(Config{Abandon: 7 * time.Second}, admission.Config{}, application(func(r *http.Request) (*http.Response, error) {
			return answerWith(io.NopCloser(io.MultiReader(strings.NewReader("half"), failing{errFirstByte}))), nil
		}))
		defer closeAll()
		if err := h.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), h.send); err == nil {
			t.Fatal("no error")
		}
		if h.inFlight() != 1 {
			t.Error("the slot came back at once")
		}
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if h.inFlight() != 0 {
			t.Error("the slot did not come back")
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestUnaskedSwitchOfProtocolsIsAnError(t *testing.T) {
	for _, c := range []struct{ asked, answered string }{
		{"", ""}, {"", "websocket"}, {"websocket", ""}, {"websocket", "h2c"},
	} {
		synctest.Test(t, func(t *testing.T) {
			closed := false
			h, closeAll := newHouse(Config{Error: asItIs}, admission.Config{}, application(func(r *http.Request) (*http.Response, error) {
				res := answerWith(&closing{strings.NewReader(""), &closed})
				res.StatusCode = 101
				res.Header.Set("Upgrade", c.answered)
				return res, nil
			}))
			defer closeAll()
			r := httptest.NewRequest("GET", "/", nil)
			if c.asked != "" {
				r.Header.Set("Upgrade", c.asked)
			}
			if err := h.Serve(httptest.NewRecorder(), r, h.send); !errors.Is(err, upstream.ErrUnasked) || !closed || h.inFlight() != 0 {
				t.Errorf("%+v: %v, closed %v, %d slots out", c, err, closed, h.inFlight())
			}
		})
	}
}

// TestRoundTripSharesNoAddressWithTheRequest: reverseproxy writes the next
// upstream's address into the request while an exchange that has outlived its
// first byte may still be dialling.
func TestRoundTripSharesNoAddressWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inner *http.Request
		h, closeAll := newHouse(Config{}, admission.Config{}, application(func(r *http.Request) (*http.Response, error) {
			inner = r
			return answerWith(text("")), nil
		}))
		defer closeAll()
		h.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), func(w http.ResponseWriter, r *http.Request) error {
			err := h.send(w, r)
			r.URL.Host = "elsewhere"
			return err
		})
		if inner.URL.Host == "elsewhere" {
			t.Error("they share it")
		}
	})
}

func TestHeadersThatLookLikeOursGoNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got, trailer http.Header
		h, closeAll := newHouse(Config{HideTiming: true}, admission.Config{}, application(func(r *http.Request) (*http.Response, error) {
			got, trailer = r.Header, r.Trailer
			res := answerWith(nil)
			res.Header = http.Header{"Portner-Load": {"1"}, "Portner_load": {"1"}, "X-Mine": {"1"}}
			res.Trailer = http.Header{"Portner-Tag": nil, "X-Sum": nil}
			res.Body = &trailing{strings.NewReader("x"), func() { res.Trailer["Portner-Tag"] = []string{"1"} }}
			return res, nil
		}))
		defer closeAll()
		r := httptest.NewRequest("POST", "/", strings.NewReader("x"))
		r.Header = http.Header{"Portner-Attempt": {"1"}, "Portner_attempt": {"1"}, "Portnersome": {"1"}}
		r.Trailer = http.Header{"Portner-Tag": {"1"}, "X-Ask": {"1"}}
		if err := h.Serve(httptest.NewRecorder(), r, h.send); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Forwarded", "X-Request-Id", "X-Request-Start"} {
			delete(got, name) // made for the application
		}
		if len(got) != 1 || len(trailer) != 1 {
			t.Errorf("the application got %v, trailer %v", got, trailer)
		}
		if len(h.last.Load().Header) != 1 || len(h.last.Load().Trailer) != 1 {
			t.Errorf("the client got %v, trailer %v", h.last.Load().Header, h.last.Load().Trailer)
		}
	})
}

// trailing ends with a trailer.
type trailing struct {
	io.Reader
	atEnd func()
}

func (b *trailing) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.atEnd()
	}
	return n, err
}

func (*trailing) Close() error { return nil }

func TestTunnelsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, closeAll := newHouse(Config{}, admission.Config{}, application(func(r *http.Request) (*http.Response, error) {
			return answerWith(text("hello")), nil
		}))
		defer closeAll()
		plain, websocket := httptest.NewRequest("CONNECT", "/", nil), httptest.NewRequest("CONNECT", "/", nil)
		websocket.Header[":protocol"] = []string{"websocket"} // RFC 8441
		http3 := httptest.NewRequest("CONNECT", "/", nil)
		http3.Proto = "websocket" // RFC 9220
		for r, want := range map[*http.Request]int{plain: 405, websocket: 200, http3: 200} {
			w := httptest.NewRecorder()
			if err := h.Serve(w, r, h.send); err != nil || w.Code != want {
				t.Errorf("%v %s: %v %d, want %d", r.Header, r.Proto, err, w.Code, want)
			}
		}
	})
}

func TestUpgradeDoesNotOpenADoorForSlowUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, closeAll := newHouse(Config{BodyMax: 4}, admission.Config{}, application(func(r *http.Request) (*http.Response, error) {
			return answerWith(text("hello")), nil
		}))
		defer closeAll()
		r := httptest.NewRequest("POST", "/", strings.NewReader("too long"))
		r.Header.Set("Upgrade", "h2c")
		w := httptest.NewRecorder()
		if err := h.Serve(w, r, h.send); err != nil || w.Code != 413 {
			t.Errorf("%v %d", err, w.Code)
		}
	})
}
