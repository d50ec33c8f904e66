package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/front"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler is a reverse proxy that knows what its application can take: it lets
// no more requests through at once than the application has said, and keeps the
// others waiting in one queue, in order, for a bounded time.
type Handler struct {
	// Name of the pool. Handlers with the same name share one queue and must
	// agree on the settings of the pool (name, concurrency, queue, hold, cache,
	// upstreams, health checks). Default: the upstream addresses as written,
	// sorted, joined by ','.
	Name string `json:"name,omitempty"`

	// Concurrency is the most requests in flight at one upstream. Default: learned
	// from what the application can take, from 4 on.
	Concurrency int `json:"concurrency,omitempty"`

	// Queue bounds the waiting line of the pool.
	Queue *QueueConfig `json:"queue,omitempty"`

	// Hold is how long requests wait while no upstream is ready. 0 refuses
	// them at once. Default 30s.
	Hold *caddy.Duration `json:"hold,omitempty"`

	// Cache keeps answers for all routes. Default: none are kept, but those of routes
	// with a time for it.
	Cache *CacheConfig `json:"cache,omitempty"`

	// Buffer says how request bodies are taken in.
	Buffer *BufferConfig `json:"buffer,omitempty"`

	// Timeouts of the exchange with the application.
	Timeouts *TimeoutConfig `json:"timeouts,omitempty"`

	// Classes change the built-in importance groups, or add to them.
	Classes []ClassConfig `json:"classes,omitempty"`

	// Routes have policies of their own.
	Routes []RouteConfig `json:"routes,omitempty"`

	// DeadlineHeader is a request header in which clients say how long they
	// wait, in seconds or as a duration. Prefer: wait=n is always understood.
	DeadlineHeader string `json:"deadline_header,omitempty"`

	// HideTiming leaves Server-Timing out of answers.
	HideTiming bool `json:"hide_timing,omitempty"`

	// SendfileRoot is a folder from which the application may hand over files by
	// X-Sendfile or X-Accel-Redirect. Default: none, and the fields pass.
	SendfileRoot string `json:"sendfile_root,omitempty"`

	// JournalDir is the folder in which the pool's journal has its own. Default:
	// portner/journal in Caddy's data folder.
	JournalDir string `json:"journal_dir,omitempty"`

	// JournalKeyFile has the key, 64 hexadecimal digits, by which what the journal
	// keeps is sealed. Default: it is not.
	JournalKeyFile string `json:"journal_key_file,omitempty"`

	// DirectOff sends everything by way of reverse_proxy, which costs more.
	DirectOff bool `json:"direct_off,omitempty"`

	// ReverseProxy is everything that http.handlers.reverse_proxy knows:
	// upstreams, transport, headers, health checks, …
	ReverseProxy *reverseproxy.Handler `json:"reverse_proxy,omitempty"`

	pool      *pool
	front     *front.Front
	closeIdle func() error // of a transport that Caddy does not clean up; may be nil

	closeWays func()       // ends the idle connections of the direct way; may be nil
	files     *front.Files // may be nil
	release   func()       // of the routes' metrics; may be nil
	logger    *zap.Logger

	provisioned bool // ReverseProxy was, and must be cleaned up
}

// QueueConfig bounds a waiting line.
type QueueConfig struct {
	// Wait is the longest time in the queue; over it the request is refused
	// with 503. 0 refuses at once when no slot is free. Default 5s.
	Wait *caddy.Duration `json:"wait,omitempty"`

	// Depth is the most requests waiting. Default max(100, 10 x the limit).
	Depth int `json:"depth,omitempty"`

	// FairBy is the placeholder of those between whom the queue is fair, or off.
	// Default {client_ip}, IPv6 by /64.
	FairBy string `json:"fair_by,omitempty"`
}

// BufferConfig says how bodies are buffered.
type BufferConfig struct {
	// Request bodies are read to their end before the request is queued.
	Request *BodyBuffer `json:"request,omitempty"`

	// Response bodies are taken from the application as fast as it gives them.
	// Default 1 MiB and 1 GiB; over the second the application has to wait for the
	// client.
	Response *BodyBuffer `json:"response,omitempty"`

	// MinRate is how many bytes of a request's body must come in a second, taken
	// over each min_rate_over; whose body comes more slowly gets 408. Default 500; -1: as
	// slowly as it likes.
	MinRate int64 `json:"min_rate,omitempty"`

	// MinRateOver is how long a client has to make up for a pause. Default 20s.
	MinRateOver caddy.Duration `json:"min_rate_over,omitempty"`
}

// BodyBuffer is a bounded buffer in memory and in a temporary file.
type BodyBuffer struct {
	// Memory is how many bytes are kept in memory. Default 64 KiB of a request.
	Memory int64 `json:"memory,omitempty"`

	// Max is how many bytes there may be at all; over it the client of a request
	// gets 413. Default 10 MiB of a request. -1: unlimited.
	Max int64 `json:"max,omitempty"`
}

// TimeoutConfig bounds parts of the exchange with the application.
type TimeoutConfig struct {
	// Connect is how long a connection may take to come about. Default 1s.
	Connect caddy.Duration `json:"connect,omitempty"`

	// FirstByte is how long the application has for the head of its answer; then
	// the client gets 504. 0: no limit. Default 60s.
	FirstByte *caddy.Duration `json:"first_byte,omitempty"`

	// Whole is how long an exchange may take that is no stream. 0: no limit.
	// Default 10m.
	Whole *caddy.Duration `json:"whole,omitempty"`

	// Abandon is how long an exchange may go on after its client has left.
	// Default 60s.
	Abandon caddy.Duration `json:"abandon,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.app_proxy",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets h up. It has no effect outside h beyond a reference to the
// pool: it also runs for `caddy validate` and for configs that then fail.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if h.ReverseProxy == nil {
		h.ReverseProxy = new(reverseproxy.Handler)
	}
	for _, note := range h.absorb() {
		h.logger.Warn(note)
	}
	if err := h.check(); err != nil {
		return err
	}
	iface, err := ctx.App("app_proxy")
	if err != nil {
		return fmt.Errorf("app_proxy: %w", err)
	}
	settings, err := h.settings()
	if err != nil {
		return err
	}
	if h.Name == "" {
		h.Name = h.defaultName()
	}
	if h.pool, err = usePool(h.Name); err != nil {
		return err
	}
	iface.(*App).guard(ctx)
	generation, err := h.wire(ctx)
	if err != nil {
		return err
	}
	return iface.(*App).register(member{h.pool, settings, generation})
}

// check finds what no pool can be made of.
func (h *Handler) check() error {
	rp := h.ReverseProxy
	switch {
	case len(rp.Upstreams) == 0 && rp.DynamicUpstreamsRaw == nil:
		return errors.New("app_proxy: no upstreams: where is the application?")
	case rp.CBRaw != nil:
		return errors.New("app_proxy: circuit_breaker does not work here: app_proxy decides by itself which upstreams are fit")
	case bytes.Contains(rp.DynamicUpstreamsRaw, []byte("{http.")):
		return errors.New("app_proxy: dynamic upstreams must not depend on the request: a pool has one set of upstreams for all")
	case h.Concurrency < 0:
		return fmt.Errorf("app_proxy: concurrency must be at least 1, not %d", h.Concurrency)
	case h.Queue != nil && h.Queue.Depth < 0:
		return fmt.Errorf("app_proxy: queue depth must be at least 1, not %d", h.Queue.Depth)
	}
	if h.Buffer != nil {
		if err := h.Buffer.Request.check("request", front.DefaultBodyMax); err != nil {
			return err
		}
		if err := h.Buffer.Response.check("response", front.DefaultAnswerMax); err != nil {
			return err
		}
	}
	if err := h.checkCache(); err != nil {
		return err
	}
	if err := h.checkJournal(); err != nil {
		return err
	}
	for i, u := range rp.Upstreams {
		if u == nil || u.Dial == "" {
			return fmt.Errorf("app_proxy: upstream %d has no dial address", i)
		}
	}
	return nil
}

// absorb moves what reverse_proxy says in words that are ours here, and says
// which word to use. It changes nothing the second time.
func (h *Handler) absorb() (notes []string) {
	rp := h.ReverseProxy
	if lb := rp.LoadBalancing; lb != nil && lb.TryDuration > 0 {
		note := fmt.Sprintf("lb_try_duration is ignored beside hold %s", time.Duration(orZero(h.Hold)))
		if h.Hold == nil {
			hold := lb.TryDuration
			h.Hold = &hold
			note = fmt.Sprintf("lb_try_duration is read as: hold %s; requests wait in the queue, without polling", time.Duration(hold))
		}
		if len(lb.RetryMatchRaw) > 0 && lb.Retries == 0 {
			lb.Retries = defaultRetries
			note += fmt.Sprintf("; answers that lb_retry_match matches are asked for again lb_retries times (%d)", lb.Retries)
		}
		notes = append(notes, note)
		lb.TryDuration, lb.TryInterval = 0, 0
	}
	if checks := rp.HealthChecks; checks != nil && checks.Passive != nil && checks.Passive.UnhealthyRequestCount > 0 {
		n := checks.Passive.UnhealthyRequestCount
		note := fmt.Sprintf("unhealthy_request_count is ignored beside concurrency %d", h.Concurrency)
		if h.Concurrency == 0 {
			h.Concurrency = n
			note = fmt.Sprintf("unhealthy_request_count is read as: concurrency %d; an upstream at its limit is busy, not unhealthy", n)
		}
		notes = append(notes, note)
		checks.Passive.UnhealthyRequestCount = 0
	}
	if n := rp.RequestBuffers; n != 0 {
		if h.Buffer == nil {
			h.Buffer = new(BufferConfig)
		}
		note := "request_buffers is ignored beside buffer { request … }"
		if h.Buffer.Request == nil {
			h.Buffer.Request = bodyBufferOf(n)
			note = fmt.Sprintf("request_buffers is read as: buffer { request %s }; bodies are always read before they are queued, and over the maximum there is 413", h.Buffer.Request)
		}
		notes = append(notes, note)
		rp.RequestBuffers = 0
	}
	return notes
}

// defaultRetries is how often an answer that lb_retry_match matches is asked for
// again where only lb_try_duration bounded it.
const defaultRetries = 3

// bodyBufferOf is what request_buffers means; negative: unlimited. What it would
// have kept in memory is kept in memory, and what it would have let through is let
// through as far as the default does.
func bodyBufferOf(requestBuffers int64) *BodyBuffer {
	if requestBuffers < 0 {
		return &BodyBuffer{Memory: front.DefaultBodyMemory, Max: -1}
	}
	return &BodyBuffer{Memory: requestBuffers, Max: max(requestBuffers, front.DefaultBodyMax)}
}

// check finds sizes that contradict each other. b may be nil.
func (b *BodyBuffer) check(name string, most int64) error {
	if b == nil {
		return nil
	}
	if b.Max != 0 {
		most = b.Max
	}
	if b.Memory < 0 || most > 0 && b.Memory > most {
		return fmt.Errorf("app_proxy: buffer %s: %d bytes in memory of at most %d make no sense", name, b.Memory, most)
	}
	return nil
}

// String is b as the Caddyfile has it.
func (b *BodyBuffer) String() string {
	if b.Max < 0 {
		return fmt.Sprintf("%d unlimited", b.Memory)
	}
	return fmt.Sprintf("%d %d", b.Memory, b.Max)
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h.pool.inside.Add(1)
	defer h.pool.inside.Add(-1)
	return h.front.Serve(w, r, func(w http.ResponseWriter, r *http.Request) error {
		return h.ReverseProxy.ServeHTTP(w, r, next)
	})
}

// Cleanup gives back what Provision took. Requests may still be inside.
func (h *Handler) Cleanup() error {
	if h.pool == nil {
		return nil
	}
	var err error
	if h.provisioned {
		// Cleanup of reverseproxy closes websockets and does nothing else, its
		// upstreams being ours. When the new config has this pool too they need
		// not end, unless somebody has said when.
		refs, _ := pools.References(h.Name)
		if refs > 1 && h.ReverseProxy.StreamCloseDelay == 0 {
			err = h.pool.endLater(h.ReverseProxy.Cleanup)
		} else {
			err = h.ReverseProxy.Cleanup()
		}
	}
	if h.release != nil {
		h.release()
	}
	if h.closeWays != nil {
		h.closeWays()
	}
	if h.files != nil {
		err = errors.Join(err, h.files.Close())
	}
	if h.closeIdle != nil {
		err = errors.Join(err, h.closeIdle())
	}
	_, perr := pools.Delete(h.Name)
	return errors.Join(err, perr)
}

// settings is what all handlers of a pool must agree on, in one comparable text.
func (h *Handler) settings() (string, error) {
	rp := h.ReverseProxy
	text, err := json.Marshal(struct {
		Concurrency int
		Queue       *QueueConfig
		Hold        *caddy.Duration
		Classes     []ClassConfig
		Cache       *CacheConfig `json:",omitempty"`
		JournalDir  []string
		Upstreams   reverseproxy.UpstreamPool
		Dynamic     json.RawMessage
		Health      *reverseproxy.HealthChecks
	}{h.Concurrency, h.Queue, h.Hold, h.Classes, h.Cache, []string{h.JournalDir, h.JournalKeyFile}, rp.Upstreams, rp.DynamicUpstreamsRaw, rp.HealthChecks})
	if err != nil {
		return "", fmt.Errorf("app_proxy: settings: %w", err)
	}
	return string(text), nil
}

// defaultName is the name of a pool that was given none.
func (h *Handler) defaultName() string {
	if h.ReverseProxy.DynamicUpstreamsRaw != nil {
		return string(h.ReverseProxy.DynamicUpstreamsRaw)
	}
	var names []string
	for _, u := range h.ReverseProxy.Upstreams {
		names = append(names, u.Dial)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// limits is the admission's part of the configuration.
func (h *Handler) limits() admission.Config {
	cfg := admission.Config{Limit: h.Concurrency, Hold: orNegative(h.Hold)}
	cfg.Classes, _ = h.classes()
	if h.Queue != nil {
		cfg.Wait, cfg.Depth = orNegative(h.Queue.Wait), h.Queue.Depth
	}
	return cfg
}

func orZero(d *caddy.Duration) caddy.Duration {
	if d == nil {
		return 0
	}
	return *d
}

// orNegative maps "not said" to 0 and "said to be 0" to a negative duration.
func orNegative(d *caddy.Duration) time.Duration {
	switch {
	case d == nil:
		return 0
	case *d == 0:
		return -1
	}
	return time.Duration(*d)
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
