package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A contender is a proxy whose cost is measured. All of them are as they come,
// write no access log, and keep their connections to the clients and to the
// application: nginx has to be told to, as every guide to it does.
type contender struct {
	name    string
	about   string
	program string // looked up in PATH; empty is the lab's Caddy
	config  func(p post) string
	args    func(file string) []string
}

func (c contender) called() string { return c.name }

// A post is what a contender's configuration depends on.
type post struct {
	dir           string // its own, which has the certificate as cert.pem, key.pem and both.pem
	plain, secure string // where it listens
	admin         string // where Caddy's metrics are; the others have none
	app           string // where the application listens
	cores         int
	sizes         []int  // of the answers, in KiB
	words         string // more lines for Portner's app_proxy
}

var proxies = []contender{
	{"portner", "app_proxy, concurrency 128", "", portnerPost, caddyArgs},
	{"nginx", "proxy_pass, keepalive 128", "nginx", nginxPost,
		func(file string) []string { return []string{"-e", "stderr", "-p", filepath.Dir(file), "-c", file} }},
	{"haproxy", "as it comes", "haproxy", haproxyPost, haproxyArgs},
	{"caddy", "reverse_proxy, the same binary", "", stockCaddyPost, caddyArgs},
	// No proxy, but what no handler of Caddy's can cost less than.
	{"respond", "Caddy's respond, the same binary: the answer is its own", "", respondPost, caddyArgs},
}

// missing says why a contender cannot be measured, or nothing.
func (c contender) missing() string {
	if c.program == "" {
		return ""
	}
	if _, err := exec.LookPath(c.program); err != nil {
		return c.program + " is not installed"
	}
	return ""
}

func portnerPost(p post) string {
	words := "concurrency 128"
	if p.words != "" {
		words += "\n\t\t" + strings.ReplaceAll(p.words, "\n", "\n\t\t")
	}
	return caddyPost(p, fmt.Sprintf("app_proxy %s {\n\t\t%s\n\t}", p.app, words))
}

func stockCaddyPost(p post) string { return caddyPost(p, "reverse_proxy "+p.app) }

func respondPost(p post) string {
	words := "respond /status Alive"
	for _, kib := range p.sizes {
		words += fmt.Sprintf("\n\trespond /%d %q", kib<<10, strings.Repeat("portner ", kib<<10/8))
	}
	return caddyPost(p, words)
}

func caddyPost(p post, directive string) string {
	return fmt.Sprintf(`{
	admin %[1]s
	persist_config off
	auto_https off
	log {
		level WARN
	}
}
http://%[2]s {
	%[5]s
}
https://%[3]s {
	tls %[4]s/cert.pem %[4]s/key.pem
	%[5]s
}
`, p.admin, p.plain, p.secure, p.dir, directive)
}

func nginxPost(p post) string {
	return fmt.Sprintf(`daemon off;
worker_processes %[5]d;
pid %[1]s/nginx.pid;
events {
	worker_connections 4096;
}
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	upstream app {
		server %[4]s;
		keepalive 128;
		keepalive_requests 1000000000;
	}
	server {
		listen %[2]s;
		listen %[3]s ssl http2;
		ssl_certificate %[1]s/cert.pem;
		ssl_certificate_key %[1]s/key.pem;
		location / {
			proxy_pass http://app;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
		}
	}
}
`, p.dir, p.plain, p.secure, p.app, p.cores)
}

func haproxyPost(p post) string {
	return fmt.Sprintf(`global
	nbthread %d
%slisten lab
	bind %s
	bind %s ssl crt %s/both.pem alpn h2,http/1.1
	server app %s
`, p.cores, haproxyDefaults, p.plain, p.secure, p.dir, p.app)
}

// A runner is a contender that runs.
type runner struct {
	contender
	post
	process *process
}

// start runs the contender on the given cores.
func (c contender) start(t *track, cores string, p post) (*runner, error) {
	file := filepath.Join(p.dir, c.name+".conf")
	if err := os.WriteFile(file, []byte(c.config(p)), 0o644); err != nil {
		return nil, err
	}
	env := []string{"XDG_DATA_HOME=" + p.dir, "XDG_CONFIG_HOME=" + p.dir}
	path, args := t.pin(cores, cmp.Or(c.program, t.caddy), c.args(file)...)
	started, err := startProcess(p.dir, c.name, env, path, args...)
	return &runner{c, p, started}, err
}

// address is where a protocol is spoken.
func (r *runner) address(p protocol) string {
	if p.secure {
		return r.secure
	}
	return r.plain
}

// metrics is where the runner counts its allocations, or nothing.
func (r *runner) metrics() string {
	if r.program != "" {
		return ""
	}
	return "http://" + r.admin + "/metrics"
}
