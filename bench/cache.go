package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// cacheBench measures caches: what a hit costs, how often the application is
// asked, and what a stampede does to it. docs/bench.md says how to read it.
func cacheBench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cache", flag.ContinueOnError)
	which := flags.String("proxies", "all", "`names` of "+strings.Join(names(keepers), ", "))
	scenes := flags.String("scenes", "all", "`names` of "+strings.Join(names(cacheScenes), ", "))
	seconds := flags.Float64("seconds", 3, "length of a measurement; a stampede takes what it takes")
	rounds := flags.Int("rounds", 3, "how often; the table has medians")
	caddy := flags.String("caddy", "", "a Caddy `binary` with Portner in it (default built from this repository)")
	out := flags.String("out", "", "write cache.json and cache.svg to this `directory`")
	if err := parse(flags, args); err != nil {
		return err
	}
	b := &cacheLab{track: track{
		lab: lab{caddy: *caddy, rounds: *rounds, show: newProgress()}, cores: []int{1}, length: time.Duration(*seconds * float64(time.Second)),
	}}
	err := errors.Join(choose(&b.proxies, keepers, *which), choose(&b.scenes, cacheScenes, *scenes))
	if err == nil && (*rounds < 1 || *rounds > 50 || !(*seconds >= 0.1 && *seconds <= 60)) {
		err = errors.New("-rounds is 1 to 50, -seconds is 0.1 to 60")
	}
	if err != nil {
		fmt.Fprintln(flags.Output(), err)
		return errUsage
	}
	return b.measureAndReport(ctx, *out)
}

// A cacheScene is what clients want of a cache.
type cacheScene struct {
	name  string
	about string
	bytes int // of an answer
	// path is the n-th wish of a client.
	path func(client, n int, r *rand.Rand, z *rand.Zipf) string
	warm bool // one wish is fulfilled before
	herd int  // clients that want the same once, at the same moment; 0: 32 that go on asking
}

func (s cacheScene) called() string { return s.name }

const (
	zipfPages   = 20_000 // of 4 KiB: five times the cache
	zipfKept    = 16 << 20
	herdLatency = 200 * time.Millisecond
)

var cacheScenes = []cacheScene{
	{"hit-1k", "one page of 1 KiB, over and over", 1 << 10, samePage, true, 0},
	{"hit-10k", "one page of 10 KiB, over and over", 10 << 10, samePage, true, 0},
	{"miss", "pages of 1 KiB that nobody has asked for", 1 << 10, newPage, false, 0},
	{"stampede", "1000 clients on one page that is not there, and takes 200 ms", 10 << 10, samePage, false, 1000},
	{"zipf", "20,000 pages of 4 KiB in 16 MiB, the n-th wanted as n to the -1.1", 4 << 10, zipfPage, false, 0},
}

func samePage(int, int, *rand.Rand, *rand.Zipf) string { return "page" }
func newPage(client, n int, _ *rand.Rand, _ *rand.Zipf) string {
	return strconv.Itoa(client) + "-" + strconv.Itoa(n)
}
func zipfPage(_, _ int, _ *rand.Rand, z *rand.Zipf) string { return strconv.FormatUint(z.Uint64(), 10) }

// cacheLab is where caches stand side by side. Not for concurrent use.
type cacheLab struct {
	track
	scenes []cacheScene
	app    *cacheApp
	taken  []CacheReading
	pairs  []CachePair
	fresh  int // makes addresses that nobody has asked for
}

// CacheReading is one measurement.
type CacheReading struct {
	Scene     string  `json:"scene"`
	Proxy     string  `json:"proxy"`
	Round     int     `json:"round,omitempty"`
	Answers   int     `json:"answers"`
	PerSecond float64 `json:"per_second"`
	CPU       float64 `json:"cpu_us"` // of the proxy, per answer
	Asked     float64 `json:"asked"`  // requests at the application, per answer
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Wrong     int     `json:"wrong"` // clients that got no right answer
	Trouble   string  `json:"trouble,omitempty"`
}

// measureAndReport reports a part of it after Ctrl-C.
func (b *cacheLab) measureAndReport(ctx context.Context, dir string) error {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	var err error
	for round := range b.rounds {
		for _, s := range b.scenes {
			first := round % len(b.proxies)
			for _, c := range slices.Concat(b.proxies[first:], b.proxies[:first]) {
				if c.name == "respond" && !s.warm {
					continue // it always has the one answer that it has
				}
				if err == nil {
					err = b.measureOne(ctx, round+1, s, c)
				}
			}
		}
	}
	if i, j := b.index("portner"), b.index("respond"); err == nil && i >= 0 && j >= 0 {
		for _, s := range b.scenes {
			if s.warm && err == nil {
				err = b.compare(ctx, s, b.proxies[i], b.proxies[j])
			}
		}
	}
	b.show.clear()
	if err != nil && (ctx.Err() == nil || len(b.taken) == 0) {
		return err
	}
	return errors.Join(err, b.report(dir))
}

func (b *cacheLab) index(name string) int {
	return slices.IndexFunc(b.proxies, func(c contender) bool { return c.name == name })
}

// measureOne starts a cache that is empty, and asks it.
func (b *cacheLab) measureOne(ctx context.Context, round int, s cacheScene, c contender) (err error) {
	b.show.say("round %d: %s, %s", round, s.name, c.name)
	runners, end, err := b.open(ctx, s, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	got := CacheReading{Scene: s.name, Proxy: c.name, Round: round}
	if s.herd > 0 {
		b.stampede(ctx, s, runners[0], &got)
	} else {
		b.ask(ctx, s, runners[0], b.length, &got)
	}
	b.taken = append(b.taken, got)
	return ctx.Err()
}

// open starts an application and caches before it, which are on one core. end stops
// what was started.
func (b *cacheLab) open(ctx context.Context, s cacheScene, all ...contender) (_ []*runner, end func() error, err error) {
	b.stages++
	dir := filepath.Join(b.dir, strconv.Itoa(b.stages))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, nil, err
	}
	var runners []*runner
	stop := func() (err error) {
		for _, r := range runners {
			err = errors.Join(err, r.process.kill())
		}
		if b.app != nil {
			err = errors.Join(err, b.app.Close())
		}
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	ports, err := freePorts(1 + 3*len(all))
	if err != nil {
		return nil, nil, err
	}
	local := func(i int) string { return "127.0.0.1:" + ports[i] }
	if err := writeCertificate(dir); err != nil {
		return nil, nil, err
	}
	if b.app, err = newCacheApp(local(0), s); err != nil {
		return nil, nil, err
	}
	cores, _, _ := divide(1, max(2, cpus()))
	for i, c := range all {
		r, err := c.start(&b.track, cores, post{dir: dir, plain: local(3*i + 1), secure: local(3*i + 2), admin: local(3*i + 3), app: local(0), cores: 1, words: strconv.Itoa(s.bytes)})
		if err != nil {
			return nil, nil, err
		}
		runners = append(runners, r)
		if err := r.process.await(ctx, func() error { return alive(localClient, "http://"+r.plain) }); err != nil {
			return nil, nil, err
		}
	}
	return runners, stop, nil
}

// slices of a comparison: each proxy is asked so long before it is the other's turn.
const (
	sliceTime = 400 * time.Millisecond
	sliceRuns = 8 // pairs in a round
)

// compare asks Portner and respond in turns, both on the same core, so that what the
// machine does otherwise in these seconds meets both.
func (b *cacheLab) compare(ctx context.Context, s cacheScene, portner, respond contender) (err error) {
	runners, end, err := b.open(ctx, s, portner, respond)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	pair := CachePair{Scene: s.name}
	for turn := range b.rounds * sliceRuns {
		b.show.say("%s: pair %d", s.name, turn+1)
		var cpu [2]float64
		var trouble string
		for i := range runners {
			which := (i + turn) % 2
			var got CacheReading
			b.ask(ctx, s, runners[which], sliceTime, &got)
			cpu[which], trouble = got.CPU, cmp.Or(trouble, got.Trouble)
		}
		if trouble == "" && cpu[0] > 0 && cpu[1] > 0 { // else the machine did something else
			pair.Ratios = append(pair.Ratios, cpu[0]/cpu[1])
		}
	}
	if counted := len(pair.Ratios); counted < b.rounds*sliceRuns/2 && ctx.Err() == nil {
		return fmt.Errorf("%s: only %d of %d pairs could be measured", s.name, counted, b.rounds*sliceRuns)
	}
	b.pairs = append(b.pairs, pair)
	return ctx.Err()
}

// CachePair is what a hit costs in terms of Caddy's respond, pair by pair.
type CachePair struct {
	Scene  string    `json:"scene"`
	Ratios []float64 `json:"ratios"`
}

// hitCost is the promise: the most CPU time that a hit may cost, in respond's.
const hitCost = 1.1

// errHitCost: a promise was missed.
var errHitCost = errors.New("a hit costs more than was promised")

const cacheClients = 32

// ask lets clients ask, each again when it has its answer.
func (b *cacheLab) ask(ctx context.Context, s cacheScene, r *runner, length time.Duration, got *CacheReading) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.warm {
		if c, err := newPageCaller(ctx, r.plain, s.bytes); err == nil {
			err = errors.Join(c.ask("page"), c.ask("page"), c.Close())
			if err != nil {
				got.Trouble = err.Error()
			}
		}
	}
	var answers atomic.Int64
	var asking sync.WaitGroup
	var trouble atomic.Pointer[error]
	waits := make([][]time.Duration, cacheClients)
	var counted atomic.Bool
	for i := range cacheClients {
		asking.Go(func() { // ends with ctx, or when something goes wrong
			c, err := newPageCaller(ctx, r.plain, s.bytes)
			if err != nil {
				if ctx.Err() == nil {
					trouble.Store(&err)
				}
				return
			}
			defer c.Close()
			random := rand.New(rand.NewPCG(uint64(i), 1))
			zipf := rand.NewZipf(random, 1.1, 1, zipfPages-1)
			for n := 0; ctx.Err() == nil; n++ {
				began := time.Now()
				if err := c.ask(s.path(i, n, random, zipf)); err != nil {
					trouble.Store(&err)
					return
				}
				if counted.Load() {
					answers.Add(1)
					waits[i] = append(waits[i], time.Since(began))
				}
			}
		})
	}
	wait(ctx, min(length/2, 2*time.Second))
	pids := members(r.process) // takes its time
	cpu, asked, began := cpuOfAll(pids), b.app.asked.Load(), time.Now()
	counted.Store(true)
	wait(ctx, length)
	counted.Store(false)
	used, requests, took := cpuOfAll(pids)-cpu, b.app.asked.Load()-asked, time.Since(began)
	cancel()
	asking.Wait()
	if err := trouble.Load(); err != nil {
		got.Trouble = (*err).Error()
	}
	got.fill(int(answers.Load()), took, used, requests, slices.Concat(waits...))
}

// stampede lets all clients, who are connected already, ask at one moment.
func (b *cacheLab) stampede(ctx context.Context, s cacheScene, r *runner, got *CacheReading) {
	callers := make([]*pageCaller, 0, s.herd)
	for range s.herd {
		c, err := newPageCaller(ctx, r.plain, s.bytes)
		if err != nil {
			got.Trouble = err.Error()
			break
		}
		defer c.Close()
		callers = append(callers, c)
	}
	b.fresh++
	path := "cold" + strconv.Itoa(b.fresh)
	pids := members(r.process)
	asked, cpu, began := b.app.asked.Load(), cpuOfAll(pids), time.Now()
	waits := make([]time.Duration, len(callers))
	var wrong atomic.Int64
	var asking sync.WaitGroup
	start := make(chan bool)
	for i, c := range callers {
		asking.Go(func() {
			<-start
			if err := c.ask(path); err != nil {
				wrong.Add(1)
			}
			waits[i] = time.Since(began)
		})
	}
	began = time.Now()
	close(start)
	asking.Wait()
	got.Wrong = int(wrong.Load()) + s.herd - len(callers)
	got.fill(len(callers)-int(wrong.Load()), time.Since(began), cpuOfAll(pids)-cpu, b.app.asked.Load()-asked, waits)
}

func (g *CacheReading) fill(answers int, took, cpu time.Duration, asked int64, waits []time.Duration) {
	if g.Answers = answers; answers == 0 {
		return
	}
	g.PerSecond = float64(answers) / took.Seconds()
	g.CPU = float64(cpu.Microseconds()) / float64(answers)
	g.Asked = float64(asked) / float64(answers)
	slices.Sort(waits)
	g.P50 = waits[len(waits)/2].Seconds() * 1000
	g.P99 = waits[len(waits)*99/100].Seconds() * 1000
}

// cpuOfAll is what processes have used so far.
func cpuOfAll(pids []int) (all time.Duration) {
	for _, pid := range pids {
		used, _ := cpuOf(pid) // it has ended
		all += used
	}
	return all
}
