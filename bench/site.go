package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// binaries are both halves, built for one call of bench.
type binaries struct {
	caddy  string
	webapp string
}

// build compiles both halves into dir as they are released: static, and Caddy
// with xcaddy's tags.
func build(ctx context.Context, root, dir string) (binaries, error) {
	b := binaries{caddy: filepath.Join(dir, "caddy"), webapp: filepath.Join(dir, "webapp")}
	err := errors.Join(
		goBuild(ctx, root, "-tags=nobadger,nomysql,nopgx", "-o", b.caddy, "./cmd/caddy"),
		goBuild(ctx, root, "-o", b.webapp, "./webapp"))
	return b, err
}

func goBuild(ctx context.Context, root string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-ldflags=-s -w"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, bytes.TrimSpace(out))
	}
	return nil
}

// moduleRoot is the folder of go.mod, from wherever inside it bench is run.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	gomod := strings.TrimSpace(string(out))
	if gomod == "" || gomod == os.DevNull {
		return "", errors.New("run this inside the repository: go run ./bench")
	}
	return filepath.Dir(gomod), nil
}

// A site is the application with Caddy in front of it, on free ports of the
// loopback interface, with an empty database.
type site struct {
	url    string
	roots  *x509.CertPool // Caddy's own CA; nil without TLS
	caddy  *process
	webapp *process
}

// startSite starts both with the given Caddyfile, which takes its addresses from
// the environment. dir is the site's own; secure means HTTPS.
func startSite(ctx context.Context, b binaries, caddyfile, dir string, secure bool) (_ *site, err error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s := &site{url: "http://localhost:" + ports[0]}
	if secure {
		s.url = "https://localhost:" + ports[0]
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()

	upstream := "127.0.0.1:" + ports[2]
	s.webapp, err = startProcess(dir, "webapp", nil, b.webapp, "-listen", upstream, "-db", filepath.Join(dir, "news.db"))
	if err != nil {
		return nil, err
	}
	if err := s.webapp.await(ctx, func() error { return alive(&http.Client{}, "http://"+upstream) }); err != nil {
		return nil, err
	}
	s.caddy, err = startProcess(dir, "caddy", []string{
		"SITE_ADDRESS=" + s.url,
		"HTTP_PORT=" + ports[1],
		"UPSTREAM=" + upstream,
		"UPSTREAM_BY=address",
		"CADDY_ADMIN=unix/" + filepath.Join(dir, "admin.sock"),
		"XDG_DATA_HOME=" + dir,
		"XDG_CONFIG_HOME=" + dir,
	}, b.caddy, "run", "--config", caddyfile, "--adapter", "caddyfile")
	if err != nil {
		return nil, err
	}
	return s, s.caddy.await(ctx, func() error { return s.answers(dir, secure) })
}

func (s *site) answers(dir string, secure bool) error {
	if secure && s.roots == nil {
		pem, err := os.ReadFile(filepath.Join(dir, "caddy", "pki", "authorities", "local", "root.crt"))
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return errors.New("the CA's file is not complete yet")
		}
		s.roots = roots
	}
	return alive(s.client(2*time.Second), s.url)
}

// client is an ordinary one, for looking at the site; it keeps connections.
func (s *site) client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}},
	}
}

// stop ends Caddy first: it still owes answers that come from the application.
func (s *site) stop() error {
	return errors.Join(s.caddy.stop(), s.webapp.stop())
}

func alive(client *http.Client, url string) error {
	defer client.CloseIdleConnections()
	status, body, err := get(client, url+"/status")
	if err == nil && (status != http.StatusOK || string(body) != "Alive") {
		err = fmt.Errorf("%s/status says %d %q", url, status, body)
	}
	return err
}

func get(client *http.Client, url string) (status int, body []byte, err error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// freePorts asks for all of them before it gives one back, so that they differ.
func freePorts(n int) ([]string, error) {
	ports := make([]string, n)
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		_, ports[i], _ = net.SplitHostPort(ln.Addr().String())
	}
	return ports, nil
}
