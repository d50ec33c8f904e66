package front

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/route"
)

// Known is what is known of a request before it waits: the labels of its
// numbers, and what it asks of admission.
type Known struct {
	Class    string
	Template string // the route's pattern, or a learned template
}

// know finds the request's route, and says what it asks for.
func (f *Front) know(w http.ResponseWriter, r *http.Request, now time.Time) (Known, admission.Ask, *route.Route) {
	path := r.URL.EscapedPath()
	var known Known
	var ask admission.Ask
	rt := f.cfg.Routes.Match(r.Method, path)
	if rt != nil {
		known = Known{Class: rt.Policy.Class, Template: rt.Policy.Template}
		ask.Wait, ask.Cost = rt.Policy.Wait, rt.Policy.Cost
	} else {
		known.Template = f.cfg.Templates.Of(r.Method, path)
	}
	if known.Class == "" {
		known.Class = route.Guess(r.Method, path, func(name string) string { return field(r.Header, name) })
	}
	known.Class = f.cfg.Weights.Lower(known.Class, field(r.Header, "Priority"))

	ask.Class, ask.Route = known.Class, known.Template
	ask.Own = patience(r.Header, f.cfg.DeadlineHeader)
	if f.cfg.Client != nil {
		ask.Client = f.cfg.Client(r)
	}
	if f.cfg.Choose != nil {
		ask.Choose, ask.Sticky = f.cfg.Choose(w, r), f.cfg.Sticky
	}
	ask.Since, ask.Place = f.cfg.Places.arrival(r, now)
	return known, ask, rt
}

// field is Header.Get for a canonical name, which need not be looked over each time.
func field(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// patience is how long the client itself says that it waits: Prefer: wait=n
// (RFC 7240, section 4.3, seconds), and the header that the operator has named,
// in seconds or as a duration; the shorter one counts. Who does not wait at all
// has a nanosecond. 0: it does not say.
func patience(h http.Header, deadlineHeader string) time.Duration {
	var own time.Duration
	for preference := range items(h["Prefer"]) {
		name, value, _ := strings.Cut(preference, "=")
		if strings.EqualFold(strings.TrimSpace(name), "wait") {
			value, _, _ = strings.Cut(value, ";")
			if n, err := strconv.ParseUint(strings.Trim(value, ` "`), 10, 31); err == nil && own == 0 {
				own = max(time.Duration(n)*time.Second, 1)
			}
		}
	}
	if deadlineHeader == "" {
		return own
	}
	value := h.Get(deadlineHeader)
	d, err := time.ParseDuration(value)
	if err != nil {
		d, err = time.ParseDuration(value + "s")
	}
	if err != nil || d < 0 || own > 0 && own < d {
		return own
	}
	return max(d, 1)
}
