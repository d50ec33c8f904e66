package front

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// connection is the client's, as net/http shows it: with a deadline for reading.
type connection struct {
	http.ResponseWriter
	body *io.PipeReader
}

func (c connection) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && !t.After(time.Now()) {
		c.body.CloseWithError(os.ErrDeadlineExceeded)
	}
	return nil
}

// upload sends pieces, one each time, and reports what became of them and when.
func upload(f *Front, pieces int, piece string, each time.Duration) (*body, time.Duration, error) {
	in, out := io.Pipe()
	var sender sync.WaitGroup
	sender.Go(func() { // ends with the pieces, or when nobody reads
		for range pieces {
			if _, err := io.WriteString(out, piece); err != nil {
				return
			}
			time.Sleep(each)
		}
		out.Close()
	})
	defer sender.Wait()
	r := httptest.NewRequest("POST", "/", in)
	began := time.Now()
	b, err := f.readBody(connection{httptest.NewRecorder(), in}, r)
	took := time.Since(began)
	return b, took, err
}

func TestBodyThatComesTooSlowlyIsGivenUp(t *testing.T) {
	for _, c := range []struct {
		what   string
		pieces int
		piece  string
		each   time.Duration
		rate   int64
		after  time.Duration // 0: it is taken in
	}{
		{"a byte a second", 100, "x", time.Second, 0, 20 * time.Second},
		{"470 bytes a second", 100, strings.Repeat("x", 470), time.Second, 0, 20 * time.Second},
		{"530 bytes a second", 100, strings.Repeat("x", 530), time.Second, 0, 0},
		{"in bursts", 10, strings.Repeat("x", 10_000), 19 * time.Second, 0, 0},
		{"at first fast, then not", 2, strings.Repeat("x", 100_000), time.Minute, 0, 40 * time.Second},
		{"short, and slow at its end", 3, "x", 5 * time.Second, 0, 0},
		{"as slowly as it likes", 3, "x", time.Hour, -1, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := New(nil, nil, Config{MinRate: c.rate}, nil)
				b, took, err := upload(f, c.pieces, c.piece, c.each)
				b.release()
				switch {
				case c.after == 0 && err != nil:
					t.Errorf("%v after %v", err, took)
				case c.after > 0 && (!errors.Is(err, errTooSlow) || took != c.after):
					t.Errorf("%v after %v, want %v", err, took, c.after)
				}
			})
		})
	}
}
