package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
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
// and where the configuration keeps some.
var stores = struct {
	sync.Mutex
	open  map[string]bool
	roots map[string]bool
}{open: make(map[string]bool)}

// journalRoot is where the stores of pools are that name no other place.
func journalRoot() string { return filepath.Join(caddy.AppDataDir(), "portner", "journal") }

// journalDir is the folder of the pool's store.
func (h *Handler) journalDir() string {
	root := h.JournalDir
	if root == "" {
		root = journalRoot()
	}
	return filepath.Join(root, fileName(h.Name))
}

// openJournal opens the journal that the plan wants, unless it is open. One that
// works is given up only for another that works. Where there is none that works,
// one that cannot be opened is no reason to stop all else: its writes are refused,
// and it is tried again.
func (p *pool) openJournal(plan *journalPlan) error {
	p.journalMu.Lock()
	defer p.journalMu.Unlock()
	secret, err := plan.secret()
	was := p.journal.Load()
	switch {
	case was == nil || was.Err() != nil:
		return p.startJournalLocked(plan, was)
	case err != nil:
		return p.journalError(plan, err)
	case p.kept.plan.dir == plan.dir && bytes.Equal(p.kept.secret, secret):
		p.kept.plan = plan
		was.SetLimits(plan.limits)
		return nil
	case p.kept.plan.dir == plan.dir:
		return p.changeSecretLocked(plan, secret)
	}
	j, err := p.openStore(plan, secret, false)
	if err != nil {
		return p.journalError(plan, err)
	}
	p.closeJournalLocked()
	p.keepLocked(plan, secret, j)
	return nil
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

// startJournalLocked is for a pool whose journal does not work: was has failed, or
// there is none.
func (p *pool) startJournalLocked(plan *journalPlan, was *journal.Journal) error {
	if was != nil {
		p.closeJournalLocked()
	}
	secret, err := plan.secret()
	var j *journal.Journal
	if err == nil {
		j, err = p.openStore(plan, secret, false)
	}
	if errors.Is(err, journal.ErrInUse) && was == nil {
		return p.journalError(plan, err)
	}
	if err != nil {
		p.log.Error("the journal cannot be opened: its writes are refused until it can, all else goes on; it is tried again",
			zap.String("folder", plan.dir), zap.Error(err))
		j = journal.None(err, journal.Options{Log: p.log, Limits: plan.limits})
	}
	p.keepLocked(plan, secret, j)
	return nil
}

// changeSecretLocked opens the journal with another key. A journal is sealed with
// one key at a time, so this works for the first one, and else the old one is
// taken again.
//
// Attempts that run go on, as when a journal has failed, and the new one delivers
// when they have ended.
func (p *pool) changeSecretLocked(plan *journalPlan, secret []byte) error {
	was, before, end := p.journal.Load(), p.kept, p.journalEnd.Load()
	before.stop()
	if err := was.Retire(); err != nil {
		p.log.Error("closing the journal", zap.Error(err))
	}
	j, err := p.openStore(plan, secret, true)
	if err == nil {
		p.keepLocked(plan, secret, j)
		p.quietLocked(was, j, end, before.resumed)
		return nil
	}
	err = p.journalError(plan, err)
	j, again := p.openStore(before.plan, before.secret, true)
	if again != nil {
		j = journal.None(again, journal.Options{Log: p.log, Limits: before.plan.limits})
	}
	p.keepLocked(before.plan, before.secret, j)
	p.quietLocked(was, j, end, before.resumed)
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
// would take a journal away that works, for one that does not, does not start.
func (a *App) startJournals() error {
	roots := map[string]bool{journalRoot(): true}
	wanted := make(map[string]bool)
	for _, m := range a.members {
		if plan := m.generation.journal; plan != nil {
			roots[filepath.Dir(plan.dir)] = true
			wanted[plan.dir] = true
		}
	}
	stores.Lock()
	stores.roots = roots
	stores.Unlock()
	for _, o := range orphans(wanted) {
		caddy.Log().Named("app_proxy").Warn("a journal has entries that are not delivered, and no pool of that name is configured",
			zap.Int64("entries", o.Depth), zap.Int64("dead_letters", o.DeadLetters), zap.String("folder", o.Folder), zap.String("error", o.Failed))
	}
	for _, m := range a.members {
		if plan := m.generation.journal; plan != nil {
			if err := m.pool.openJournal(plan); err != nil {
				return err
			}
		}
	}
	return nil
}

// orphans are the stores with entries that no pool will deliver. They are never
// removed. Names with a tilde are what a salvage has put aside.
func orphans(wanted map[string]bool) (list []journalStatus) {
	stores.Lock()
	roots := maps.Clone(stores.roots)
	stores.Unlock()
	for root := range roots {
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
