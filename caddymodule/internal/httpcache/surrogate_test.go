package httpcache

import (
	"slices"
	"testing"
)

func TestApplicationIsToldWhatTheCacheCanDo(t *testing.T) { // Edge Architecture 2.1
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		x := talk(t, c, Policy{}, get("/"), ok("", "Cache-Control: no-store"))
		if got := x.sent["Surrogate-Capability"]; !slices.Equal(got, a(`portner="Surrogate/1.0"`)) {
			t.Errorf("%q", got)
		}
		inner := get("/", `Surrogate-Capability: abc="ESI/1.0"`)
		inner.Trusted = true
		f := c.Lookup(&inner, Policy{}).Flight
		defer f.Done()
		for range 2 { // it may be sent again
			h := cloneHeader(inner.Header)
			f.Prepare(h)
			if got := h["Surrogate-Capability"]; !slices.Equal(got, a(`abc="ESI/1.0"`, `portner="Surrogate/1.0"`)) {
				t.Errorf("%q", got)
			}
		}
		if len(inner.Header["Surrogate-Capability"]) != 1 {
			t.Error("the client's header was changed")
		}
	})
}

func TestBrowsersDoNotSeeWhatSurrogatesAreTold(t *testing.T) { // Edge Architecture 2.2
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		answer := ok("x", "Surrogate-Control: max-age=60")
		for range 2 {
			if x := talk(t, c, Policy{}, get("/"), answer); has(x.header, surrogateControl) {
				t.Errorf("%v", x.header)
			}
		}
		cdn := get("/")
		cdn.Trusted = true
		if x := talk(t, c, Policy{}, cdn, answer); !x.cached() || field(x.header, surrogateControl) != "max-age=60" {
			t.Errorf("one that may be another surrogate: %v", x.header)
		}
	})
}

// TestPagesForSurrogatesReachThemAlone: an application that hears of a surrogate
// which can put pages together sends it the parts.
func TestPagesForSurrogatesReachThemAlone(t *testing.T) {
	source := ok(`<esi:include src="/secret"/>`, "Cache-Control: max-age=60", `Surrogate-Control: content="ESI/1.0"`)
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		anybody := get("/", `Surrogate-Capability: abc="ESI/1.0"`)
		talk(t, c, Policy{}, anybody, ok("source", "Cache-Control: max-age=60"))
		if x := talk(t, c, Policy{}, get("/"), ok("page")); x.body != "page" {
			t.Errorf("who calls himself a surrogate has poisoned the page: %+v", x)
		}
		hop := anybody
		hop.Trusted = true
		talk(t, c, Policy{}, hop, source)
		if x := talk(t, c, Policy{}, get("/"), ok("page")); x.body != "page" {
			t.Errorf("a browser got what is for a surrogate: %+v", x)
		}
		if x := talk(t, c, Policy{}, hop, ok("")); x.body != source.body || !x.cached() {
			t.Errorf("the surrogate did not get its own: %+v", x)
		}
	})
}
