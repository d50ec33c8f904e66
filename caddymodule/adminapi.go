package caddymodule

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/portner/portner/caddymodule/internal/admission"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI answers below /app_proxy/ on Caddy's admin endpoint. It is made
// before the apps are, so it looks at the pools when it is asked.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.app_proxy",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Routes implements caddy.AdminRouter.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/app_proxy/pools", Handler: caddy.AdminHandlerFunc(servePools)},
		{Pattern: "/app_proxy/cache", Handler: caddy.AdminHandlerFunc(serveCache)},
		{Pattern: "/app_proxy/journal", Handler: caddy.AdminHandlerFunc(serveJournal)},
		{Pattern: "/app_proxy/journal/", Handler: caddy.AdminHandlerFunc(serveJournal)},
		{Pattern: "/app_proxy/purge", Handler: caddy.AdminHandlerFunc(servePurge)},
	}
}

// poolStatus is one pool as GET /app_proxy/pools shows it.
type poolStatus struct {
	Name      string           `json:"name"`
	Held      bool             `json:"held"` // no upstream is ready
	Waiting   int              `json:"waiting"`
	Depth     int              `json:"depth"`
	InFlight  int              `json:"in_flight"`
	Limit     int              `json:"limit"`
	DrainRate float64          `json:"drain_rate"` // answers a second, of late
	Standing  bool             `json:"standing"`   // the queue does not go away; the newest go first
	Upstreams []upstreamStatus `json:"upstreams"`
	Classes   []classStatus    `json:"classes"` // pages first, then the heaviest
	Routes    []routeStatus    `json:"routes"`  // the most expensive first
	Granted   uint64           `json:"granted_total"`
	Refused   refusedStatus    `json:"refused_total"`
	Left      uint64           `json:"left_total"` // clients that left while waiting
}

type upstreamStatus struct {
	Address  string `json:"address"`
	Ready    bool   `json:"ready"`
	InFlight int    `json:"in_flight"`
	Limit    int    `json:"limit"`
	Learned  bool   `json:"learned"` // the limit is not configured
}

type classStatus struct {
	Name     string `json:"name"`
	Weight   int    `json:"weight"`
	Waiting  int    `json:"waiting"` // also while the pool is held
	InFlight int    `json:"in_flight"`
}

type routeStatus struct {
	Template string  `json:"template"`
	Cost     float64 `json:"cost"` // seconds that a request is expected to take
	Slow     bool    `json:"slow"` // may not have all slots
	InFlight int     `json:"in_flight"`
	Waiting  int     `json:"waiting"` // also while the pool is held
}

// refusedStatus counts refusals by their reason.
type refusedStatus struct {
	Full   uint64 `json:"queue_full"`
	Wait   uint64 `json:"queue_wait"`
	Shed   uint64 `json:"queue_shed"`
	Excess uint64 `json:"client_excess"`
	Held   uint64 `json:"held"`
}

func servePools(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("%s: only GET", r.Method)}
	}
	list := []poolStatus{}
	pools.Range(func(_, value any) bool {
		p := value.(*pool)
		list = append(list, statusOf(p.name, p.queue.Stats()))
		return true
	})
	slices.SortFunc(list, func(a, b poolStatus) int { return strings.Compare(a.Name, b.Name) })
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(list)
}

func statusOf(name string, s admission.Snapshot) poolStatus {
	status := poolStatus{
		Name: name, Held: s.Held, Waiting: s.Waiting, Depth: s.Depth,
		InFlight: s.InFlight, Limit: s.Limit, DrainRate: s.DrainRate, Standing: s.Standing,
		Upstreams: []upstreamStatus{}, Classes: []classStatus{}, Routes: []routeStatus{},
		Granted: s.Counts.Granted, Left: s.Counts.Left,
		Refused: refusedStatus{
			Full: s.Counts.Full, Wait: s.Counts.Wait, Shed: s.Counts.Shed, Excess: s.Counts.Excess, Held: s.Counts.Held,
		},
	}
	for _, u := range s.Upstreams {
		status.Upstreams = append(status.Upstreams, upstreamStatus{u.Key, u.Ready, u.InFlight, u.Limit, u.Learned})
	}
	for _, c := range s.Classes {
		status.Classes = append(status.Classes, classStatus{c.Name, c.Weight, c.Waiting, c.InFlight})
	}
	for _, r := range s.Routes {
		status.Routes = append(status.Routes, routeStatus{r.Name, r.Cost.Seconds(), r.Slow, r.InFlight, r.Waiting})
	}
	slices.SortFunc(status.Routes, func(a, b routeStatus) int {
		return cmp.Or(cmp.Compare(b.Cost, a.Cost), cmp.Compare(a.Template, b.Template))
	})
	return status
}

var _ caddy.AdminRouter = adminAPI{}
