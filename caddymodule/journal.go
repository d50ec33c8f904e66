package caddymodule

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/portner/portner/caddymodule/internal/front"
	"github.com/portner/portner/caddymodule/internal/journal"
	"github.com/portner/portner/caddymodule/internal/route"
)

// JournalConfig keeps the writes of a route on disk until the application has them.
type JournalConfig struct {
	// AnswerWithin is how long a client waits for the application's own answer,
	// from the head of its request on. Default 50ms: half of what an impatient
	// program waits.
	AnswerWithin *caddy.Duration `json:"answer_within,omitempty"`
	// Respond is the status of the accept answer. Default 202, with a Location.
	Respond int `json:"respond,omitempty"`
	// Body is its text.
	Body string `json:"body,omitempty"`
	// Always answers as soon as the write is on disk.
	Always bool `json:"always,omitempty"`
	// Lane is a placeholder of what keeps its order. Default: the route.
	Lane string `json:"lane,omitempty"`
	// MaxAge makes a dead letter of what could not be delivered for so long.
	// Default: never.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
	// MaxBytes bounds what the pool's journal keeps; of several routes the largest
	// counts. Default 1 GiB.
	MaxBytes int64 `json:"max_bytes,omitempty"`
	// PerClientOff lets one client have all of it. Default: a quarter.
	PerClientOff bool `json:"per_client_off,omitempty"`
	// KeepAnswers is how long answers are kept for repeats and the status. 0: not at
	// all. Default 24h.
	KeepAnswers *caddy.Duration `json:"keep_answers,omitempty"`
	// OmitHeaders are not stored, and so do not reach the application.
	OmitHeaders []string `json:"omit_headers,omitempty"`
}

const (
	defaultAnswerWithin = 50 * time.Millisecond
	defaultKeepAnswers  = 24 * time.Hour
	defaultJournalBytes = 1 << 30
)

// journals reports whether any route keeps its writes.
func (h *Handler) journals() bool {
	return slices.ContainsFunc(h.Routes, func(c RouteConfig) bool { return c.Journal != nil })
}

// checkJournal finds what no journal can be made of.
func (h *Handler) checkJournal() error {
	for _, c := range h.Routes {
		where := fmt.Sprintf("app_proxy: route %s %s: journal", c.Method, c.Pattern)
		switch j := c.Journal; {
		case j == nil:
		case h.Name == "":
			return fmt.Errorf("%s: the pool needs a name: expected a line such as: name news; what is kept on disk is found by it", where)
		case c.Method == http.MethodGet || c.Method == http.MethodHead || c.Method == http.MethodOptions:
			return fmt.Errorf("%s: expected a method that writes, such as POST; %s writes nothing", where, c.Method)
		case c.RespondStatus:
			return fmt.Errorf("%s: respond_status answers by itself; expected one of the two", where)
		case j.Respond != 0 && (j.Respond < 200 || j.Respond > 299):
			return fmt.Errorf("%s: respond: expected a status from 200 to 299, not %d", where, j.Respond)
		case j.MaxAge < 0 || j.MaxBytes < 0 || orZero(j.AnswerWithin) < 0 || orZero(j.KeepAnswers) < 0:
			return fmt.Errorf("%s: sizes and times must not be negative", where)
		}
	}
	if h.JournalDir+h.JournalKeyFile != "" && !h.journals() {
		return errors.New("app_proxy: journal_dir: no route has a journal")
	}
	return nil
}

// journalPlan is the pool's journal as its handlers want it.
type journalPlan struct {
	dir     string // of the store
	keyFile string // what is written is sealed; empty: it is not
	limits  journal.Limits
	deliver *front.Front
}

// journalPlan is nil where the handler keeps nothing.
func (h *Handler) journalPlan() *journalPlan {
	if !h.journals() {
		return nil
	}
	plan := &journalPlan{dir: h.journalDir(), keyFile: h.JournalKeyFile, deliver: h.front}
	for _, c := range h.Routes {
		if c.Journal != nil {
			plan.limits.MaxBytes = max(plan.limits.MaxBytes, cmp.Or(c.Journal.MaxBytes, defaultJournalBytes))
			if c.Journal.PerClientOff {
				plan.limits.PerClient = -1
			}
		}
	}
	return plan
}

// secret reads the key file; nil: there is none. It is read whenever the journal is
// opened: its disk may come later than Caddy.
func (p *journalPlan) secret() ([]byte, error) {
	if p.keyFile == "" {
		return nil, nil
	}
	return journal.ReadSecret(p.keyFile)
}

// made reports whether there is a store.
func (p *journalPlan) made() bool {
	found, err := filepath.Glob(filepath.Join(p.dir, "MANIFEST-*"))
	return err == nil && len(found) > 0
}

// with is one plan of two handlers' of a pool. They agree on folder and key.
func (p *journalPlan) with(other *journalPlan) *journalPlan {
	if p == nil || other == nil {
		return cmp.Or(p, other)
	}
	both := *p
	both.limits.MaxBytes = max(p.limits.MaxBytes, other.limits.MaxBytes)
	both.limits.PerClient = min(p.limits.PerClient, other.limits.PerClient)
	return &both
}

// journaling is the front's part of it.
func (h *Handler) journaling(ctx caddy.Context) front.Journaling {
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	c := front.Journaling{
		Journal: h.pool.journal.Load, Find: findEntry,
		Life: h.pool.journalLife, Patience: h.pool.journalPatience,
		Routes: make(map[string]*front.JournalRoute),
		Status: make(map[string]bool),
		Client: clientAddress,
		Prepare: func(r *http.Request, w http.ResponseWriter, client string) *http.Request {
			return prepareDelivery(r, w, client, server)
		},
		Send: func(w http.ResponseWriter, r *http.Request) error {
			return h.ReverseProxy.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
		},
	}
	for _, r := range h.Routes {
		pattern, err := route.ParsePattern(r.Method, r.Pattern)
		if err != nil {
			continue // the table has said so
		}
		template := pattern.String()
		c.Status[template] = r.RespondStatus
		if r.Journal != nil {
			c.Routes[template] = r.Journal.route()
		}
	}
	return c
}

func (j *JournalConfig) route() *front.JournalRoute {
	r := &front.JournalRoute{
		AnswerWithin: defaultAnswerWithin, KeepAnswers: defaultKeepAnswers,
		Always: j.Always, Respond: cmp.Or(j.Respond, http.StatusAccepted), Body: j.Body,
		MaxAge: time.Duration(j.MaxAge), MaxBytes: cmp.Or(j.MaxBytes, defaultJournalBytes),
	}
	if j.AnswerWithin != nil {
		r.AnswerWithin = time.Duration(*j.AnswerWithin)
	}
	if j.KeepAnswers != nil {
		r.KeepAnswers = time.Duration(*j.KeepAnswers)
	}
	for _, name := range j.OmitHeaders {
		r.Omit = append(r.Omit, http.CanonicalHeaderKey(name))
	}
	if j.Lane != "" {
		r.Lane = func(r *http.Request) string {
			repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
			if !ok {
				return ""
			}
			return bounded(repl.ReplaceAll(j.Lane, ""))
		}
	}
	return r
}

func clientAddress(r *http.Request) string {
	address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return address
}

// findEntry implements front.Journaling.Find. With a journal that cannot be asked,
// nobody knows that there is no such entry.
func findEntry(id journal.ID) (status journal.Status, err error) {
	err = journal.ErrNotFound
	for _, p := range poolsWithJournals() {
		j := p.journal.Load()
		if j == nil {
			continue
		}
		found, bad := j.Find(id)
		if bad == nil {
			return found, nil
		}
		if !errors.Is(bad, journal.ErrNotFound) {
			err = bad
		}
	}
	return status, err
}

// prepareDelivery implements front.Journaling.Prepare. What the request says of
// its client was checked when it came.
func prepareDelivery(r *http.Request, w http.ResponseWriter, client string, server *caddyhttp.Server) *http.Request {
	if server == nil {
		server = new(caddyhttp.Server)
	}
	seen := *r // by placeholders, which are of a client and not of a journal
	seen.RemoteAddr = net.JoinHostPort(client, "0")
	if r.Header.Get("X-Forwarded-Proto") == "https" {
		seen.TLS = &tls.ConnectionState{HandshakeComplete: true}
	}
	out := *caddyhttp.PrepareRequest(&seen, caddy.NewReplacer(), w, server)
	out.RemoteAddr, out.TLS = r.RemoteAddr, nil
	caddyhttp.SetVar(out.Context(), caddyhttp.ClientIPVarKey, client)
	caddyhttp.SetVar(out.Context(), caddyhttp.TrustedProxyVarKey, true)
	return &out
}

// fileName makes a name for a folder of a pool's name, and another for every other.
func fileName(pool string) string {
	var b strings.Builder
	for i := range len(pool) {
		c := pool[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default: // upper case too: not every file system tells it from lower
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return bounded(b.String())
}
