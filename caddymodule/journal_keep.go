package caddymodule

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/journal"
)

// keeping is how a pool's journal is kept open.
type keeping struct {
	plan   *journalPlan
	secret []byte
	made   bool               // there is one on disk, or was
	stop   context.CancelFunc // ends the one who opens it anew

	// Of a journal that was opened anew, or with another key: attempts of the one before may still run,
	// and deliveries of this one would be beside them.
	quiet   bool
	before  *ending
	resumed chan struct{} // closed when they have ended; nil: it was never opened anew
}

// over ends who looks after the journal, and the attempts of those before it.
func (k *keeping) over() {
	k.stop()
	if k.before != nil {
		k.before.cancel()
	}
}

// Pauses between attempts to open a journal anew. A disk that was full for a
// moment is back soon; one that is broken is not worth more than a look a minute.
const (
	minReopen = time.Second
	maxReopen = time.Minute
)

// keepLocked makes j the pool's journal, and opens it anew when it has failed.
func (p *pool) keepLocked(plan *journalPlan, secret []byte, j *journal.Journal) {
	ctx, cancel := context.WithCancel(context.Background())
	p.kept = keeping{plan: plan, secret: secret, stop: cancel, made: j.Err() == nil || plan.made()}
	p.installLocked(j)
	go p.keepOpen(ctx) // ends when the journal is closed
}

// succeedLocked makes j, opened in the same folder, the pool's journal in the place
// of one that has failed or retired. Attempts of that one go on, and those of the ones
// before it. Their entries are among those of j, which delivers when they have ended.
func (p *pool) succeedLocked(plan *journalPlan, secret []byte, j *journal.Journal) {
	was, before, end := p.journal.Load(), p.kept, p.journalEnd.Load()
	before.stop()
	p.keepLocked(plan, secret, j)
	p.kept.before, p.kept.resumed = before.before, before.resumed
	p.quietLocked(was, j, end)
}

// installLocked makes j what writes go to.
func (p *pool) installLocked(j *journal.Journal) {
	stores.Lock()
	stores.open[p.kept.plan.dir] = true
	stores.Unlock()
	p.journalEnd.Store(newEnding())
	p.journal.Store(j)
	if n := j.Stats().Depth; n > 0 {
		p.log.Info("journal has entries to deliver", zap.Int64("entries", n))
	}
}

// keepOpen waits for the journal to fail, and opens it anew, from what is on disk.
func (p *pool) keepOpen(ctx context.Context) {
	pause, opened := minReopen, time.Now()
	for {
		j := p.journal.Load()
		if j == nil {
			return
		}
		select {
		case <-j.Failed():
		case <-ctx.Done():
			return
		}
		if time.Since(opened) > maxReopen { // it has worked meanwhile
			pause = minReopen
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause, opened = min(2*pause, maxReopen), time.Now()
		if err := p.reopen(ctx, false); err != nil && ctx.Err() == nil {
			p.log.Warn("the journal cannot be opened yet; it is tried again", zap.Duration("in", pause), zap.Error(err))
		}
	}
}

// journalFolder is where the journal lies.
func (p *pool) journalFolder() string {
	p.journalMu.Lock()
	defer p.journalMu.Unlock()
	if p.kept.plan == nil {
		return ""
	}
	return p.kept.plan.dir
}

// errWorks says that there is nothing to be opened anew.
var errWorks = errors.New("the journal is open")

// reopen opens a journal that has failed, from what is on disk. By itself it makes
// no new one where there was one: somebody may just be mending it; by force it does.
func (p *pool) reopen(ctx context.Context, force bool) error {
	p.journalMu.Lock()
	defer p.journalMu.Unlock()
	was := p.journal.Load()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case was == nil:
		return errNoSuchJournal
	case was.Err() == nil:
		return errWorks
	}
	plan := p.kept.plan
	secret, err := plan.secret()
	if err != nil {
		return err
	}
	was.Leave() // attempts that run go on
	p.kept.made = p.kept.made || plan.made()
	j, err := p.openStore(plan, secret, p.kept.made && !force)
	if err != nil {
		return err
	}
	p.kept.secret, p.kept.made = secret, true
	end := p.journalEnd.Load()
	p.installLocked(j)
	p.quietLocked(was, j, end)
	p.log.Info("the journal is open again: writes are kept", zap.String("folder", plan.dir))
	return nil
}

// quietLocked lets j, which has taken the place of was, deliver nothing while
// attempts of that one run, or of those before it. Those that only wait end.
func (p *pool) quietLocked(was, j *journal.Journal, end *ending) {
	earlier, done := p.kept.resumed, make(chan struct{})
	if p.kept.before != nil {
		context.AfterFunc(end, p.kept.before.cancel) // over knows the last one alone
	}
	p.kept.quiet, p.kept.before, p.kept.resumed = true, end, done
	end.hurry()
	go p.resume(was, j, end, earlier, done) // ends with the attempts that run, which are bounded
}

// resume begins to deliver for j when the last attempt of the journals before it
// has ended.
func (p *pool) resume(was, j *journal.Journal, before *ending, earlier <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	if earlier != nil {
		<-earlier
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ; !was.Idle(); <-tick.C {
	}
	before.cancel()
	_ = was.Close() // it says once more why it has failed
	p.journalMu.Lock()
	defer p.journalMu.Unlock()
	if p.journal.Load() != j {
		return
	}
	p.kept.quiet = false
	if p.deliverBy.Load() != nil {
		p.deliverLocked()
	}
}
