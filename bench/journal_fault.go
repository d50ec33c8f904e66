package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"
)

// A fault begins when a fifth of the items has been posted and ends at three
// fifths.
type fault struct {
	name       string
	begin, end func(*faultRound, context.Context) error
	dead       int // dead letters that are left
}

func (f fault) called() string { return f.name }

var faults = []fault{
	{"none", nothing, nothing, 0},
	{"app-stopped", (*faultRound).stopApp, (*faultRound).startApp, 0},
	{"app-killed", (*faultRound).killApp, (*faultRound).startApp, 0},
	{"app-slow", mode(gateSlow), mode(gateOpen), 0},
	{"app-500", mode(gateBroken), mode(gateOpen), 0},
	{"app-500-some", mode(gatePart), mode(gateOpen), 0},
	{"proxy-killed", (*faultRound).restartProxy, (*faultRound).restartProxy, 0},
	{"both-killed", (*faultRound).killBoth, (*faultRound).startApp, 0},
	{"poison", mode(gatePoison), nothing, 1},
}

// A rhythm is how items come: some at once, and a pause.
type rhythm struct {
	name  string
	burst int
	pause time.Duration
}

var rhythms = []rhythm{
	{"steady", 1, 10 * time.Millisecond},
	{"bursty", 25, 400 * time.Millisecond},
}

// faultRound is one pass over the items, one at a time, with one fault.
type faultRound struct {
	fault  fault
	rhythm rhythm
	items  []Item
	site   *journalSite
	gate   *gate

	doing   chan error // what meanwhile does; nil: nothing
	start   time.Time
	backlog []float64 // after each try
	row     FaultRow
	told    []posted
}

// A FaultRow is what came of a round.
type FaultRow struct {
	Fault  string `json:"fault"`
	Rhythm string `json:"rhythm"`
	Audit
	Tries   int     `json:"tries"`
	Late    int     `json:"late"`
	Again   int     `json:"again"` // deliveries of what the application had
	Dead    int     `json:"dead_letters"`
	Latency Latency `json:"latency"`
	Drained float64 `json:"drained_seconds"` // until all was delivered, after the last post
	Broken  string  `json:"broken,omitempty"`
}

func (r FaultRow) String() string {
	return fmt.Sprintf("%-12s  %-6s  %v %6d %5d %6d %5d %7.2f ms %7.2f ms %7.2f ms %6.2f s", r.Fault, r.Rhythm,
		r.Audit, r.Tries, r.Late, r.Again, r.Dead, r.Latency.P50, r.Latency.P99, r.Latency.Max, r.Drained)
}

const faultHead = "fault         rhythm  " + auditHead + "  tries  late  again  dead        p50        p99        max  drained"

func (l *journalLab) faultScene(ctx context.Context) error {
	fmt.Printf("\n%d items one at a time, Connection: close, patience %v\n%s\n", l.count, patience, faultHead)
	for _, f := range l.faults {
		for _, rh := range rhythms {
			r := &faultRound{fault: f, rhythm: rh, items: l.items(l.count)}
			if err := r.run(ctx, l); err != nil {
				return fmt.Errorf("%s, %s: %w", f.name, rh.name, err)
			}
			l.show.clear()
			fmt.Println(r.row)
			l.result.Faults = append(l.result.Faults, r.row)
			if err := l.draw("journal-"+f.name+"-"+rh.name, r.chart()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *faultRound) run(ctx context.Context, l *journalLab) (err error) {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	address := "127.0.0.1:" + ports[0]
	if r.site, err = l.newSite(address, ""); err != nil {
		return err
	}
	r.gate = newGate(address, r.site.app)
	r.gate.poison = r.items[len(r.items)/3].ID
	defer func() {
		err = errors.Join(err, r.settled())
		r.gate.close()
		err = errors.Join(err, r.site.stop())
		l.forget(r.site)
	}()
	if err := errors.Join(r.startApp(ctx), r.site.startProxy(ctx)); err != nil {
		return err
	}
	stop := r.readMeanwhile(ctx)
	defer stop()
	if err := r.postAll(ctx, l.show); err != nil {
		return err
	}
	return r.look(ctx, l)
}

// readMeanwhile asks for a page now and then: an application that answers nobody
// else has no poison.
func (r *faultRound) readMeanwhile(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { // ends with stop
		defer close(ended)
		client := r.site.client(time.Second)
		defer client.CloseIdleConnections()
		for ctx.Err() == nil {
			get(client, r.site.url+"/latest") // any answer is one
			wait(ctx, 50*time.Millisecond)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// postAll posts each item until it is accepted: a client that was told nothing
// comes again.
func (r *faultRound) postAll(ctx context.Context, show *progress) error {
	client := newCourseClient(&r.site.site, patience)
	r.start = time.Now()
	for i, item := range r.items {
		switch i {
		case len(r.items) / 5:
			r.meanwhile(ctx, r.fault.begin)
		case len(r.items) * 3 / 5:
			if err := r.settled(); err != nil {
				return err
			}
			r.meanwhile(ctx, r.fault.end)
		}
		p, err := r.postOne(ctx, client, item)
		if err != nil {
			return err
		}
		r.told = append(r.told, p)
		if (i+1)%r.rhythm.burst == 0 {
			wait(ctx, r.rhythm.pause)
		}
		show.say("%s, %s: posted %d of %d", r.fault.name, r.rhythm.name, i+1, len(r.items))
	}
	return r.settled()
}

func (r *faultRound) postOne(ctx context.Context, client *courseClient, item Item) (posted, error) {
	p := posted{item: item, sent: time.Since(r.start)}
	for deadline := time.Now().Add(30 * time.Second); ; {
		o := client.post(ctx, item)
		p.took = append(p.took, o.took)
		if o.late {
			p.late++
		}
		accepted := len(r.told)
		if o.taken() {
			accepted++
		}
		r.backlog = append(r.backlog, float64(accepted-r.gate.delivered()))
		switch {
		case o.taken():
			p.told = time.Since(r.start)
			return p, nil
		case time.Now().After(deadline) || ctx.Err() != nil:
			return p, fmt.Errorf("item %d is not accepted: %+v", item.ID, o)
		}
		wait(ctx, 5*time.Millisecond)
	}
}

// meanwhile does something while items are posted, some milliseconds from now, so
// that it meets a post anywhere on its way.
func (r *faultRound) meanwhile(ctx context.Context, do func(*faultRound, context.Context) error) {
	r.doing = make(chan error, 1)
	go func() { // settled waits for it
		time.Sleep(rand.N(10 * time.Millisecond))
		r.doing <- do(r, ctx)
	}()
}

func (r *faultRound) settled() error {
	if r.doing == nil {
		return nil
	}
	defer func() { r.doing = nil }()
	return <-r.doing
}

// poisonPatience is how long a write that fails may be tried: ten times with a
// backoff that doubles up to 30 s, and over a minute at least.
const poisonPatience = 150 * time.Second

// look waits for the deliveries, and reads what the application has then.
func (r *faultRound) look(ctx context.Context, l *journalLab) error {
	most := 60 * time.Second
	if r.fault.dead > 0 {
		most = poisonPatience
		l.show.say("%s, %s: waiting up to %v for the dead letter", r.fault.name, r.rhythm.name, most)
	}
	drained, err := r.site.drain(ctx, most)
	if err != nil && !errors.Is(err, errUndelivered) { // what is missing will be counted
		return err
	}
	dead, err := r.site.metric("portner_journal_dead_letters")
	if err != nil {
		return err
	}
	stored, err := readStored(ctx, l.b, filepath.Join(r.site.db))
	if err != nil {
		return err
	}
	took, late := triesOf(r.told)
	r.row = FaultRow{Fault: r.fault.name, Rhythm: r.rhythm.name, Tries: len(took), Late: late, Again: r.gate.repeated(), Dead: int(dead),
		Latency: latencyOf(took), Drained: drained.Seconds()}
	expected := r.told
	if r.fault.dead > 0 {
		expected = without(r.told, r.gate.poison)
	}
	r.row.Audit = audit(expected, stored)
	if err := r.row.Audit.broken(); err != nil {
		r.row.Broken = err.Error()
	} else if r.row.Dead != r.fault.dead {
		r.row.Broken = fmt.Sprintf("%d dead letters, not %d", r.row.Dead, r.fault.dead)
	}
	return nil
}

func without(all []posted, id int) (rest []posted) {
	for _, p := range all {
		if p.item.ID != id {
			rest = append(rest, p)
		}
	}
	return rest
}

// chart is the round over its tries.
func (r *faultRound) chart() chart {
	took, _ := triesOf(r.told)
	var ms []float64
	for _, t := range took {
		ms = append(ms, milliseconds(t))
	}
	return chart{
		title: fmt.Sprintf("Journal: %s, %d items one at a time, %s", r.fault.name, len(r.items), r.rhythm.name),
		note:  fmt.Sprintf("patience %v; the fault lasts from a fifth to three fifths of the items", patience),
		rows: [][]panel{{
			{title: "accepted, not delivered", x: "try", y: "items", ticks: numbered(len(r.backlog)), every: max(1, len(r.backlog)/5), series: []series{{"backlog", r.backlog}}},
			{title: "latency of a post", x: "try", y: "ms", ticks: numbered(len(ms)), every: max(1, len(ms)/5), series: []series{{"latency", ms}}, wanted: milliseconds(patience)},
		}},
	}
}

func (r *faultRound) startApp(ctx context.Context) error {
	if err := r.site.startApp(ctx); err != nil {
		return err
	}
	return r.gate.open()
}

func (r *faultRound) stopApp(context.Context) error {
	r.gate.close()
	return r.site.stopApp()
}

func (r *faultRound) killApp(context.Context) error {
	r.gate.close()
	return r.site.killApp()
}

// restartProxy kills Caddy, and starts it again at once.
func (r *faultRound) restartProxy(ctx context.Context) error {
	if err := r.site.killProxy(); err != nil {
		return err
	}
	return r.site.startProxy(ctx)
}

func (r *faultRound) killBoth(ctx context.Context) error {
	return errors.Join(r.killApp(ctx), r.restartProxy(ctx))
}

func nothing(*faultRound, context.Context) error { return nil }

func mode(m gateMode) func(*faultRound, context.Context) error {
	return func(r *faultRound, _ context.Context) error { r.gate.set(m); return nil }
}
