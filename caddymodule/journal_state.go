package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/front"
	"github.com/portner/portner/caddymodule/internal/journal"
)

// stores are the folders of the journals that this process has open.
var stores = struct {
	sync.Mutex
	open map[string]bool
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
// has failed is opened anew, from what is on disk.
func (p *pool) openJournal(plan *journalPlan) error {
	p.journalMu.Lock()
	defer p.journalMu.Unlock()
	if j := p.journal.Load(); j != nil {
		if p.journalDir == plan.dir && j.Err() == nil {
			j.SetLimits(plan.limits)
			return nil
		}
		p.closeJournalLocked()
	}
	j, err := journal.Open(plan.dir, journal.Options{Log: p.log, Limits: plan.limits, ObserveAppend: p.metrics.ObserveAppend})
	switch {
	case errors.Is(err, journal.ErrInUse):
		return fmt.Errorf("app_proxy: the journal of pool %s is in use by another process: %s; stop that one, or give the pool another name or journal_dir: %w", p.name, plan.dir, err)
	case err != nil:
		return fmt.Errorf("app_proxy: the journal of pool %s: %w", p.name, err)
	}
	stores.Lock()
	stores.open[plan.dir] = true
	stores.Unlock()
	p.journalDir = plan.dir
	ctx, cancel := context.WithCancel(context.Background())
	p.journalEnd.Store(&ending{ctx, cancel})
	p.journal.Store(j)
	if n := j.Stats().Depth; n > 0 {
		p.log.Info("journal has entries to deliver", zap.Int64("entries", n))
	}
	return nil
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
	p.deliverBy.Store(f)
	if j := p.journal.Load(); j != nil {
		j.Deliver(func(ctx context.Context, e *journal.Entry, attempt int) journal.Outcome {
			return p.deliverBy.Load().Deliver(ctx, e, attempt)
		})
	}
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
	p.journalEnd.Load().cancel()
	left := j.Stats().Depth
	if err := j.Close(); err != nil {
		p.log.Error("closing the journal", zap.Error(err))
	}
	stores.Lock()
	delete(stores.open, p.journalDir)
	stores.Unlock()
	if left > 0 {
		p.log.Warn("a journal is closed with entries that are not delivered; they stay until a pool of that name is configured",
			zap.Int64("entries", left), zap.String("folder", p.journalDir))
	}
}

// ending is a context that ends with a journal.
type ending struct {
	context.Context
	cancel context.CancelFunc
}

// journalLife implements front.Journaling.Life. It is asked by who has an entry of
// the journal.
func (p *pool) journalLife() context.Context { return p.journalEnd.Load() }

// setReady tells the journal of an upstream that is back.
func (p *pool) setReady(key string, ready bool) {
	p.queue.SetReady(key, ready)
	if j := p.journal.Load(); j != nil && ready {
		j.Ready()
	}
}

// startJournals opens the journals before any pool changes: a configuration whose
// journal cannot be opened does not start.
func (a *App) startJournals() error {
	roots := map[string]bool{journalRoot(): true}
	wanted := make(map[string]bool)
	for _, m := range a.members {
		if plan := m.generation.journal; plan != nil {
			roots[filepath.Dir(plan.dir)] = true
			wanted[plan.dir] = true
		}
	}
	reportOrphans(roots, wanted)
	for _, m := range a.members {
		if plan := m.generation.journal; plan != nil {
			if err := m.pool.openJournal(plan); err != nil {
				return err
			}
		}
	}
	return nil
}

// reportOrphans looks for stores with entries that no pool will deliver. They are
// never removed.
func reportOrphans(roots, wanted map[string]bool) {
	log := caddy.Log().Named("app_proxy")
	for root := range roots {
		folders, err := os.ReadDir(root)
		if err != nil {
			continue // there is none
		}
		for _, f := range folders {
			dir := filepath.Join(root, f.Name())
			stores.Lock()
			skip := stores.open[dir] || wanted[dir] || !f.IsDir()
			stores.Unlock()
			if skip {
				continue
			}
			if n := undelivered(dir); n > 0 {
				log.Warn("a journal has entries that are not delivered, and no pool of that name is configured",
					zap.Int64("entries", n), zap.String("folder", dir))
			}
		}
	}
}

// undelivered counts the entries of a store that nobody has open.
func undelivered(dir string) int64 {
	if made, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(made) == 0 {
		return 0 // to open it would make one there
	}
	j, err := journal.Open(dir, journal.Options{})
	if err != nil {
		return 0
	}
	defer j.Close()
	return j.Stats().Depth
}
