package caddymodule_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portner/portner/caddymodule"
)

// film is an answer of a known length, every byte of which says where it stands.
type film struct {
	size    int64
	written atomic.Int64 // by all who got it
	whole   atomic.Int32 // how many had all of it taken from them
}

func (f *film) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/film" {
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(f.size, 10))
	piece := make([]byte, 32<<10)
	for at := int64(0); at < f.size; {
		p := piece[:min(int64(len(piece)), f.size-at)]
		for i := range p {
			p[i] = frame(at + int64(i))
		}
		n, err := w.Write(p)
		f.written.Add(int64(n))
		if at += int64(n); err != nil {
			return
		}
	}
	f.whole.Add(1)
}

func frame(at int64) byte { return byte(at ^ at>>8 ^ at>>16) }

// watch reads n bytes of the film, of which the first at were read before.
func watch(r io.Reader, at, n int64) error {
	piece := make([]byte, 32<<10)
	for end := at + n; at < end; {
		got, err := r.Read(piece[:min(int64(len(piece)), end-at)])
		for i, b := range piece[:got] {
			if b != frame(at+int64(i)) {
				return fmt.Errorf("byte %d is another one", at+int64(i))
			}
		}
		if at += int64(got); err != nil && at < end {
			return fmt.Errorf("at %d: %w", at, err)
		}
	}
	return nil
}

// slowClient asks for the film and reads the head of the answer, and no more. The
// kernel keeps little for it: its segments are short, so that the sender's buffer is
// small, and so is its own.
func (d *door) slowClient() (net.Conn, *http.Response) {
	d.t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1400),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10))
		})
		return err
	}}
	conn, err := dialer.DialContext(d.t.Context(), "tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "GET /film HTTP/1.1\r\nHost: "+d.addr+"\r\n\r\n"); err != nil {
		d.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil)
	if err != nil || res.StatusCode != 200 {
		d.t.Fatal(res, err)
	}
	return conn, res
}

// answerFiles counts the temporary files of answers that are open.
func answerFiles(t *testing.T) (n int) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.Contains(name, "portner-answer-") {
			n++
		}
	}
	return n
}

// bothWays runs a test for the direct way and for that of reverse_proxy.
func bothWays(t *testing.T, test func(t *testing.T, direct string)) {
	for _, direct := range []string{"on", "off"} {
		t.Run("direct "+direct, func(t *testing.T) { test(t, direct) })
	}
}

// TestSlotIsFreeBeforeASlowClientHasRead: of 8 MiB the client has read the head.
func TestSlotIsFreeBeforeASlowClientHasRead(t *testing.T) {
	bothWays(t, func(t *testing.T, direct string) {
		f := &film{size: 8 << 20}
		a := newApp(t, f.ServeHTTP)
		d := open(t, "app_proxy "+a.addr+" {\n name slow\n concurrency 1\n direct "+direct+"\n}")
		_, res := d.slowClient()
		eventually(t, "the slot is back", func() bool { return poolOf(t, "slow").InFlight == 0 })
		eventually(t, "the application is rid of its answer", func() bool { return f.whole.Load() == 1 })
		if status, _ := d.get("/next"); status != 200 {
			t.Errorf("next: %d", status)
		}
		if err := watch(res.Body, 0, f.size); err != nil {
			t.Error(err)
		}
		eventually(t, "nothing of it is left", func() bool { return caddymodule.Buffered() == 0 && answerFiles(t) == 0 })
	})
}

// TestThousandSlowClientsStandInNobodysWay: their answers are in memory up to the
// bound of all of them, and in files.
func TestThousandSlowClientsStandInNobodysWay(t *testing.T) {
	const clients, budget = 1000, 16 << 20
	defer caddymodule.SetBuffers(budget)()
	f := &film{size: 256 << 10}
	a := newApp(t, f.ServeHTTP)
	d := open(t, "app_proxy "+a.addr+" {\n name slow\n concurrency 1\n}")
	before := held()
	var bodies []io.ReadCloser
	for range clients {
		_, res := d.slowClient()
		bodies = append(bodies, res.Body)
	}
	eventually(t, "all slots are back", func() bool { return poolOf(t, "slow").InFlight == 0 })
	for range 50 {
		if status, _ := d.get("/beside"); status != 200 {
			t.Fatalf("beside them: %d", status)
		}
	}
	const allowed = budget + 3*(4<<10)*clients // each has small ones for its beginning, its reader and its filler
	if used := caddymodule.Buffered(); used > allowed || used < budget/2 {
		t.Errorf("they have %d bytes of buffers, and %d are allowed", used, allowed)
	}
	const aConnection = 64 << 10 // both ends of it, with goroutines
	if grown := held() - before; grown > allowed+aConnection*clients {
		t.Errorf("they have %d bytes of memory", grown)
	}
	for i, body := range bodies {
		if i%10 != 0 {
			body.Close()
		} else if err := watch(body, 0, f.size); err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
}

// TestClientThatLeavesTakesItsAnswerAlong: what it has not read is in memory and in
// a file, and is given back; the application has been heard to its end.
func TestClientThatLeavesTakesItsAnswerAlong(t *testing.T) {
	bothWays(t, func(t *testing.T, direct string) {
		f := &film{size: 8 << 20}
		a := newApp(t, f.ServeHTTP)
		d := open(t, "app_proxy "+a.addr+" {\n name leaver\n concurrency 1\n direct "+direct+"\n buffer {\n response 64KiB 1MiB\n }\n}")
		conn, res := d.slowClient()
		if err := watch(res.Body, 0, 100<<10); err != nil {
			t.Fatal(err)
		}
		eventually(t, "its answer goes on in a file", func() bool { return answerFiles(t) == 1 })
		if p := poolOf(t, "leaver"); p.InFlight != 1 {
			t.Errorf("8 MiB in a buffer of 1 MiB: %+v", p)
		}
		conn.Close()
		if status, _ := d.get("/next"); status != 200 {
			t.Errorf("next: %d", status)
		}
		eventually(t, "nothing of it is left", func() bool {
			return caddymodule.Buffered() == 0 && answerFiles(t) == 0 && poolOf(t, "leaver").InFlight == 0
		})
		eventually(t, "its answer was heard to its end", func() bool { return f.whole.Load() == 1 })
		if most := a.most.Load(); most != 1 {
			t.Errorf("%d requests at once", most)
		}
	})
}

// TestFullDiskMakesTheApplicationWait: nothing is lost, and no memory stands in for
// the disk.
func TestFullDiskMakesTheApplicationWait(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("portner", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("no small disk can be made: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	t.Setenv("TMPDIR", dir)
	bothWays(t, func(t *testing.T, direct string) {
		f := &film{size: 64 << 20}
		a := newApp(t, f.ServeHTTP)
		d := open(t, "app_proxy "+a.addr+" {\n name full\n concurrency 1\n direct "+direct+"\n buffer {\n response 64KiB 1GiB\n }\n}")
		_, res := d.slowClient()
		const between = 16 << 20 // of both connections the kernel keeps some megabytes
		for at := int64(0); at < f.size; at += 128 << 10 {
			if err := watch(res.Body, at, 128<<10); err != nil {
				t.Fatal(err)
			}
			if ahead := f.written.Load() - at; ahead > between {
				t.Fatalf("the application is %d bytes ahead of its client", ahead)
			}
			if used := caddymodule.Buffered(); used > 512<<10 {
				t.Fatalf("%d bytes are in memory", used)
			}
		}
		eventually(t, "nothing of it is left", func() bool {
			return caddymodule.Buffered() == 0 && answerFiles(t) == 0 && poolOf(t, "full").InFlight == 0
		})
	})
}

// TestSlowReaderIsNotCutOff: who takes a part of a long answer in each write_idle gets
// all of it, however much the kernel could take at once; who takes nothing is cut off.
func TestSlowReaderIsNotCutOff(t *testing.T) {
	const rate, pace, paces = 400 << 10, 50 * time.Millisecond, 60
	bothWays(t, func(t *testing.T, direct string) {
		f := &film{size: 16 << 20}
		a := newApp(t, f.ServeHTTP)
		d := openWith(t, "admin off\nservers {\n timeouts {\n write_idle 1500ms\n }\n}", "app_proxy "+a.addr+" {\n name patient\n direct "+direct+"\n}")
		ask := "GET /film HTTP/1.1\r\nHost: " + d.addr + "\r\n\r\n"
		d.dial(ask) // and reads nothing
		_, in := d.dial(ask)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		const piece = rate * int64(pace) / int64(time.Second)
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for i := range int64(paces) {
			<-tick.C
			if err := watch(res.Body, i*piece, piece); err != nil {
				t.Fatal(err)
			}
		}
		if err := watch(res.Body, paces*piece, f.size-paces*piece); err != nil {
			t.Error(err)
		}
		eventually(t, "nothing is kept for the other", func() bool { return caddymodule.Buffered() == 0 && answerFiles(t) == 0 })
	})
}
