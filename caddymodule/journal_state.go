package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/front"
	"github.com/portner/portner/caddymodule/internal/journal"
)

// stores are the folders of the journals that this process has open, or tries to,
// and where some are or have been.
var stores = struct {
	sync.Mutex
	open  map[string]bool
	roots journalRoots
}{open: make(map[string]bool)}

// journalRoot is where the stores of pools are that name no other place.
func journalRoot() string { return filepath.Join(caddy.AppDataDir(), "portner", "journal") }

// journalDir is the folder of the pool's store.
func (h *Handler) journalDir() string {
	root := h.JournalDir
	if root == "" {
		root = journalRoot()
	}
	if whole, err := filepath.Abs(root); err == nil { // the next process may begin elsewhere
		root = whole
	}
	return filepath.Join(root, fileName(h.Name))
}

// change is a journal that is ready to take its place.
type change struct {
	do   func() error // an error only where it could not be known before
	undo func()       // instead of do
}

// prepareJournalLocked opens the journal that the plan wants, unless it is open, and
// changes nothing yet. One that works is given up only for another that works. Where
// there is none that works, one that cannot be opened is no reason to stop all else:
// its writes are refused, and it is tried again.
func (p *pool) prepareJournalLocked(plan *journalPlan) (c change, err error) {
	secret, err := plan.secret()
	was, undo := p.journal.Load(), func() {}
	switch {
	case was == nil:
		return p.prepareFirstLocked(plan, secret, err)
	case was.Err() != nil: // its folder is not free
		return change{func() error { p.startJournalLocked(plan); return nil }, undo}, nil
	case err != nil:
		return c, p.journalError(plan, err)
	case p.kept.plan.dir == plan.dir && bytes.Equal(p.kept.secret, secret):
		return change{func() error { p.kept.plan = plan; was.SetLimits(plan.limits); return nil }, undo}, nil
	case p.kept.plan.dir == plan.dir && p.kept.secret != nil:
		return c, p.journalError(plan, fmt.Errorf("%w: it is sealed with another one", journal.ErrSecret))
	case p.kept.plan.dir == plan.dir:
		return change{func() error { return p.changeSecretLocked(plan, secret) }, undo}, nil
	}
	j, err := p.openStore(plan, secret, false)
	if err != nil {
		return c, p.journalError(plan, err)
	}
	return change{func() error { p.closeJournalLocked(); p.keepLocked(plan, secret, j); return nil }, func() { _ = j.Close() }}, nil
}

// prepareFirstLocked is for a pool that has no journal. The error is that of its key.
func (p *pool) prepareFirstLocked(plan *journalPlan, secret []byte, err error) (c change, _ error) {
	var j *journal.Journal
	if err == nil {
		j, err = p.openStore(plan, secret, false)
	}
	if errors.Is(err, journal.ErrInUse) {
		return c, p.journalError(plan, err)
	}
	if err != nil {
		j = p.noJournal(plan, err)
	}
	return change{func() error { p.keepLocked(plan, secret, j); return nil }, func() { _ = j.Close() }}, nil
}

func (p *pool) journalError(plan *journalPlan, err error) error {
	if errors.Is(err, journal.ErrInUse) {
		return fmt.Errorf("app_proxy: the journal of pool %s is in use by another process: %s; stop that one, or give the pool another name or journal_dir: %w", p.name, plan.dir, err)
	}
	return fmt.Errorf("app_proxy: the journal of pool %s: %w", p.name, err)
}

// openStore opens the journal in the plan's folder; existing: and makes none.
func (p *pool) openStore(plan *journalPlan, secret []byte, existing bool) (*journal.Journal, error) {
	return journal.Open(plan.dir, journal.Options{
		Log: p.log, Limits: plan.limits, Secret: secret, Existing: existing, ObserveAppend: p.metrics.ObserveAppend,
		Memory: min(journalMemory, machineMemory()/64),
	})
}

// journalMemory is Options.Memory where the machine has plenty: the disk is busy
// with tables a quarter as often, and a write waits for it less.
const journalMemory = 64 << 20

// startJournalLocked opens the journal of a pool whose journal has failed. One in
// another folder has none of the entries for which attempts run, and waits for nobody.
func (p *pool) startJournalLocked(plan *journalPlan) {
	take := p.keepLocked
	if p.kept.plan.dir == plan.dir {
		p.journal.Load().Leave()
		take = p.succeedLocked
	} else {
		p.closeJournalLocked()
	}
	secret, err := plan.secret()
	var j *journal.Journal
	if err == nil {
		j, err = p.openStore(plan, secret, false)
	}
	if err != nil {
		j = p.noJournal(plan, err)
	}
	take(plan, secret, j)
}

func (p *pool) noJournal(plan *journalPlan, err error) *journal.Journal {
	p.log.Error("the journal cannot be opened: its writes are refused until it can, all else goes on; it is tried again",
		zap.String("folder", plan.dir), zap.Error(err))
	return journal.None(err, journal.Options{Log: p.log, Limits: plan.limits})
}

// changeSecretLocked opens the journal with its first key. If that does not work it
// is opened without again.
func (p *pool) changeSecretLocked(plan *journalPlan, secret []byte) error {
	before := p.kept
	if err := p.journal.Load().Retire(); err != nil {
		p.log.Error("closing the journal", zap.Error(err))
	}
	j, err := p.openStore(plan, secret, true)
	if err == nil {
		p.succeedLocked(plan, secret, j)
		return nil
	}
	err = p.journalError(plan, err)
	j, again := p.openStore(before.plan, before.secret, true)
	if again != nil {
		j = journal.None(again, journal.Options{Log: p.log, Limits: before.plan.limits})
	}
	p.succeedLocked(before.plan, before.secret, j)
	return err
}

// applyJournal begins to deliver, or ends it where no route keeps writes any more.
func (p *pool) applyJournal(plan *journalPlan) {
	if plan == nil {
		p.closeJournal()
		return
	}
	p.deliver(plan.deliver)
}

// deliver lets the deliveries go by f from now on.
func (p *pool) deliver(f *front.Front) {
	p.journalMu.Lock()
	defer p.journalMu.Unlock()
	p.deliverBy.Store(f)
	p.deliverLocked()
}

func (p *pool) deliverLocked() {
	j := p.journal.Load()
	if j == nil || p.kept.quiet {
		return
	}
	j.Deliver(func(ctx context.Context, e *journal.Entry, attempt int) journal.Outcome {
		return p.deliverBy.Load().Deliver(ctx, e, attempt)
	})
}

// closeJournal ends the deliveries. What is left is reported, and stays.
func (p *pool) closeJournal() {
	p.journalMu.Lock()
	defer p.journalMu.Unlock()
	p.closeJournalLocked()
}

func (p *pool) closeJournalLocked() {
	j := p.journal.Swap(nil)
	if j == nil {
		return
	}
	p.kept.over()
	p.journalEnd.Load().cancel()
	left := j.Stats().Depth
	if err := j.Close(); err != nil {
		p.log.Error("closing the journal", zap.Error(err))
	}
	stores.Lock()
	delete(stores.open, p.kept.plan.dir)
	stores.Unlock()
	if left > 0 {
		p.log.Warn("a journal is closed with entries that are not delivered; they stay until a pool of that name is configured",
			zap.Int64("entries", left), zap.String("folder", p.kept.plan.dir))
	}
}

// ending is a context that ends with a journal, and before that another one, which
// is for attempts that wait.
type ending struct {
	context.Context
	cancel context.CancelFunc

	patience context.Context
	hurry    context.CancelFunc
}

func newEnding() *ending {
	e := new(ending)
	e.Context, e.cancel = context.WithCancel(context.Background())
	e.patience, e.hurry = context.WithCancel(e.Context)
	return e
}

// journalLife implements front.Journaling.Life. It is asked by who has an entry of
// the journal.
func (p *pool) journalLife() context.Context { return p.journalEnd.Load() }

// journalPatience implements front.Journaling.Patience.
func (p *pool) journalPatience() context.Context { return p.journalEnd.Load().patience }

// setReady tells the journal of an upstream that is back.
func (p *pool) setReady(key string, ready bool) {
	p.queue.SetReady(key, ready)
	if j := p.journal.Load(); j != nil && ready {
		j.Ready()
	}
}

// startJournals opens the journals before any pool changes: a configuration that
// would take a journal away that works, for one that does not, does not start. All
// new ones are open before the first takes its place: what is refused changes nothing.
func (a *App) startJournals() error {
	wanted := make(map[string]bool)
	var roots []string
	for _, m := range a.members {
		if plan := m.generation.journal; plan != nil {
			roots = append(roots, filepath.Dir(plan.dir))
			wanted[plan.dir] = true
		}
	}
	stores.Lock()
	err := stores.roots.add(journalRoot(), roots)
	stores.Unlock()
	log := caddy.Log().Named("app_proxy")
	if err != nil {
		log.Warn("where the journals are is not noted: one in another folder is forgotten with this process once no pool names it", zap.Error(err))
	}
	for _, o := range orphans(wanted) {
		log.Warn("a journal has entries that are not delivered, and no pool of that name is configured",
			zap.Int64("entries", o.Depth), zap.Int64("dead_letters", o.DeadLetters), zap.String("folder", o.Folder), zap.String("error", o.Failed))
	}
	return a.changeJournals()
}

func (a *App) changeJournals() error {
	var changes []change
	for _, m := range a.members {
		plan := m.generation.journal
		if plan == nil {
			continue
		}
		m.pool.journalMu.Lock() // members are of different pools, and nobody else takes two
		defer m.pool.journalMu.Unlock()
		c, err := m.pool.prepareJournalLocked(plan)
		if err != nil {
			for _, c := range changes {
				c.undo()
			}
			return err
		}
		changes = append(changes, c)
	}
	var errs []error
	for _, c := range changes {
		errs = append(errs, c.do())
	}
	return errors.Join(errs...)
}

// orphans are the stores with entries that no pool will deliver. They are never
// removed. Names with a tilde are what a salvage has put aside.
func orphans(wanted map[string]bool) (list []journalStatus) {
	stores.Lock()
	roots := stores.roots.all()
	stores.Unlock()
	for _, root := range roots {
		folders, err := os.ReadDir(root)
		if err != nil {
			continue // there is none
		}
		for _, f := range folders {
			dir := filepath.Join(root, f.Name())
			stores.Lock()
			skip := stores.open[dir] || wanted[dir] || !f.IsDir() || strings.Contains(f.Name(), "~")
			stores.Unlock()
			if skip {
				continue
			}
			if o, ok := orphan(dir); ok {
				list = append(list, o)
			}
		}
	}
	return list
}

// orphan looks into a store that this process has not open. False: there is
// nothing to tell of it.
func orphan(dir string) (journalStatus, bool) {
	open, dead, err := journal.Count(dir)
	s := journalStatus{Folder: dir, Orphan: true, Depth: open, DeadLetters: dead}
	if err != nil {
		s.Failed = err.Error()
	}
	return s, open > 0 || dead > 0 || err != nil && !errors.Is(err, os.ErrNotExist)
}
