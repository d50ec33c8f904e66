package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/portner/portner/webapp/internal/store"
)

// What whoever runs the site looks at: whether it lives, whether it is ready,
// how busy it is. /up and /ready are for everybody, the rest for a private port.

// readyTimeout is how long the database may take to show that it lives.
const readyTimeout = time.Second

// up says that the process answers. It asks nobody else: a program that is
// restarted because its database is away is away as well.
func up(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.String(http.StatusOK, "up\n")
}

// ready says whether requests should be sent here.
func (s *Server) ready(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	if s.stopping.Load() {
		return c.String(http.StatusServiceUnavailable, "stopping\n")
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), readyTimeout)
	defer cancel()
	if err := s.store.Ping(ctx); err != nil {
		return c.String(http.StatusServiceUnavailable, "the database does not answer\n")
	}
	return c.String(http.StatusOK, "ready\n")
}

// Private is what may be asked on the private port: /metrics, /debug/pprof/,
// /up and /ready.
func (s *Server) Private() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	for _, path := range []string{"/up", "/ready"} {
		mux.Handle("GET "+path, s.http.Handler)
	}
	return mux
}

// Drain says "not ready" from now on and goes on answering, until whoever
// sends requests has noticed.
func (s *Server) Drain() { s.stopping.Store(true) }

type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec   // by route, method, status
	seconds  *prometheus.HistogramVec // by route
	inFlight prometheus.Gauge
}

func newMetrics(st *store.Store) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "webapp_requests_total", Help: "Requests answered, by route, method and status."}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "webapp_request_seconds", Help: "Time to answer a request, by route.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "webapp_requests_in_flight", Help: "Requests that are being answered."}),
	}
	count := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value)
	}
	m.registry.MustRegister(m.requests, m.seconds, m.inFlight,
		count("webapp_store_changes_total", "Changes committed.", func() float64 { n, _ := st.Shared(); return float64(n) }),
		count("webapp_store_commits_total", "Transactions that held them; changes that come together share one.", func() float64 { _, n := st.Shared(); return float64(n) }),
		count("webapp_store_wait_seconds_total", "Time that queries waited for a connection.", func() float64 { return st.Connections().WaitDuration.Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "webapp_store_connections_in_use", Help: "Connections with a query on them."},
			func() float64 { return float64(st.Connections().InUse) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// measured counts every request, and tells the door how long this one took
// (Server-Timing) and how busy the process is (endpoint-load-metrics, in the
// text form of ORCA).
func (s *Server) measured(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		s.metrics.inFlight.Inc()
		defer s.metrics.inFlight.Dec()
		ctx, spent := store.WithSpent(c.Request().Context())
		c.SetRequest(c.Request().WithContext(ctx))
		c.Response().Before(func() {
			h := c.Response().Header()
			h.Set("Server-Timing", "app;dur="+milliseconds(time.Since(start))+", db;dur="+milliseconds(spent.Duration()))
			h.Set("Endpoint-Load-Metrics", s.load.report(start))
		})
		err := next(c) // logged, before this, has answered an error
		route := c.Path()
		if route == "" || c.Response().Status == http.StatusNotFound && route == c.Request().URL.Path {
			route = "other"
		}
		status := c.Response().Status
		s.load.count(status)
		s.metrics.requests.WithLabelValues(route, method(c.Request().Method), strconv.Itoa(status)).Inc()
		s.metrics.seconds.WithLabelValues(route).Observe(time.Since(start).Seconds())
		return err
	}
}

func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 3, 64)
}

// method bounds a label that clients could make up.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// load knows how busy the process was in the last second or so. It is computed
// when somebody asks, at most once a second.
type load struct {
	answered, failed atomic.Int64
	last             atomic.Pointer[sample]
	processors       float64
}

type sample struct {
	at               time.Time
	cpu              time.Duration
	answered, failed int64
	text             string
}

const sampleEvery = time.Second

func (l *load) count(status int) {
	l.answered.Add(1)
	if status >= 500 {
		l.failed.Add(1)
	}
}

func (l *load) report(now time.Time) string {
	last := l.last.Load()
	if last != nil && now.Sub(last.at) < sampleEvery {
		return last.text
	}
	next := &sample{at: now, cpu: cpuTime(), answered: l.answered.Load(), failed: l.failed.Load(), text: "TEXT cpu_utilization=0"}
	if last != nil {
		seconds := now.Sub(last.at).Seconds()
		next.text = fmt.Sprintf("TEXT cpu_utilization=%.3f, rps_fractional=%.1f, eps=%.1f",
			(next.cpu-last.cpu).Seconds()/seconds/l.processors, float64(next.answered-last.answered)/seconds, float64(next.failed-last.failed)/seconds)
	}
	l.last.CompareAndSwap(last, next) // whoever was faster has the same
	return next.text
}

// cpuTime is what this process has used of all processors.
func cpuTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
