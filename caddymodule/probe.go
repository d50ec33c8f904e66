package caddymodule

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/portner/portner/caddymodule/internal/front"
)

// probe is an active health check with the meaning that the health_* words have
// for reverse_proxy. It is ours because it takes a slot like every request.
type probe struct {
	front     *front.Front
	cfg       *reverseproxy.ActiveHealthChecks
	uri       *url.URL
	body      *regexp.Regexp // nil: any
	client    *http.Client
	transport http.RoundTripper
	timeout   time.Duration
}

// probeTimeout is the default of health_timeout.
const probeTimeout = 5 * time.Second

func newProbe(f *front.Front, cfg *reverseproxy.ActiveHealthChecks, transport http.RoundTripper) (*probe, error) {
	uri := cfg.URI
	if uri == "" {
		uri = cfg.Path //lint:ignore SA1019 health_path still means it
	}
	p := &probe{front: f, cfg: cfg, transport: transport, timeout: time.Duration(cfg.Timeout)}
	if p.timeout <= 0 {
		p.timeout = probeTimeout
	}
	var err error
	if p.uri, err = url.Parse(uri); err != nil {
		return nil, fmt.Errorf("app_proxy: health_uri: %w", err)
	}
	if cfg.ExpectBody != "" {
		if p.body, err = regexp.Compile(cfg.ExpectBody); err != nil {
			return nil, fmt.Errorf("app_proxy: health_body: %w", err)
		}
	}
	p.client = &http.Client{Transport: claiming{f.RoundTripper(transport)}}
	if !cfg.FollowRedirects {
		p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return p, nil
}

// probeBodyMax is how much of an answer is looked at where health_body asks for
// something and nothing else bounds it.
const probeBodyMax = 1 << 20

// claiming takes a slot for every request of a probe: a redirect makes more.
type claiming struct{ http.RoundTripper }

func (c claiming) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, ok := front.Claim(r.Context()); !ok {
		return nil, r.Context().Err()
	}
	return c.RoundTripper.RoundTrip(r)
}

// check asks the upstream once. nil: it is well.
func (p *probe) check(ctx context.Context, key string) error {
	return p.front.Probe(ctx, key, p.timeout, func(ctx context.Context) error { return p.ask(ctx, key) })
}

func (p *probe) ask(ctx context.Context, key string) error {
	req, err := p.request(ctx, key)
	if err != nil {
		return err
	}
	res, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	limit := p.cfg.MaxSize
	if limit <= 0 {
		limit = probeBodyMax
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, limit))
	switch {
	case err != nil:
		return fmt.Errorf("reading the answer: %w", err)
	case p.cfg.ExpectStatus > 0 && !caddyhttp.StatusCodeMatches(res.StatusCode, p.cfg.ExpectStatus):
		return fmt.Errorf("status %d, expected %d", res.StatusCode, p.cfg.ExpectStatus)
	case p.cfg.ExpectStatus == 0 && res.StatusCode/100 != 2:
		return fmt.Errorf("status %d, expected 2xx", res.StatusCode)
	case p.body != nil && !p.body.Match(text):
		return fmt.Errorf("the body does not match %s", p.body)
	}
	return nil
}

func (p *probe) request(ctx context.Context, key string) (*http.Request, error) {
	addr, err := dialAddress(key)
	if err != nil {
		return nil, fmt.Errorf("health check of %s: %w", key, err)
	}
	u, info := probeURL(addr, p.cfg, p.transport)
	if p.cfg.Upstream != "" {
		other, err := dialAddress(p.cfg.Upstream)
		if err != nil {
			return nil, fmt.Errorf("health_upstream: %w", err)
		}
		info = reverseproxy.DialInfo{Network: other.Network, Address: other.JoinHostPort(0), Host: other.Host}
	}
	u.Path, u.RawQuery = p.uri.Path, p.uri.RawQuery

	repl := caddy.NewReplacer()
	repl.Set("http.reverse_proxy.active.target_upstream", key)
	var body io.Reader
	if p.cfg.Body != "" {
		body = strings.NewReader(repl.ReplaceKnown(p.cfg.Body, ""))
	}
	method := p.cfg.Method
	if method == "" {
		method = http.MethodGet
	}
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, repl)
	ctx = context.WithValue(ctx, dialInfoKey, info)
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, make(map[string]any))
	ctx = context.WithValue(ctx, caddyhttp.ServerCtxKey, new(caddyhttp.Server)) // FastCGI asks it what to log
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("health check of %s: %w", key, err)
	}
	req = req.WithContext(context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, *req))
	for name, values := range p.cfg.Headers {
		name = http.CanonicalHeaderKey(repl.ReplaceAll(name, ""))
		for _, value := range values {
			value = repl.ReplaceKnown(value, "")
			if name == "Host" {
				req.Host = value
				continue
			}
			req.Header.Add(name, value)
		}
	}
	return req, nil
}
