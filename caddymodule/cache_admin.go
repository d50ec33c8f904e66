package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/portner/portner/caddymodule/internal/httpcache"
)

// cacheStatus is one pool's cache as GET /app_proxy/cache shows it.
type cacheStatus struct {
	Name          string `json:"name"`
	Keys          int    `json:"keys"`
	Bytes         int64  `json:"bytes"`
	MaxBytes      int64  `json:"max_bytes"`
	Flights       int    `json:"flights"` // requests for the cache that are under way
	Hits          int64  `json:"hits_total"`
	Collapsed     int64  `json:"collapsed_total"`
	Stale         int64  `json:"stale_total"`
	Misses        int64  `json:"misses_total"`
	Passes        int64  `json:"passes_total"`
	Stored        int64  `json:"stored_total"`
	Invalidations int64  `json:"invalidations_total"`
	Evictions     int64  `json:"evictions_total"`

	Disk   *diskStatus    `json:"disk,omitempty"`
	Advice []adviceStatus `json:"advice"` // what would save the most first
}

// diskStatus is the second tier.
type diskStatus struct {
	Keys     int   `json:"keys"`
	Bytes    int64 `json:"bytes"`
	MaxBytes int64 `json:"max_bytes"`
	Hits     int64 `json:"hits_total"`
	Written  int64 `json:"written_total"`
	Dropped  int64 `json:"dropped_total"` // were to be written, and were not
	Damaged  int64 `json:"damaged_total"`
}

// adviceStatus is a route that could be kept, by what its answers were so far.
type adviceStatus struct {
	Route     string  `json:"route"`
	Cache     string  `json:"cache"` // the time to give it
	Requests  int64   `json:"requests"`
	Since     string  `json:"since"`
	Saved     float64 `json:"saved"`         // share of the requests that would not have reached the application
	Seconds   float64 `json:"saved_seconds"` // of the application's time
	Outdated  float64 `json:"outdated"`      // share of the requests that would have got something older
	Everybody bool    `json:"everybody"`     // requests with cookies got the same bytes: the application could say public
}

// eachCache calls f for the cache of every pool that has one.
func eachCache(f func(name string, cache *httpcache.Cache)) {
	pools.Range(func(_, value any) bool {
		p := value.(*pool)
		if cache := p.cache.Load(); cache != nil {
			f(p.name, cache)
		}
		return true
	})
}

func serveCache(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("%s: only GET", r.Method)}
	}
	list := []cacheStatus{}
	eachCache(func(name string, cache *httpcache.Cache) {
		s := cache.Stats()
		status := cacheStatus{name, s.Keys, s.Bytes, s.MaxBytes, s.Flights,
			s.Hits, s.Collapsed, s.Stale, s.Misses, s.Passes, s.Stored, s.Invalidations, s.Evictions, (*diskStatus)(s.Disk), []adviceStatus{}}
		for _, a := range cache.Advisor().Advice() {
			status.Advice = append(status.Advice, adviceStatus{a.Template, a.TTL.String(), a.Requests, a.Since.UTC().Format(time.RFC3339),
				a.Saved, a.Time.Seconds(), a.Outdated, a.Public})
		}
		list = append(list, status)
	})
	slices.SortFunc(list, func(a, b cacheStatus) int { return strings.Compare(a.Name, b.Name) })
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(list)
}

// purgeOrder is the body of POST /app_proxy/purge.
type purgeOrder struct {
	Pool string   `json:"pool,omitempty"` // empty: all
	URLs []string `json:"urls,omitempty"` // with scheme and host
	Tags []string `json:"tags,omitempty"`
	Soft bool     `json:"soft,omitempty"` // they become stale, and may be used as far as stale answers may
	All  bool     `json:"all,omitempty"`
}

// maxPurge bounds an order.
const maxPurge = 1 << 20

func (o *purgeOrder) check() error {
	switch {
	case o.All && (len(o.URLs)+len(o.Tags) > 0 || o.Soft):
		return errors.New("all stands alone: everything goes, at once")
	case !o.All && len(o.URLs)+len(o.Tags) == 0:
		return errors.New("nothing to purge: expected urls, tags or all")
	case slices.Contains(o.Tags, ""):
		return errors.New("a tag is empty")
	}
	for _, text := range o.URLs {
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("%s: expected a URL with scheme and host, such as https://news.example.com/newest", text)
		}
	}
	return nil
}

// carryOut purges, and returns the names of the pools that were told.
func (o *purgeOrder) carryOut() []string {
	var all []httpcache.Invalidation
	for _, u := range o.URLs {
		all = append(all, httpcache.Invalidation{URL: u, Soft: o.Soft})
	}
	for _, tag := range o.Tags {
		all = append(all, httpcache.Invalidation{Tag: tag, Soft: o.Soft})
	}
	var told []string
	eachCache(func(name string, cache *httpcache.Cache) {
		if o.Pool != "" && o.Pool != name {
			return
		}
		if told = append(told, name); o.All {
			cache.InvalidateAll()
		}
		cache.Invalidate(httpcache.NewKey("http", "localhost", "/"), all...)
	})
	slices.Sort(told)
	return told
}

// servePurge is POST /app_proxy/purge. When it has answered 200, nobody gets what
// was purged, not even from an answer that was under way.
func servePurge(w http.ResponseWriter, r *http.Request) error {
	bad := func(status int, err error) error { return caddy.APIError{HTTPStatus: status, Err: err} }
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		return bad(http.StatusMethodNotAllowed, fmt.Errorf("%s: only POST", r.Method))
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return bad(http.StatusUnsupportedMediaType, errors.New("expected application/json"))
	}
	var order purgeOrder
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPurge))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&order); err != nil {
		return bad(http.StatusBadRequest, err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return bad(http.StatusBadRequest, errors.New("there is more than one order"))
	}
	if err := order.check(); err != nil {
		return bad(http.StatusBadRequest, err)
	}
	told := order.carryOut()
	if len(told) == 0 {
		return bad(http.StatusNotFound, errors.New(strings.TrimSuffix("no cache in pool "+order.Pool, " in pool ")))
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string][]string{"purged": told})
}
