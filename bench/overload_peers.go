package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A peer stands between clients and the application. All of them are as they
// come, except that they write no access log (Portner and Caddy do not by
// themselves), so that the disk is not measured.
type peer struct {
	name    string
	about   string
	program string // looked up in PATH; empty is the lab's Caddy
	config  func(s setup) string
	args    func(file string) []string
}

// A setup is what a peer's configuration depends on.
type setup struct {
	dir   string // its own
	front string // where it listens
	app   string // where the application listens
	limit int    // requests at once that the application can take; 0 lets Portner find out
	words string // more lines for Portner's app_proxy
}

func (p peer) called() string { return p.name }

const direct = "direct" // the peer that is none

var peers = []peer{
	{name: direct, about: "no proxy"},
	{name: "portner", about: "app_proxy with concurrency n", config: portnerConfig, args: caddyArgs},
	{name: "nginx", about: "proxy_pass", program: "nginx", config: nginxConfig,
		args: func(file string) []string { return []string{"-e", "stderr", "-p", filepath.Dir(file), "-c", file} }},
	{name: "haproxy", about: "no maxconn", program: "haproxy", config: haproxyConfig, args: haproxyArgs},
	{name: "haproxy-tuned", about: "maxconn n, timeout queue 800ms, abortonclose", program: "haproxy", config: haproxyTunedConfig, args: haproxyArgs},
	{name: "caddy", about: "reverse_proxy", config: stockCaddyConfig, args: caddyArgs},
}

func caddyArgs(file string) []string {
	return []string{"run", "--config", file, "--adapter", "caddyfile"}
}

func haproxyArgs(file string) []string { return []string{"-db", "-f", file} }

const caddyGlobals = `{
	admin off
	persist_config off
	auto_https off
	log {
		level WARN
	}
}
`

func portnerConfig(s setup) string {
	var words strings.Builder
	if s.limit > 0 {
		fmt.Fprintf(&words, "\t\tconcurrency %d\n", s.limit)
	}
	if s.words != "" {
		fmt.Fprintf(&words, "\t\t%s\n", strings.ReplaceAll(s.words, "\n", "\n\t\t"))
	}
	return fmt.Sprintf("%shttp://%s {\n\tapp_proxy %s {\n\t\tname lab\n%s\t}\n}\n", caddyGlobals, s.front, s.app, words.String())
}

func stockCaddyConfig(s setup) string {
	return fmt.Sprintf("%shttp://%s {\n\treverse_proxy %s\n}\n", caddyGlobals, s.front, s.app)
}

func nginxConfig(s setup) string {
	return fmt.Sprintf(`daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid %[1]s/nginx.pid;
events {
	worker_connections 16000;
}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		location / {
			proxy_pass http://%[3]s;
		}
	}
}
`, s.dir, s.front, s.app)
}

const haproxyDefaults = `defaults
	mode http
	timeout connect 5s
	timeout client 60s
	timeout server 60s
`

func haproxyConfig(s setup) string {
	return fmt.Sprintf("%slisten lab\n\tbind %s\n\tserver app %s\n", haproxyDefaults, s.front, s.app)
}

// haproxyTunedConfig is what its manual advises for a small application: the
// queue is in front of it, and shorter than the patience of the clients.
func haproxyTunedConfig(s setup) string {
	return fmt.Sprintf("%s\ttimeout queue 800ms\n\toption abortonclose\nlisten lab\n\tbind %s\n\tserver app %s maxconn %d\n",
		haproxyDefaults, s.front, s.app, max(s.limit, 1))
}

// missing says why a peer cannot be measured, or nothing.
func (p peer) missing() string {
	if p.program == "" {
		return ""
	}
	if _, err := exec.LookPath(p.program); err != nil {
		return p.program + " is not installed"
	}
	return ""
}

// start puts the peer before the application of a stage.
func (p peer) start(ctx context.Context, l *lab, s *stage, conf setup) (err error) {
	file := filepath.Join(conf.dir, p.name+".conf")
	if err := os.WriteFile(file, []byte(p.config(conf)), 0o644); err != nil {
		return err
	}
	env := []string{"XDG_DATA_HOME=" + conf.dir, "XDG_CONFIG_HOME=" + conf.dir}
	s.peer, err = l.startOn(l.front, conf.dir, p.name, env, cmp.Or(p.program, l.caddy), p.args(file)...)
	if err != nil {
		return err
	}
	return s.peer.await(ctx, func() error { return alive(localClient, "http://"+conf.front) })
}
