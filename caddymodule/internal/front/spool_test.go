package front

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// bursts is an application that answers in pieces of any size and then fails with
// err. What it says at a place depends on the place alone.
type bursts struct {
	rand *rand.Rand
	at   int64
	size int64
	err  error
	each func() // before every piece
}

func sayAt(i int64) byte { return byte(i ^ i>>8 ^ i>>16) }

func (b *bursts) Read(p []byte) (int, error) {
	b.each()
	if b.at == b.size {
		return 0, b.err
	}
	n := min(int64(1+b.rand.IntN(len(p))), b.size-b.at)
	for i := range n {
		p[i] = sayAt(b.at + i)
	}
	if b.at += n; b.at == b.size && b.rand.IntN(2) == 0 {
		return int(n), b.err
	}
	return int(n), nil
}

// bounds fails the test when more is kept than may be.
func (s *spool) bounds(t *testing.T, budget *Budget, begun int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var unread int64
	for _, c := range s.chunks {
		unread += int64(c.w - c.r)
	}
	room := max(s.most-s.memory, chunkSize) // of the file
	beyond := int64(tinyBuffer)             // the filler's own
	if s.noFile {
		beyond += pageBuffer // what would have gone into it
	}
	switch {
	case s.inMem > s.memory:
		t.Errorf("%d bytes of memory are taken, and %d allowed", s.inMem, s.memory)
	case budget.Used() > budget.Max+beyond:
		t.Errorf("%d bytes of the budget are taken, and %d allowed", budget.Used(), budget.Max+beyond)
	case s.most > 0 && s.written-s.read > room:
		t.Errorf("%d bytes are in the file, and %d allowed", s.written-s.read, room)
	case s.noFile && unread > s.memory+chunkSize+int64(begun):
		t.Errorf("%d bytes wait without a file", unread)
	}
	if s.file == nil || s.most <= 0 {
		return
	}
	if info, err := s.file.Stat(); err == nil && info.Size() > room {
		t.Errorf("the file has %d bytes, and %d are allowed", info.Size(), room)
	}
}

// TestSpoolKeepsOrderAndBounds lets an application and a client go at any pace, and
// the client leave anywhere. A schedule in which both wait for each other ends the
// bubble.
func TestSpoolKeepsOrderAndBounds(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) { anySchedule(t, rand.New(rand.NewPCG(seed, 1))) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestSpoolDoesWithoutAFile is the same where no file can be made.
func TestSpoolDoesWithoutAFile(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) { anySchedule(t, rand.New(rand.NewPCG(seed, 2))) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

var errBrokeOff = errors.New("the application broke off")

func anySchedule(t *testing.T, rnd *rand.Rand) {
	memory := int64(rnd.IntN(6)) * chunkSize
	most := []int64{-1, memory, memory + 1000, memory + 3*chunkSize}[rnd.IntN(4)]
	budget := &Budget{Max: int64(1+rnd.IntN(5)) * chunkSize}
	s := newSpool(budget, memory, most)
	begun := rnd.IntN(largeBuffer + 1)
	first := make([]byte, begun)
	for i := range first {
		first[i] = sayAt(int64(i))
	}
	s.begin(first)

	total := int64(begun + rnd.IntN(512<<10))
	end := []error{io.EOF, errBrokeOff}[rnd.IntN(2)]
	pauses := rand.New(rand.NewPCG(rnd.Uint64(), 0))
	app := &bursts{rand: rand.New(rand.NewPCG(rnd.Uint64(), 0)), at: int64(begun), size: total, err: end, each: func() { pause(pauses) }}
	filled := make(chan error, 1)
	go func() { // ends with the application's answer
		err := s.fill(app)
		s.end(err)
		filled <- err
	}()

	leaveAt := total + 1
	if rnd.IntN(3) == 0 {
		leaveAt = rnd.Int64N(total + 1)
	}
	got := int64(0)
	var err error
	for p := make([]byte, 64<<10); err == nil && got < leaveAt; {
		pause(rnd)
		s.bounds(t, budget, begun)
		s.ready()
		var n int
		n, err = s.Read(p[:1+rnd.IntN(len(p))])
		for i := range n {
			if p[i] != sayAt(got+int64(i)) {
				t.Fatalf("byte %d is not the one that was said", got+int64(i))
			}
		}
		got += int64(n)
	}
	if err != nil && (err != end || got != total) {
		t.Errorf("%d of %d bytes, and then %v, want %v", got, total, err, end)
	}
	s.Close()
	s.Close()
	if err := <-filled; err != end {
		t.Errorf("the application was not read to its end: %v", err)
	}
	if budget.Used() != 0 {
		t.Errorf("%d bytes of the budget did not come back", budget.Used())
	}
	if s.file != nil {
		if _, err := s.file.Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the file is open: %v", err)
		}
	}
	if _, err := s.Read(make([]byte, 1)); err != errSpoolClosed {
		t.Errorf("a closed spool gives %v", err)
	}
}

// pause lets the others go on as far as they can, or not.
func pause(rnd *rand.Rand) {
	if rnd.IntN(3) == 0 {
		time.Sleep(time.Duration(rnd.IntN(3)))
	}
}

// TestWhatHasBegunNeverWaits: begin runs on the goroutine that reads later, so
// nobody would make room for it.
func TestWhatHasBegunNeverWaits(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	synctest.Test(t, func(t *testing.T) {
		for _, budget := range []int64{1, chunkSize, 2 * chunkSize, 1 << 20} {
			s := newSpool(&Budget{Max: budget}, chunkSize, chunkSize)
			s.begin(bytes.Repeat([]byte("x"), largeBuffer))
			s.end(io.EOF)
			if got, err := io.ReadAll(s); err != nil || len(got) != largeBuffer {
				t.Errorf("budget %d: %d bytes, %v", budget, len(got), err)
			}
			s.Close()
		}
	})
}

// TestFileOfAnEndlessAnswerHasItsBound: the client takes what comes, and is always
// a little late.
func TestFileOfAnEndlessAnswerHasItsBound(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	synctest.Test(t, func(t *testing.T) {
		const most = 4 * chunkSize
		s := newSpool(new(Budget), 0, most)
		go func() { s.end(s.fill(io.LimitReader(zeros{}, 100*most))) }()
		got := 0
		for p := make([]byte, 1000); ; {
			n, err := s.Read(p)
			if got += n; err != nil {
				break
			}
			synctest.Wait() // the application is as far as it may be
			s.mu.Lock()
			info, err := s.file.Stat()
			s.mu.Unlock()
			if err != nil || info.Size() > most {
				t.Fatalf("after %d bytes the file has %d: %v", got, info.Size(), err)
			}
		}
		if got != 100*most {
			t.Errorf("%d bytes", got)
		}
		s.Close()
	})
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("files have names, which a crash would leave: %v", names)
	}
}

// TestWhoWaitsForAReaderWaitsUntilTheEndOfTheExchange: a client that reads nothing
// must not keep an application for ever.
func TestWhoWaitsForAReaderWaitsUntilTheEndOfTheExchange(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	synctest.Test(t, func(t *testing.T) {
		s, began := newSpool(new(Budget), chunkSize, 2*chunkSize), time.Now()
		s.until = began.Add(time.Minute)
		err := s.fill(zeros{})
		if took := time.Since(began); err != errWhole || took != time.Minute {
			t.Errorf("%v after %v", err, took)
		}
		s.end(err)
		if _, err := io.Copy(io.Discard, s); err != errWhole {
			t.Errorf("the reader is told %v", err)
		}
		s.Close()
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// held is a source that gives its text when it is told to.
type held struct {
	text io.Reader
	read chan []byte
	give chan bool
}

func (h held) Read(p []byte) (int, error) {
	h.read <- p
	<-h.give
	return h.text.Read(p)
}

// TestChunkThatIsBeingFilledIsNobodyElses: its reader closes while the application
// still writes into it. It must not come into other hands before.
func TestChunkThatIsBeingFilledIsNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := new(Budget)
		s := newSpool(budget, 1<<20, 1<<20)
		app := held{strings.NewReader("late"), make(chan []byte, 10), make(chan bool)}
		done := make(chan error)
		go func() {
			err := s.fill(app)
			s.end(err)
			done <- err
		}()
		into := <-app.read
		s.Close()
		for range 100 {
			other := *chunkPool.Get().(*[]byte)
			if &other[0] == &into[0] {
				t.Fatal("somebody else has it")
			}
		}
		close(app.give)
		if err := <-done; err != io.EOF || budget.Used() != 0 {
			t.Errorf("%v, %d bytes of the budget are out", err, budget.Used())
		}
	})
}

// TestBudgetIsSharedAndHasAnEnd: whoever comes when it is used up gets the small
// buffer, which is counted all the same.
func TestBudgetIsSharedAndHasAnEnd(t *testing.T) {
	b := &Budget{Max: largeBuffer + 2*pageBuffer}
	var taken []*[]byte
	var sizes []int
	for _, length := range []int64{-1, pageBuffer + 1, 10, pageBuffer + 1, -1} {
		buf := b.buffer(length)
		taken, sizes = append(taken, buf), append(sizes, len(*buf))
	}
	if got := fmt.Sprint(sizes); got != fmt.Sprint([]int{pageBuffer, largeBuffer, pageBuffer, tinyBuffer, tinyBuffer}) {
		t.Errorf("buffers of %v", got)
	}
	if want := b.Max + 2*tinyBuffer; b.Used() != want {
		t.Errorf("%d are used, want %d", b.Used(), want)
	}
	for _, buf := range taken {
		b.release(buf)
	}
	if b.Used() != 0 {
		t.Errorf("%d did not come back", b.Used())
	}
}
