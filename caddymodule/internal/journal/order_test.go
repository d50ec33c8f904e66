package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// checker knows of every write when it arrived, when its client was told, and
// what the application did with it, and says when a promise is broken.
type checker struct {
	t     *testing.T
	mu    sync.Mutex
	clock int // ticks with every event
	lanes map[string][]*fate
	byID  map[string]*fate
	moved bool // there was a restart: what ended may not be known
	live  sync.WaitGroup
}

type fate struct {
	name             string
	arrived, told    int
	trying, attempts int
	ended            int // attempts with a final outcome
}

func (c *checker) tick() int { c.clock++; return c.clock }

func (c *checker) arrive(lane, name string) *fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &fate{name: name, arrived: c.tick()}
	c.lanes[lane] = append(c.lanes[lane], f)
	c.byID[name] = f
	return f
}

func (c *checker) tell(f *fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.told = c.tick()
}

// try begins an attempt.
func (c *checker) try(lane, name string) *fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.byID[name]
	f.trying++
	f.attempts++
	if f.trying > 1 {
		c.t.Errorf("%s: %d attempts side by side", name, f.trying)
	}
	if f.ended > 0 && !c.moved {
		c.t.Errorf("%s: sent again after it had ended", name)
	}
	for _, before := range c.lanes[lane] {
		if before.told > 0 && before.told < f.arrived && before.ended == 0 {
			c.t.Errorf("%s was sent before %s, which had been accepted before it arrived", name, before.name)
		}
	}
	return f
}

func (c *checker) end(f *fate, o Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.trying--
	if o.Kind.Final() {
		f.ended++
	}
}

// Clients, attempts, acceptances, retries and restarts in all orders that chance
// brings: of one entry no two attempts at once, nothing before what was accepted
// earlier, nothing lost, nothing twice but over a restart.
func TestOrderHoldsInAllSchedules(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { schedule(t, uint64(seed)) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func schedule(t *testing.T, seed uint64) {
	mem := vfs.NewMem()
	c := &checker{t: t, lanes: make(map[string][]*fate), byID: make(map[string]*fate)}
	opts := Options{fs: mem, maxLanes: 2 + int(seed%4), Parallel: 1 + int(seed%5), Limits: Limits{PerClient: -1}}
	for restart := range 3 {
		j, err := Open("journal", opts)
		if err != nil {
			t.Fatal(err)
		}
		c.moved = restart > 0
		c.clients(j, seed, restart)
		if restart == 2 {
			for wait := 0; j.Stats().Depth > 0; wait++ {
				j.Ready()
				time.Sleep(50 * time.Millisecond)
				if wait > 20000 {
					t.Fatalf("never delivered: %+v", j.Stats())
				}
			}
			synctest.Wait()
			checkSums(t, j)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range c.byID {
		if f.ended == 0 {
			t.Errorf("%s is lost", f.name)
		}
	}
}

// pause is some time, in which others go on.
func pause(rng *rand.Rand, most time.Duration) { time.Sleep(time.Duration(rng.Int64N(int64(most)))) }

func outcome(rng *rand.Rand) Outcome {
	switch rng.IntN(8) {
	case 0, 1:
		return Outcome{Kind: Unavailable}
	case 2:
		return Outcome{Kind: Failed}
	case 3:
		return Outcome{Kind: Rejected, Answer: &Answer{Status: 400}}
	}
	return Outcome{Kind: Taken, Answer: &Answer{Status: 200}}
}

func (c *checker) clients(j *Journal, seed uint64, restart int) {
	j.Deliver(func(ctx context.Context, e *Entry, _ int) Outcome {
		rng := rand.New(rand.NewPCG(seed, e.Seq))
		f := c.try(e.Lane, string(e.Body))
		pause(rng, 30*time.Millisecond)
		o := outcome(rand.New(rand.NewPCG(seed, e.Seq+uint64(f.attempts)<<32)))
		c.end(f, o)
		return o
	})
	var wg sync.WaitGroup
	for client := range 12 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(restart*100+client)))
			for n := range 12 {
				lane := fmt.Sprintf("lane%d", rng.IntN(3+int(seed%3)*20))
				c.request(j, rng, lane, fmt.Sprintf("%d.%d.%d@%s", restart, client, n, lane))
				pause(rng, 40*time.Millisecond)
				if rng.IntN(20) == 0 {
					j.Ready()
				}
			}
		})
	}
	wg.Wait()
	c.live.Wait() // a process that ends takes its attempts along
}

// request is what front does with one.
func (c *checker) request(j *Journal, rng *rand.Rand, lane, name string) {
	f := c.arrive(lane, name)
	l, err := j.Append(context.Background(), write(lane, name))
	if err != nil {
		c.t.Error(err)
		return
	}
	answered := make(chan bool, 1)
	if rng.IntN(4) > 0 && l.Begin() {
		long, o := rng.Int64N(int64(60*time.Millisecond)), outcome(rng)
		c.live.Go(func() {
			c.try(lane, name)
			time.Sleep(time.Duration(long))
			c.end(f, o)
			answered <- l.End(o)
		})
		select {
		case <-answered:
		case <-time.After(20 * time.Millisecond):
		}
	}
	if l.Accept() {
		c.tell(f)
	}
}

func TestRepeatsOfAClientAreKnown(t *testing.T) {
	j := inMemory(t, Options{})
	w := write("lane", "x")
	w.Key = "mine"
	l := mustAppend(t, j, w)
	if l.Entry().Key != "mine" || l.Entry().Made {
		t.Fatalf("%+v", l.Entry())
	}
	again := func(w Write) (*Repeat, error) {
		_, err := j.Append(context.Background(), w)
		var r *Repeat
		errors.As(err, &r)
		return r, err
	}
	if r, err := again(w); r == nil || r.State != Undelivered || r.Accepted {
		t.Fatalf("%v: want one that still runs", err)
	}
	for name, change := range map[string]func(*Write){
		"body":   func(w *Write) { w.Body = []byte("y") },
		"uri":    func(w *Write) { w.URI = "/other" },
		"method": func(w *Write) { w.Method = "PUT" },
	} {
		other := w
		change(&other)
		if _, err := again(other); !errors.Is(err, ErrKeyReused) {
			t.Errorf("another %s: %v, want ErrKeyReused", name, err)
		}
	}
	for name, change := range map[string]func(*Write){
		"client": func(w *Write) { w.Client = "somebody else" },
		"route":  func(w *Write) { w.Route = "PUT /post" },
	} {
		other := w
		change(&other)
		l, err := j.Append(context.Background(), other)
		if err != nil {
			t.Errorf("another %s: %v", name, err)
			continue
		}
		l.Accept()
	}
	if !l.Begin() && l.Accept() {
		t.Log("the others were ahead")
	}
	if r, err := again(w); r == nil {
		t.Fatal(err)
	}
	var app application
	app.judge = func(string, int) Outcome {
		return Outcome{Kind: Taken, Answer: &Answer{Status: 201, Header: map[string][]string{"Location": {"/1"}}, Body: []byte("made")}}
	}
	l.End(app.judge("", 1))
	j.Deliver(app.send)
	until(t, j, "all delivered", func() bool { return j.Stats().Depth == 0 })
	r, err := again(w)
	if r == nil || r.State != Delivered || r.Answer == nil || r.Answer.Status != 201 || string(r.Answer.Body) != "made" || r.Answer.Header["Location"][0] != "/1" {
		t.Fatalf("%+v, %v", r, err)
	}
	if s := j.Stats(); s.Repeats != 3 || s.Delivered != 3 {
		t.Fatalf("%+v", s)
	}
	checkSums(t, j)
}

func TestTwoOfOneKeyAtOnceAreOne(t *testing.T) {
	j := inMemory(t, Options{})
	for i := range 50 {
		w := write("lane", "x")
		w.Key = fmt.Sprint(i)
		results := make(chan error, 8)
		for range 8 {
			go func() {
				l, err := j.Append(context.Background(), w)
				if err == nil {
					l.Accept()
				}
				results <- err
			}()
		}
		kept := 0
		for range 8 {
			var r *Repeat
			if err := <-results; err == nil {
				kept++
			} else if !errors.As(err, &r) {
				t.Fatal(err)
			}
		}
		if kept != 1 {
			t.Fatalf("%d were kept", kept)
		}
	}
}

func TestAnswersAreKeptAsLongAsWasSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{})
		var app application
		app.judge = func(body string, _ int) Outcome {
			return Outcome{Kind: Taken, Answer: &Answer{Status: 200, Body: make([]byte, len(body)*(MaxAnswer/2))}}
		}
		j.Deliver(app.send)
		var ids []ID
		for i, keep := range []time.Duration{time.Hour, 0, 2 * time.Hour} {
			w := write("lane", "xxx"[:i+1])
			w.KeepAnswer = keep
			l := mustAppend(t, j, w)
			ids = append(ids, l.Entry().ID)
			l.Accept()
		}
		time.Sleep(time.Minute)
		known := func(i int) bool {
			status, err := j.Find(ids[i])
			if err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
			return err == nil && status.State == Delivered && status.Attempts == 1 && status.Answer.Status == 200
		}
		if !known(0) || known(1) || !known(2) {
			t.Fatal("after a minute", known(0), known(1), known(2))
		}
		if long, _ := j.Find(ids[2]); !long.Answer.Cut || long.Answer.Body != nil {
			t.Fatal("an answer of more than MaxAnswer is kept")
		}
		time.Sleep(time.Hour)
		if known(0) || !known(2) {
			t.Fatal("after an hour", known(0), known(2))
		}
		time.Sleep(time.Hour)
		if s := j.Stats(); known(2) || s.Answers != 0 || s.AnswerBytes != 0 {
			t.Fatalf("after two hours: %+v", s)
		}
		checkSums(t, j)
	})
}

func TestAnswersNeverTakeMoreThanTheirRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := inMemory(t, Options{Limits: Limits{MaxBytes: 100_000, PerClient: -1}})
		var app application
		app.judge = func(string, int) Outcome {
			return Outcome{Kind: Taken, Answer: &Answer{Status: 200, Body: make([]byte, 10_000)}}
		}
		j.Deliver(app.send)
		for range 50 {
			mustAppend(t, j, write("lane", "x")).Accept()
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		if s := j.Stats(); s.AnswerBytes > 100_000 || s.AnswerBytes < 80_000 {
			t.Fatalf("%+v", s)
		}
		checkSums(t, j)
	})
}
