package front

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/route"
)

// TestCrowdThatLingersIsBounded: over the bound nothing is read, and nobody waits.
func TestCrowdThatLingersIsBounded(t *testing.T) {
	var read int
	ended := make(chan bool, 1)
	f := New(nil, nil, Config{Places: NewPlaces("news"), Templates: new(route.Templates), Beneath: func(context.Context) (io.Reader, net.Conn) {
		return readFunc(func([]byte) (int, error) {
			read++
			return 0, io.EOF
		}), nil
	}}, zap.NewNop())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := f.begin(w, r)
		if err := f.refuse(w, r, x, errTooLarge); err != nil {
			t.Error(err)
		}
		x.linger(w, r)
		ended <- true
	}))
	defer s.Close()
	for _, c := range []struct {
		others int32
		want   int
	}{{0, 1}, {maxLingering - 1, 1}, {maxLingering, 0}} {
		read = 0
		f.cfg.Memory.lingering.Store(c.others)
		res, err := http.Post(s.URL, "", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		<-ended
		if res.StatusCode != 413 || read != c.want {
			t.Errorf("beside %d: %d, and %d reads", c.others, res.StatusCode, read)
		}
		if now := f.cfg.Memory.lingering.Load(); now != c.others {
			t.Errorf("%d are left of %d", now, c.others)
		}
	}
}
