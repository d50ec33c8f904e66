package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"

	"github.com/portner/portner/caddymodule/internal/front"
)

// CacheConfig keeps answers for all routes, as the application's headers allow.
type CacheConfig struct {
	// Size is how many bytes are kept at the most. Default 64 MiB: a small
	// application's pages.
	Size int64 `json:"size,omitempty"`
	// Object is the longest body that is kept, in bytes. Default an eighth of Size,
	// at most 16 MiB: one download must not empty the cache.
	Object int64 `json:"object,omitempty"`
	// Stale is how long beyond its time an answer may stand in for an error or a
	// refusal. Default: as long as the answer itself says.
	Stale caddy.Duration `json:"stale,omitempty"`
	// Heuristic is the longest time for an answer that has only Last-Modified. 0:
	// none. Default 1m: enough to be asked once, short enough not to hurt.
	Heuristic *caddy.Duration `json:"heuristic,omitempty"`
	// Plain: nothing is compressed.
	Plain bool `json:"plain,omitempty"`
	// Disk is a second tier, larger than memory, which outlives the process. Default:
	// none.
	Disk *CacheDiskConfig `json:"disk,omitempty"`
}

// cacheOff is a route's word that nothing of it is kept.
const cacheOff = caddy.Duration(-1)

// caches is the pool's cache as this handler wants it; nil: none.
func (h *Handler) caches() *cachePlan {
	if h.Cache != nil || slices.ContainsFunc(h.Routes, func(c RouteConfig) bool { return c.Cache > 0 }) {
		return h.Cache.plan(h.Name)
	}
	return nil
}

// caching is the front's part of it.
func (h *Handler) caching(way string) front.Caching {
	c := front.Caching{Cache: h.pool.current, Background: background, Way: way, Made: h.makes()}
	if h.Cache != nil {
		c.All, c.Stale = true, time.Duration(h.Cache.Stale)
	}
	return c
}

// way names all by which two handlers of one pool may get different answers to the
// same request; empty: nothing is changed. It must be called before the transport
// is loaded.
func (h *Handler) way() (string, error) {
	rp := h.ReverseProxy
	var transport struct{ Protocol string }
	raw := rp.TransportRaw
	if raw != nil {
		if err := json.Unmarshal(raw, &transport); err != nil {
			return "", fmt.Errorf("app_proxy: transport: %w", err)
		}
	}
	if transport.Protocol == "http" { // how it is sent, not what
		raw = nil
	}
	changes, err := json.Marshal(struct {
		Headers   *headers.Handler `json:",omitempty"`
		Rewrite   *rewrite.Rewrite `json:",omitempty"`
		Files     string           `json:",omitempty"`
		Transport json.RawMessage  `json:",omitempty"` // FastCGI has a root and an environment
	}{rp.Headers, rp.Rewrite, h.SendfileRoot, raw})
	if err != nil {
		return "", fmt.Errorf("app_proxy: cache: %w", err)
	}
	if string(changes) == "{}" {
		return "", nil
	}
	sum := sha256.Sum256(changes)
	return hex.EncodeToString(sum[:16]), nil
}

// makes tells the request fields that header_up changes: what depends on them is
// not told apart by what clients have sent.
func (h *Handler) makes() func(name string) bool {
	if h.ReverseProxy.Headers == nil || h.ReverseProxy.Headers.Request == nil {
		return nil
	}
	ops := h.ReverseProxy.Headers.Request
	names := slices.Concat(slices.Collect(maps.Keys(ops.Add)), slices.Collect(maps.Keys(ops.Set)),
		slices.Collect(maps.Keys(ops.Replace)), ops.Delete)
	return func(name string) bool {
		return slices.ContainsFunc(names, func(changed string) bool {
			return strings.ContainsAny(changed, "*{") || strings.EqualFold(changed, name)
		})
	}
}

// background implements front.Caching.Background: Caddy's variables and placeholders
// belong to a request, whose end the new one outlives.
func background(w http.ResponseWriter, r *http.Request) *http.Request {
	ctx := detach(context.WithoutCancel(r.Context()))
	out := r.Clone(ctx)
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil {
		return out
	}
	known, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	out = caddyhttp.PrepareRequest(out, caddy.NewReplacer(), w, server)
	for name, value := range known {
		caddyhttp.SetVar(out.Context(), name, value)
	}
	return out
}

// checkCache finds what no cache can be made of.
func (h *Handler) checkCache() error {
	if rp := h.ReverseProxy; h.caches() != nil && (len(rp.HandleResponse) > 0 || rp.Rewrite != nil && rp.Rewrite.Method != "") {
		return errors.New("app_proxy: cache does not work beside handle_response and method: what is kept must be the application's answer to what was asked")
	}
	c := h.Cache
	switch {
	case c == nil:
	case c.Size < 0 || c.Object < 0 || c.Stale < 0 || c.Heuristic != nil && *c.Heuristic < 0:
		return errors.New("app_proxy: cache: sizes and times must not be negative")
	case c.Size > 0 && c.Object > c.Size:
		return fmt.Errorf("app_proxy: cache: an object of %d bytes does not fit into %d", c.Object, c.Size)
	default:
		return c.Disk.check()
	}
	return nil
}

func parseCache(h *Handler, d *caddyfile.Dispenser) (err error) {
	h.Cache = new(CacheConfig)
	if d.NextArg() {
		if h.Cache.Size, err = parseSize(d.Val()); err != nil {
			return d.Errf("app_proxy: cache: %w", err)
		}
	}
	if err := lastArg(d, "cache"); err != nil {
		return err
	}
	_, err = parseWords(d, "cache", map[string]func() error{
		"object": func() error {
			if !d.NextArg() {
				return d.Err("app_proxy: cache object: expected a size, such as 1MiB")
			}
			if h.Cache.Object, err = parseSize(d.Val()); err != nil {
				return d.Errf("app_proxy: cache object: %w", err)
			}
			return lastArg(d, "cache object")
		},
		"stale": func() error { return parsePositive(d, "cache stale", &h.Cache.Stale) },
		"disk":  func() error { return parseCacheDisk(h.Cache, d) },
		"heuristic": func() (err error) {
			h.Cache.Heuristic, err = parseDuration(d, "cache heuristic")
			return err
		},
		"compress": func() error {
			if !d.NextArg() || d.Val() != "on" && d.Val() != "off" {
				return d.Err("app_proxy: cache compress: expected on or off")
			}
			h.Cache.Plain = d.Val() == "off"
			return lastArg(d, "cache compress")
		},
	})
	if err == nil && h.Cache.Size > 0 && h.Cache.Object > h.Cache.Size {
		err = d.Err("app_proxy: cache object: must not be larger than the cache")
	}
	return err
}

func parseRouteCache(d *caddyfile.Dispenser, c *RouteConfig) error {
	if !d.NextArg() {
		return d.Err("app_proxy: route cache: expected a duration, such as 2s, or off")
	}
	if d.Val() == "off" {
		c.Cache = cacheOff
		return lastArg(d, "route cache")
	}
	d.Prev()
	return parsePositive(d, "route cache", &c.Cache)
}
