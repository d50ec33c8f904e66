package caddymodule_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/portner/portner/caddymodule"
)

// TestApplicationNeverSeesTwoRequestsAtOnce is the promise of concurrency 1
// under everything at once: a hundred clients, a third of whom leave after
// their request was sent, reloads in between, and one of two upstreams dead.
func TestApplicationNeverSeesTwoRequestsAtOnce(t *testing.T) {
	const clients, rounds = 100, 10
	sent := make(map[string]context.CancelFunc) // by request id; those who will leave
	var mu sync.Mutex
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		mu.Lock()
		leave := sent[r.Header.Get("X-Id")]
		mu.Unlock()
		if leave != nil {
			leave()
		}
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // work
		fmt.Fprint(w, strings.Repeat("answer ", 100))
		http.NewResponseController(w).Flush()
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
		fmt.Fprint(w, "end")
	})
	config := func(reload int) string {
		return fmt.Sprintf(`header X-Config %d
		app_proxy %s %s {
			name        exam
			concurrency 1
			queue {
				wait  60s
				depth 1000
			}
			health_uri      /health
			health_interval 5ms
		}`, reload, a.addr, freeAddr(t))
	}
	d := open(t, config(-1))

	var wg sync.WaitGroup
	statuses := make(chan int, clients*rounds)
	visit := func(c, round int) {
		id := fmt.Sprintf("%d-%d", c, round)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		leaves := (c+round)%3 == 0
		if leaves {
			mu.Lock()
			sent[id] = cancel
			mu.Unlock()
		}
		method, body := "GET", ""
		if c%2 == 0 {
			method, body = "POST", id
		}
		req, err := http.NewRequestWithContext(ctx, method, d.url+"/work", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("X-Id", id)
		res, err := client.Do(req)
		if err != nil {
			if !leaves {
				t.Errorf("a client who stayed got no answer: %v", err)
			}
			return
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if leaves {
			return
		}
		statuses <- res.StatusCode
		if err != nil || !strings.HasSuffix(string(text), "end") {
			t.Errorf("status %d, %d bytes, %v: the answer is not whole", res.StatusCode, len(text), err)
		}
	}
	for c := range clients {
		wg.Go(func() {
			for round := range rounds {
				visit(c, round)
			}
		})
	}
	stop := make(chan bool)
	reloaded := make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				reloaded <- n
				return
			default:
				d.load(config(n))
			}
		}
	}()
	wg.Wait()
	close(stop)
	close(statuses)
	got := make(map[int]int)
	for s := range statuses {
		got[s]++
	}
	t.Logf("statuses %v, %d reloads, %d requests reached the application", got, <-reloaded, a.served.Load())
	if len(got) != 1 || got[200] == 0 {
		t.Errorf("statuses of those who stayed: %v, want only 200", got)
	}
	if most := a.most.Load(); most != 1 {
		t.Errorf("the application saw %d requests at once", most)
	}
	eventually(t, "all slots are back", func() bool { p := poolOf(t, "exam"); return p.InFlight == 0 && p.Waiting == 0 })
}

func TestReloadLosesNobodyWhoWaitsOrRuns(t *testing.T) {
	for _, what := range []string{"same pool", "other limit", "pool gone", "upstream replaced"} {
		t.Run(what, func(t *testing.T) {
			entered, leave := make(chan bool, 100), make(chan bool)
			a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
				entered <- true
				<-leave
				fmt.Fprint(w, "done")
			})
			config := "app_proxy " + a.addr + ` {
				name        news
				concurrency 1
			}`
			next := map[string]string{
				"same pool":         "header X-New yes\n" + config,
				"other limit":       strings.Replace(config, "concurrency 1", "concurrency 2", 1),
				"pool gone":         "respond 404",
				"upstream replaced": strings.Replace(config, a.addr, freeAddr(t), 1),
			}[what]
			d := open(t, config)
			done := make(chan string, 3)
			for range 3 {
				go func() {
					status, body := d.get("/")
					done <- fmt.Sprint(status, " ", body)
				}()
			}
			<-entered
			eventually(t, "two wait", func() bool { return poolOf(t, "news").Waiting == 2 })
			d.load(next)
			if what == "upstream replaced" {
				// Who waits, waits for what the new config has; here it is dead.
				// The running one is answered, and a way back is open.
				leave <- true
				if got := <-done; got != "200 done" {
					t.Fatalf("the running one: %s", got)
				}
				d.load(config)
				close(leave)
			} else {
				close(leave)
				if got := <-done; got != "200 done" {
					t.Fatalf("the running one: %s", got)
				}
			}
			for range 2 {
				if got := <-done; got != "200 done" {
					t.Errorf("one who waited: %s", got)
				}
			}
			eventually(t, "nothing is left of a pool that nobody uses", func() bool { return len(caddymodule.Retiring()) == 0 })
		})
	}
}

func TestReloadThatFailsChangesNothing(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {})
	config := "app_proxy " + a.addr + " {\n name steady\n concurrency 3\n}"
	d := open(t, config)
	bad := strings.Replace(config, "concurrency 3", "concurrency 7\n transport http {\n versions 0.9\n }", 1)
	if err := caddyLoad(d, bad); err == nil {
		t.Fatal("a config with an impossible transport was loaded")
	}
	if got := poolOf(t, "steady").Limits; len(got) != 1 || got[0] != 3 {
		t.Fatalf("limits after the failed reload: %v, want 3", got)
	}
	if status, _ := d.get("/"); status != 200 {
		t.Fatalf("status %d", status)
	}
}

func TestTwoHandlersOfOnePoolShareItsSlots(t *testing.T) {
	entered, leave := make(chan bool, 10), make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		<-leave
	})
	one := "app_proxy %s " + a.addr + " {\n name shared\n concurrency 1\n header_up X-Way %[1]s\n}\n"
	d := open(t, fmt.Sprintf(one, "/a*")+fmt.Sprintf(one, "/b*"))
	done := make(chan int, 2)
	for _, path := range []string{"/a", "/b"} {
		go func() {
			status, _ := d.get(path)
			done <- status
		}()
	}
	<-entered
	eventually(t, "the other waits", func() bool { return poolOf(t, "shared").Waiting == 1 })
	close(leave)
	for range 2 {
		if status := <-done; status != 200 {
			t.Errorf("status %d", status)
		}
	}
	if a.most.Load() != 1 {
		t.Errorf("%d at once", a.most.Load())
	}
}

func TestDeadUpstreamDoesNotSwallowTheQueue(t *testing.T) {
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Millisecond) })
	d := open(t, "app_proxy "+freeAddr(t)+" "+freeAddr(t)+" "+a.addr+" {\n concurrency 1\n}")
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if status, body := d.get("/"); status != 200 {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	wg.Wait()
}

func TestBusyApplicationIsNotDown(t *testing.T) {
	entered, leave := make(chan bool, 10), make(chan bool)
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			entered <- true
			<-leave
		}
	})
	d := open(t, "app_proxy "+a.addr+` {
		name            busy
		concurrency     1
		health_uri      /health
		health_interval 2ms
		health_timeout  5ms
	}`)
	done := make(chan int)
	go func() {
		status, _ := d.get("/long")
		done <- status
	}()
	<-entered
	before := a.served.Load()
	for range 50 { // many times the interval and the timeout
		if p := poolOf(t, "busy"); p.Held {
			t.Fatal("held while the application works")
		}
		time.Sleep(time.Millisecond)
	}
	if a.served.Load() != before || a.most.Load() != 1 {
		t.Errorf("a probe was sent beside the request")
	}
	close(leave)
	if status := <-done; status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestSickApplicationIsHeldUntilItsProbePasses(t *testing.T) {
	sick := make(chan bool, 1)
	well := make(chan struct{})
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			return
		}
		select {
		case <-well:
			fmt.Fprint(w, "all fine")
		default:
			w.WriteHeader(500)
			select {
			case sick <- true:
			default:
			}
		}
	})
	d := open(t, "app_proxy "+a.addr+` {
		name            sick
		health_uri      /health
		health_interval 2ms
		health_body     fine
	}`)
	<-sick
	eventually(t, "held", func() bool { return poolOf(t, "sick").Held })
	done := make(chan int)
	go func() {
		status, _ := d.get("/")
		done <- status
	}()
	eventually(t, "the request waits", func() bool { return poolOf(t, "sick").Waiting == 1 })
	close(well)
	if status := <-done; status != 200 {
		t.Errorf("status %d", status)
	}
}

func caddyLoad(d *door, directives string) error {
	return caddy.Load(d.config(directives), true)
}
