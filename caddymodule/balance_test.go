package caddymodule_test

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/dns/dnsmessage"
)

// named starts n applications that answer with their number.
func named(t *testing.T, n int) (apps []*app, addrs string) {
	for i := range n {
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, i) })
		apps = append(apps, a)
		addrs += a.addr + " "
	}
	return apps, addrs
}

// ask makes a request with headers, in the form "Name: value".
func (d *door) ask(headers ...string) (*http.Response, string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), "GET", d.url, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return res, string(text)
}

func TestPoliciesChooseAsTheyDoForReverseProxy(t *testing.T) {
	_, addrs := named(t, 3)
	for _, c := range []struct {
		policy string
		want   map[string]int // who answered how many of 12 requests, one after another
	}{
		{"first", map[string]int{"0": 12}},
		{"round_robin", map[string]int{"0": 4, "1": 4, "2": 4}},
		{"weighted_round_robin 3 2 1", map[string]int{"0": 6, "1": 4, "2": 2}},
		{"weighted_round_robin 1 0 2", map[string]int{"0": 4, "2": 8}},
		{"least_conn", map[string]int{"0": 4, "1": 4, "2": 4}},
		{"random", nil},
		{"random_choose 2", nil},
	} {
		d := open(t, "app_proxy "+addrs+"{\n lb_policy "+c.policy+"\n}")
		got := make(map[string]int)
		for range 12 {
			res, who := d.ask()
			if res.StatusCode != 200 {
				t.Fatalf("%s: %d %s", c.policy, res.StatusCode, who)
			}
			got[who]++
		}
		if c.want != nil && !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.policy, got, c.want)
		}
	}
}

func TestStickyPoliciesKeepToOneUpstream(t *testing.T) {
	_, addrs := named(t, 3)
	for _, c := range []struct {
		policy string
		header func(n int) string // of visitor n
	}{
		{"ip_hash", func(int) string { return "X-Nothing: to tell them apart" }},
		{"client_ip_hash", func(int) string { return "X-Nothing: to tell them apart" }},
		{"uri_hash", func(int) string { return "X-Nothing: to tell them apart" }},
		{"header X-Visitor", func(n int) string { return fmt.Sprint("X-Visitor: ", n) }},
	} {
		d := open(t, "app_proxy "+addrs+"{\n lb_policy "+c.policy+"\n}")
		everybody := make(map[string]bool)
		for visitor := range 20 {
			_, first := d.ask(c.header(visitor))
			everybody[first] = true
			for range 3 {
				if _, who := d.ask(c.header(visitor)); who != first {
					t.Errorf("%s: visitor %d came to %s and then to %s", c.policy, visitor, first, who)
				}
			}
		}
		if strings.HasPrefix(c.policy, "header") && len(everybody) != 3 {
			t.Errorf("%s: 20 visitors came to %v", c.policy, slices.Collect(maps.Keys(everybody)))
		}
	}
}

func TestStickyCookieIsSetOnceAndHonoured(t *testing.T) {
	_, addrs := named(t, 2)
	d := open(t, "app_proxy "+freeAddr(t)+" "+addrs+freeAddr(t)+" {\n lb_policy cookie who secret\n}")
	for range 20 {
		res, who := d.ask()
		cookies := res.Header.Values("Set-Cookie")
		if res.StatusCode != 200 || len(cookies) != 1 {
			t.Fatalf("%d, cookies %q: one attempt more must not mean one cookie more", res.StatusCode, cookies)
		}
		value, _, _ := strings.Cut(cookies[0], ";")
		for range 3 {
			res, again := d.ask("Cookie: " + value)
			if again != who || len(res.Header.Values("Set-Cookie")) != 0 {
				t.Fatalf("%s: came to %s, then to %s with the cookies %q", value, who, again, res.Header.Values("Set-Cookie"))
			}
		}
	}
}

func TestCookiesOfOthersStay(t *testing.T) {
	_, addrs := named(t, 2)
	d := open(t, "header Set-Cookie mine=1\napp_proxy "+freeAddr(t)+" "+addrs+" {\n lb_policy cookie who secret\n}")
	for range 6 {
		res, _ := d.ask()
		if got := res.Header.Values("Set-Cookie"); len(got) != 2 || got[0] != "mine=1" || !strings.HasPrefix(got[1], "who=") {
			t.Fatalf("%q", got)
		}
	}
}

func TestStickyRequestWaitsForItsOwn(t *testing.T) {
	entered, leave := make(chan bool, 10), make(chan bool)
	free := sync.OnceFunc(func() { close(leave) })
	defer free()
	handler := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				entered <- true
				<-leave
			}
			fmt.Fprint(w, name)
		}
	}
	a, b := newApp(t, handler("a")), newApp(t, handler("b"))
	d := open(t, "app_proxy "+a.addr+" "+b.addr+" {\n name own\n concurrency 1\n lb_policy header X-Visitor\n}")
	_, own := d.ask("X-Visitor: me")
	other := "" // a visitor who belongs elsewhere
	for n := 0; other == ""; n++ {
		if _, who := d.ask(fmt.Sprint("X-Visitor: ", n)); who != own {
			other = fmt.Sprint("X-Visitor: ", n)
		}
	}
	done := make(chan string, 2)
	go func() {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", d.url+"/slow", nil)
		req.Header.Set("X-Visitor", "me")
		res, err := client.Do(req)
		if err != nil {
			done <- err.Error()
			return
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		done <- string(text)
	}()
	<-entered
	go func() {
		_, who := d.ask("X-Visitor: me")
		done <- who
	}()
	eventually(t, "it waits, although the other upstream is free", func() bool { return poolOf(t, "own").Waiting == 1 })
	if _, who := d.ask(other); who == own {
		t.Errorf("who belongs elsewhere came to %s", who)
	}
	free()
	for range 2 {
		if who := <-done; who != own {
			t.Errorf("answered by %s, its own is %s", who, own)
		}
	}
}

func TestLoadIsSpreadOverFreeUpstreams(t *testing.T) {
	for _, policy := range []string{"first", "round_robin", "weighted_round_robin 1 1 1", "random", "least_conn"} {
		leave := make(chan bool)
		free := sync.OnceFunc(func() { close(leave) })
		var apps []*app
		addrs := ""
		for range 3 {
			a := newApp(t, func(w http.ResponseWriter, r *http.Request) { <-leave })
			apps = append(apps, a)
			addrs += a.addr + " "
		}
		t.Cleanup(free) // before the applications are closed
		// The cost is declared: learned, these requests would be slow, and the slow
		// never hold all slots.
		d := open(t, "app_proxy "+addrs+"{\n name spread\n concurrency 2\n lb_policy "+policy+"\n route * / {\n cost 1ms\n }\n}")
		done := make(chan int, 6)
		for range 6 {
			go func() {
				status, _ := d.get("/")
				done <- status
			}()
		}
		eventually(t, policy+": all six are in flight", func() bool {
			return apps[0].inFlight.Load() == 2 && apps[1].inFlight.Load() == 2 && apps[2].inFlight.Load() == 2
		})
		free()
		for range 6 {
			if status := <-done; status != 200 {
				t.Errorf("%s: %d", policy, status)
			}
		}
	}
}

// loadHandler replaces the config by one that has a single handler, in JSON.
func (d *door) loadHandler(handler string) {
	d.t.Helper()
	config := fmt.Sprintf(`{
		"admin": {"disabled": true},
		"logging": {"logs": {"default": {"level": "ERROR"}}},
		"apps": {"http": {"grace_period": "10s", "servers": {"site": {
			"listen": [%q], "automatic_https": {"disable": true}, "routes": [{"handle": [%s]}]
		}}}}
	}`, d.addr, handler)
	if err := caddy.Load([]byte(config), true); err != nil {
		d.t.Fatal(err)
	}
}

func TestUpstreamMayHaveALimitOfItsOwn(t *testing.T) {
	leave := make(chan bool)
	handler := func(w http.ResponseWriter, r *http.Request) { <-leave }
	small, big := newApp(t, handler), newApp(t, handler)
	d := open(t, "respond 404")
	d.loadHandler(fmt.Sprintf(`{
		"handler": "app_proxy", "name": "sizes", "concurrency": 2,
		"reverse_proxy": {"upstreams": [{"dial": %q, "max_requests": 1}, {"dial": %q, "max_requests": 3}]}
	}`, small.addr, big.addr))
	done := make(chan int, 6)
	for range 6 {
		go func() {
			status, _ := d.get("/")
			done <- status
		}()
	}
	eventually(t, "two of six wait", func() bool { p := poolOf(t, "sizes"); return p.InFlight == 4 && p.Waiting == 2 })
	if s, b := small.inFlight.Load(), big.inFlight.Load(); s > 1 || b > 3 {
		t.Errorf("%d and %d in flight", s, b)
	}
	close(leave)
	for range 6 {
		if status := <-done; status != 200 {
			t.Errorf("status %d", status)
		}
	}
	if small.most.Load() != 1 || big.most.Load() > 3 {
		t.Errorf("at most %d and %d at once, want 1 and 3", small.most.Load(), big.most.Load())
	}
}

// nameServer is a DNS server that knows no name until one is put there.
type nameServer struct {
	addr    string
	known   atomic.Pointer[[4]byte]
	refused atomic.Int32 // questions without an answer
}

func newNameServer(t *testing.T) *nameServer {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{addr: conn.LocalAddr().String()}
	var wg sync.WaitGroup
	wg.Go(func() { s.serve(conn) })
	t.Cleanup(func() {
		conn.Close()
		wg.Wait()
	})
	return s
}

func (s *nameServer) serve(conn net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil {
			continue
		}
		m.Response, m.RCode, m.Additionals = true, dnsmessage.RCodeNameError, nil
		if ip := s.known.Load(); ip != nil {
			m.RCode = dnsmessage.RCodeSuccess
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: *ip},
				}}
			}
		} else {
			s.refused.Add(1)
		}
		if answer, err := m.Pack(); err == nil {
			conn.WriteTo(answer, from)
		}
	}
}

func TestRequestsAreHeldUntilTheNameResolves(t *testing.T) {
	names := newNameServer(t)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "found") })
	_, port, _ := net.SplitHostPort(a.addr)
	config := "app_proxy {\n name dynamic\n dynamic a app.portner.test " + port + " {\n refresh 1ms\n resolvers " + names.addr + "\n }\n}"
	d := open(t, config)
	done := make(chan string)
	ask := func() {
		status, body := d.get("/")
		done <- fmt.Sprint(status, " ", body)
	}
	go ask()
	eventually(t, "the name was asked for in vain, and the request waits", func() bool {
		return names.refused.Load() > 0 && poolOf(t, "dynamic").Waiting == 1
	})
	names.known.Store(&[4]byte{127, 0, 0, 1})
	if got := <-done; got != "200 found" {
		t.Fatal(got)
	}

	// While the resolver fails, what was found last stays, also over a reload.
	names.known.Store(nil)
	before := names.refused.Load()
	d.load("header X-New yes\n" + config)
	eventually(t, "the name was asked for in vain again", func() bool { return names.refused.Load() > before })
	go ask()
	if got := <-done; got != "200 found" {
		t.Fatal(got)
	}
}

func TestNameThatNeverResolvesIs503AfterHold(t *testing.T) {
	names := newNameServer(t)
	d := open(t, "app_proxy {\n hold 100ms\n dynamic a app.portner.test 80 {\n resolvers "+names.addr+"\n }\n}")
	res, err := d.do(t.Context(), "GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := problem(t, res); p.Status != 503 || p.Reason != "held" {
		t.Errorf("%+v", p)
	}
}

func TestDynamicLocalhostIsFound(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {})
	_, port, _ := net.SplitHostPort(a.addr)
	d := open(t, "app_proxy {\n dynamic a localhost "+port+" {\n versions ipv4\n }\n}")
	if status, body := d.get("/"); status != 200 {
		t.Fatal(status, body)
	}
}

func TestAnswersThatRetryMatchMatchesAreAskedForAgain(t *testing.T) {
	for _, c := range []struct {
		lines    string
		status   int
		attempts int32
	}{
		{"lb_retries 2\nlb_retry_match {\n expression `{rp.status_code} == 503`\n}", 200, 3},
		{"lb_retries 1\nlb_retry_match {\n expression `{rp.status_code} == 503`\n}", 503, 2},
		{"lb_try_duration 10s\nlb_retry_match {\n expression `{rp.status_code} == 503`\n}", 200, 3},
		{"lb_retries 2\nlb_retry_match {\n expression `{rp.status_code} == 500`\n}", 503, 1},
		{"lb_retries 2", 503, 1},
	} {
		var attempts atomic.Int32
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			if string(text) != "all of it" {
				t.Errorf("attempt %d has the body %q", attempts.Load()+1, text)
			}
			if attempts.Add(1) < 3 {
				w.WriteHeader(503)
				io.WriteString(w, "not yet")
			}
		})
		d := open(t, "app_proxy "+a.addr+" {\n name again\n concurrency 1\n"+c.lines+"\n}")
		res, err := d.do(t.Context(), "POST", "/", strings.NewReader("all of it"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := attempts.Load(); res.StatusCode != c.status || got != c.attempts {
			t.Errorf("%s: %d after %d attempts, want %d after %d", c.lines, res.StatusCode, got, c.status, c.attempts)
		}
		eventually(t, "the slot is back", func() bool { return poolOf(t, "again").InFlight == 0 })
		if a.most.Load() != 1 {
			t.Errorf("%d at once", a.most.Load())
		}
	}
}

// TestRequestThatMayHaveArrivedIsSentAgainOnlyWhereThatIsHarmless: once more, and
// to whoever is there.
func TestRequestThatMayHaveArrivedIsSentAgainOnlyWhereThatIsHarmless(t *testing.T) {
	for _, c := range []struct {
		method, key string
		most        int32
	}{{"GET", "", 2}, {"PUT", "", 2}, {"POST", "", 1}, {"PATCH", "", 1}, {"POST", "k1", 2}} {
		a := newApp(t, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
		d := open(t, "app_proxy "+a.addr)
		req, err := http.NewRequestWithContext(t.Context(), c.method, d.url, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if c.key != "" {
			req.Header.Set("Idempotency-Key", c.key)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 502 || a.served.Load() != c.most {
			t.Errorf("%s %s: %d, sent %d times, want %d", c.method, c.key, res.StatusCode, a.served.Load(), c.most)
		}
	}
}
