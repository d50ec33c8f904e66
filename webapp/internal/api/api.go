// Package api is what programs speak to: the simulator's POST /post, GET
// /latest and GET /status; this site's own API below /api/v1; and the read side
// of Hacker News' API below /v0. It answers the simulator with what the
// course's client expects and refuses with RFC 9457 problem details. Its handlers return errors; package server
// decides the status and calls WriteProblem.
//
// The client sends "Authorization: Basic b'…'", which is not Basic
// authentication; the header is ignored, the post itself carries name and
// secret.
package api

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

// API answers programs.
type API struct {
	store    *store.Store
	sessions *session.Sessions
	log      *zap.Logger
	stopping func() bool
}

// New returns an API; stopping tells it that the program is about to end.
func New(st *store.Store, sessions *session.Sessions, log *zap.Logger, stopping func() bool) *API {
	return &API{store: st, sessions: sessions, log: log, stopping: stopping}
}

// Register adds the routes to e.
func (a *API) Register(e *echo.Echo) {
	e.POST("/post", a.post)
	reads := []string{http.MethodGet, http.MethodHead}
	e.Match(reads, "/latest", a.latest)
	e.Match(reads, "/status", a.status)
	a.registerV1(e)
	a.registerV0(e)
}

// Simulator reports whether a path belongs to the simulator.
func Simulator(path string) bool {
	return path == "/post" || path == "/latest" || path == "/status"
}

// Owns reports whether a path belongs to programs, who want problem details
// and no page when something is wrong.
func Owns(path string) bool {
	return Simulator(path) || strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/v0/")
}

func (a *API) post(c echo.Context) error {
	if err := jsonOnly(c.Request().Header); err != nil {
		return err
	}
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return err
	}
	p, err := news.ParsePost(body)
	if err != nil {
		return err
	}
	if err := a.store.Take(c.Request().Context(), p); err != nil {
		return err
	}
	return text(c, http.StatusOK, "taken\n")
}

// jsonOnly refuses a body that says it is not JSON in UTF-8. One that says
// nothing is read: what a client forgets to say must not cost a post.
func jsonOnly(h http.Header) error {
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return wrongMedia("Content-Encoding", "is not supported")
	}
	said := h.Get("Content-Type")
	if said == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(said)
	if err != nil || media != "application/json" {
		return wrongMedia("Content-Type", "must be application/json")
	}
	if set := params["charset"]; set != "" && !strings.EqualFold(set, "utf-8") {
		return wrongMedia("Content-Type", "must have charset utf-8 or none")
	}
	return nil
}

// latest is the id taken in last, "0" before the first.
func (a *API) latest(c echo.Context) error {
	id, err := a.store.Latest(c.Request().Context())
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return text(c, http.StatusOK, strconv.FormatInt(int64(id), 10))
}

// statusTimeout is how long the database may take to show that it lives.
const statusTimeout = time.Second

// status says Alive; Update when this process is being replaced; Down when
// the database does not answer. The last two come with 503, so that whoever
// looks at the status code alone stays away too.
func (a *API) status(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	if a.stopping() {
		return text(c, http.StatusServiceUnavailable, "Update")
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), statusTimeout)
	defer cancel()
	_, err := a.store.Latest(ctx)
	if errors.Is(err, store.ErrUnavailable) {
		a.log.Error("status is Down", zap.Error(err))
		return text(c, http.StatusServiceUnavailable, "Down")
	}
	if err != nil {
		return err
	}
	return text(c, http.StatusOK, "Alive")
}

func text(c echo.Context, code int, s string) error {
	return c.Blob(code, "text/plain; charset=utf-8", []byte(s))
}
