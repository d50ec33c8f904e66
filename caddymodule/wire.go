package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/front"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// wire provisions the reverse proxy with our round tripper and our choice of
// upstreams in it, makes the front, and returns the pool's next generation.
func (h *Handler) wire(ctx caddy.Context) (generation, error) {
	rp := h.ReverseProxy
	targets := targetsOf(rp.Upstreams)
	checks := rp.HealthChecks

	way, err := h.way()
	if err != nil {
		return generation{}, err
	}
	transport, firstByte, err := h.loadTransport(ctx)
	if err != nil {
		return generation{}, err
	}
	choose, sticky, err := h.loadPolicy(ctx)
	if err != nil {
		return generation{}, err
	}
	resolve, err := h.loadSource(ctx)
	if err != nil {
		return generation{}, err
	}
	routes, err := h.table()
	if err != nil {
		return generation{}, err
	}
	h.release = h.pool.metrics.Use(routes.Templates())
	_, weights := h.classes()
	direct, keeper := h.ways(transport)
	cfg := front.Config{
		Routes:         routes,
		Templates:      h.pool.templates,
		Weights:        weights,
		Client:         h.client(),
		DeadlineHeader: h.DeadlineHeader,
		Places:         h.pool.places,
		HideTiming:     h.HideTiming,
		Readers:        []func(*http.Request, front.Exchange){h.pool.metrics.Read, door.floods.heard},

		Direct:  direct,
		Keeper:  keeper,
		Ready:   &h.pool.ready,
		Memory:  buffers,
		Error:   failure(ctx),
		Caching: h.caching(way),

		Journaling: h.journaling(ctx),

		Claimed: func(r *http.Request, x *front.Exchange) {
			placeholders(r, x)
			door.sends(h.pool.queue.Crowded())
		},

		Converse:  converse,
		Unwatch:   unwatch(ctx),
		Beneath:   beneath,
		Ended:     letEnd,
		Detach:    detach,
		Unreached: unreached,
		Choose:    choose,
		Sticky:    sticky,
		FirstByte: firstByte,
		Hold:      time.Duration(orZero(h.Hold)),
	}
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); !ok || server.Logs != nil {
		cfg.Readers = append(cfg.Readers, logExchange)
	}
	if cfg.Trusted, err = h.truster(); err != nil {
		return generation{}, err
	}
	if h.SendfileRoot != "" {
		if h.files, err = front.OpenFiles(h.SendfileRoot); err != nil {
			return generation{}, fmt.Errorf("app_proxy: sendfile_root: %w", err)
		}
		cfg.Files = h.files
	}
	h.amend(&cfg)
	h.bounds(&cfg)
	h.front = front.New(h.pool.queue, h.pool.health, cfg, h.logger)

	// reverseproxy is left with one upstream per attempt, which is the one that
	// was claimed; readiness and retries of dials are ours.
	rp.Upstreams, rp.HealthChecks = nil, nil
	rp.Transport = wrap(h.front.RoundTripper(transport), transport)
	rp.DynamicUpstreams = claimed{}
	if rp.LoadBalancing == nil {
		rp.LoadBalancing = new(reverseproxy.LoadBalancing)
	}
	rp.LoadBalancing.SelectionPolicy = claimed{}
	h.provisioned = true // also when it fails half way
	if err := rp.Provision(ctx); err != nil {
		return generation{}, fmt.Errorf("app_proxy: %w", err)
	}

	health, err := healthConfig(h.front, checks, transport)
	if err != nil {
		return generation{}, err
	}
	notify, err := emitter(ctx)
	if err != nil {
		return generation{}, err
	}
	return generation{
		limits: h.limits(), targets: targets, health: health, notify: notify, resolve: resolve, cache: h.caches(), journal: h.journalPlan(),
	}, nil
}

// buffers is the memory of this process for bodies on their way.
var buffers = new(front.Budget)

// bounds fills in the sizes and times that were said.
func (h *Handler) bounds(cfg *front.Config) {
	if b := h.Buffer; b != nil && b.Request != nil {
		cfg.BodyMemory, cfg.BodyMax = b.Request.Memory, b.Request.Max
	}
	if b := h.Buffer; b != nil && b.Response != nil {
		cfg.AnswerMemory, cfg.AnswerMax = b.Response.Memory, b.Response.Max
	}
	if b := h.Buffer; b != nil {
		cfg.MinRate, cfg.MinRateOver = b.MinRate, time.Duration(b.MinRateOver)
	}
	if t := h.Timeouts; t != nil {
		if t.FirstByte != nil {
			cfg.FirstByte = orNegative(t.FirstByte)
		}
		cfg.Whole, cfg.Abandon = orNegative(t.Whole), time.Duration(t.Abandon)
	}
}

func targetsOf(upstreams reverseproxy.UpstreamPool) []admission.Target {
	var targets []admission.Target
	for _, u := range upstreams {
		targets = append(targets, admission.Target{Key: u.Dial, Limit: u.MaxRequests})
	}
	return targets
}

// loadTransport loads the configured transport, or the default, and takes its
// timeout for the answer's head away: when that passes, the client is answered
// and the exchange goes on.
func (h *Handler) loadTransport(ctx caddy.Context) (_ http.RoundTripper, firstByte time.Duration, err error) {
	rp := h.ReverseProxy
	var transport http.RoundTripper
	if rp.TransportRaw == nil {
		t := &reverseproxy.HTTPTransport{DialTimeout: h.connectTimeout()}
		if err := t.Provision(ctx); err != nil {
			return nil, 0, fmt.Errorf("app_proxy: default transport: %w", err)
		}
		h.closeIdle = t.Cleanup
		transport = t
	} else {
		if rp.TransportRaw, err = withDialTimeout(rp.TransportRaw, h.connectTimeout()); err != nil {
			return nil, 0, fmt.Errorf("app_proxy: transport: %w", err)
		}
		mod, err := ctx.LoadModule(rp, "TransportRaw")
		if err != nil {
			return nil, 0, fmt.Errorf("app_proxy: transport: %w", err)
		}
		rp.TransportRaw = nil
		transport = mod.(http.RoundTripper)
	}
	if t, ok := transport.(reverseproxy.BufferedTransport); ok && rp.ResponseBuffers == 0 {
		_, rp.ResponseBuffers = t.DefaultBufferSizes()
	}
	if t, ok := transport.(*reverseproxy.HTTPTransport); ok {
		firstByte = time.Duration(t.ResponseHeaderTimeout)
		t.Transport.ResponseHeaderTimeout = 0
		// Without Accept-Encoding of the client the transport would ask for gzip, and
		// unpack it again: the work would be the application's, and for nothing.
		t.Transport.DisableCompression = t.Compression == nil || !*t.Compression
	}
	return transport, firstByte, nil
}

// connectTimeout is how long a dial may take. An application that is there takes
// the connection at once, busy or not: its kernel does.
func (h *Handler) connectTimeout() caddy.Duration {
	if h.Timeouts != nil && h.Timeouts.Connect > 0 {
		return h.Timeouts.Connect
	}
	return caddy.Duration(time.Second)
}

// withDialTimeout sets the timeout of an HTTP transport that says nothing of it.
func withDialTimeout(raw json.RawMessage, d caddy.Duration) (json.RawMessage, error) {
	var said map[string]json.RawMessage
	if err := json.Unmarshal(raw, &said); err != nil {
		return nil, err
	}
	if string(said["protocol"]) != `"http"` || said["dial_timeout"] != nil {
		return raw, nil
	}
	said["dial_timeout"] = json.RawMessage(strconv.FormatInt(int64(d), 10))
	return json.Marshal(said)
}

// stickyPolicies bind a request to one upstream; the others spread requests.
var stickyPolicies = []caddy.ModuleID{
	"http.reverse_proxy.selection_policies.ip_hash",
	"http.reverse_proxy.selection_policies.client_ip_hash",
	"http.reverse_proxy.selection_policies.uri_hash",
	"http.reverse_proxy.selection_policies.query",
	"http.reverse_proxy.selection_policies.header",
	"http.reverse_proxy.selection_policies.cookie",
}

// loadPolicy makes a chooser of the configured selection policy. Without one,
// and with least_conn, which counts worse than admission, it is nil.
func (h *Handler) loadPolicy(ctx caddy.Context) (choose func(http.ResponseWriter, *http.Request) func([]string) string, sticky bool, err error) {
	lb := h.ReverseProxy.LoadBalancing
	if lb == nil || lb.SelectionPolicyRaw == nil {
		return nil, false, nil
	}
	mod, err := ctx.LoadModule(lb, "SelectionPolicyRaw")
	if err != nil {
		return nil, false, fmt.Errorf("app_proxy: lb_policy: %w", err)
	}
	lb.SelectionPolicyRaw = nil
	var all reverseproxy.UpstreamPool
	for _, u := range h.ReverseProxy.Upstreams {
		all = append(all, &reverseproxy.Upstream{Host: new(reverseproxy.Host), Dial: u.Dial})
	}
	switch policy := mod.(type) {
	case *reverseproxy.LeastConnSelection:
		return nil, false, nil
	case *reverseproxy.WeightedRoundRobinSelection:
		return weighted(policy, all), false, nil
	case reverseproxy.Selector:
		id := mod.(caddy.Module).CaddyModule().ID
		return chooser(policy), slices.Contains(stickyPolicies, id), nil
	}
	return nil, false, fmt.Errorf("app_proxy: lb_policy: %T is no selection policy", mod)
}

// chooser asks a selection policy about the candidates alone.
func chooser(policy reverseproxy.Selector) func(http.ResponseWriter, *http.Request) func([]string) string {
	return func(w http.ResponseWriter, r *http.Request) func([]string) string {
		cookies := slices.Clip(w.Header()["Set-Cookie"])
		return func(candidates []string) string {
			pool := make(reverseproxy.UpstreamPool, len(candidates))
			for i, key := range candidates {
				pool[i] = &reverseproxy.Upstream{Host: new(reverseproxy.Host), Dial: key} // policies look at the address alone
			}
			// A policy that sets a cookie may be asked again after a failed dial.
			if len(cookies) == 0 {
				w.Header().Del("Set-Cookie")
			} else {
				w.Header()["Set-Cookie"] = cookies
			}
			if u := policy.Select(pool, r, w); u != nil {
				return u.Dial
			}
			return ""
		}
	}
}

// weightedTurns is how many turns of a weighted round robin are looked at for an
// upstream with a free slot.
const weightedTurns = 100

// weighted asks a weighted round robin, whose weights go by place in the whole
// pool, until it names a candidate.
func weighted(policy reverseproxy.Selector, all reverseproxy.UpstreamPool) func(http.ResponseWriter, *http.Request) func([]string) string {
	return func(w http.ResponseWriter, r *http.Request) func([]string) string {
		return func(candidates []string) string {
			for range weightedTurns {
				u := policy.Select(all, r, w)
				if u != nil && slices.Contains(candidates, u.Dial) {
					return u.Dial
				}
			}
			return ""
		}
	}
}

// loadSource makes a resolver of a source of dynamic upstreams; nil without one.
func (h *Handler) loadSource(ctx caddy.Context) (func(context.Context) ([]admission.Target, error), error) {
	rp := h.ReverseProxy
	if rp.DynamicUpstreamsRaw == nil {
		return nil, nil
	}
	mod, err := ctx.LoadModule(rp, "DynamicUpstreamsRaw")
	if err != nil {
		return nil, fmt.Errorf("app_proxy: dynamic upstreams: %w", err)
	}
	rp.DynamicUpstreamsRaw = nil
	source := mod.(reverseproxy.UpstreamSource)
	return func(ctx context.Context) ([]admission.Target, error) {
		ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewReplacer())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://upstreams.invalid", nil)
		if err != nil {
			return nil, err
		}
		found, err := source.GetUpstreams(r)
		targets := targetsOf(found)
		slices.SortFunc(targets, func(a, b admission.Target) int { return strings.Compare(a.Key, b.Key) })
		return targets, err
	}, nil
}

// claimed tells reverseproxy which upstream admission has claimed for the
// attempt that it is about to make.
type claimed struct{}

// GetUpstreams implements reverseproxy.UpstreamSource. The upstream is a new one
// each time, because reverseproxy writes to it without a lock.
func (claimed) GetUpstreams(r *http.Request) ([]*reverseproxy.Upstream, error) {
	key, ok := front.Claim(r.Context())
	if !ok {
		return nil, nil
	}
	return []*reverseproxy.Upstream{{Dial: key}}, nil
}

// Select implements reverseproxy.Selector.
func (claimed) Select(pool reverseproxy.UpstreamPool, _ *http.Request, _ http.ResponseWriter) *reverseproxy.Upstream {
	if len(pool) == 0 {
		return nil
	}
	return pool[0]
}

// logExchange adds to the access log what became of the request at the door.
func logExchange(r *http.Request, x front.Exchange) {
	extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if !ok {
		return
	}
	extra.Add(zap.Inline(logged(x))) // one instead of many: each costs an entry of a map
	if x.Shed() || x.Verdict == "held" {
		calm(r.Context())
	}
}

// calm sees to it that a refusal because of load is no line at ERROR: Caddy takes
// every status from 500 on for one, and in an overload the door does its work and
// nothing is to be mended, thousands of times a second. What the operator has set
// himself stays.
func calm(ctx context.Context) {
	if caddyhttp.GetVar(ctx, caddyhttp.LogLevelVar) == nil {
		caddyhttp.SetVar(ctx, caddyhttp.LogLevelVar, zapcore.InfoLevel.String())
	}
}

// logged is an exchange as the access log shows it.
type logged front.Exchange

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (x logged) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("verdict", x.Verdict)
	enc.AddString("class", x.Class)
	enc.AddString("template", x.Template)
	enc.AddString("upstream", x.Upstream)
	if x.Cache != "" {
		enc.AddString("cache", x.Cache)
	}
	enc.AddDuration("queue_wait", x.Wait)
	enc.AddDuration("service_time", x.Service)
	return nil
}

// detach implements front.Config.Detach: Caddy's variables are a plain map that
// belongs to the request.
func detach(ctx context.Context) context.Context {
	vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, caddyhttp.VarsCtxKey, maps.Clone(vars))
}

// unreached implements front.Config.Unreached.
func unreached(err error) bool {
	var dial reverseproxy.DialError
	return errors.As(err, &dial)
}

// wrapped passes on what reverseproxy asks of transports beside RoundTrip.
type wrapped struct {
	http.RoundTripper
	inner http.RoundTripper
}

// wrapped with header operations of its own: reverseproxy asks for them by type.
type wrappedHeaderOps struct {
	wrapped
	reverseproxy.RequestHeaderOpsTransport
}

func wrap(outer, inner http.RoundTripper) http.RoundTripper {
	w := wrapped{outer, inner}
	if ops, ok := inner.(reverseproxy.RequestHeaderOpsTransport); ok {
		return wrappedHeaderOps{w, ops}
	}
	return w
}

func (w wrapped) ProxyProtocolEnabled() bool {
	t, ok := w.inner.(reverseproxy.ProxyProtocolTransport)
	return ok && t.ProxyProtocolEnabled()
}

func (w wrapped) RequiresContentLength() bool {
	t, ok := w.inner.(reverseproxy.ContentLengthRequiredTransport)
	return ok && t.RequiresContentLength()
}

// emitter tells Caddy's event handlers what reverse_proxy tells them. They take
// the time they like, one event after another, while whoever notices a change of
// health holds the pool's locks: so they run on a goroutine of their own.
func emitter(ctx caddy.Context) (func(event, key string), error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, fmt.Errorf("app_proxy: %w", err)
	}
	events, log := app.(*caddyevents.App), ctx.Logger()
	pending := make(chan func(), maxEvents)
	go func() { // ends with the config
		for {
			select {
			case emit := <-pending:
				emit()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func(event, key string) {
		select {
		case pending <- func() { events.Emit(ctx, event, map[string]any{"host": key}) }:
		default:
			log.Warn("event lost: its handlers are too slow", zap.String("event", event), zap.String("upstream", key))
		}
	}, nil
}

// maxEvents is how many events may wait for slow handlers.
const maxEvents = 100

// dialer connects as a request's transport would, in a slot as a request does. It
// is nil, or reports success, where only a request can tell: other transports, QUIC, PROXY protocol, an
// address with placeholders of the request, a proxy on the way.
func dialer(f *front.Front, transport http.RoundTripper) func(context.Context, string) error {
	t, ok := transport.(*reverseproxy.HTTPTransport)
	if !ok || t.ProxyProtocol != "" || slices.Contains(t.Versions, "3") {
		return nil
	}
	dial := func(ctx context.Context, key string) error {
		addr, err := dialAddress(key)
		if err != nil {
			return nil
		}
		ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, make(map[string]any))
		ctx = context.WithValue(ctx, dialInfoKey, reverseproxy.DialInfo{
			Network: addr.Network, Address: addr.JoinHostPort(0), Host: addr.Host,
		})
		if !addr.IsUnixNetwork() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.JoinHostPort(0), nil)
			if err != nil {
				return nil
			}
			if proxy, err := t.Transport.Proxy(r); proxy != nil || err != nil {
				return nil
			}
		}
		conn, err := t.Transport.DialContext(ctx, "tcp", addr.JoinHostPort(0))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return func(ctx context.Context, key string) error {
		return f.Probe(ctx, key, time.Duration(t.DialTimeout), func(ctx context.Context) error { return dial(ctx, key) })
	}
}

// dialInfoKey is where reverseproxy's transports look for the address.
const dialInfoKey caddy.CtxKey = "reverse_proxy.dial_info"

// dialAddress parses an upstream's address. Placeholders of the environment are
// filled in; those of a request are an error.
func dialAddress(key string) (caddy.NetworkAddress, error) {
	text, err := caddy.NewReplacer().ReplaceOrErr(key, true, true)
	if err != nil {
		return caddy.NetworkAddress{}, err
	}
	addr, err := caddy.ParseNetworkAddress(text)
	if err != nil {
		return caddy.NetworkAddress{}, err
	}
	if addr.PortRangeSize() != 1 {
		return caddy.NetworkAddress{}, fmt.Errorf("%s is more than one address", text)
	}
	return addr, nil
}

// healthConfig makes the monitor's configuration of the health_* and passive
// words.
func healthConfig(f *front.Front, checks *reverseproxy.HealthChecks, transport http.RoundTripper) (upstream.Config, error) {
	cfg := upstream.Config{Dial: dialer(f, transport)}
	if checks == nil {
		return cfg, nil
	}
	if passive := checks.Passive; passive != nil {
		cfg.FailDuration, cfg.MaxFails = time.Duration(passive.FailDuration), passive.MaxFails
		cfg.Failed = func(status int, latency time.Duration) bool {
			if passive.UnhealthyLatency > 0 && latency >= time.Duration(passive.UnhealthyLatency) {
				return true
			}
			return slices.ContainsFunc(passive.UnhealthyStatus, func(bad int) bool {
				return caddyhttp.StatusCodeMatches(status, bad)
			})
		}
	}
	if active := checks.Active; active != nil && active.IsEnabled() {
		p, err := newProbe(f, active, transport)
		if err != nil {
			return cfg, err
		}
		cfg.Probe = p.check
		cfg.Interval = time.Duration(active.Interval)
		cfg.Passes, cfg.Fails = active.Passes, active.Fails
	}
	return cfg, nil
}

// probeURL is where a probe of the upstream goes: scheme, host and port as the
// transport and the health_* words have it.
func probeURL(addr caddy.NetworkAddress, active *reverseproxy.ActiveHealthChecks, transport http.RoundTripper) (*url.URL, reverseproxy.DialInfo) {
	port := fmt.Sprint(addr.StartPort)
	if active.Port != 0 && active.Upstream == "" {
		port = fmt.Sprint(active.Port)
		if addr.IsUnixNetwork() || addr.IsFdNetwork() {
			addr = caddy.NetworkAddress{Network: "tcp", Host: "localhost"}
		}
		addr.StartPort, addr.EndPort = uint(active.Port), uint(active.Port)
	}
	info := reverseproxy.DialInfo{Network: addr.Network, Address: addr.JoinHostPort(0), Host: addr.Host, Port: port}
	u := &url.URL{Scheme: "http", Host: net.JoinHostPort(addr.Host, port)}
	if addr.IsUnixNetwork() || addr.IsFdNetwork() {
		u.Host = "localhost" // a socket's path makes no host
	}
	if active.Upstream != "" {
		u.Host = active.Upstream
	}
	if t, ok := transport.(reverseproxy.HealthCheckSchemeOverriderTransport); ok {
		t.OverrideHealthCheckScheme(u, port)
	}
	return u, info
}

var (
	_ reverseproxy.UpstreamSource                 = claimed{}
	_ reverseproxy.Selector                       = claimed{}
	_ reverseproxy.ProxyProtocolTransport         = wrapped{}
	_ reverseproxy.ContentLengthRequiredTransport = wrapped{}
)
