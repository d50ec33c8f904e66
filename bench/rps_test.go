package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test's own program be the application, the generator and a
// proxy, as processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		for _, sub := range []subcommand{{"rps-app", "", rpsApp}, {"rps-load", "", rpsLoad}, {"a-proxy", "", aProxy}} {
			if sub.name == os.Args[1] {
				os.Exit(dispatch(context.Background(), []subcommand{sub}, os.Args[1:], os.Stderr))
			}
		}
	}
	os.Exit(m.Run())
}

// aProxy is the standard library's, between the addresses of a post.
func aProxy(_ context.Context, args []string) error {
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	words := strings.Fields(string(text)) // app, admin, secure, plain, dir: who answers on the third is ready
	var listeners []net.Listener
	for _, address := range words[1:4] {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		listeners = append(listeners, ln)
	}
	failed := make(chan error, 3)
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: words[0]})
	go func() { failed <- http.Serve(listeners[0], http.HandlerFunc(tellMallocs)) }()
	go func() {
		failed <- http.ServeTLS(listeners[1], forward, filepath.Join(words[4], "cert.pem"), filepath.Join(words[4], "key.pem"))
	}()
	go func() { failed <- http.Serve(listeners[2], forward) }()
	return <-failed
}

func tellMallocs(w http.ResponseWriter, _ *http.Request) {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Fprintf(w, "# TYPE go_memstats_mallocs_total counter\ngo_memstats_mallocs_total %d\n", stats.Mallocs)
}

// TestEveryProtocolIsMeasured is the whole of it in small: processes, clocks,
// answers, report.
func TestEveryProtocolIsMeasured(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts processes")
	}
	if _, err := cpuOf(os.Getpid()); err != nil {
		t.Skip(err) // elsewhere than on Linux
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	standard := func(name string) contender {
		return contender{name: name, config: func(p post) string {
			return strings.Join([]string{p.app, p.admin, p.secure, p.plain, p.dir}, " ")
		}, args: func(file string) []string { return []string{"a-proxy", file} }}
	}
	on := &track{
		lab:     lab{self: self, caddy: self, dir: t.TempDir(), rounds: 1, show: &progress{}, begun: time.Now()},
		proxies: []contender{standard("portner"), standard("caddy")}, protocols: protocols,
		sizes: []int{1}, cores: []int{1}, length: 200 * time.Millisecond, connections: 4,
	}
	if err := on.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := 2 * len(protocols); len(on.readings) != want {
		t.Fatalf("%d readings, want %d", len(on.readings), want)
	}
	for _, r := range on.readings {
		if r.Void != "" && !strings.HasPrefix(r.Void, "the host took") || r.PerSecond <= 0 || r.CPU <= 0 || r.Allocs < 10 {
			t.Errorf("%+v", r)
		}
	}
	r := on.report()
	var text strings.Builder
	r.print(&text)
	for _, part := range []string{"HTTP/2 over TLS, 1 core for the proxy", "not judged", goals[0].says} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("the report has no %q:\n%s", part, text.String())
		}
	}
}

func TestWrongFlagsOfRPSMeasureNothing(t *testing.T) {
	for _, args := range [][]string{
		{"-proxies", "apache"}, {"-protocols", "h3"}, {"-sizes", "1,x"}, {"-sizes", "-1"}, {"-sizes", ""}, {"-cores", "0"},
		{"-rounds", "0"}, {"-seconds", "NaN"}, {"-seconds", "61"}, {"-connections", "0"}, {"now"},
	} {
		if err := rps(t.Context(), args); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestNumbersAreTakenOnce(t *testing.T) {
	var got []int
	if err := parseNumbers(&got, "sizes", "10,0,10", 0, 100); err != nil || fmt.Sprint(got) != "[10 0]" {
		t.Errorf("%v, %v", got, err)
	}
	if err := parseNumbers(&got, "sizes", "101", 0, 100); err == nil || !strings.Contains(err.Error(), `-sizes: "101"`) {
		t.Errorf("too large a size is %v", err)
	}
}

func TestTheProxyHasItsCoresForItself(t *testing.T) {
	for _, c := range []struct {
		cores, all int
		want       string
	}{
		{1, 2, "0-0 1-1 false"},
		{2, 2, "0-1 0-1 true"},
		{1, 8, "0-0 1-7 false"},
		{2, 8, "0-1 2-7 false"},
		{1, 1, "0-0 0-0 true"},
	} {
		proxy, others, shared := divide(c.cores, c.all)
		if got := fmt.Sprint(proxy, " ", others, " ", shared); got != c.want {
			t.Errorf("%d of %d: %s, want %s", c.cores, c.all, got, c.want)
		}
	}
}

func aPost(t *testing.T) post {
	t.Helper()
	p := post{dir: t.TempDir(), plain: "127.0.0.1:8000", secure: "127.0.0.1:8443", admin: "127.0.0.1:2019", app: "127.0.0.1:5000", cores: 2, sizes: []int{0, 1}}
	if err := writeCertificate(p.dir); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProxiesAreAsTheyCome(t *testing.T) {
	p := aPost(t)
	p.words = "queue {\n\twait 1s\n}"
	want := map[string][]string{
		"portner": {"http://127.0.0.1:8000 {", "https://127.0.0.1:8443 {", "app_proxy 127.0.0.1:5000 {\n\t\tconcurrency 128\n\t\tqueue {\n\t\t\twait 1s"},
		"nginx":   {"worker_processes 2;", "proxy_http_version 1.1;", "listen 127.0.0.1:8443 ssl http2;"},
		"haproxy": {"nbthread 2\n", "alpn h2,http/1.1", "server app 127.0.0.1:5000\n"},
		"caddy":   {"reverse_proxy 127.0.0.1:5000\n", "admin 127.0.0.1:2019"},
		"respond": {"respond /status Alive\n", "respond /0 \"\"\n", `respond /1024 "portner portner `},
	}
	for _, c := range proxies {
		got := c.config(p)
		for _, part := range want[c.name] {
			if !strings.Contains(got, part) {
				t.Errorf("%s has no %q:\n%s", c.name, part, got)
			}
		}
		if strings.Contains(got, "%!") || strings.Count(got, "{") != strings.Count(got, "}") {
			t.Errorf("%s:\n%s", c.name, got)
		}
	}
}

func TestNginxAndHAProxyUnderstandTheirPosts(t *testing.T) {
	p := aPost(t)
	for _, c := range proxies {
		if c.program == "" || c.missing() != "" {
			continue
		}
		file := filepath.Join(p.dir, c.name)
		writeFile(t, file, c.config(p))
		args := []string{"-t", "-q", "-e", "stderr", "-p", p.dir, "-c", file}
		if c.program == "haproxy" {
			args = []string{"-c", "-f", file}
		}
		if out, err := exec.CommandContext(t.Context(), c.program, args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}
}

// reading is one of a page of 1 KiB over HTTP/1.1.
func reading(proxy string, round int, cpu float64, void string) Reading {
	return Reading{Cores: 1, Protocol: "h1", KiB: 1, Proxy: proxy, Round: round, PerSecond: 1e6 / cpu, CPU: cpu, Allocs: 100 + float64(round), Void: void}
}

func TestRatiosArePairedByRound(t *testing.T) {
	readings := []Reading{
		reading("portner", 1, 40, ""), reading("caddy", 1, 100, ""), // 0.4
		reading("caddy", 2, 50, ""), reading("portner", 2, 45, ""), // 0.9
		reading("portner", 3, 500, ""), reading("caddy", 3, 1000, ""), // 0.5: a slow moment slowed both
		reading("portner", 4, 1, "the host took 9.0 % of the CPUs"), reading("caddy", 4, 100, ""),
		reading("portner", 5, 1, ""), reading("caddy", 5, 100, "a wrong answer"),
		reading("portner", 6, 1, ""),
	}
	all := ratios(readings, middle(readings))
	want := Ratio{1, "h1", 1, "caddy", 0.5, 0.4, 0.9, 3}
	if len(all) != 1 || all[0] != want {
		t.Errorf("%+v, want %+v", all, want)
	}
	if got := want.String(); got != "0.50 (0.40..0.90 of 3)" {
		t.Error(got)
	}
}

func TestMediansOfReadingsLeaveOutWhatIsVoid(t *testing.T) {
	readings := []Reading{
		reading("caddy", 1, 100, ""), reading("nginx", 1, 7, "no answers"), reading("portner", 1, 40, "void"),
		reading("caddy", 2, 300, ""), reading("nginx", 2, 9, "no answers"), reading("portner", 2, 60, ""),
	}
	got := middle(readings)
	if len(got) != 3 || got[0].Proxy != "portner" || got[1].Proxy != "nginx" || got[2].Proxy != "caddy" {
		t.Fatalf("not in the order of the table: %v", got)
	}
	if got[0].CPU != 60 || got[0].Void != "" || got[2].CPU != 200 || got[1].Void != "no answers" || got[0].Round != 0 {
		t.Errorf("%+v", got)
	}
}

func TestGoalsAreJudgedByFivePairs(t *testing.T) {
	rounds := func(n int, portner float64) (readings []Reading) {
		for round := range n {
			readings = append(readings, reading("portner", round+1, portner, ""), reading("caddy", round+1, 100, ""))
		}
		return readings
	}
	for _, c := range []struct {
		readings []Reading
		want     string
	}{
		{rounds(5, 52), met},
		{rounds(5, 53), missed},
		{rounds(4, 10), unjudged},
		{append(rounds(4, 10), reading("portner", 5, 10, ""), reading("caddy", 5, 100, "void")), unjudged},
		{nil, unjudged},
	} {
		got := goals[0].judge(c.readings, ratios(c.readings, middle(c.readings)))
		if got.Is != c.want {
			t.Errorf("%d readings: %+v, want %s", len(c.readings), got, c.want)
		}
	}
	allocs := goals[slices.IndexFunc(goals, func(g goal) bool { return g.allocs })]
	if got := allocs.judge(rounds(5, 50), nil); got.Is != met || got.Measured != "103.0 (101.0..105.0 of 5)" {
		t.Errorf("%+v", got)
	}
	many := rounds(5, 50)
	for i := range many {
		many[i].Allocs = 121
	}
	if got := allocs.judge(many, nil); got.Is != missed {
		t.Errorf("%+v", got)
	}
}

func TestAReadingIsVoidWithItsReason(t *testing.T) {
	for _, c := range []struct {
		y     Yield
		steal float64
		want  string
	}{
		{Yield{Answers: 10, Elapsed: time.Second, CPU: time.Millisecond}, 2, ""},
		{Yield{Answers: 10, Elapsed: time.Second}, -1, ""},
		{Yield{Answers: 10, Elapsed: time.Second}, 2.1, "the host took 2.1 % of the CPUs"},
		{Yield{Elapsed: time.Second}, 0, "no answers"},
		{Yield{Trouble: "a wrong answer"}, 0, "a wrong answer"},
		{Yield{Trouble: "a wrong answer"}, 3, "a wrong answer; the host took 3.0 % of the CPUs"},
	} {
		var r Reading
		r.fill(&c.y, usage{elapsed: time.Second, steal: c.steal})
		if r.Void != c.want {
			t.Errorf("%+v with %.1f %%: void for %q, want %q", c.y, c.steal, r.Void, c.want)
		}
	}
}

func TestCPUIsPerRequest(t *testing.T) {
	var r Reading
	r.fill(&Yield{Answers: 1000, Elapsed: 500 * time.Millisecond, CPU: 50 * time.Millisecond, LoadCPU: 250 * time.Millisecond, Allocs: 84.5},
		usage{elapsed: time.Second, all: 100, peer: 10, app: 15})
	if r.PerSecond != 2000 || r.CPU != 50 || r.ProxyCPU != 10 || r.LoadCPU != 25 || r.OthersCPU != 50 || r.Allocs != 84.5 {
		t.Errorf("%+v", r)
	}
}

func TestTheReportOfRPSIsComplete(t *testing.T) {
	void := reading("caddy", 2, 100, "a wrong answer")
	void.OthersCPU = quiet + 1
	on := &track{lab: lab{rounds: 2}, connections: 64, readings: []Reading{
		reading("portner", 1, 40, ""), reading("caddy", 1, 100, ""), reading("portner", 2, 40, ""), void}}
	on.leftOut = []string{"nginx: nginx is not installed"}
	r := on.report()
	var text strings.Builder
	r.print(&text)
	for _, part := range []string{"LEFT OUT: nginx", "DISTURBED: in 25 %", "0.40 (0.40..0.40 of 1)", "VOID: 1 of 2 rounds", "101.5"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("the report has no %q:\n%s", part, text.String())
		}
	}
	file := filepath.Join(t.TempDir(), "rps.json")
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	text2, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var read costReport
	if err := json.Unmarshal(text2, &read); err != nil || len(read.Readings) != 4 || len(read.Judgements) != len(goals) || read.Ratios[0].Median != 0.4 {
		t.Errorf("%v: %s", err, text2)
	}
	drawing := r.chart().svg()
	for decoder := xml.NewDecoder(bytes.NewReader(drawing)); ; {
		if _, err := decoder.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, drawing)
		}
	}
	for _, part := range []string{"HTTP/1.1, 1 core", "CPU µs per request", "portner, 1: 40.0"} {
		if !bytes.Contains(drawing, []byte(part)) {
			t.Errorf("the drawing has no %q", part)
		}
	}
}
