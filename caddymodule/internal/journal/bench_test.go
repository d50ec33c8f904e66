package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// BenchmarkAppend is durable appends of 1 KiB by 256 clients at once, to the real
// disk, with the application away.
func BenchmarkAppend(b *testing.B) {
	for _, sealed := range []bool{false, true} {
		b.Run(fmt.Sprintf("sealed=%v", sealed), func(b *testing.B) {
			opts := Options{Limits: Limits{MaxBytes: 1 << 40, PerClient: -1}}
			if sealed {
				opts.Secret = make([]byte, 32)
			}
			j := openIn(b, b.TempDir(), opts)
			report(b, appendMany(b, j, b.N, 256))
		})
	}
}

// appendMany appends n writes by so many clients at once, and returns the
// latencies they saw, in order of size.
func appendMany(b *testing.B, j *Journal, n, clients int) []time.Duration {
	noise := make([]byte, 1<<20) // does not compress
	rand.NewChaCha8([32]byte{}).Read(noise)
	took := make([]time.Duration, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				start := time.Now()
				l, err := j.Append(context.Background(), write("lane", string(noise[i*509%(1<<20-1024):][:1024])))
				if err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(start)
				l.Accept()
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	return took
}

func report(b *testing.B, took []time.Duration) {
	n := len(took)
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "appends/s")
	for name, d := range map[string]time.Duration{"p50-ms": took[n/2], "p99-ms": took[n*99/100], "max-ms": took[n-1]} {
		b.ReportMetric(float64(d.Microseconds())/1000, name)
	}
}

// residentBytes is what the system says the process has in memory.
func residentBytes() int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// BenchmarkMillion fills a journal with a million entries that are not delivered,
// and opens it again. JOURNAL_ENTRIES changes how many.
func BenchmarkMillion(b *testing.B) {
	n := 1_000_000
	if env := os.Getenv("JOURNAL_ENTRIES"); env != "" {
		n, _ = strconv.Atoi(env)
	}
	dir := b.TempDir()
	opts := Options{Limits: Limits{MaxBytes: 1 << 40, PerClient: -1}}
	for range b.N {
		j := openIn(b, dir, opts)
		for tenth := range 10 {
			start := time.Now()
			took := appendMany(b, j, n/10, 256)
			rate := float64(len(took)) / time.Since(start).Seconds()
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			b.Logf("%3d%%: %.0f appends/s, p50 %v, p99 %v, max %v; heap %d MiB, resident %d MiB", 10*(tenth+1), rate,
				took[len(took)/2], took[len(took)*99/100], took[len(took)-1], m.HeapInuse>>20, residentBytes()>>20)
		}
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		j = openIn(b, dir, opts)
		opened := time.Since(start)
		var app application
		j.Deliver(app.send)
		until(b, j, "a first delivery", func() bool { return len(app.taken()) > 0 })
		first := time.Since(start)
		b.ReportMetric(opened.Seconds(), "open-s")
		b.ReportMetric(first.Seconds(), "first-delivery-s")
		_ = j.Close()
	}
}

// BenchmarkPipeline is the same bytes through Pebble's own commit pipeline, which
// groups the syncs of its callers: what a committer of our own is measured against.
func BenchmarkPipeline(b *testing.B) {
	e, err := openEngine(b.TempDir(), Options{}.withDefaults())
	if err != nil {
		b.Fatal(err)
	}
	defer e.close()
	body := make([]byte, 1300)
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 256 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				start := time.Now()
				batch := e.db.NewBatch()
				_ = batch.Set(seqKey(kEntry, uint64(i)), body, nil)
				_ = batch.Set(laneSeqKey(Hash{}, uint64(i)), body[:12], nil)
				_ = batch.Set(hashKey(kID, hash(strconv.FormatInt(i, 10))), body[:28], nil)
				_ = batch.Set(metaTotals, body[:24], nil)
				if err := e.db.Apply(batch, pebble.Sync); err != nil {
					b.Error(err)
				}
				took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	report(b, took)
}
