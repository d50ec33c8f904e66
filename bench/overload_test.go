package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestNamesChooseInTheOrderOfTheTable(t *testing.T) {
	var chosen []peer
	if err := choose(&chosen, peers, "caddy,direct"); err != nil || strings.Join(names(chosen), " ") != "direct caddy" {
		t.Errorf("chose %v, %v", names(chosen), err)
	}
	var all []scenario
	if err := choose(&all, scenarios, "all"); err != nil || len(all) != len(scenarios) {
		t.Errorf("chose %v, %v", names(all), err)
	}
	if err := choose(&all, scenarios, "overlaod"); err == nil || !strings.Contains(err.Error(), "overlaod") {
		t.Errorf("a wrong name is %v", err)
	}
}

func TestWrongFlagsMeasureNothing(t *testing.T) {
	for _, args := range [][]string{{"-apps", "rails"}, {"-loads", "0"}, {"-loads", "5,"}, {"-loads", "100"}, {"-rounds", "0"}, {"-seconds", "3600"}, {"now"}} {
		if err := overload(t.Context(), args); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestConfigurationsNameTheirLimit(t *testing.T) {
	s := setup{dir: "/tmp/x", front: "127.0.0.1:8000", app: "127.0.0.1:5000", limit: 2, words: "queue {\n\twait 1s\n}"}
	want := map[string][]string{
		"portner":       {"http://127.0.0.1:8000 {", "app_proxy 127.0.0.1:5000 {", "\t\tconcurrency 2\n", "\t\tqueue {\n\t\t\twait 1s\n\t\t}\n"},
		"nginx":         {"listen 127.0.0.1:8000;", "proxy_pass http://127.0.0.1:5000;", "pid /tmp/x/nginx.pid;"},
		"haproxy":       {"bind 127.0.0.1:8000", "server app 127.0.0.1:5000\n"},
		"haproxy-tuned": {"server app 127.0.0.1:5000 maxconn 2\n", "timeout queue 800ms", "option abortonclose"},
		"caddy":         {"reverse_proxy 127.0.0.1:5000\n"},
	}
	for _, p := range peers {
		if p.name == direct {
			continue
		}
		got := p.config(s)
		for _, part := range want[p.name] {
			if !strings.Contains(got, part) {
				t.Errorf("%s has no %q:\n%s", p.name, part, got)
			}
		}
		if strings.Contains(got, "%!") || strings.Count(got, "{") != strings.Count(got, "}") {
			t.Errorf("%s:\n%s", p.name, got)
		}
	}
	s.limit = 0
	if got := portnerConfig(s); strings.Contains(got, "concurrency") {
		t.Errorf("without a limit Portner is to find it:\n%s", got)
	}
}

func TestNginxAndHAProxyUnderstandTheirConfigurations(t *testing.T) {
	dir := t.TempDir()
	for _, p := range peers {
		if p.program == "" || p.missing() != "" {
			continue
		}
		file := filepath.Join(dir, p.name)
		writeFile(t, file, p.config(setup{dir: dir, front: "127.0.0.1:0", app: "127.0.0.1:5000", limit: 1}))
		args := []string{"-t", "-q", "-e", "stderr", "-p", dir, "-c", file}
		if p.program == "haproxy" {
			args = []string{"-c", "-f", file}
		}
		if out, err := exec.CommandContext(t.Context(), p.program, args...).CombinedOutput(); err != nil && !bytes.Contains(out, []byte("invalid port")) {
			t.Errorf("%s: %v\n%s", p.name, err, out)
		}
	}
}

func TestOnlyWhatBelongsToAWindowCounts(t *testing.T) {
	second := time.Second
	got := &Loaded{Streams: []Tally{
		{Name: pageStream, Sent: 4, Right: []time.Duration{1500 * time.Millisecond, 2500 * time.Millisecond}, Took: []time.Duration{second, second},
			Status: map[int]int{200: 2, 503: 1}, TimedOut: 1},
		{Name: pageStream, Sent: 7, Right: []time.Duration{900 * time.Millisecond}, Took: []time.Duration{second / 2}, Status: map[int]int{200: 1, 503: 6}},
		{Name: besideStream, Sent: 9, Right: []time.Duration{second}, Took: []time.Duration{second}},
	}}
	streams := []Stream{{Name: pageStream, From: second}, {Name: pageStream}, {Name: besideStream}}
	var c Cell
	c.Capacity = 10
	c.fill(got, streams, window{"late", second, 3 * second, 10})
	// Both answers came in the window; only the second one was due in it.
	if c.Goodput != 1 || c.Share != 10 || c.P99 != 1000 || c.Sent != 4 || c.Answered != 25 || c.Refused != 1 || c.TimedOut != 1 || c.Beside != 1 {
		t.Errorf("%+v", c)
	}
	if fmt.Sprint(c.Seconds) != "[1 1]" {
		t.Errorf("second by second: %v", c.Seconds)
	}
}

func TestACellIsVoidWithItsReason(t *testing.T) {
	for _, c := range []struct {
		late   time.Duration
		steal  float64
		unsent int
		peer   error
		want   string
	}{
		{10 * time.Millisecond, 2, 0, nil, ""},
		{11 * time.Millisecond, 0, 0, nil, "late"},
		{0, 2.1, 0, nil, "host"},
		{0, 0, 1, nil, "left out"},
		{0, 0, 0, errors.New("caddy has ended"), "caddy has ended"},
		{11 * time.Millisecond, 3, 0, nil, "late; the host"},
	} {
		var cell Cell
		got := &Loaded{Late: c.late, Unsent: c.unsent}
		cell.use(usage{elapsed: time.Second, steal: c.steal}, got)
		cell.judge(got, c.peer)
		if (cell.Void == "") != (c.want == "") || !strings.Contains(strings.ReplaceAll(cell.Void, "was 11 ms ", ""), c.want) {
			t.Errorf("%+v is void for %q", c, cell.Void)
		}
	}
}

func TestMediansLeaveOutWhatIsVoid(t *testing.T) {
	round := func(n int, goodput, p99 float64, void string) Cell {
		return Cell{Scenario: "overload", App: "a", Peer: "p", Load: "5x", Round: n, Goodput: goodput, Latency: Latency{P99: p99}, Void: void}
	}
	got := medians([]Cell{round(1, 1, 900, "late"), round(2, 100, 50, ""), round(3, 300, 30, ""), round(4, 200, 40, "")})
	if len(got) != 1 || got[0].Goodput != 200 || got[0].P99 != 40 || got[0].Void != "" || got[0].Round != 0 {
		t.Errorf("%+v", got)
	}
	if got := medians([]Cell{round(1, 1, 900, "late"), round(2, 1, 900, "late")}); len(got) != 1 || got[0].Void != "late" {
		t.Errorf("all void: %+v", got)
	}
	if got := median([]float64{4, 1, 2, 3}); got != 2.5 {
		t.Errorf("the median of 1 to 4 is %v", got)
	}
}

func TestPromisesAreJudged(t *testing.T) {
	cell := func(scenario, app, peer, load string, share, p50, p99, answered float64) Cell {
		return Cell{Scenario: scenario, App: app, Peer: peer, Load: load, Capacity: 300, Goodput: 3 * share, Share: share, Answered: answered,
			Latency: Latency{P50: p50, P99: p99}}
	}
	for _, c := range []struct {
		promise int
		cells   []Cell
		want    string
	}{
		{0, []Cell{cell("overload", "flask", "portner", "5x", 95, 100, 500, 19)}, met},
		{0, []Cell{cell("overload", "flask", "portner", "5x", 94.9, 100, 500, 19)}, missed},
		{0, []Cell{cell("overload", "flask", "portner", "5x", 95, 101, 500, 19)}, missed},
		{0, []Cell{cell("overload", "flask", "portner", "5x", 95, 100, 501, 19)}, missed},
		{0, []Cell{cell("overload", "flask", "caddy", "5x", 95, 100, 500, 19)}, unjudged},
		{1, []Cell{cell("overload", "flask", "portner", "20x", 85, 900, 999, 4)}, met},
		{2, []Cell{cell("slow", "g", "portner", "open, alone", 50, 1, 10, 100), cell("slow", "g", "portner", "open, beside /slow", 50, 1, 50, 99)}, met},
		{2, []Cell{cell("slow", "g", "portner", "open, alone", 50, 1, 10, 100), cell("slow", "g", "portner", "open, beside /slow", 50, 1, 51, 100)}, missed},
		{2, []Cell{cell("slow", "g", "portner", "open, alone", 50, 1, 10, 100), cell("slow", "g", "portner", "open, beside /slow", 50, 1, 10, 60)}, missed},
		{3, []Cell{cell("slow", "g", "portner", "closed, beside /slow", 85, 1, 50, 100)}, met},
		{3, []Cell{cell("slow", "g", "portner", "closed, beside /slow", 84, 1, 50, 100)}, missed},
		{4, []Cell{cell("greedy", "g", "portner", "alone", 50, 1, 10, 100), cell("greedy", "g", "portner", "beside greedy", 50, 1, 21, 100)}, missed},
		{5, []Cell{cell("auto", "s", "limit 2", "1.5x", 100, 1, 40, 66), cell("auto", "s", "limit 4", "1.5x", 99, 1, 20, 66), cell("auto", "s", "auto", "1.5x", 95, 1, 30, 66)}, met},
		{5, []Cell{cell("auto", "s", "limit 2", "1.5x", 100, 1, 40, 66), cell("auto", "s", "limit 4", "1.5x", 99, 1, 20, 66), cell("auto", "s", "auto", "1.5x", 95, 1, 31, 66)}, missed},
		{5, []Cell{cell("auto", "s", "limit 2", "1.5x", 100, 1, 2, 66), cell("auto", "s", "auto", "1.5x", 95, 1, 7, 66)}, met}, // 5 ms more
		{5, []Cell{cell("auto", "s", "limit 2", "1.5x", 100, 1, 2, 66), cell("auto", "s", "auto", "1.5x", 94, 1, 2, 66)}, missed},
		{6, []Cell{cell("auto", "sleep-32", "limit 32", "1.5x", 100, 1, 40, 66), cell("auto", "sleep-4", "auto", "changed to 32", 96, 1, 50, 66)}, met},
	} {
		l := &lab{cells: c.cells, rounds: 1}
		for _, v := range l.report().Verdicts {
			if v.Says == promises[c.promise].says && v.Is != c.want {
				t.Errorf("%s: %s: %q, want %q", v.Says, v.Measured, v.Is, c.want)
			}
		}
	}
	void := cell("overload", "flask", "portner", "5x", 99, 1, 1, 19)
	void.Void = "the generator was 40 ms late"
	if v := (&lab{cells: []Cell{void}}).report().Verdicts[0]; v.Is != unjudged || v.Measured != void.Void {
		t.Errorf("a void cell is judged: %+v", v)
	}
}

func TestChartsAreXMLAndShowWhatTheyAreGiven(t *testing.T) {
	var cells []Cell
	for _, s := range scenarios {
		for i, peer := range []string{"portner", "nginx", "limit 2", autoPeer} {
			for _, load := range []string{"0.8x", "1.5x", followWhole} {
				c := Cell{Scenario: s.name, App: "a & b <1>", Peer: peer, Load: load, Round: 1, Goodput: 100, Share: float64(50 * i), Seconds: []int{1, 2, 3}}
				c.P99 = float64(1000 * i) // 0 has no logarithm
				cells = append(cells, c)
			}
		}
	}
	cells[0].Void = "late"
	charts := (&lab{cells: cells, rounds: 1}).report().charts()
	if len(charts) != len(scenarios) {
		t.Errorf("%d charts of %d scenarios", len(charts), len(scenarios))
	}
	for name, chart := range charts {
		svg := chart.svg()
		texts := 0
		for dec := xml.NewDecoder(bytes.NewReader(svg)); ; {
			token, err := dec.Token()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, svg)
			}
			if start, ok := token.(xml.StartElement); ok && start.Name.Local == "text" {
				texts++
			}
		}
		if texts < 10 || bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) || !bytes.Contains(svg, []byte("a &amp; b &lt;1&gt;")) {
			t.Errorf("%s has %d texts:\n%s", name, texts, svg)
		}
	}
}

func TestScalesHoldTheirValues(t *testing.T) {
	for _, p := range []panel{
		{series: []series{{"a", []float64{3, 97, math.NaN()}}}},
		{series: []series{{"a", []float64{0.4, 730}}}, log: true},
		{series: []series{{"a", []float64{0, 10}}}, log: true, wanted: 500},
		{series: []series{{"a", []float64{math.NaN()}}}, log: true},
		{},
	} {
		s := p.scale()
		for _, one := range p.series {
			for _, v := range one.values {
				if y := s.y(v); !math.IsNaN(v) && (y < 0 || y > panelHeight || v > s.high) {
					t.Errorf("%v is at %v on %+v", v, y, s)
				}
			}
		}
		if len(s.ticks) < 2 || len(s.ticks) > 12 || s.ticks[len(s.ticks)-1] > s.high*1.001 {
			t.Errorf("ticks %v up to %v", s.ticks, s.high)
		}
	}
}

func TestProcessTimesAreReadFromProc(t *testing.T) {
	const stat = "4711 (a (strange) name) S 1 4700 4700 0 -1 4194560 100 200 0 0 25 17 3 4 20 0 8 0 5000 1 1"
	if group, ticks, ok := parseProcess([]byte(stat)); !ok || group != 4700 || ticks != 42 {
		t.Errorf("got %d %d %t", group, ticks, ok)
	}
	for _, broken := range []string{"", "1 (a) S 1", "1 (a) S 1 x 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"} {
		if _, _, ok := parseProcess([]byte(broken)); ok {
			t.Errorf("%q is read", broken)
		}
	}
}

// serveApp starts the built-in application in this process.
func serveApp(t *testing.T, workers int, work func()) (*server, string) {
	t.Helper()
	ln, err := listenWithQueue("127.0.0.1:0", 100)
	if err != nil {
		t.Fatal(err)
	}
	app := &server{work: work, slow: 50 * time.Millisecond, crew: newCrew(workers),
		pages: map[string][]byte{"/": page("a page", 2000), "/slow": []byte("slow"), "/status": []byte("Alive")}}
	done := make(chan error, 1)
	go func() { done <- app.serve(ln) }() // ends with ln, below
	t.Cleanup(func() {
		ln.Close()
		app.crew.resize(1000) // it may wait for a worker
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return app, ln.Addr().String()
}

func TestTheApplicationTakesOneRequestPerWorker(t *testing.T) {
	var now, most atomic.Int32
	app, address := serveApp(t, 2, func() {
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
	})
	ask := func(length time.Duration) int {
		got, err := generate(t.Context(), Load{Address: mustAddrPort(t, address), Length: length + time.Second, Streams: []Stream{
			{Name: pageStream, Path: "/", Body: len(app.pages["/"]), Connections: 8, Clients: crowd, Patience: time.Second, Until: length}}})
		if err != nil {
			t.Skip(err) // elsewhere than on Linux
		}
		if tally := got.Streams[0]; tally.Wrong+tally.Failed > 0 {
			t.Errorf("%+v", tally)
		}
		return len(got.Streams[0].Right)
	}
	if n := ask(100 * time.Millisecond); n < 2 || most.Load() != 2 {
		t.Errorf("%d answers, %d at once, want 2 at once", n, most.Load())
	}
	recorder := steer(app, "/workers?n=4")
	if ask(100 * time.Millisecond); recorder != http.StatusOK || most.Load() != 4 {
		t.Errorf("after %d, %d at once, want 4", recorder, most.Load())
	}
	steer(app, "/workers?n=1")
	ask(50 * time.Millisecond) // those at work may finish
	most.Store(0)
	if ask(100 * time.Millisecond); most.Load() != 1 {
		t.Errorf("%d at once after three were taken away", most.Load())
	}
	for _, wrong := range []string{"/workers", "/workers?n=0", "/workers?n=x", "/"} {
		if got := steer(app, wrong); got != http.StatusBadRequest {
			t.Errorf("%s is %d", wrong, got)
		}
	}
}

// TestTheLabMeasures is the whole of it in small, before no proxy.
func TestTheLabMeasures(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts processes")
	}
	app, address := serveApp(t, 1, func() { time.Sleep(3 * time.Millisecond) })
	got, err := generate(t.Context(), Load{Address: mustAddrPort(t, address), Length: 2 * time.Second, Seed: 1, Streams: []Stream{
		{Name: pageStream, Path: "/", Body: len(app.pages["/"]), Rate: 1500, Clients: crowd, Patience: 200 * time.Millisecond, Until: time.Second}}})
	if err != nil {
		t.Skip(err) // elsewhere than on Linux
	}
	c := Cell{Scenario: "overload", App: "builtin-1", Peer: "portner", Load: "5x", Capacity: 300}
	c.fill(got, []Stream{{Name: pageStream}}, window{"5x", 0, time.Second, 300})
	if c.Sent < 1300 || c.Goodput < 10 || c.Goodput > 400 || c.TimedOut < 500 || c.P99 > 201 {
		t.Errorf("five times what it can take: %+v", c)
	}
	var text strings.Builder
	(&lab{cells: []Cell{c}, rounds: 1}).report().print(&text)
	for _, part := range []string{"5x", "MISSED", promises[0].says} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("the report has no %q:\n%s", part, text.String())
		}
	}
}

func steer(app *server, target string) int {
	w := httptest.NewRecorder()
	app.steer(w, httptest.NewRequest(http.MethodPost, target, nil))
	return w.Code
}

func mustAddrPort(t *testing.T, address string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
