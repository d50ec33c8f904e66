package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A CostRow compares a write that is kept with one that is not. All numbers are
// milliseconds, and medians unless they say otherwise.
type CostRow struct {
	Pairs   int     `json:"pairs"`
	Plain   Latency `json:"plain"`
	Kept    Latency `json:"kept"`
	Sync    Latency `json:"fsync"`        // append and fsync of 1 KiB in the journal's folder
	More    float64 `json:"difference"`   // kept less plain, of each pair
	Low     float64 `json:"low"`          // of 95 % of the medians of resampled pairs
	High    float64 `json:"high"`         // the same
	InSyncs float64 `json:"in_fsyncs"`    // More by the median fsync
	Append  float64 `json:"append_mean"`  // until the journal had it on disk, by its own metric
	Failed  int     `json:"not_answered"` // tries without a 200; they count for nothing
}

// costScene posts to two doors before the same application in turn, one of which
// keeps what it passes on, and syncs a file between them. What disturbs the
// machine for a while disturbs all three.
func (l *journalLab) costScene(ctx context.Context) (err error) {
	s, err := l.newSite("", "")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.stop())
		l.forget(s)
	}()
	if err := errors.Join(s.startApp(ctx), s.startProxy(ctx)); err != nil {
		return err
	}
	p := &pairs{kept: newCostClient(s.proxy), plain: newCostClient(s.plain)}
	defer p.kept.http.CloseIdleConnections()
	defer p.plain.http.CloseIdleConnections()
	if p.file, err = os.OpenFile(filepath.Join(s.dir, "synced"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	defer p.file.Close()
	if err := p.run(ctx, l); err != nil {
		return err
	}
	row := p.row()
	if row.Append, err = meanAppend(s); err != nil {
		return err
	}
	l.result.Cost = row
	l.show.clear()
	fmt.Printf("\n%d pairs of writes to a healthy application, in turn (median, p99)\n", row.Pairs)
	fmt.Printf("ordinary  %7.3f ms %7.3f ms\nkept      %7.3f ms %7.3f ms\nfsync     %7.3f ms %7.3f ms\n", row.Plain.P50, row.Plain.P99, row.Kept.P50, row.Kept.P99, row.Sync.P50, row.Sync.P99)
	fmt.Printf("kept costs %.3f ms more (95 %%: %.3f to %.3f), %.2f fsyncs; of it %.3f ms until it is on disk (mean)\n", row.More, row.Low, row.High, row.InSyncs, row.Append)
	l.promised("cost", "a write that is kept costs its client at most one fsync more than an ordinary one", row.More <= row.Sync.P50,
		"%.3f ms more (95 %%: %.3f to %.3f), an fsync of 1 KiB takes %.3f ms: %.2f fsyncs", row.More, row.Low, row.High, row.Sync.P50, row.InSyncs)
	return l.draw("journal-cost", p.chart(row))
}

// meanAppend is in milliseconds.
func meanAppend(s *journalSite) (float64, error) {
	sum, err1 := s.metric("portner_journal_append_seconds_sum")
	count, err2 := s.metric("portner_journal_append_seconds_count")
	return 1000 * sum / count, errors.Join(err1, err2)
}

// newCostClient is the course's, but keeps its connection: a handshake is another
// question. It is patient: what is compared is how long things take.
func newCostClient(address string) *courseClient {
	c := newCourseClient(&site{url: "http://" + address}, 5*time.Second)
	c.http = &http.Client{Transport: &http.Transport{}}
	return c
}

// pairs are the measurements. Not for concurrent use.
type pairs struct {
	kept, plain *courseClient
	file        *os.File
	took        [2][]time.Duration // ordinary, kept
	syncs       []time.Duration
	failed      int
}

// costWarm is how many pairs go before, without counting.
const costWarm = 20

func (p *pairs) run(ctx context.Context, l *journalLab) error {
	items := makeItems(2 * (l.pairs + costWarm))
	dice := rand.New(rand.NewPCG(l.seed, 0))
	for n := range l.pairs + costWarm {
		var took [2]time.Duration
		ok := true
		for _, which := range dice.Perm(2) {
			item := items[2*n+which]
			item.User, item.Secret = "maker", "secret"
			item.Sent = encode(item)
			o := []*courseClient{p.plain, p.kept}[which].post(ctx, item)
			took[which], ok = o.took, ok && o.taken()
		}
		synced, err := p.sync()
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		switch {
		case n < costWarm:
		case !ok:
			p.failed++
		default:
			p.took[0], p.took[1], p.syncs = append(p.took[0], took[0]), append(p.took[1], took[1]), append(p.syncs, synced)
		}
		l.show.say("cost: %d of %d", n, l.pairs)
	}
	if len(p.syncs) == 0 {
		return errors.New("no pair was answered")
	}
	return nil
}

// sync appends 1 KiB to a file, and returns how long it took until it was on disk.
func (p *pairs) sync() (time.Duration, error) {
	block := make([]byte, 1<<10)
	for i := range block {
		block[i] = byte(rand.Uint32())
	}
	start := time.Now()
	_, err := p.file.Write(block)
	err = errors.Join(err, p.file.Sync())
	return time.Since(start), err
}

func (p *pairs) row() *CostRow {
	row := &CostRow{Pairs: len(p.syncs), Plain: latencyOf(p.took[0]), Kept: latencyOf(p.took[1]), Sync: latencyOf(p.syncs), Failed: p.failed}
	var more []float64
	for i := range p.syncs {
		more = append(more, milliseconds(p.took[1][i]-p.took[0][i]))
	}
	row.Low, row.High = confidence(more)
	row.More = median(more)
	row.InSyncs = row.More / row.Sync.P50
	return row
}

// confidence is where 95 % of the medians of samples like this one lie (the
// percentile bootstrap: Efron, Bootstrap Methods, 1979).
func confidence(values []float64) (low, high float64) {
	dice := rand.New(rand.NewPCG(1, 2))
	medians := make([]float64, 1000)
	sample := make([]float64, len(values))
	for i := range medians {
		for k := range sample {
			sample[k] = values[dice.IntN(len(values))]
		}
		medians[i] = median(sample)
	}
	slices.Sort(medians)
	return medians[25], medians[974]
}

func (p *pairs) chart(row *CostRow) chart {
	every := max(1, row.Pairs/5)
	return chart{title: "Journal: what keeping a write costs its client", note: fmt.Sprintf("%.3f ms more, an fsync takes %.3f ms", row.More, row.Sync.P50),
		rows: [][]panel{{{title: "latency of a post", x: "pair", y: "ms", ticks: numbered(row.Pairs), every: every, log: true, series: []series{
			{"ordinary", inMilliseconds(p.took[0])}, {"kept", inMilliseconds(p.took[1])}, {"fsync of 1 KiB", inMilliseconds(p.syncs)}}}}}}
}
