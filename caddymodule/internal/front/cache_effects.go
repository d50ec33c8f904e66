package front

import (
	"net/http"

	"github.com/portner/portner/caddymodule/internal/httpcache"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// effects is what the answer to a request does to the cache, whoever is there to
// see it: also when the client has left, the application has done what it did.
type effects struct {
	cache *httpcache.Cache // nil: the pool has none
	req   httpcache.Request
	kept  *keeper // of the exchange; may be nil
}

// controlField is between the application and the cache (RFC 9213): what is ours is
// gone from an answer before its keeper sees it.
const controlField = "Portner-Cache-Control"

// effectsOf are those of a request that is about to be sent.
func (x *exchange) effectsOf(r *http.Request) effects {
	cache := x.front.cfg.Caching.get()
	if cache == nil {
		return effects{}
	}
	return effects{cache, httpcache.Request{Key: x.key(r), Method: r.Method}, x.kept}
}

// apply is called with the head of an answer, before anybody else sees it: RFC
// 9111, section 4.4, and what the application says itself.
func (e *effects) apply(status int, h http.Header) {
	if e.cache == nil {
		return
	}
	if e.kept != nil {
		e.kept.control = h[controlField]
	}
	e.cache.Answered(&e.req, status, h)
	if lines := h["Portner-Invalidate"]; lines != nil {
		e.cache.Invalidate(e.req.Key, httpcache.ParseInvalidations(lines)...)
	}
}

// applyFields is apply for an answer that came by the direct way.
func (e *effects) applyFields(status int, fields []upstream.Field) {
	if e.cache == nil {
		return
	}
	var h http.Header
	for _, f := range fields {
		switch f.Name {
		case "Location", "Content-Location", "Portner-Invalidate", controlField:
			if h == nil {
				h = make(http.Header)
			}
			h[f.Name] = append(h[f.Name], f.Value)
		}
	}
	e.apply(status, h)
}
