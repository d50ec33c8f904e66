package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// A KillRow is what came of a round.
type KillRow struct {
	Round  int      `json:"round"`
	Rhythm string   `json:"rhythm"`
	Kills  []string `json:"kills"`
	Audit
	Tries   int            `json:"tries"`
	Refused map[string]int `json:"refused,omitempty"` // what clients got in between
	Latency Latency        `json:"latency"`           // of the tries that were answered
	Taken   float64        `json:"taken_p99_ms"`      // from the first try until the item was taken
	Backlog float64        `json:"backlog"`           // the most that was seen
	Drained float64        `json:"drained_seconds"`
	Broken  string         `json:"broken,omitempty"`
}

func (r KillRow) String() string {
	return fmt.Sprintf("%5d  %-6s  %v %6d %8.0f %7.2f ms %8.2f ms %7.0f ms %6.2f s  %s", r.Round, r.Rhythm,
		r.Audit, r.Tries, r.Backlog, r.Latency.P50, r.Latency.P99, r.Taken, r.Drained, strings.Join(r.Kills, ", "))
}

const killHead = "round  rhythm  " + auditHead + "  tries  backlog        p50         p99  taken p99  drained  killed"

// A site of the kill scene lives for some rounds: what the next ones find is a
// journal and a database that were killed before. Then it begins anew, so that
// the last look at the database costs no more than the first.
const roundsOfSite = 10

// itemsOfClient is how many a client posts in a round of about two seconds.
const itemsOfClient = 25

// killScene kills a hundred times and more, at moments that the seed decides.
func (l *journalLab) killScene(ctx context.Context) error {
	fmt.Printf("\n%d clients at once, %d items each, seed %d\n%s\n", l.clients, itemsOfClient, l.seed, killHead)
	var pictures []*killRound
	for n := 0; n < l.rounds; n += roundsOfSite {
		if err := l.killSite(ctx, n, min(l.rounds, n+roundsOfSite), &pictures); err != nil {
			return err
		}
	}
	return l.draw("journal-kill", killChart(pictures, l.result.Kills))
}

func (l *journalLab) killSite(ctx context.Context, from, to int, pictures *[]*killRound) (err error) {
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
	var told []posted // of this site: an item may also be lost later
	for n := from; n < to; n++ {
		r := newKillRound(l, s, n, n-from)
		if err := r.run(ctx); err != nil {
			return fmt.Errorf("round %d: %w", n+1, err)
		}
		told = append(told, r.told...)
		stored, err := readStored(ctx, l.b, s.db)
		if err != nil {
			return err
		}
		r.judge(stored)
		l.show.clear()
		fmt.Println(r.row)
		l.result.Kills = append(l.result.Kills, r.row)
		if len(*pictures) < 3 && !slices.ContainsFunc(*pictures, func(p *killRound) bool { return p.plan[0].victim.name == r.plan[0].victim.name }) {
			*pictures = append(*pictures, r)
		}
		if n == to-1 {
			l.lookAgain(told, stored)
		}
	}
	return nil
}

// lookAgain looks for the items of all rounds of a site. Their times do not
// compare between rounds, each of which looked at its order itself.
func (l *journalLab) lookAgain(told []posted, stored []storedItem) {
	for i := range told {
		told[i].sent, told[i].told = 0, math.MaxInt64
	}
	last := &l.result.Kills[len(l.result.Kills)-1]
	if a := audit(told, stored); a.broken() != nil && last.Broken == "" {
		last.Broken = fmt.Sprintf("of earlier rounds: %v", a.broken())
		last.Lost = append(last.Lost, a.Lost...)
	}
}

// A victim is what is killed.
type victim struct {
	name       string
	kill       func(*journalSite) error
	startAgain func(*journalSite, context.Context) error
}

var victims = []victim{
	{"proxy", (*journalSite).killProxy, (*journalSite).startProxy},
	{"application", (*journalSite).killApp, (*journalSite).startApp},
	{"both", func(s *journalSite) error { return errors.Join(s.killProxy(), s.killApp()) },
		func(s *journalSite, ctx context.Context) error {
			return errors.Join(s.startProxy(ctx), s.startApp(ctx))
		}},
}

// A blow is one kill: when, after the last one is over, and for how long the
// victim is away.
type blow struct {
	victim     victim
	wait, away time.Duration
}

// killRound is some seconds of load, with one blow or two.
type killRound struct {
	number, ofSite int
	lab            *journalLab
	site           *journalSite
	rhythm         rhythm
	plan           []blow
	start          time.Time

	mu      sync.Mutex
	told    []posted
	refused map[string]int
	backlog []float64 // every sampleEvery; NaN: nobody could be asked
	drained time.Duration
	row     KillRow
}

const sampleEvery = 50 * time.Millisecond

// killRhythms are those of one client among many.
var killRhythms = []rhythm{
	{"steady", 1, 80 * time.Millisecond},
	{"bursty", 9, 700 * time.Millisecond},
}

func newKillRound(l *journalLab, s *journalSite, number, ofSite int) *killRound {
	dice := rand.New(rand.NewPCG(l.seed, uint64(number)))
	r := &killRound{number: number, ofSite: ofSite, lab: l, site: s, rhythm: killRhythms[number%len(killRhythms)], refused: make(map[string]int)}
	for range 1 + dice.IntN(2) {
		r.plan = append(r.plan, blow{victims[dice.IntN(len(victims))], time.Duration(dice.Int64N(int64(1200 * time.Millisecond))), time.Duration(dice.Int64N(int64(600 * time.Millisecond)))})
	}
	return r
}

// run returns when everything was told, delivered, or given up.
func (r *killRound) run(ctx context.Context) error {
	r.start = time.Now()
	failed := make(chan error, r.lab.clients+1)
	var clients sync.WaitGroup
	for c := range r.lab.clients {
		clients.Go(func() { // ends with its items, or with ctx
			if err := r.client(ctx, c); err != nil {
				failed <- err
			}
		})
	}
	sampling, stop := context.WithCancel(ctx)
	sampled := make(chan struct{})
	go func() { // ends with sampling
		defer close(sampled)
		r.sample(sampling)
	}()
	if err := r.strike(ctx); err != nil {
		failed <- err
	}
	clients.Wait()
	var err error
	r.drained, err = r.site.drain(ctx, 60*time.Second)
	stop()
	<-sampled
	close(failed)
	for one := range failed {
		err = errors.Join(err, one)
	}
	if errors.Is(err, errUndelivered) {
		err = nil // what is missing will be counted
	}
	return cmp.Or(err, ctx.Err())
}

// strike kills and starts again.
func (r *killRound) strike(ctx context.Context) error {
	for _, b := range r.plan {
		wait(ctx, b.wait)
		if err := b.victim.kill(r.site); err != nil {
			return err
		}
		wait(ctx, b.away)
		if err := b.victim.startAgain(r.site, ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (r *killRound) sample(ctx context.Context) {
	for n := 1; ctx.Err() == nil; n++ {
		depth, err := r.site.metric("portner_journal_depth")
		if err != nil {
			depth = math.NaN()
		}
		r.backlog = append(r.backlog, depth)
		wait(ctx, time.Until(r.start.Add(time.Duration(n)*sampleEvery)))
	}
}

// client posts its items, each until it is told that it is taken. Of two clients
// one names its writes with a key of its own, and keeps its connection; the other
// is as the course's.
func (r *killRound) client(ctx context.Context, number int) error {
	c := newKillClient(r.site, number)
	defer c.http.CloseIdleConnections()
	dice := rand.New(rand.NewPCG(r.lab.seed, uint64(r.number*1000+number)))
	wait(ctx, time.Duration(dice.Int64N(int64(r.rhythm.pause))))
	for i, item := range r.itemsOf(number) {
		p := posted{item: item, sent: time.Since(r.start)}
		for deadline := time.Now().Add(30 * time.Second); ; {
			began := time.Now()
			accepted, why, err := c.post(ctx, item)
			p.took = append(p.took, time.Since(began))
			if err != nil {
				return fmt.Errorf("item %d: %w", item.ID, err)
			}
			if accepted {
				break
			}
			r.noteRefusal(why)
			if time.Now().After(deadline) || ctx.Err() != nil {
				return fmt.Errorf("item %d is not accepted: %s", item.ID, why)
			}
			wait(ctx, 10*time.Millisecond)
		}
		p.told = time.Since(r.start)
		r.note(p)
		if (i+1)%r.rhythm.burst == 0 {
			wait(ctx, r.rhythm.pause/2+time.Duration(dice.Int64N(int64(r.rhythm.pause))))
		}
	}
	return nil
}

// itemsOf makes the items of a client: ids of their own among all rounds of the
// site, and few users, because the application takes its time with a new one.
func (r *killRound) itemsOf(number int) []Item {
	all := makeItems(itemsOfClient)
	base := (r.ofSite*r.lab.clients+number)*itemsOfClient + 1
	for i := range all {
		all[i].ID = base + i
		if all[i].Parent > 0 {
			all[i].Parent += base - 1
		}
		all[i].User, all[i].Secret = fmt.Sprintf("maker_%d", number%8), fmt.Sprintf("secret%d", number%8)
		all[i].Sent = encode(all[i])
	}
	return all
}

func (r *killRound) note(p posted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, p)
	r.lab.show.say("round %d: %d of %d are taken", r.number+1, len(r.told), r.lab.clients*itemsOfClient)
}

func (r *killRound) noteRefusal(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[why]++
}

func (r *killRound) judge(stored []storedItem) {
	took, _ := triesOf(r.told)
	var answered, taken []time.Duration
	for _, p := range r.told {
		answered, taken = append(answered, p.took[len(p.took)-1]), append(taken, p.told-p.sent)
	}
	most := 0.0
	for _, depth := range r.backlog {
		if !math.IsNaN(depth) {
			most = max(most, depth)
		}
	}
	r.row = KillRow{Round: r.number + 1, Rhythm: r.rhythm.name, Audit: audit(r.told, stored), Tries: len(took), Refused: r.refused,
		Latency: latencyOf(answered), Taken: latencyOf(taken).P99, Backlog: most, Drained: r.drained.Seconds()}
	for _, b := range r.plan {
		r.row.Kills = append(r.row.Kills, b.victim.name)
	}
	if err := r.row.Audit.broken(); err != nil {
		r.row.Broken = err.Error()
	}
}
