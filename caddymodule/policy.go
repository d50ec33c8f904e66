package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/route"
)

// ClassConfig is an importance group.
type ClassConfig struct {
	// Name of the class. Built in: probe, journal, writes, pages, api, robots.
	Name string `json:"name,omitempty"`
	// Weight is how much of a busy application the class gets, relative to the
	// other classes that wait. Default: the built-in one's, else 8, as pages.
	Weight int `json:"weight,omitempty"`
	// Wait is the longest time in the queue for requests of the class. Default:
	// the queue's.
	Wait *caddy.Duration `json:"wait,omitempty"`
}

// RouteConfig is a pattern and its policies.
type RouteConfig struct {
	// Method, or * for any. GET includes HEAD.
	Method string `json:"method,omitempty"`
	// Pattern of the path, as net/http's ServeMux has it: /item/{id}.
	Pattern string `json:"pattern,omitempty"`
	// Class of its requests. Default: guessed from method, path and headers.
	Class string `json:"class,omitempty"`
	// Wait is the longest time in the queue. Default: the class's.
	Wait *caddy.Duration `json:"wait,omitempty"`
	// Cache is the time for answers that say nothing of their storage themselves, to
	// requests without Cookie and Authorization. -1: nothing of the route is kept.
	// Default: as the pool has it.
	Cache caddy.Duration `json:"cache,omitempty"`
	// Cost is what a request costs the application. Default: learned.
	Cost caddy.Duration `json:"cost,omitempty"`

	// Journal keeps writes on disk until the application has them.
	Journal *JournalConfig `json:"journal,omitempty"`
	// RespondStatus answers at the door: Alive, Update or Down.
	RespondStatus bool `json:"respond_status,omitempty"`

	place string // file and line
}

const customWeight = 8

// classes are the built-in ones with the configured changes, heaviest first, and
// the one for requests of unknown class before them.
func (h *Handler) classes() ([]admission.Class, route.Weights) {
	weights := route.BuiltIn()
	waits := make(map[string]time.Duration)
	for _, c := range h.Classes {
		switch {
		case c.Weight > 0:
			weights[c.Name] = c.Weight
		case weights[c.Name] == 0:
			weights[c.Name] = customWeight
		}
		waits[c.Name] = orNegative(c.Wait)
	}
	var list []admission.Class
	for name, weight := range weights {
		list = append(list, admission.Class{Name: name, Weight: weight, Wait: waits[name], Half: name == route.Journal})
	}
	first := func(c admission.Class) int {
		if c.Name == route.Pages {
			return 0
		}
		return 1
	}
	slices.SortFunc(list, func(a, b admission.Class) int {
		if d := first(a) - first(b); d != 0 {
			return d
		}
		if d := b.Weight - a.Weight; d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list, weights
}

// table is the configured routes, checked.
func (h *Handler) table() (*route.Table, error) {
	_, weights := h.classes()
	var routes []route.Route
	for _, c := range h.Routes {
		if c.Class != "" && weights[c.Class] == 0 {
			where := strings.TrimSuffix(" ("+c.place+")", " ()")
			return nil, fmt.Errorf("app_proxy: route %s %s%s: there is no class %s; expected %s, or one with a block of its own",
				c.Method, c.Pattern, where, c.Class, strings.Join(slices.Sorted(maps.Keys(weights)), ", "))
		}
		pattern, err := route.ParsePattern(c.Method, c.Pattern)
		if err != nil {
			return nil, fmt.Errorf("app_proxy: %w", err)
		}
		routes = append(routes, route.Route{Pattern: pattern, Place: c.place, Policy: route.Policy{
			Wait: orNegative(c.Wait), Cost: time.Duration(c.Cost), Class: c.Class, Cache: time.Duration(c.Cache),
		}})
	}
	table, err := route.NewTable(routes)
	if err != nil {
		return nil, fmt.Errorf("app_proxy: %w", err)
	}
	return table, nil
}

// client is whom a request is charged to: its address, an IPv6 one by the /64
// that one household has, or what the operator has named.
func (h *Handler) client() func(*http.Request) string {
	fairBy := ""
	if h.Queue != nil {
		fairBy = h.Queue.FairBy
	}
	switch fairBy {
	case "off":
		return nil
	case "", "{client_ip}", "{http.vars.client_ip}":
		return func(r *http.Request) string {
			address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
			addr, err := netip.ParseAddr(address)
			if err != nil || addr.Is4() || addr.Is4In6() {
				return address
			}
			prefix, err := addr.WithZone("").Prefix(64)
			if err != nil {
				return address
			}
			return prefix.String()
		}
	}
	return func(r *http.Request) string {
		repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		if !ok {
			return ""
		}
		return bounded(repl.ReplaceAll(fairBy, ""))
	}
}

// bounded keeps a client's name short, whatever header it was made of.
func bounded(name string) string {
	if len(name) <= 64 {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

func parseClass(h *Handler, d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Err("app_proxy: class: expected a name")
	}
	c := ClassConfig{Name: d.Val()}
	if slices.ContainsFunc(h.Classes, func(other ClassConfig) bool { return other.Name == c.Name }) {
		return d.Errf("app_proxy: class %s is said twice", c.Name)
	}
	err := parseBlock(d, "class", map[string]func() error{
		"weight": func() (err error) {
			c.Weight, err = parseCount(d, "class weight")
			return err
		},
		"wait": func() (err error) {
			c.Wait, err = parseDuration(d, "class wait")
			return err
		},
	})
	h.Classes = append(h.Classes, c)
	return err
}

func parseRoute(h *Handler, d *caddyfile.Dispenser) error {
	c := RouteConfig{place: fmt.Sprintf("%s:%d", d.File(), d.Line())}
	if !d.Args(&c.Method, &c.Pattern) {
		return d.Err("app_proxy: route: expected a method, or *, and a pattern, such as: route GET /item/{id}")
	}
	if _, err := route.ParsePattern(c.Method, c.Pattern); err != nil {
		return d.Errf("app_proxy: %w", err)
	}
	err := parseBlock(d, "route", map[string]func() error{
		"class": func() error {
			if !d.NextArg() {
				return d.Err("app_proxy: route class: expected the name of a class")
			}
			c.Class = d.Val()
			return lastArg(d, "route class")
		},
		"wait": func() (err error) {
			c.Wait, err = parseDuration(d, "route wait")
			return err
		},
		"cache":   func() error { return parseRouteCache(d, &c) },
		"journal": func() error { return parseJournal(d, &c) },
		"respond_status": func() error {
			c.RespondStatus = true
			return lastArg(d, "route respond_status")
		},
		"cost": func() error {
			cost, err := parseDuration(d, "route cost")
			if err == nil && *cost == 0 {
				err = d.Err("app_proxy: route cost: must be longer than 0")
			}
			if err == nil {
				c.Cost = *cost
			}
			return err
		},
	})
	h.Routes = append(h.Routes, c)
	return err
}
