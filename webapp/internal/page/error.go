package page

import (
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

type errorView struct {
	view
	Status  int
	Heading string
	Advice  string
	Kept    string // what was typed into a form that nobody could take
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
		v.Heading, v.Advice = "You are not logged in", "This takes an account. Log in and try again."
	case status == http.StatusTooManyRequests:
		v.Heading, v.Advice = "That was too fast", "Please wait a while and try again."
	case errors.Is(err, session.ErrForged):
		v.Heading, v.Advice = "This form is too old", "Go back, load the page again, and send it once more."
	case errors.As(err, &refusal):
		v.Heading, v.Advice = "That is not possible", refusal.Why
	case status == http.StatusMethodNotAllowed:
		v.Advice = "This page can only be read."
	case errors.Is(err, store.ErrBusy):
		v.Heading, v.Advice = "Too many are asking for this at once", "Please try again in a moment."
	case status == http.StatusServiceUnavailable:
		v.Heading, v.Advice = "We will be back in a moment", "The site cannot reach its database. Please try again."
	case status >= 500:
		v.Heading, v.Advice = "Something went wrong here", "It was not your fault, and it has been written down. Please try again."
	default:
		v.Advice = "The request could not be answered as it was."
	}
	if r := c.Request(); r.Method == http.MethodPost && status != http.StatusRequestEntityTooLarge && sentHere(r, err) {
		v.Kept = typedText(c)
	}
	v.view = p.view(c, v.Heading, "")
	v.Unlisted = true
	return p.show(c, status, "error", v)
}

// sentHere reports whether one of our own forms was sent: another site must put
// no words on our pages. Of a form that was refused as forged the browser has to
// say so itself.
func sentHere(r *http.Request, err error) bool {
	if errors.Is(err, session.ErrForged) {
		return r.Header.Get("Sec-Fetch-Site") == "same-origin"
	}
	return http.NewCrossOriginProtection().Check(r) == nil
}

// typedText is what somebody wrote into a form that nobody could take. Going
// back would not bring it again: browsers forget the forms of pages that are not
// to be stored.
func typedText(c echo.Context) string {
	var all []string
	for _, name := range []string{"title", "url", "options", "text", "about"} {
		if words := strings.TrimSpace(asked(c, name)); words != "" {
			all = append(all, words)
		}
	}
	return strings.Join(all, "\n\n")
}
