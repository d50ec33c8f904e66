package caddymodule_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/portner/portner/caddymodule"
)

// TestPoolStaysWhileARequestIsInside: a request that still uploads is in no queue
// and has no slot. Its pool must not be forgotten, or a config that names it again
// would give the application a second one.
func TestPoolStaysWhileARequestIsInside(t *testing.T) {
	entered, leave := make(chan bool, 10), make(chan bool)
	free := sync.OnceFunc(func() { close(leave) })
	defer free()
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		<-leave
	})
	config := "app_proxy " + a.addr + " {\n name uploading\n concurrency 1\n}"
	d := open(t, config)
	conn, in := d.dial("POST / HTTP/1.1\r\nHost: " + d.addr + "\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	if line, _ := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q", line)
	}
	in.ReadString('\n')
	d.load("respond gone 404")
	caddymodule.RetireIdle()
	if got := caddymodule.Retiring(); !slices.Contains(got, "uploading") {
		t.Fatalf("retiring are %v, and a request is inside", got)
	}
	d.load(config)
	done := make(chan int)
	go func() {
		status, _ := d.get("/beside")
		done <- status
	}()
	<-entered
	io.WriteString(conn, "body")
	eventually(t, "the upload waits for the slot", func() bool { return poolOf(t, "uploading").Waiting == 1 })
	free()
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 200 || <-done != 200 {
		t.Fatal(res, err)
	}
	if most := a.most.Load(); most != 1 {
		t.Errorf("%d requests at once", most)
	}
}

// TestDeparturesLeaveNothingBehind has clients leave at every stage of a request,
// and counts goroutines and slots.
func TestDeparturesLeaveNothingBehind(t *testing.T) {
	var mu sync.Mutex
	leavers := make(map[string]context.CancelFunc) // by id; called when the application has the request
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		stage, id, _ := strings.Cut(r.Header.Get("X-Leave"), " ")
		mu.Lock()
		leave := leavers[id]
		mu.Unlock()
		if stage == "thinking" {
			leave()
		}
		io.WriteString(w, strings.Repeat("answer ", 10_000))
		http.NewResponseController(w).Flush()
		if stage == "answering" {
			leave()
		}
		io.WriteString(w, strings.Repeat("answer ", 10_000))
	})
	d := open(t, "app_proxy "+a.addr+` {
		name        leavers
		concurrency 2
		queue {
			wait  60s
			depth 1000
		}
	}`)
	visit := func(stage string, n int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		id := fmt.Sprint(n)
		mu.Lock()
		leavers[id] = cancel
		mu.Unlock()
		var body io.Reader = strings.NewReader(strings.Repeat("x", 100_000)) // more than fits into memory
		switch stage {
		case "uploading":
			body = io.MultiReader(body, leaving{cancel})
		case "waiting":
			go func() { // it, or another, waits
				eventually(t, "somebody waits", func() bool { return ctx.Err() != nil || poolOf(t, "leavers").Waiting > 0 })
				cancel()
			}()
		}
		req, err := http.NewRequestWithContext(ctx, "POST", d.url, body)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("X-Leave", stage+" "+id)
		res, err := client.Do(req)
		if err != nil {
			return
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if bytes.Contains(text, []byte("queue-shed")) || bytes.Contains(text, []byte(`"reason":"door"`)) {
			return // a queue that does not go away, for so many leave, or a machine that has other things to do
		}
		if stage == "staying" && (res.StatusCode != 200 || err != nil) {
			t.Errorf("who stayed got %d, %v, %.300s", res.StatusCode, err, text)
		}
	}
	round := func() {
		var wg sync.WaitGroup
		for n := range 100 {
			wg.Go(func() {
				visit([]string{"uploading", "waiting", "thinking", "answering", "staying"}[n%5], n)
			})
		}
		wg.Wait()
		eventually(t, "all slots are back", func() bool { p := poolOf(t, "leavers"); return p.InFlight == 0 && p.Waiting == 0 })
	}
	round() // what stays for good is made now
	before := runtime.NumGoroutine()
	for range 3 {
		round()
	}
	const idle = 12 // connections to the application that are kept, and their like
	eventually(t, fmt.Sprintf("there are not many more than %d goroutines", before), func() bool { return runtime.NumGoroutine() <= before+idle })
	eventually(t, "no temporary file is open", func() bool { return bodyFiles(t) == 0 })
}

// leaving is a body that ends by its sender's departure.
type leaving struct{ leave context.CancelFunc }

func (l leaving) Read([]byte) (int, error) {
	l.leave()
	return 0, net.ErrClosed
}

// bodyFiles counts the temporary files of request bodies that are open.
func bodyFiles(t *testing.T) (n int) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.Contains(name, "portner-body-") {
			n++
		}
	}
	return n
}

// TestSlotComesBackWhenAHandlerOfTheAnswerBreaksOff: the answer that
// handle_response has taken over is closed by nobody when its route panics.
func TestSlotComesBackWhenAHandlerOfTheAnswerBreaksOff(t *testing.T) {
	other := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half") // and then the connection is closed
	})
	a := newApp(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Accel-Redirect", "/elsewhere")
		io.WriteString(w, strings.Repeat("an answer that nobody reads ", 1000))
	})
	d := open(t, "app_proxy "+a.addr+` {
		name        taken
		concurrency 1
		@accel header X-Accel-Redirect *
		handle_response @accel {
			reverse_proxy `+other.addr+`
		}
	}`)
	for range 3 {
		res, err := d.do(t.Context(), "GET", "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Fatal("the answer is whole")
		}
		res.Body.Close()
	}
	eventually(t, "the slot is back", func() bool { return poolOf(t, "taken").InFlight == 0 })
}
