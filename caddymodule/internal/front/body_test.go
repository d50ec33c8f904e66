package front

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
)

// takesIn is a front with these bounds for bodies.
func takesIn(memory, most int64) *Front {
	return New(nil, nil, Config{BodyMemory: memory, BodyMax: most}, nil)
}

func TestBodyGoesToAFileOnlyWhenItIsLong(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	const memory = 1000
	for _, size := range []int{0, 1, memory - 1, memory, memory + 1, 10 * memory} {
		for _, lengthKnown := range []bool{true, false} {
			want := strings.Repeat("0123456789", size/10+1)[:size]
			r := httptest.NewRequest("POST", "/", strings.NewReader(want))
			if !lengthKnown {
				r.ContentLength = -1
			}
			f := takesIn(memory, 10*memory)
			b, err := f.readBody(httptest.NewRecorder(), r)
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			if inFile := b.file != nil; inFile != (size > memory) || b.size != int64(size) {
				t.Errorf("%d bytes, %d of them in memory: size %d, in a file: %v", size, memory, b.size, inFile)
			}
			var readers sync.WaitGroup
			for range 3 { // an attempt may still read while the next one does
				readers.Go(func() {
					if got, err := io.ReadAll(b.open()); err != nil || string(got) != want {
						t.Errorf("%d bytes: read %d, %v", size, len(got), err)
					}
				})
			}
			readers.Wait()
			if names, _ := os.ReadDir(dir); len(names) != 0 {
				t.Errorf("%d bytes: the file has a name, %s: a crash would leave it", size, names[0].Name())
			}
			b.retain()
			b.release()
			if got, err := io.ReadAll(b.open()); err != nil || string(got) != want {
				t.Errorf("%d bytes: one of two users has gone, and the other reads %d bytes, %v", size, len(got), err)
			}
			b.release()
			if used := f.cfg.Memory.Used(); used != 0 {
				t.Errorf("%d bytes: %d bytes of the budget are taken, and nobody uses them", size, used)
			}
			if b.file != nil {
				if _, err := b.file.Stat(); !errors.Is(err, os.ErrClosed) {
					t.Errorf("%d bytes: the file is still open: %v", size, err)
				}
			}
		}
	}
}

func TestBodyThatDoesNotArriveLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	files := openFiles(t)
	broken := errors.New("connection reset")
	gone, leave := context.WithCancel(t.Context())
	leave()
	for _, c := range []struct {
		what string
		ctx  context.Context
		body io.Reader
		max  int64
		want error
	}{
		{"broken in memory", t.Context(), io.MultiReader(strings.NewReader("short"), failing{broken}), 100, errBadBody},
		{"broken in the file", t.Context(), io.MultiReader(strings.NewReader("longer than memory"), failing{broken}), 100, errBadBody},
		{"too slow", t.Context(), failing{os.ErrDeadlineExceeded}, 100, os.ErrDeadlineExceeded},
		{"too slow for the server", gone, failing{os.ErrDeadlineExceeded}, 100, os.ErrDeadlineExceeded},
		{"too long", t.Context(), strings.NewReader("longer than memory and than the maximum"), 20, errTooLarge},
		{"client left", gone, failing{broken}, 100, context.Canceled},
	} {
		r := httptest.NewRequestWithContext(c.ctx, "POST", "/", io.NopCloser(c.body))
		r.ContentLength = -1
		if b, err := takesIn(10, c.max).readBody(httptest.NewRecorder(), r); b != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d files are open, there were %d", now, files)
	}
}

// openFiles counts temporary files of bodies that this process has open.
func openFiles(t *testing.T) (n int) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.Contains(name, "portner-body-") {
			n++
		}
	}
	return n
}

// TestKnownLengthIsRefusedUnread: a client that asks with Expect: 100-continue
// must not be told to send what will be refused.
func TestKnownLengthIsRefusedUnread(t *testing.T) {
	r := httptest.NewRequest("POST", "/", failing{errors.New("it was read")})
	r.ContentLength = 101
	if _, err := takesIn(10, 100).readBody(httptest.NewRecorder(), r); !errors.Is(err, errTooLarge) {
		t.Errorf("%v", err)
	}
}

func TestUnlimitedBodyHasNoMaximum(t *testing.T) {
	want := strings.Repeat("x", 1<<20)
	b, err := takesIn(10, -1).readBody(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(want)))
	if err != nil {
		t.Fatal(err)
	}
	defer b.release()
	if got, err := io.ReadAll(b.open()); err != nil || string(got) != want {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestBodiesStayWithinTheBudget: what all bodies have in memory is bounded, however
// many there are, and what they announce costs nothing.
func TestBodiesStayWithinTheBudget(t *testing.T) {
	budget := &Budget{Max: 100_000}
	f := New(nil, nil, Config{BodyMemory: 64 << 10, Memory: budget}, nil)
	want := strings.Repeat("x", 60_000)
	var all []*body
	for range 10 {
		b, err := f.readBody(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(want)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
		if used := budget.Used(); used > budget.Max || used < int64(len(b.mem)) {
			t.Fatalf("%d bodies have %d bytes of %d", len(all), used, budget.Max)
		}
		if got, err := io.ReadAll(b.open()); err != nil || string(got) != want {
			t.Fatalf("body %d: %d bytes, %v", len(all), len(got), err)
		}
	}
	if all[0].file != nil || all[9].file == nil {
		t.Error("the first belongs in memory, the last in a file")
	}
	for _, b := range all {
		b.release()
	}
	if used := budget.Used(); used != 0 {
		t.Errorf("%d bytes are still taken", used)
	}

	announced := httptest.NewRequest("POST", "/", failing{io.ErrUnexpectedEOF})
	announced.ContentLength = 60_000
	most := int64(0)
	announced.Body = io.NopCloser(readFunc(func([]byte) (int, error) {
		most = max(most, budget.Used())
		return 0, io.ErrUnexpectedEOF
	}))
	if _, err := f.readBody(httptest.NewRecorder(), announced); !errors.Is(err, errBadBody) || most > firstRoom || budget.Used() != 0 {
		t.Errorf("%v; it had %d bytes, and has %d", err, most, budget.Used())
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
