package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/portner/portner/caddymodule/internal/front"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// ways makes the direct way to the upstreams; nil where something is asked for
// that only reverseproxy knows. One of the two ways keeps connections: an application
// that serves one at a time would wait for a request on that of the other. keeper is
// the transport, where it does.
func (h *Handler) ways(transport http.RoundTripper) (direct *upstream.Direct, keeper *upstream.Keeper) {
	t, ok := transport.(*reverseproxy.HTTPTransport)
	if !ok || !isPlain(t) {
		return nil, nil
	}
	if h.DirectOff || !h.asksNothingSpecial() {
		keeper = &upstream.Keeper{Drop: func(string) { t.Transport.CloseIdleConnections() }}
		h.closeWays = h.pool.ready.Join(keeper)
		return nil, keeper
	}
	t.Transport.DisableKeepAlives = true
	direct = h.direct(t)
	h.closeWays = direct.Close
	return direct, nil
}

func (h *Handler) direct(t *reverseproxy.HTTPTransport) *upstream.Direct {
	idle := time.Duration(t.KeepAlive.IdleConnTimeout)
	if t.KeepAlive.Enabled != nil && !*t.KeepAlive.Enabled {
		idle = -1
	}
	return upstream.NewDirect(upstream.DirectConfig{
		Dial:        func(ctx context.Context, key string) (net.Conn, error) { return dialDirect(ctx, t, key) },
		IdleTimeout: idle,
		MaxHead:     int(t.MaxResponseHeaderSize),
		Ready:       &h.pool.ready,
		Kind:        kindOf(t),
	})
}

// kindOf tells connections apart that are not made alike, or not kept alike.
func kindOf(t *reverseproxy.HTTPTransport) string {
	text, err := json.Marshal([]any{t.Resolver, t.LocalAddress, t.KeepAlive, t.MaxResponseHeaderSize})
	if err != nil {
		return fmt.Sprintf("%p", t) // like no other
	}
	return string(text)
}

// isPlain reports whether a transport speaks HTTP/1.1 over a connection of which
// nobody wants anything else.
func isPlain(t *reverseproxy.HTTPTransport) bool {
	return t.TLS == nil && t.ProxyProtocol == "" && t.MaxConnsPerHost == 0 &&
		t.ReadTimeout == 0 && t.WriteTimeout == 0 && // these wrap the connection
		t.NetworkProxyRaw == nil && t.ForwardProxyURL == "" && !proxyInEnvironment() &&
		slices.Contains(t.Versions, "1.1") && !slices.Contains(t.Versions, "h2c") && !slices.Contains(t.Versions, "3")
}

func proxyInEnvironment() bool { return os.Getenv("HTTP_PROXY") != "" || os.Getenv("http_proxy") != "" }

// asksNothingSpecial reports whether the request and the answer pass as they are,
// but for their fields.
func (h *Handler) asksNothingSpecial() bool {
	rp := h.ReverseProxy
	lb := rp.LoadBalancing
	return rp.Rewrite == nil && len(rp.HandleResponse) == 0 && rp.ResponseBuffers == 0 &&
		rp.FlushInterval == 0 && !rp.VerboseLogs &&
		(lb == nil || len(lb.RetryMatchRaw) == 0 && lb.Retries == 0) &&
		!slices.ContainsFunc(rp.Upstreams, func(u *reverseproxy.Upstream) bool { return strings.Contains(u.Dial, "{") })
}

// dialDirect connects as the transport would for a request to that upstream.
func dialDirect(ctx context.Context, t *reverseproxy.HTTPTransport, key string) (net.Conn, error) {
	addr, err := dialAddress(key)
	if err != nil {
		return nil, reverseproxy.NewDialError(err)
	}
	address := addr.JoinHostPort(0)
	ctx = context.WithValue(ctx, dialInfoKey, reverseproxy.DialInfo{Network: addr.Network, Address: address, Host: addr.Host})
	return t.Transport.DialContext(ctx, addr.Network, address)
}

// truster tells requests that come through a proxy of the operator's: those of
// trusted_proxies of the server, and of the handler.
func (h *Handler) truster() (func(*http.Request) bool, error) {
	var ranges []netip.Prefix
	for _, text := range h.ReverseProxy.TrustedProxies {
		prefix, err := caddyhttp.CIDRExpressionToPrefix(text)
		if err != nil {
			return nil, fmt.Errorf("app_proxy: %w", err)
		}
		ranges = append(ranges, prefix)
	}
	return func(r *http.Request) bool {
		if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted || len(ranges) == 0 {
			return trusted
		}
		client, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			return false
		}
		client, _, _ = strings.Cut(client, "%")
		ip, err := netip.ParseAddr(client)
		return err == nil && slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(ip) })
	}, nil
}

// amend makes front's Amend and AmendAnswer of header_up and header_down.
func (h *Handler) amend(cfg *front.Config) {
	if h.ReverseProxy.Headers == nil {
		return
	}
	if ops := h.ReverseProxy.Headers.Request; ops != nil {
		cfg.Amend = func(r *http.Request, _ string) { ops.ApplyToRequest(r) }
	}
	if ops := h.ReverseProxy.Headers.Response; ops != nil {
		cfg.AmendAnswer = func(r *http.Request, header http.Header, status int) {
			if ops.Require == nil || ops.Require.Match(status, header) {
				ops.ApplyTo(header, r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer))
			}
		}
	}
}

// placeholders answers for those that reverse_proxy sets, {rp.…} for short, when
// somebody asks.
func placeholders(r *http.Request, x *front.Exchange) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	repl.Map(func(key string) (any, bool) {
		name, ok := strings.CutPrefix(key, "http.reverse_proxy.")
		if !ok {
			return nil, false
		}
		return placeholder(name, x)
	})
}

func placeholder(name string, x *front.Exchange) (any, bool) {
	switch name {
	case "upstream.latency":
		return x.Service, true
	case "upstream.latency_ms":
		return x.Service.Seconds() * 1e3, true
	case "status_code":
		return x.Status, x.Status != 0
	}
	part, ok := strings.CutPrefix(name, "upstream.")
	if !ok {
		return nil, false
	}
	addr, err := dialAddress(x.Upstream)
	if err != nil {
		return nil, false
	}
	info := reverseproxy.DialInfo{Network: addr.Network, Host: addr.Host, Port: fmt.Sprint(addr.StartPort)}
	switch part {
	case "address":
		return info.String(), true
	case "hostport":
		return addr.JoinHostPort(0), true
	case "host":
		return addr.Host, true
	case "port":
		return info.Port, true
	}
	return nil, false
}

// failure makes front's Error where the site answers for errors itself
// (handle_errors).
func failure(ctx caddy.Context) func(int, error) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Errors == nil || len(server.Errors.Routes) == 0 {
		return nil
	}
	return func(status int, err error) error { return caddyhttp.Error(status, err) }
}
