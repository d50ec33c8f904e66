package server

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"

	"github.com/portner/portner/webapp/internal/api"
	"github.com/portner/portner/webapp/internal/session"
)

const headerRequestID = "X-Request-Id"

// requestID keeps the id that the door gave the request, so that both logs
// can be read together, or makes one.
func requestID(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(headerRequestID)
		if id == "" || len(id) > 128 {
			id = rand.Text()
		}
		c.Response().Header().Set(headerRequestID, id)
		return next(c)
	}
}

// logged writes one line per request, after the answer, so that the line has
// the status that the client saw.
func logged(log *zap.Logger) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			start := time.Now()
			if err := next(c); err != nil {
				c.Error(err)
			}
			req, res := c.Request(), c.Response()
			log.Info("request",
				zap.String("request_id", res.Header().Get(headerRequestID)),
				zap.String("method", req.Method),
				zap.String("uri", req.RequestURI),
				zap.Int("status", res.Status),
				zap.Int64("bytes", res.Size),
				zap.Duration("took", time.Since(start)),
				zap.String("remote", req.RemoteAddr))
			return nil
		}
	}
}

// panicked is a handler's panic as an error, with the place where it happened.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

func recovered(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				err = &panicked{v, debug.Stack()}
			}
		}()
		return next(c)
	}
}

// secured sets the headers that every answer carries. The pages load nothing
// but their stylesheet, their icon and their script, which makes no markup.
func secured(next echo.HandlerFunc) echo.HandlerFunc {
	const policy = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; form-action 'self'; " +
		"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
	// Feeds and JSON are shown by the browser itself, with styles of its own.
	const ofData = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Security-Policy", policy)
		c.Response().Before(func() {
			if mime := h.Get(echo.HeaderContentType); mime != "" && !strings.HasPrefix(mime, echo.MIMETextHTML) {
				h.Set("Content-Security-Policy", ofData)
			}
		})
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY") // browsers that do not know frame-ancestors
		h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		return next(c)
	}
}

// maxBody is the largest request body.
const maxBody = 1 << 20

// bounded makes reading more than maxBody of a body an *http.MaxBytesError.
// A length that says so is refused before the body is read.
func bounded(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if r.ContentLength > maxBody {
			return &http.MaxBytesError{Limit: maxBody}
		}
		r.Body = http.MaxBytesReader(c.Response().Writer, r.Body, maxBody)
		return next(c)
	}
}

// known finds out who is asking, where that matters: of pages by the cookie, of
// programs by the token. The simulator's posts carry name and secret
// themselves, and files are everybody's.
func known(sessions *session.Sessions) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		pages, programs := sessions.ForPages(next), sessions.ForPrograms(next)
		return func(c echo.Context) error {
			path := c.Request().URL.Path
			switch {
			case api.Simulator(path), path == "/up", path == "/ready", path == "/favicon.ico", strings.HasPrefix(path, "/static/"):
				return next(c)
			case api.Owns(path):
				return programs(c)
			}
			return pages(c)
		}
	}
}
