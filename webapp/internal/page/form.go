package page

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

// form is one form of a page: what is asked, what was typed, and what is wrong
// with that.
type form struct {
	ID      string // of the form; begins the ids of its fields
	Heading string
	Intro   string
	Action  string
	Get     bool // asks, and changes nothing
	Hidden  []pair
	Of      string // whose password it is about, for what keeps passwords; nobody reads it here
	Fields  []field
	Button  string
	Danger  bool   // what it does cannot be undone
	Problem string // what is wrong with it as a whole
}

type pair struct{ Name, Value string }

// field is one question.
type field struct {
	Name     string
	Label    string
	Hint     string
	Type     string // text, search, password, checkbox, textarea
	Value    string
	Checked  bool
	Complete string // what the browser may fill in
	Mode     string // inputmode: the keyboard of a phone
	Rows     int
	Wrong    string
	First    bool // gets the focus
}

// formView is a page of forms alone.
type formView struct {
	view
	Heading string
	Intro   string
	Forms   []*form
	Also    []link // where else somebody may want to go
}

type link struct{ Text, Path string }

// asked reads a value that was sent in the body, and nothing of the address.
func asked(c echo.Context, name string) string { return c.Request().PostFormValue(name) }

// typed fills the fields with what was sent. Passwords are typed again.
func (f *form) typed(c echo.Context) {
	for i := range f.Fields {
		switch at := &f.Fields[i]; at.Type {
		case "password":
		case "checkbox":
			at.Checked = asked(c, at.Name) != ""
		default:
			at.Value = asked(c, at.Name)
		}
	}
}

// blame says beside the fields, or above them, what is wrong, and returns the
// status of the page. An error that is not of whoever filled in the form has
// none: 0.
func (f *form) blame(c echo.Context, err error) (status int) {
	var invalid *news.Invalid
	var refusal *news.Refusal
	var fast *store.TooFast
	switch {
	case errors.As(err, &invalid):
		for _, w := range invalid.Wrongs {
			f.wrong(w.Field, w.Why)
		}
		status = http.StatusUnprocessableEntity
	case errors.As(err, &refusal):
		f.Problem, status = refusal.Why, http.StatusForbidden
	case errors.As(err, &fast):
		f.Problem, status = "That was too fast. Please try again "+soon(fast.Wait)+".", http.StatusTooManyRequests
		c.Response().Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(fast.Wait.Seconds()))))
	case errors.Is(err, store.ErrBusy):
		f.Problem, status = "Too many are doing this at once. Please try again in a moment.", http.StatusServiceUnavailable
		c.Response().Header().Set("Retry-After", "1")
	case errors.Is(err, store.ErrNameTaken):
		f.wrong("name", "is somebody else's already")
		status = http.StatusConflict
	case errors.Is(err, store.ErrWrongSecret):
		f.Problem, status = "Name or password is wrong.", http.StatusForbidden
	default:
		return 0
	}
	f.focus()
	return status
}

func (f *form) wrong(name, why string) {
	for i := range f.Fields {
		if at := &f.Fields[i]; at.Name == name {
			if at.Wrong == "" {
				at.Wrong = at.Label + " " + why + "."
			}
			return
		}
	}
	f.Problem = strings.TrimSpace(name + " " + why + ".")
}

// focus puts the cursor where something is to be mended.
func (f *form) focus() {
	for i := range f.Fields {
		f.Fields[i].First = false
	}
	for i := range f.Fields {
		if f.Fields[i].Wrong != "" {
			f.Fields[i].First = true
			return
		}
	}
}

// Wrong reports whether anything is.
func (f *form) Wrong() bool {
	for _, at := range f.Fields {
		if at.Wrong != "" {
			return true
		}
	}
	return f.Problem != ""
}

// soon says a wait as people do.
func soon(d time.Duration) string {
	switch n := int(math.Ceil(d.Minutes())); {
	case d <= time.Minute:
		return "in a minute"
	case n < 60:
		return "in " + strconv.Itoa(n) + " minutes"
	case n <= 90:
		return "in an hour"
	default:
		return "in " + strconv.Itoa((n+30)/60) + " hours"
	}
}

// again shows the page of a form that could not be taken, or passes on an
// error that is nobody's who filled it in.
func (p *Pages) again(c echo.Context, v formView, f *form, err error) error {
	status := f.blame(c, err)
	if status == 0 {
		return err
	}
	v.Title = "Please look again: " + v.Title
	return p.show(c, status, "form", v)
}

// member lets in who is logged in. Others are asked to do so when they only
// look; what they send is refused.
func (p *Pages) member(act func(c echo.Context, me *news.User) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		me, err := session.Require(c)
		if err == nil {
			return act(c, me)
		}
		if r := c.Request(); r.Method == http.MethodGet || r.Method == http.MethodHead {
			return c.Redirect(http.StatusSeeOther, loginPath(r.URL.RequestURI()))
		}
		return err
	}
}

// formAs is a form as its template sees it.
type formAs struct {
	Form *form
	CSRF string
}

// With is for templates, which hand on one value.
func (v view) With(f *form) formAs { return formAs{f, v.CSRF} }
