package front

import (
	"net/http"

	"github.com/portner/portner/caddymodule/internal/httpcache"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// effects is what the answer to a request does to the cache, whoever is there to
// see it: also when the client has left, the application has done what it did.
type effects struct {
	caching *Caching         // knows the cache of the moment; nil: the answer is nobody's business
	cache   *httpcache.Cache // when the request was sent; nil: there was none
	req     httpcache.Request
	kept    *keeper // of the exchange; may be nil
}

// controlField is between the application and the cache (RFC 9213): what is ours is
// gone from an answer before its keeper sees it.
const controlField = "Portner-Cache-Control"

// effectsOf are those of a request that is about to be sent.
func (x *exchange) effectsOf(r *http.Request) effects {
	caching := &x.front.cfg.Caching
	return effects{caching, caching.get(), httpcache.Request{Key: x.key(r), Method: r.Method}, x.kept}
}

// apply is called with the head of an answer, before anybody else sees it: RFC
// 9111, section 4.4, and what the application says itself. A reload may have given
// the pool another cache since the request was sent, which has what was there
// before the answer; whoever still reads from the one of then must not see it
// either.
func (e *effects) apply(status int, h http.Header) {
	if e.caching == nil {
		return
	}
	if e.kept != nil {
		e.kept.control = h[controlField]
	}
	e.applyTo(e.cache, status, h)
	if now := e.caching.get(); now != e.cache {
		e.applyTo(now, status, h)
	}
}

// applyTo is apply for one cache; nil: there is none.
func (e *effects) applyTo(cache *httpcache.Cache, status int, h http.Header) {
	if cache == nil {
		return
	}
	cache.Answered(&e.req, status, h)
	if lines := h["Portner-Invalidate"]; lines != nil {
		cache.Invalidate(e.req.Key, httpcache.ParseInvalidations(lines)...)
	}
}

// applyFields is apply for an answer that came by the direct way.
func (e *effects) applyFields(status int, fields []upstream.Field) {
	if e.caching == nil || e.cache == nil && e.caching.get() == nil {
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
