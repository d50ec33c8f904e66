package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A journalSite is the application with a door before it that keeps its writes.
// Both may end in any way and begin again, and find what they left.
type journalSite struct {
	site          // with caddy and webapp; nil: it does not run
	b             binaries
	dir           string
	proxy, app    string // addresses
	plain         string // of a second door that keeps nothing, before the same application
	caddyfile, db string
	upstream      string       // where the door sends to
	inside        *http.Client // speaks with Caddy's admin endpoint
}

// journalConfig is the repository's site without TLS: what is measured is the
// journal.
const journalConfig = `{
	admin unix/%s
	persist_config off
	grace_period 2s
}
http://%s {
	app_proxy %s {
		name news
		concurrency 32
		route POST /post {
			journal {
				answer_within 50ms
				respond 200
				per_client off
				%s
			}
		}
		route GET /status {
			respond_status
		}
	}
}
http://%s {
	app_proxy %s {
		name plain
		concurrency 32
	}
}
`

// newJournalSite writes the configuration; nothing runs yet. behind is where the
// door finds the application, when that is not the application's own address.
func newJournalSite(b binaries, dir, behind, options string) (*journalSite, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s := &journalSite{b: b, dir: dir, db: filepath.Join(dir, "news.db"), caddyfile: filepath.Join(dir, "Caddyfile"),
		proxy: "127.0.0.1:" + ports[0], app: "127.0.0.1:" + ports[1], plain: "127.0.0.1:" + ports[2]}
	s.url = "http://" + s.proxy
	s.upstream = cmp.Or(behind, s.app)
	socket := filepath.Join(dir, "admin.sock")
	s.inside = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}}}
	text := fmt.Sprintf(journalConfig, socket, s.proxy, s.upstream, options, s.plain, s.upstream)
	return s, os.WriteFile(s.caddyfile, []byte(text), 0o600)
}

func (s *journalSite) startApp(ctx context.Context) (err error) {
	s.webapp, err = startProcess(s.dir, "webapp", nil, s.b.webapp, "-listen", s.app, "-db", s.db)
	if err != nil {
		return err
	}
	return s.webapp.await(ctx, func() error { return alive(&http.Client{Timeout: 2 * time.Second}, "http://"+s.app) })
}

func (s *journalSite) killApp() error {
	err := s.webapp.kill()
	s.webapp = nil
	return err
}

func (s *journalSite) stopApp() error {
	err := s.webapp.stop()
	s.webapp = nil
	return err
}

// startProxy returns when the door answers.
func (s *journalSite) startProxy(ctx context.Context) (err error) {
	s.caddy, err = startProcess(s.dir, "caddy", []string{"XDG_DATA_HOME=" + s.dir, "XDG_CONFIG_HOME=" + s.dir},
		s.b.caddy, "run", "--config", s.caddyfile, "--adapter", "caddyfile")
	if err != nil {
		return err
	}
	return s.caddy.await(ctx, func() error {
		client := s.client(2 * time.Second)
		defer client.CloseIdleConnections()
		status, text, err := get(client, s.url+"/status")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/status says %d %s", status, text)
		}
		return err
	})
}

func (s *journalSite) killProxy() error {
	err := s.caddy.kill()
	s.caddy = nil
	return err
}

// metric is a number of the journal's, from the proxy's own metrics.
func (s *journalSite) metric(name string) (float64, error) {
	status, text, err := get(s.inside, "http://inside/metrics")
	if err != nil || status != http.StatusOK {
		return 0, cmp.Or(err, fmt.Errorf("/metrics says %d", status))
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), name+`{pool="news"} `); found {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", name)
}

var errUndelivered = errors.New("entries are not delivered")

// drain waits until the journal has nothing to deliver, and says how long it took.
func (s *journalSite) drain(ctx context.Context, most time.Duration) (time.Duration, error) {
	start := time.Now()
	for {
		depth, err := s.metric("portner_journal_depth")
		switch took := time.Since(start); {
		case err == nil && depth == 0:
			return took, nil
		case took > most || ctx.Err() != nil:
			return took, cmp.Or(err, fmt.Errorf("%w: %.0f after %v", errUndelivered, depth, took.Round(time.Second)))
		}
		wait(ctx, min(5*time.Millisecond+time.Since(start)/20, 200*time.Millisecond)) // to ask costs the proxy something
	}
}

// resident is how much memory a process has, in MiB: all of it, and what is its
// own, without pages of files.
func resident(p *process) (all, own float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		var kib float64
		fmt.Sscan(value, &kib)
		switch name {
		case "VmRSS":
			all = kib / 1024
		case "RssAnon":
			own = kib / 1024
		}
	}
	return all, own, nil
}
