package page

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
)

type errorView struct {
	view
	Status  int
	Heading string
	Advice  string
}

// WriteError answers with a page that says what happened and what to do. It
// shows nothing of the error itself, which may speak of the inside.
func (p *Pages) WriteError(c echo.Context, status int, err error) error {
	var refusal *news.Refusal
	v := errorView{Status: status, Heading: http.StatusText(status)}
	switch {
	case status == http.StatusNotFound:
		v.Heading, v.Advice = "There is nothing here", "The address may be mistyped, or what it names has not arrived yet."
	case status == http.StatusUnauthorized:
		v.Heading, v.Advice = "You are not logged in", "Log in, then use your browser's back button: it brings back what you typed."
	case status == http.StatusTooManyRequests:
		v.Heading, v.Advice = "That was too fast", "Please wait a while and try again."
	case errors.Is(err, session.ErrForged):
		v.Heading, v.Advice = "This form is too old", "Go back, load the page again, and send it once more."
	case errors.As(err, &refusal):
		v.Heading, v.Advice = "That is not possible", refusal.Why
	case status == http.StatusMethodNotAllowed:
		v.Advice = "This page can only be read."
	case status == http.StatusServiceUnavailable:
		v.Heading, v.Advice = "We will be back in a moment", "The site cannot reach its database. Please try again."
	case status >= 500:
		v.Heading, v.Advice = "Something went wrong here", "It was not your fault, and it has been written down. Please try again."
	default:
		v.Advice = "The request could not be answered as it was."
	}
	v.view = p.view(c, v.Heading, "")
	v.Unlisted = true
	return p.show(c, status, "error", v)
}
