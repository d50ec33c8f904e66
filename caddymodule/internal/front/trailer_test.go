package front

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/portner/portner/caddymodule/internal/admission"
)

// TestTrailerComesWithTheEndOfTheBody: the transport writes it while the body is
// taken in, and whoever announces it reads the same field names. A map that is
// written to and ranged over at once ends the process.
func TestTrailerComesWithTheEndOfTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, closeAll := newHouse(Config{}, admission.Config{}, nil)
		defer closeAll()
		rt := h.RoundTripper(application(func(r *http.Request) (*http.Response, error) {
			res := answerWith(nil)
			res.Trailer = http.Header{"X-Sum": nil}
			res.Body = &trailing{strings.NewReader("x"), func() { res.Trailer["X-Late"] = []string{"1"} }}
			return res, nil
		}))
		h.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), func(w http.ResponseWriter, r *http.Request) error {
			Claim(r.Context())
			res, err := rt.RoundTrip(r)
			if err != nil {
				return err
			}
			synctest.Wait() // the answer is here, and its trailer
			if len(res.Trailer) != 1 {
				t.Errorf("before its end the body has the trailer %v", res.Trailer)
			}
			io.Copy(io.Discard, res.Body)
			if res.Trailer.Get("X-Late") != "1" {
				t.Errorf("at its end the body has the trailer %v", res.Trailer)
			}
			return res.Body.Close()
		})
	})
}
