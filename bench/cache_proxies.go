package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
)

func cpus() int { return runtime.NumCPU() }

// keepers are the caches that are compared, and Caddy's own respond, which has
// the same bytes without looking for them: no cache in Caddy can cost less.
var keepers = []contender{
	{"portner", "app_proxy with cache 16MiB", "", func(p post) string {
		return caddyPost(p, fmt.Sprintf("app_proxy %s {\n\t\tconcurrency 128\n\t\tcache 16MiB\n\t}", p.app))
	}, caddyArgs},
	{"nginx", "proxy_cache, lock on, 16m", "nginx", nginxKeeper, nginxArgs},
	{"varnish", "malloc,16m", "varnishd", varnishKeeper, varnishArgs},
	{"respond", "Caddy's respond, the same binary", "", func(p post) string {
		body := strings.Repeat("portner ", atoi(p.words)/8)
		return caddyPost(p, fmt.Sprintf("handle /status {\n\t\trespond Alive\n\t}\n\thandle {\n\t\theader {\n\t\t\tCache-Control max-age=600\n\t\t\tContent-Length %d\n\t\t}\n\t\trespond %q\n\t}", len(body), body))
	}, caddyArgs},
}

func atoi(text string) (n int) {
	fmt.Sscan(text, &n) // it is ours
	return n
}

func nginxArgs(file string) []string {
	return []string{"-e", "stderr", "-p", file[:strings.LastIndexByte(file, '/')], "-c", file}
}

func nginxKeeper(p post) string {
	text := nginxPost(p)
	text = strings.Replace(text, "\tupstream app {", fmt.Sprintf("\tproxy_cache_path %s/kept keys_zone=kept:16m max_size=16m inactive=1h use_temp_path=off manager_files=10000 manager_sleep=50ms;\n\tupstream app {", p.dir), 1)
	return strings.Replace(text, "\t\t\tproxy_pass http://app;", `			proxy_cache kept;
			proxy_cache_lock on;
			proxy_cache_lock_timeout 30s;
			proxy_cache_lock_age 30s;
			proxy_pass http://app;`, 1)
}

// varnishKeeper is Varnish as it comes. Its waiting list is the lock of nginx; the
// first line of the file is for varnishArgs.
func varnishKeeper(p post) string {
	host, port, _ := strings.Cut(p.app, ":")
	return fmt.Sprintf("# %s\nvcl 4.1;\nbackend app {\n\t.host = %q;\n\t.port = %q;\n}\n", p.plain, host, port)
}

// varnishArgs leave the jail out, which wants users that tests do not have.
func varnishArgs(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // it was written just now; varnishd says what is wrong
	}
	address, _, _ := strings.Cut(strings.TrimPrefix(string(text), "# "), "\n")
	dir := filepath.Dir(file)
	return []string{"-j", "none", "-F", "-f", file, "-a", address, "-n", filepath.Join(dir, "varnish"), "-s", "malloc,16m"}
}

// cacheApp has a page for every path, counts how often it is asked, and says that
// its pages may be kept.
type cacheApp struct {
	http.Server
	asked atomic.Int64
}

func newCacheApp(address string, s cacheScene) (*cacheApp, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	a := new(cacheApp)
	page := []byte(strings.Repeat("portner ", s.bytes/8))
	a.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			fmt.Fprint(w, "Alive")
			return
		}
		a.asked.Add(1)
		if s.herd > 0 {
			time.Sleep(herdLatency)
		}
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Content-Length", fmt.Sprint(len(page)))
		w.Write(page)
	})
	go a.Serve(ln) // ends with Close
	return a, nil
}

// A pageCaller asks for pages on one kept connection. It is used by one goroutine.
type pageCaller struct {
	net.Conn
	answers *bufio.Reader
	head    string
	request []byte
	body    int
}

func newPageCaller(ctx context.Context, address string, body int) (*pageCaller, error) {
	dialer := net.Dialer{Timeout: answerTime}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &pageCaller{conn, bufio.NewReaderSize(conn, 16<<10), " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: portner-bench\r\nAccept: */*\r\n\r\n", nil, body}, nil
}

func (c *pageCaller) ask(path string) error {
	c.SetDeadline(time.Now().Add(answerTime)) // an error shows in what follows
	c.request = append(append(append(c.request[:0], "GET /"...), path...), c.head...)
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	head, err := readHead(c.answers)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	status, length, err := parseHead(bytes.Clone(head))
	if err != nil {
		return err
	}
	if status != http.StatusOK || length != c.body {
		return fmt.Errorf("a wrong answer: status %d and %d bytes, not 200 and %d", status, length, c.body)
	}
	if _, err := c.answers.Discard(len(head) + length); err != nil {
		return fmt.Errorf("half an answer: %w", err)
	}
	return nil
}
