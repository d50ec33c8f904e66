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
			b, err := readBody(httptest.NewRecorder(), r, memory, 10*memory)
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
		{"too long", t.Context(), strings.NewReader("longer than memory and than the maximum"), 20, errTooLarge},
		{"client left", gone, failing{broken}, 100, context.Canceled},
	} {
		r := httptest.NewRequestWithContext(c.ctx, "POST", "/", io.NopCloser(c.body))
		r.ContentLength = -1
		if b, err := readBody(httptest.NewRecorder(), r, 10, c.max); b != nil || !errors.Is(err, c.want) {
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
	if _, err := readBody(httptest.NewRecorder(), r, 10, 100); !errors.Is(err, errTooLarge) {
		t.Errorf("%v", err)
	}
}

func TestUnlimitedBodyHasNoMaximum(t *testing.T) {
	want := strings.Repeat("x", 1<<20)
	b, err := readBody(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader(want)), 10, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.release()
	if got, err := io.ReadAll(b.open()); err != nil || string(got) != want {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
