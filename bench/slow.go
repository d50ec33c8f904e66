package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// slow measures what clients cost that read slowly: when the application's slot is
// free again, what others notice of a thousand of them, and what memory they take.
func slow(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("slow", flag.ContinueOnError)
	clients := flags.Int("clients", 1000, "slow readers at once")
	film := flags.Int("film", 8<<20, "length of the answer for the slot, in bytes")
	each := flags.Int("each", 1<<20, "length of the answer of each of the slow readers, in bytes")
	rate := flags.Int("rate", 10<<10, "what a slow reader takes, in bytes a second")
	rounds := flags.Int("rounds", 5, "pairs; the table has medians")
	requests := flags.Int("requests", 2000, "requests of the others in a round")
	caddy := flags.String("caddy", "", "a Caddy `binary` with Portner in it (default built from this repository)")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *clients < 1 || *rounds < 1 || *rounds > 50 || *requests < 100 || *rate < 1 || *film < 1 || *each < 1 {
		fmt.Fprintln(flags.Output(), "all numbers must be positive, -rounds at most 50, -requests at least 100")
		return errUsage
	}
	dir, err := os.MkdirTemp("", "bench-slow-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h := &hall{rate: *rate, film: *film, each: *each, next: make(chan time.Time, 1)}
	if err := h.open(ctx, dir, *caddy); err != nil {
		return errors.Join(err, h.close())
	}
	err = h.measure(ctx, *clients, *rounds, *requests)
	return errors.Join(err, h.close())
}

// What is promised: the slot is free within so many milliseconds, each time; the p99 of
// others is within so many times what it is alone; and the proxy's own memory grows by
// no more than docs/caddyfile.md says of all bodies together (MiB), and by what a
// connection takes (KiB), each of it twice: so much may stand there that is not in use
// until the collector has been (GOGC=100).
const (
	slotWithin, othersWithin = 50, 1.5
	bodiesWithin, eachWithin = 2 * 256, 2 * 64
)

// slowPromises judges a measurement: the slot's times, the ratios, sorted, and by how
// many MiB the proxy's own memory has grown for so many clients.
func slowPromises(slot Latency, ratios []float64, grown float64, clients int) []Verdict {
	most := bodiesWithin + float64(clients)*eachWithin/1024
	ratio := ratios[len(ratios)/2]
	judge := func(says, measured string, well bool) Verdict {
		v := Verdict{Says: says, Measured: measured, Is: missed}
		if well {
			v.Is = met
		}
		return v
	}
	return []Verdict{
		judge(fmt.Sprintf("the slot is free within %d ms of the application's last byte, each time", slotWithin),
			fmt.Sprintf("at most %.1f ms", slot.Max), slot.Max <= slotWithin),
		judge(fmt.Sprintf("p99 of others within %.1f times what it is alone, median of the rounds", othersWithin),
			fmt.Sprintf("%.2f times", ratio), ratio <= othersWithin),
		judge(fmt.Sprintf("%d slow readers take no more than %.0f MiB of the proxy's own memory", clients, most),
			fmt.Sprintf("at most %.0f MiB", grown), grown <= most),
	}
}

// A hall is an application that shows films, with Portner in front of it.
type hall struct {
	rate, film, each int
	url              string
	caddy            *process
	app              *http.Server

	mu    sync.Mutex
	shown time.Time // mu; when the last byte of the last film was taken
	next  chan time.Time
}

func (h *hall) open(ctx context.Context, dir, caddy string) error {
	if caddy == "" {
		root, err := moduleRoot()
		if err != nil {
			return err
		}
		caddy = filepath.Join(dir, "caddy")
		if err := goBuild(ctx, root, "-tags=nobadger,nomysql,nopgx", "-o", caddy, "./cmd/caddy"); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h.app = &http.Server{Handler: http.HandlerFunc(h.show)}
	go h.app.Serve(l) // ends with close
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	h.url = "http://127.0.0.1:" + ports[0]
	config := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tgrace_period 1s\n\tlog {\n\t\tlevel WARN\n\t}\n}\n%s {\n\tapp_proxy %s {\n\t\tconcurrency 1\n\t\tqueue {\n\t\t\tfair_by off\n\t\t}\n\t}\n}\n", h.url, l.Addr())
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	h.caddy, err = startProcess(dir, "caddy", []string{"XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}, caddy, "run", "--config", file, "--adapter", "caddyfile")
	if err != nil {
		return err
	}
	return h.caddy.await(ctx, func() error { return alive(&http.Client{}, h.url) })
}

func (h *hall) close() error {
	if h.app != nil {
		h.app.Close()
	}
	return h.caddy.stop()
}

// show answers with a film of the length that is asked for, or with a page of 1 KiB.
func (h *hall) show(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/film":
		n, _ := strconv.Atoi(r.URL.RawQuery)
		w.Header().Set("Content-Length", strconv.Itoa(n))
		piece := make([]byte, 32<<10)
		for n > 0 {
			got, err := w.Write(piece[:min(n, len(piece))])
			if n -= got; err != nil {
				return
			}
		}
		h.mu.Lock()
		h.shown = time.Now()
		h.mu.Unlock()
	case "/next":
		h.next <- time.Now()
	case "/status":
		io.WriteString(w, "Alive")
	default:
		w.Write(make([]byte, 1<<10))
	}
}

// visitor takes an answer at the hall's rate until ctx ends. began is called when
// he has its head, or never will.
func (h *hall) visitor(ctx context.Context, size int, began func()) error {
	defer began()
	d := net.Dialer{Control: readsLittle}
	conn, err := d.DialContext(ctx, "tcp", h.url[len("http://"):])
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	fmt.Fprintf(conn, "GET /film?%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", size)
	piece := make([]byte, h.rate)
	if _, err := io.ReadFull(conn, piece[:12]); err != nil || string(piece[9:12]) != "200" {
		return fmt.Errorf("a slow reader got %q, %w", piece[:12], err)
	}
	began()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if _, err := io.ReadFull(conn, piece); err != nil {
				return nil // it has ended, or the measurement has
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// slotFreed is the time from the end of a film at the application to the next
// request there, which waits for the only slot, and the time since it was asked for.
func (h *hall) slotFreed(ctx context.Context) (freed, whole time.Duration, err error) {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	asked := time.Now()
	began := make(chan struct{})
	once := sync.OnceFunc(func() { close(began) })
	wg.Go(func() { err = errors.Join(err, h.visitor(ctx, h.film, once)) })
	<-began
	res, err := http.Get(h.url + "/next")
	if err != nil {
		return 0, 0, err
	}
	res.Body.Close()
	at := <-h.next
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(at.Sub(h.shown), 0), at.Sub(asked), nil
}

// others are four clients who ask for pages, n in all.
func (h *hall) others(n int) (Latency, error) {
	const at = 4
	took := make([][]time.Duration, at)
	errs := make([]error, at)
	var wg sync.WaitGroup
	for i := range at {
		wg.Go(func() {
			transport := new(http.Transport)
			defer transport.CloseIdleConnections()
			for range n / at {
				began := time.Now()
				res, err := (&http.Client{Transport: transport}).Get(h.url + "/")
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if err == nil && res.StatusCode != http.StatusOK {
					err = errors.New(res.Status)
				}
				if err != nil {
					errs[i] = err
					return
				}
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	return latencyOf(slices.Concat(took...)), errors.Join(errs...)
}

// beside is others while so many slow readers are there.
func (h *hall) beside(ctx context.Context, clients, requests int) (l Latency, mib float64, err error) {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	began := make(chan struct{}, 1)
	for range clients { // one after another: they are slow, not a crowd
		wg.Go(func() { h.visitor(ctx, h.each, sync.OnceFunc(func() { began <- struct{}{} })) })
		<-began
	}
	l, err = h.others(requests)
	_, mib, merr := resident(h.caddy)
	return l, mib, errors.Join(err, merr)
}

func (h *hall) measure(ctx context.Context, clients, rounds, requests int) error {
	var freed, whole []time.Duration
	for range rounds {
		f, w, err := h.slotFreed(ctx)
		if err != nil {
			return err
		}
		freed, whole = append(freed, f), append(whole, w)
	}
	f, w := latencyOf(freed), latencyOf(whole)
	fmt.Printf("A client takes %d bytes at %d a second: the next request has its slot %.1f ms after the application's last byte (at most %.1f), %.0f ms after the film was asked for (at most %.0f).\n\n",
		h.film, h.rate, f.P50, f.Max, w.P50, w.Max)
	if _, err := h.others(requests); err != nil { // the first of all is warm-up
		return err
	}
	_, idle, err := resident(h.caddy)
	if err != nil {
		return err
	}
	fmt.Printf("| p99 of others, ms | beside %d slow readers of %d bytes | ratio | own memory, MiB |\n|---|---|---|---|\n", clients, h.each)
	var ratios []float64
	var highest float64
	for range rounds {
		alone, err := h.others(requests)
		if err != nil {
			return err
		}
		with, mib, err := h.beside(ctx, clients, requests)
		if err != nil {
			return err
		}
		ratios = append(ratios, with.P99/alone.P99)
		highest = max(highest, mib)
		fmt.Printf("| %.2f | %.2f | %.2f | %.0f |\n", alone.P99, with.P99, with.P99/alone.P99, mib)
	}
	slices.Sort(ratios)
	fmt.Printf("\nMedian of the ratios %.2f (%.2f to %.2f); own memory before the first slow reader %.0f MiB.\n\n| promise | measured | |\n|---|---|---|\n",
		ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1], idle)
	broken := false
	for _, v := range slowPromises(f, ratios, highest-idle, clients) {
		fmt.Printf("| %s | %s | %s |\n", v.Says, v.Measured, v.Is)
		broken = broken || v.Is == missed
	}
	if broken {
		return errBroken
	}
	return nil
}
