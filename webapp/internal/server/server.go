// Package server puts pages and API behind one http.Server and turns errors
// into answers. It is the only place that knows both.
package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"

	"github.com/portner/portner/webapp/internal/api"
	"github.com/portner/portner/webapp/internal/page"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

// Server answers requests from a store that it does not own.
type Server struct {
	http     *http.Server
	store    *store.Store
	metrics  *metrics
	load     load
	stopping atomic.Bool
}

// New returns a server that is not listening yet.
func New(st *store.Store, log *zap.Logger, origin string) (*Server, error) {
	sessions := session.New(st)
	pages, err := page.New(st, sessions, origin)
	if err != nil {
		return nil, err
	}
	s := &Server{store: st, metrics: newMetrics(st), load: load{processors: float64(runtime.GOMAXPROCS(0))}}
	e := echo.New()
	e.HTTPErrorHandler = answerError(log, pages)
	e.IPExtractor = echo.ExtractIPFromXFFHeader() // of the door, which stands in a private network
	e.Use(requestID, s.measured, logged(log), recovered, secured, bounded, shared, known(sessions), newMemory(st).middleware)
	reads := []string{http.MethodGet, http.MethodHead}
	e.Match(reads, "/up", up)
	e.Match(reads, "/ready", s.ready)
	pages.Register(e)
	api.New(st, sessions, log, s.stopping.Load).Register(e)

	s.http = &http.Server{
		Handler:           e,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second, // a body of 1 MiB over a slow line
		WriteTimeout:      time.Minute,
		// Longer than a proxy in front keeps idle connections (Caddy: 2
		// minutes), so that the proxy closes first and never sends a request
		// into a connection that is closing here.
		IdleTimeout:    3 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       zap.NewStdLog(log.Named("http")),
	}
	return s, nil
}

// Handler is the whole site, for tests that need no network.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Serve answers on ln until Stop. It returns nil after a Stop.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Stop takes no new connections and returns when what is in flight has been
// answered, or with an error when ctx ends first.
func (s *Server) Stop(ctx context.Context) error {
	s.stopping.Store(true)
	return s.http.Shutdown(ctx)
}
