package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/portner/portner/caddymodule"
)

var update = flag.Bool("update", false, "write the golden files anew")

// adapt turns a Caddyfile into JSON, as `caddy adapt` does.
func adapt(name, text string) (config []byte, warnings []string, err error) {
	config, list, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": name})
	for _, w := range list {
		warnings = append(warnings, w.String())
	}
	return config, warnings, err
}

// TestCaddyfileIsAdaptedAsWritten compares each testdata/*.caddyfile with the
// JSON beside it, and its warnings with those beside it.
func TestCaddyfileIsAdaptedAsWritten(t *testing.T) {
	files, err := filepath.Glob("testdata/*.caddyfile")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".caddyfile")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			config, warnings, err := adapt(filepath.Base(file), string(text))
			if err != nil {
				t.Fatal(err)
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, config, "", "\t"); err != nil {
				t.Fatal(err)
			}
			pretty.WriteByte('\n')
			golden(t, "testdata/"+name+".json", pretty.String())
			var said strings.Builder
			for _, w := range warnings {
				fmt.Fprintln(&said, w)
			}
			golden(t, "testdata/"+name+".warnings", said.String())
			validate(t, config)
		})
	}
}

// golden compares text with a file; a file that is not there is empty.
func golden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if text == "" {
			os.Remove(file)
		} else if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s: go test -update writes it anew\ngot:\n%s\nwant:\n%s", file, text, want)
	}
}

// validate does what `caddy validate` does.
func validate(t *testing.T, config []byte) {
	t.Helper()
	var cfg caddy.Config
	if err := json.Unmarshal(config, &cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Logging = quiet
	if err := caddy.Validate(&cfg); err != nil {
		t.Errorf("it is adapted, and refused afterwards: %v", err)
	}
}

var quiet = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}}}}

func TestValidateHasNoEffect(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {})
	config := func(concurrency int) string {
		return fmt.Sprintf("app_proxy %s {\n name untouched\n concurrency %d\n health_uri /health\n health_interval 1ms\n}", a.addr, concurrency)
	}
	validate(t, (&door{t: t, addr: freeAddr(t)}).config(config(3)))
	if _, ok := caddymodule.PoolStatus("untouched"); ok {
		t.Error("a pool is left")
	}
	if n := a.served.Load(); n != 0 {
		t.Errorf("the application saw %d requests", n)
	}

	d := open(t, strings.Replace(config(3), "health_uri /health", "", 1))
	validate(t, d.config(config(7)))
	if got := poolOf(t, "untouched").Limits; !slices.Equal(got, []int{3}) {
		t.Errorf("the limits of the running pool became %v", got)
	}
	if n := a.served.Load(); n != 0 {
		t.Errorf("the application saw %d requests", n)
	}
}

// site is a Caddyfile with the lines in the block of an app_proxy.
func site(lines string) string {
	return fmt.Sprintf("http://localhost:1 {\n\tapp_proxy 127.0.0.1:2 {\n%s\n\t}\n}\n", lines)
}

func TestWrongWordsSayWhereAndWhatWasExpected(t *testing.T) {
	const ours = "expected buffer, cache, class, concurrency, deadline_header, direct, hold, journal_dir, name, queue, route, sendfile_root, server_timing, timeouts, or a word of reverse_proxy"
	for _, c := range []struct{ lines, want string }{
		{"nmae x", "app_proxy: unrecognized subdirective nmae, at Caddyfile:3; " + ours},
		{"name", "app_proxy: name: expected a name for the pool, at Caddyfile:3"},
		{`name ""`, "app_proxy: name: expected a name for the pool, at Caddyfile:3"},
		{"name a b", "app_proxy: name: unexpected 'b', at Caddyfile:3"},
		{"name a\nname b", "app_proxy: name is said twice, at Caddyfile:4"},
		{"concurrency", "app_proxy: concurrency: expected a number, or auto, at Caddyfile:3"},
		{"concurrency 0", "app_proxy: concurrency: expected a whole number of at least 1, or auto, got '0', at Caddyfile:3"},
		{"concurrency -1", "app_proxy: concurrency: expected a whole number of at least 1, or auto, got '-1', at Caddyfile:3"},
		{"concurrency 1.5", "app_proxy: concurrency: expected a whole number of at least 1, or auto, got '1.5', at Caddyfile:3"},
		{"concurrency many", "app_proxy: concurrency: expected a whole number of at least 1, or auto, got 'many', at Caddyfile:3"},
		{"concurrency 99999999999999999999", "app_proxy: concurrency: expected a whole number of at least 1, or auto, got '99999999999999999999', at Caddyfile:3"},
		{"concurrency 1 2", "app_proxy: concurrency: unexpected '2', at Caddyfile:3"},
		{"hold", "app_proxy: hold: expected a duration, such as 5s, at Caddyfile:3"},
		{"hold 5", "app_proxy: hold: expected a duration, such as 5s, got '5', at Caddyfile:3"},
		{"hold -5s", "app_proxy: hold: expected a duration, such as 5s, got '-5s', at Caddyfile:3"},
		{"hold soon", "app_proxy: hold: expected a duration, such as 5s, got 'soon', at Caddyfile:3"},
		{"queue", "app_proxy: queue: expected a block { … } with depth, fair_by, wait, at Caddyfile:3"},
		{"queue 5s", "app_proxy: queue: expected a block { … }, got '5s', at Caddyfile:3"},
		{"queue {\n}", "app_proxy: queue: expected a block { … } with depth, fair_by, wait, at Caddyfile:4"},
		{"queue {\n length 5\n}", "app_proxy: queue: unknown word 'length'; expected depth, fair_by, wait, at Caddyfile:4"},
		{"queue {\n wait\n}", "app_proxy: queue wait: expected a duration, such as 5s, at Caddyfile:4"},
		{"queue {\n wait 5x\n}", "app_proxy: queue wait: expected a duration, such as 5s, got '5x', at Caddyfile:4"},
		{"queue {\n wait 5s 6s\n}", "app_proxy: queue wait: unexpected '6s', at Caddyfile:4"},
		{"queue {\n wait 5s {\n }\n}", "app_proxy: queue: unknown word '{'; expected depth, fair_by, wait, at Caddyfile:4"},
		{"queue {\n wait 5s\n wait 6s\n}", "app_proxy: queue: wait is said twice, at Caddyfile:5"},
		{"queue {\n depth 0\n}", "app_proxy: queue depth: expected a whole number of at least 1, got '0', at Caddyfile:4"},
		{"queue {\n wait 5s\n}\nqueue {\n depth 5\n}", "app_proxy: queue is said twice, at Caddyfile:6"},
		{"buffer", "app_proxy: buffer: expected a block { … } with min_rate, request, response, at Caddyfile:3"},
		{"buffer {\n answer 1MiB\n}", "app_proxy: buffer: unknown word 'answer'; expected min_rate, request, response, at Caddyfile:4"},
		{"buffer {\n response 2GiB\n}", "app_proxy: buffer response: 2147483648 bytes in memory of at most 1073741824 make no sense, at Caddyfile:2"},
		{"buffer {\n min_rate\n}", "app_proxy: buffer min_rate: expected bytes a second and a duration, such as 500B 20s, or off, got 0 arguments, at Caddyfile:4"},
		{"buffer {\n min_rate fast\n}", "app_proxy: buffer min_rate: expected a size, such as 64KiB, got 'fast', at Caddyfile:4"},
		{"buffer {\n min_rate 1KiB 0s\n}", "app_proxy: buffer min_rate: expected a duration, such as 20s, got '0s', at Caddyfile:4"},
		{"buffer {\n request\n}", "app_proxy: buffer request: expected <memory> [<max>|unlimited], such as 64KiB 10MiB, got 0 arguments, at Caddyfile:4"},
		{"buffer {\n request 1 2 3\n}", "app_proxy: buffer request: expected <memory> [<max>|unlimited], such as 64KiB 10MiB, got 3 arguments, at Caddyfile:4"},
		{"buffer {\n request much\n}", "app_proxy: buffer request: expected a size, such as 64KiB, got 'much', at Caddyfile:4"},
		{"buffer {\n request 0\n}", "app_proxy: buffer request: expected a size, such as 64KiB, got '0', at Caddyfile:4"},
		{"buffer {\n request 1KiB 1EiB\n}", "app_proxy: buffer request: expected a size, such as 64KiB, got '1EiB', at Caddyfile:4"},
		{"buffer {\n request 2KiB 1KiB\n}", "app_proxy: buffer request: the maximum 1KiB is smaller than the memory 2KiB, at Caddyfile:4"},
		{"buffer {\n request 20MiB\n}", "app_proxy: buffer request: 20971520 bytes in memory of at most 10485760 make no sense, at Caddyfile:2"},
		{"cache much", "app_proxy: cache: expected a size, such as 64KiB, got 'much', at Caddyfile:3"},
		{"cache 1MiB 2MiB", "app_proxy: cache: unexpected '2MiB', at Caddyfile:3"},
		{"cache\ncache 1MiB", "app_proxy: cache is said twice, at Caddyfile:4"},
		{"cache {\n ttl 1s\n}", "app_proxy: cache: unknown word 'ttl'; expected compress, disk, heuristic, object, stale, at Caddyfile:4"},
		{"cache {\n stale 0\n}", "app_proxy: cache stale: must be longer than 0, at Caddyfile:4"},
		{"cache {\n compress gzip\n}", "app_proxy: cache compress: expected on or off, at Caddyfile:4"},
		{"cache {\n disk\n}", "app_proxy: cache disk: expected a size, such as 1GiB, and perhaps a folder, at Caddyfile:4"},
		{"cache {\n disk /tmp\n}", "app_proxy: cache disk: expected a size, such as 64KiB, got '/tmp', at Caddyfile:4"},
		{"cache {\n disk 1KiB\n}", "app_proxy: cache disk: expected at least 1048576 bytes, got 1024, at Caddyfile:4"},
		{"cache {\n disk 1MiB a b\n}", "app_proxy: cache disk: unexpected 'b', at Caddyfile:4"},
		{"cache 1MiB {\n object 2MiB\n}", "app_proxy: cache object: must not be larger than the cache, at Caddyfile:5"},
		{"route GET /a {\n cache\n}", "app_proxy: route cache: expected a duration, such as 2s, or off, at Caddyfile:4"},
		{"route GET /a {\n cache 0\n}", "app_proxy: route cache: must be longer than 0, at Caddyfile:4"},
		{"route GET /a {\n cache 1s 2s\n}", "app_proxy: route cache: unexpected '2s', at Caddyfile:4"},
		{"route GET /a {\n cache off 2s\n}", "app_proxy: route cache: unexpected '2s', at Caddyfile:4"},
		{"cache\nmethod POST", "app_proxy: cache does not work beside handle_response and method: what is kept must be the application's answer to what was asked, at Caddyfile:2"},
		{"journal_dir", "app_proxy: journal_dir: expected a folder, at Caddyfile:3"},
		{"journal_dir /a", "app_proxy: journal_dir: no route has a journal, at Caddyfile:2"},
		{"route POST /a {\n journal\n}", "app_proxy: route POST /a: journal: the pool needs a name: expected a line such as: name news; what is kept on disk is found by it, at Caddyfile:2"},
		{"name a\nroute GET /a {\n journal\n}", "app_proxy: route GET /a: journal: expected a method that writes, such as POST; GET writes nothing, at Caddyfile:2"},
		{"name a\nroute POST /a {\n journal on\n}", "app_proxy: journal: unexpected 'on', at Caddyfile:5"},
		{"name a\nroute POST /a {\n journal {\n wait 1s\n }\n}", "app_proxy: journal: unknown word 'wait'; expected always, answer_within, keep_answers, lane, max_age, max_bytes, omit_headers, per_client, respond, at Caddyfile:6"},
		{"name a\nroute POST /a {\n journal {\n respond 404\n }\n}", "app_proxy: journal respond: expected a status from 200 to 299, got '404', at Caddyfile:6"},
		{"name a\nroute POST /a {\n journal {\n lane all\n }\n}", "app_proxy: journal lane: expected a placeholder, such as {http.request.header.X-Account}, at Caddyfile:6"},
		{"name a\nroute POST /a {\n journal {\n max_age 0\n }\n}", "app_proxy: journal max_age: must be longer than 0, at Caddyfile:6"},
		{"name a\nroute POST /a {\n journal {\n max_bytes much\n }\n}", "app_proxy: journal max_bytes: expected a size, such as 64KiB, got 'much', at Caddyfile:6"},
		{"name a\nroute POST /a {\n journal {\n per_client 5\n }\n}", "app_proxy: journal per_client: expected on or off, at Caddyfile:6"},
		{"name a\nroute POST /a {\n journal {\n omit_headers\n }\n}", "app_proxy: journal omit_headers: expected names of headers, at Caddyfile:6"},
		{"name a\nroute POST /a {\n journal\n respond_status\n}", "app_proxy: route POST /a: journal: respond_status answers by itself; expected one of the two, at Caddyfile:2"},
		{"timeouts {\n abandon 0\n}", "app_proxy: timeouts abandon: must be longer than 0, at Caddyfile:4"},
		{"timeouts {\n connect 0\n}", "app_proxy: timeouts connect: must be longer than 0, at Caddyfile:4"},
		{"timeouts {\n read 10m\n}", "app_proxy: timeouts: unknown word 'read'; expected abandon, connect, first_byte, whole, at Caddyfile:4"},
		{"direct", "app_proxy: direct: expected on or off, at Caddyfile:3"},
		{"sendfile_root", "app_proxy: sendfile_root: expected a folder, at Caddyfile:3"},
		{"direct maybe", "app_proxy: direct: expected on or off, at Caddyfile:3"},
		// reverse_proxy's own words, with its own errors
		{"lb_policy nonsense", "app_proxy: getting module named 'http.reverse_proxy.selection_policies.nonsense': module not registered: http.reverse_proxy.selection_policies.nonsense, at Caddyfile:3"},
		{"lb_retries x", "app_proxy: bad lb_retries number 'x': strconv.Atoi: parsing \"x\": invalid syntax, at Caddyfile:3"},
		{"health_uri", "app_proxy: wrong argument count or unexpected line ending after 'health_uri', at Caddyfile:3"},
		{"header_up", "app_proxy: wrong argument count or unexpected line ending after 'header_up', at Caddyfile:3"},
		{"to https://127.0.0.1:3 http://127.0.0.1:4", "app_proxy: parsing upstream 'http://127.0.0.1:4': for now, all proxy upstreams must use the same scheme"},
		{"dynamic a {host} 80", "app_proxy: dynamic upstreams must not depend on the request: a pool has one set of upstreams for all, at Caddyfile:2"},
		{"handle_response @no {\n respond 200\n}", "app_proxy: no named response matcher defined with name 'no', at Caddyfile:3"},
	} {
		_, _, err := adapt("Caddyfile", site(c.lines))
		switch {
		case err == nil:
			t.Errorf("%q is accepted", c.lines)
		case !strings.Contains(plain(err), c.want):
			t.Errorf("%q:\n got %s\nwant %s", c.lines, plain(err), c.want)
		}
	}
}

// plain is an error's text without what Caddy puts before it.
func plain(err error) string {
	text := err.Error()
	if _, rest, ok := strings.Cut(text, "app_proxy': "); ok {
		return rest
	}
	return text
}

func TestHandlersOfOneNameMustAgree(t *testing.T) {
	for _, c := range []struct{ what, text, want string }{
		{"other concurrency", `
			http://localhost:1 {
				app_proxy /a 127.0.0.1:2 {
					name        news
					concurrency 1
				}
				app_proxy /b 127.0.0.1:2 {
					name        news
					concurrency 2
				}
			}`,
			"app_proxy: the pool news at Caddyfile:6 has other settings than at Caddyfile:2; make them the same, or give one of them another name"},
		{"other upstreams, other site", `
			http://localhost:1 {
				app_proxy 127.0.0.1:2 {
					name news
				}
			}
			http://localhost:3 {
				app_proxy 127.0.0.1:4 {
					name news
				}
			}`,
			"app_proxy: the pool news at Caddyfile:7 has other settings than at Caddyfile:2"},
		{"no name, other hold", `
			http://localhost:1 {
				app_proxy /a 127.0.0.1:2
				app_proxy /b 127.0.0.1:2 {
					hold 1s
				}
			}`,
			"app_proxy: the pool 127.0.0.1:2 at Caddyfile:3 has other settings than at Caddyfile:2"},
		{"no upstreams", "http://localhost:1 {\n app_proxy\n}", "app_proxy: no upstreams: where is the application?, at Caddyfile:2"},
		{"no upstreams in a block", "http://localhost:1 {\n app_proxy {\n name x\n }\n}", "app_proxy: no upstreams: where is the application?, at Caddyfile:2"},
	} {
		_, _, err := adapt("Caddyfile", strings.TrimSpace(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n got %v\nwant %s", c.what, err, c.want)
		}
	}
}

func TestJSONIsCheckedLikeTheCaddyfile(t *testing.T) {
	for _, c := range []struct{ handler, want string }{
		{`{}`, "app_proxy: no upstreams: where is the application?"},
		{`{"reverse_proxy": {"upstreams": []}}`, "app_proxy: no upstreams"},
		{`{"reverse_proxy": {"upstreams": [{}]}}`, "app_proxy: upstream 0 has no dial address"},
		{`{"reverse_proxy": {"upstreams": [null]}}`, "app_proxy: upstream 0 has no dial address"},
		{`{"reverse_proxy": {"upstreams": [{"dial": "127.0.0.1:2"}], "circuit_breaker": {"type": "x"}}}`, "app_proxy: circuit_breaker does not work here"},
		{`{"reverse_proxy": {"dynamic_upstreams": {"source": "a", "name": "{http.request.host}", "port": "80"}}}`, "app_proxy: dynamic upstreams must not depend on the request"},
		{`{"concurrency": -1, "reverse_proxy": {"upstreams": [{"dial": "127.0.0.1:2"}]}}`, "app_proxy: concurrency must be at least 1, not -1"},
		{`{"queue": {"depth": -1}, "reverse_proxy": {"upstreams": [{"dial": "127.0.0.1:2"}]}}`, "app_proxy: queue depth must be at least 1, not -1"},
		{`{"no_such_field": 1, "reverse_proxy": {"upstreams": [{"dial": "127.0.0.1:2"}]}}`, `unknown field "no_such_field"`},
		{`{"concurrency": 1, "reverse_proxy": {"upstreams": [{"dial": "127.0.0.1:2"}]}}, {"handler": "app_proxy", "concurrency": 2, "reverse_proxy": {"upstreams": [{"dial": "127.0.0.1:2"}]}}`,
			"app_proxy: pool 127.0.0.1:2 is configured twice, with different settings"},
		{`{"name": "half", "reverse_proxy": {"upstreams": [{"dial": "127.0.0.1:2"}], "transport": {"protocol": "nonsense"}}}`, "app_proxy: transport: "},
		{`{"name": "half", "reverse_proxy": {"upstreams": [{"dial": "127.0.0.1:2"}], "trusted_proxies": ["nonsense"]}}`, "app_proxy: invalid IP address"},
		{`{"name": "half", "reverse_proxy": {"upstreams": [{"dial": "127.0.0.1:2"}], "health_checks": {"active": {"uri": "/", "expect_body": "("}}}}`, "app_proxy: health_body"},
	} {
		text := strings.Replace(c.handler, "{", `{"handler": "app_proxy", `, 1)
		text = strings.Replace(text, `"app_proxy", }`, `"app_proxy"}`, 1)
		config := fmt.Sprintf(`{"admin": {"disabled": true}, "apps": {"http": {"servers": {"x": {"listen": ["127.0.0.1:1"], "routes": [{"handle": [%s]}]}}}}}`, text)
		var cfg caddy.Config
		if err := json.Unmarshal([]byte(config), &cfg); err != nil {
			t.Fatalf("%s: %v", config, err)
		}
		cfg.Logging = quiet
		if err := caddy.Validate(&cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n got %v\nwant %s", c.handler, err, c.want)
		}
	}
	for _, name := range []string{"half", "127.0.0.1:2"} {
		if _, ok := caddymodule.PoolStatus(name); ok {
			t.Errorf("the pool %s is left of a config that was refused", name)
		}
	}
}

// examples has one use of every word of reverse_proxy.
var examples = map[string]string{
	"to":                      "to 127.0.0.1:3 127.0.0.1:4",
	"dynamic":                 "dynamic a app.example.com 80",
	"lb_policy":               "lb_policy cookie news secret",
	"lb_retries":              "lb_retries 2",
	"lb_try_duration":         "lb_try_duration 3s",
	"lb_try_interval":         "lb_try_interval 100ms",
	"lb_retry_match":          "lb_retry_match {\n method GET\n}",
	"health_uri":              "health_uri /health",
	"health_path":             "health_path /health",
	"health_upstream":         "health_upstream 127.0.0.1:5",
	"health_port":             "health_port 5",
	"health_headers":          "health_headers {\n X-Check yes\n}",
	"health_method":           "health_method HEAD",
	"health_request_body":     "health_request_body ping",
	"health_interval":         "health_interval 1s",
	"health_timeout":          "health_timeout 1s",
	"health_status":           "health_status 2xx",
	"health_body":             "health_body ok",
	"health_follow_redirects": "health_follow_redirects",
	"health_passes":           "health_passes 2",
	"health_fails":            "health_fails 2",
	"max_fails":               "max_fails 2",
	"fail_duration":           "fail_duration 10s",
	"unhealthy_request_count": "unhealthy_request_count 3",
	"unhealthy_status":        "unhealthy_status 5xx 429",
	"unhealthy_latency":       "unhealthy_latency 1s",
	"flush_interval":          "flush_interval -1",
	"request_buffers":         "request_buffers 4KiB",
	"response_buffers":        "response_buffers 4KiB",
	"stream_buffer_size":      "stream_buffer_size 4KiB",
	"proxy_status_name":       "proxy_status_name porter",
	"stream_timeout":          "stream_timeout 1h",
	"stream_close_delay":      "stream_close_delay 1m",
	"trusted_proxies":         "trusted_proxies private_ranges 192.0.2.0/24",
	"header_up":               "header_up Host {upstream_hostport}",
	"header_down":             "header_down -Server",
	"method":                  "method POST",
	"rewrite":                 "rewrite /app{uri}",
	"transport":               "transport http {\n dial_timeout 1s\n}",
	"handle_response":         "handle_response {\n copy_response\n}",
	"replace_status":          "replace_status 203",
	"verbose_logs":            "verbose_logs",
}

func TestEveryWordOfReverseProxyIsUnderstood(t *testing.T) {
	known := wordsOfCaddy(t)
	for _, word := range known {
		example, ok := examples[word]
		if !ok {
			t.Errorf("%s is a word of reverse_proxy that nobody has thought about here", word)
			continue
		}
		config, _, err := adapt("Caddyfile", site(example))
		if err != nil {
			t.Errorf("%s: %v", word, err)
			continue
		}
		validate(t, config)
	}
	for word := range examples {
		if !slices.Contains(known, word) {
			t.Errorf("%s is no word of reverse_proxy any more", word)
		}
	}
	for _, word := range caddymodule.Words() {
		if slices.Contains(known, word) {
			t.Errorf("%s is ours and reverse_proxy's", word)
		}
	}
}

// wordsOfCaddy reads in Caddy's source which words reverse_proxy has.
func wordsOfCaddy(t *testing.T) []string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "caddyfile.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != "UnmarshalCaddyfile" || fmt.Sprint(f.Recv.List[0].Type.(*ast.StarExpr).X) != "Handler" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SwitchStmt)
			if !ok {
				return true
			}
			call, ok := s.Tag.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "Val" {
				return true
			}
			for _, c := range s.Body.List {
				for _, e := range c.(*ast.CaseClause).List {
					word, err := strconv.Unquote(e.(*ast.BasicLit).Value)
					if err != nil {
						t.Fatal(err)
					}
					found[word] = true
				}
			}
			return false
		})
	}
	if len(found) < 30 {
		t.Fatalf("only %d words found in Caddy's source", len(found))
	}
	return slices.Sorted(maps.Keys(found))
}

func TestWordsMayComeInAnyOrder(t *testing.T) {
	lines := []string{
		"name news", "concurrency 2", "hold 3s", "queue {\n wait 4s\n depth 5\n}", "buffer {\n request 6KiB 7KiB\n}",
		"timeouts {\n abandon 8s\n}", "to 127.0.0.1:3", "lb_policy first", "transport http {\n dial_timeout 1s\n}",
		"@err status 5xx", "handle_response @err {\n respond sorry 503\n}", "health_headers {\n X-Check yes\n}",
	}
	want, _, err := adapt("Caddyfile", site(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	for n := range lines {
		turned := append(slices.Clone(lines[n:]), lines[:n]...)
		got, _, err := adapt("Caddyfile", site(strings.Join(turned, "\n")))
		if strings.Contains(strings.Join(turned[1:], "\n"), "@err status") && turned[0] == lines[10] {
			continue // a matcher is defined before it is used
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("beginning with %s: %v\n%s\nwant\n%s", lines[n], err, got, want)
		}
	}
}

// FuzzCaddyfile looks for a block that makes the parser panic or hang.
func FuzzCaddyfile(f *testing.F) {
	for _, example := range examples {
		f.Add(example)
	}
	f.Add("name news\nconcurrency 2\nqueue {\n wait 4s\n depth 5\n}\nbuffer {\n request 6KiB 7KiB\n}\ntimeouts {\n abandon 8s\n}\nhold 0")
	f.Fuzz(func(t *testing.T, lines string) {
		if strings.Contains(lines, "import") {
			t.Skip("reads files")
		}
		adapt("Caddyfile", site(lines))
	})
}
