package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"

	"github.com/portner/portner/webapp/internal/api"
	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/page"
	"github.com/portner/portner/webapp/internal/store"
)

// statusClientGone is nginx' number for a client that left; nobody reads the
// answer, the log line says why there was none.
const statusClientGone = 499

// answerError turns an error into a problem for programs and a page for people.
func answerError(log *zap.Logger, pages *page.Pages) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		status := statusOf(err, c.Request())
		if status >= 500 {
			report(log, c, err)
		}
		if c.Response().Committed || status == statusClientGone {
			c.Response().Status = status
			return
		}
		if status == http.StatusServiceUnavailable {
			c.Response().Header().Set("Retry-After", "1")
		}
		if status == http.StatusRequestEntityTooLarge {
			c.Response().Header().Set("Connection", "close") // the rest of the body is not read
		}
		write := pages.WriteError
		if api.Owns(c.Request().URL.Path) {
			write = api.WriteProblem
		}
		if err := write(c, status, err); err != nil {
			report(log, c, err)
		}
	}
}

func report(log *zap.Logger, c echo.Context, err error) {
	fields := []zap.Field{
		zap.String("request_id", c.Response().Header().Get(headerRequestID)),
		zap.String("uri", c.Request().RequestURI),
		zap.Error(err),
	}
	var p *panicked
	if errors.As(err, &p) {
		fields = append(fields, zap.ByteString("stack", p.stack))
	}
	log.Error("request failed", fields...)
}

func statusOf(err error, r *http.Request) int {
	var (
		known    *echo.HTTPError
		invalid  *news.Invalid
		tooLarge *http.MaxBytesError
	)
	switch {
	case errors.As(err, &known):
		return known.Code
	case errors.As(err, &invalid) && invalid.Malformed:
		return http.StatusBadRequest
	case errors.As(err, &invalid):
		return http.StatusUnprocessableEntity
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, news.ErrNoSuchItem):
		return http.StatusNotFound
	case errors.Is(err, store.ErrWrongSecret):
		return http.StatusForbidden
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout // the body came too slowly
	case errors.Is(err, io.ErrUnexpectedEOF):
		return http.StatusBadRequest // the body ended before its length
	case errors.Is(err, context.Canceled), r.Context().Err() != nil:
		return statusClientGone
	case errors.Is(err, store.ErrUnavailable):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
