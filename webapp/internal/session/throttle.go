package session

import (
	"net/netip"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/store"
)

// How often somebody may try. A person mistypes a few times; an office shares
// an address.
const (
	loginWindow   = 15 * time.Minute
	maxLogins     = 5  // per address and name
	maxLoginsFrom = 50 // per address, whatever the names
	accountWindow = time.Hour
	maxAccounts   = 10 // per address
	maxNames      = 50 // asked for, per address: the good ones are taken
)

// throttle counts attempts by key within a window that begins with the first.
type throttle struct {
	window time.Duration

	mu   sync.Mutex
	seen map[string]tries // mu; at most maxKeys
}

type tries struct {
	n     int
	until time.Time
}

// maxKeys bounds the memory at about 10 MB. When it is full, what has expired
// goes, and where that is not enough, everything: an attacker with so many
// addresses is not stopped by counting them.
const maxKeys = 50_000

func newThrottle(window time.Duration) *throttle {
	return &throttle{window: window, seen: make(map[string]tries)}
}

// try counts an attempt, or says with a *store.TooFast that there were limit
// already.
func (t *throttle) try(limit int, key string) error {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	had := t.seen[key]
	if !now.Before(had.until) {
		had = tries{until: now.Add(t.window)}
	}
	if had.n >= limit {
		return &store.TooFast{Wait: had.until.Sub(now)}
	}
	had.n++
	if len(t.seen) >= maxKeys {
		t.shrink(now)
	}
	t.seen[key] = had
	return nil
}

func (t *throttle) shrink(now time.Time) {
	for key, had := range t.seen {
		if !now.Before(had.until) {
			delete(t.seen, key)
		}
	}
	if len(t.seen) >= maxKeys {
		clear(t.seen)
	}
}

// back takes an attempt back that came to nothing by no fault of who made it.
func (t *throttle) back(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if had, ok := t.seen[key]; ok && had.n > 0 {
		had.n--
		t.seen[key] = had
	}
}

func (t *throttle) forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.seen, key)
}

// address is who is asking, as far as that can be told: of IPv6 the network
// that a customer is given.
func address(c echo.Context) string {
	ip, err := netip.ParseAddr(c.RealIP())
	if err != nil {
		return "unknown"
	}
	if ip = ip.Unmap(); ip.Is6() {
		network, err := ip.WithZone("").Prefix(64)
		if err == nil {
			return network.String()
		}
	}
	return ip.String()
}

// clip bounds what is remembered of a name that anybody made up.
func clip(name string) string { return name[:min(len(name), 64)] }
