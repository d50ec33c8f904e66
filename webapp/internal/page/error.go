package page

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

type errorView struct {
	view
	Status  int
	Heading string
	Advice  string
}

// WriteError answers with a page that says what happened and what to do. It
// shows nothing of the error itself, which may speak of the inside.
func (p *Pages) WriteError(c echo.Context, status int, _ error) error {
	v := errorView{Status: status, Heading: http.StatusText(status)}
	switch {
	case status == http.StatusNotFound:
		v.Heading, v.Advice = "There is nothing here", "The address may be mistyped, or what it names has not arrived yet."
	case status == http.StatusMethodNotAllowed:
		v.Advice = "This page can only be read."
	case status == http.StatusServiceUnavailable:
		v.Heading, v.Advice = "We will be back in a moment", "The site cannot reach its database. Please try again."
	case status >= 500:
		v.Heading, v.Advice = "Something went wrong here", "It was not your fault, and it has been written down. Please try again."
	default:
		v.Advice = "The request could not be answered as it was."
	}
	v.Title = v.Heading
	return p.show(c, status, "error", v)
}
