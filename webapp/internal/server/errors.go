package server

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"

	"github.com/portner/portner/webapp/internal/api"
	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/page"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

// statusClientGone is nginx' number for a client that left; nobody reads the
// answer, the log line says why there was none.
const statusClientGone = 499

// answerError turns an error into a problem for programs and a page for people.
func answerError(log *zap.Logger, pages *page.Pages) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		status := statusOf(err, c.Request())
		if status >= 500 && !errors.Is(err, store.ErrBusy) { // of that the line of the request says enough
			report(log, c, err)
		}
		if c.Response().Committed || status == statusClientGone {
			c.Response().Status = status
			return
		}
		var fast *store.TooFast
		switch {
		case status == http.StatusServiceUnavailable:
			c.Response().Header().Set("Retry-After", "1")
		case errors.As(err, &fast):
			c.Response().Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(fast.Wait.Seconds()))))
		case status == http.StatusUnauthorized && api.Owns(c.Request().URL.Path):
			c.Response().Header().Set("WWW-Authenticate", `Bearer realm="news"`)
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

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

func statusOf(err error, r *http.Request) int {
	var (
		known     *echo.HTTPError
		invalid   *news.Invalid
		tooLarge  *http.MaxBytesError
		discussed *store.Discussed
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
	case isAny(err, news.ErrNoSuchItem, store.ErrNoSuchUser, store.ErrNoSuchList):
		return http.StatusNotFound
	case isAny(err, store.ErrWrongSecret, news.ErrNotAllowed, session.ErrForged):
		return http.StatusForbidden
	case errors.Is(err, session.ErrLogin):
		return http.StatusUnauthorized
	case errors.As(err, &discussed), errors.Is(err, store.ErrNameTaken):
		return http.StatusConflict
	case errors.Is(err, store.ErrTooFast):
		return http.StatusTooManyRequests
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout // the body came too slowly
	case errors.Is(err, io.ErrUnexpectedEOF):
		return http.StatusBadRequest // the body ended before its length
	case errors.Is(err, context.Canceled), r.Context().Err() != nil:
		return statusClientGone
	case isAny(err, store.ErrUnavailable, store.ErrBusy):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
