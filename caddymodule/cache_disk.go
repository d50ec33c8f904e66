package caddymodule

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/httpcache"
)

// CacheDiskConfig is the cache's second tier, which outlives the process.
type CacheDiskConfig struct {
	// Size is how many bytes there may be on disk, beside 2 MiB. At least 1 MiB.
	Size int64 `json:"size"`
	// Folder is where the pool has a folder of its own. Default: portner/cache in
	// Caddy's data folder.
	Folder string `json:"folder,omitempty"`
}

// cachePlan is what a configuration wants of the pool's cache.
type cachePlan struct {
	httpcache.Config
	dir  string // of the pool's own on disk; empty: none
	disk int64  // bytes
}

// plan is c for a pool. c may be nil.
func (c *CacheConfig) plan(pool string) *cachePlan {
	if c == nil {
		return new(cachePlan)
	}
	p := &cachePlan{Config: httpcache.Config{Bytes: c.Size, Object: c.Object, Heuristic: orNegative(c.Heuristic), Plain: c.Plain}}
	if c.Disk != nil {
		folder := c.Disk.Folder
		if folder == "" {
			folder = filepath.Join(caddy.AppDataDir(), "portner", "cache")
		}
		p.dir, p.disk = filepath.Join(folder, fileName(pool)), c.Disk.Size
	}
	return p
}

// applyCache makes, changes or drops the pool's cache. One whose folder is another
// is another cache: what is in it was invalidated as far as it says itself.
func (p *pool) applyCache(plan *cachePlan) {
	defer p.open()
	old := p.cache.Load()
	if plan != nil && old != nil && p.cacheDir == plan.dir {
		old.Configure(plan.Config)
		old.LimitDisk(plan.disk)
		return
	}
	p.cacheDir = ""
	p.cache.Store(p.newCache(plan))
	if old != nil { // nobody will tell it of invalidations
		if err := old.Discard(); err != nil {
			p.log.Error("a cache's folder is left; remove it before it is configured again", zap.Error(err))
		}
	}
}

// newCache is nil without a plan. What cannot be had on disk is had without.
func (p *pool) newCache(plan *cachePlan) *httpcache.Cache {
	if plan == nil {
		return nil
	}
	cache, err := httpcache.New(plan.Config)
	if err != nil {
		p.log.Error("there is no cache", zap.Error(err))
		return nil
	}
	if plan.dir == "" {
		return cache
	}
	switch err := cache.OpenDisk(plan.dir, plan.disk, p.log); {
	case errors.Is(err, httpcache.ErrDiskInUse):
		p.log.Error("the cache is in memory alone: another process has its folder; reload when that one has ended", zap.String("folder", plan.dir))
	case err != nil:
		p.log.Error("the cache is in memory alone", zap.Error(err))
	default:
		p.cacheDir = plan.dir
	}
	return cache
}

// open lets those go on who wait to know the pool's cache. It is called with mu.
func (p *pool) open() {
	select {
	case <-p.applied:
	default:
		close(p.applied)
	}
}

// current implements front.Caching.Cache. Caddy begins to listen before the pools
// have their configuration, and whoever comes first after a restart is not to miss
// what is on disk.
func (p *pool) current() *httpcache.Cache {
	if cache := p.cache.Load(); cache != nil {
		return cache
	}
	<-p.applied
	return p.cache.Load()
}

// endCache is called when no configuration names the pool any more: what is on disk
// is to outlive the machine's power too.
func (p *pool) endCache() error {
	p.mu.Lock()
	p.open() // a configuration that failed has applied nothing
	p.mu.Unlock()
	cache := p.cache.Load()
	if cache == nil {
		return nil
	}
	if err := cache.SyncDisk(); err != nil {
		return fmt.Errorf("app_proxy: pool %s: %w", p.name, err)
	}
	return nil
}

// closeCache ends it, when nobody uses the pool any more.
func (p *pool) closeCache() {
	if cache := p.cache.Swap(nil); cache != nil {
		if err := cache.Close(); err != nil {
			p.log.Error("closing the cache", zap.Error(err))
		}
	}
}

func (c *CacheDiskConfig) check() error {
	if c != nil && c.Size < httpcache.MinDisk {
		return fmt.Errorf("app_proxy: cache disk: expected at least %d bytes, got %d", httpcache.MinDisk, c.Size)
	}
	return nil
}

func parseCacheDisk(c *CacheConfig, d *caddyfile.Dispenser) (err error) {
	if !d.NextArg() {
		return d.Err("app_proxy: cache disk: expected a size, such as 1GiB, and perhaps a folder")
	}
	c.Disk = new(CacheDiskConfig)
	if c.Disk.Size, err = parseSize(d.Val()); err != nil {
		return d.Errf("app_proxy: cache disk: %w", err)
	}
	if err := c.Disk.check(); err != nil {
		return d.WrapErr(err)
	}
	if d.NextArg() {
		c.Disk.Folder = d.Val()
	}
	return lastArg(d, "cache disk")
}
