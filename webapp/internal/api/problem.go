package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

// Problem is an answer by RFC 9457. Its type is about:blank: the title says
// no more than the status, Errors say the rest.
type Problem struct {
	Type   string  `json:"type"`
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail,omitempty"`
	Errors []Fault `json:"errors,omitempty"`
	// Discussion is where an address that was submitted again is discussed.
	Discussion string `json:"discussion,omitempty"`
}

// Fault names one field, or a header, and what is wrong with it. Field is
// "body" when it is the document as a whole.
type Fault struct {
	Field   string `json:"field"`
	Pointer string `json:"pointer,omitempty"` // JSON pointer into the body
	Detail  string `json:"detail"`
}

// mediaError is a request in a form that is not read here.
type mediaError struct{ header, why string }

func wrongMedia(header, why string) error {
	return echo.NewHTTPError(http.StatusUnsupportedMediaType).SetInternal(&mediaError{header, why})
}

func (e *mediaError) Error() string { return e.header + " " + e.why }

// WriteProblem answers err with the given status.
func WriteProblem(c echo.Context, status int, err error) error {
	p := Problem{Type: "about:blank", Title: http.StatusText(status), Status: status}
	p.Errors = faults(c, err)
	each := make([]string, len(p.Errors))
	for i, f := range p.Errors {
		each[i] = f.Field + " " + f.Detail
	}
	p.Detail = strings.Join(each, "; ")
	if len(p.Errors) == 0 {
		p.Detail, p.Discussion = said(err)
	}
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return c.Blob(status, "application/problem+json", append(body, '\n'))
}

// said is what the sender may know of an error: of most, nothing.
func said(err error) (detail, discussion string) {
	var refusal *news.Refusal
	var discussed *store.Discussed
	var fast *store.TooFast
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return store.ErrUnavailable.Error(), ""
	case errors.Is(err, store.ErrBusy):
		return "Too many are asking for this at once. Try again in a moment.", ""
	case errors.Is(err, session.ErrLogin):
		return "This takes a token: Authorization: Bearer … from POST /api/v1/tokens.", ""
	case errors.Is(err, store.ErrWrongSecret):
		return "Name or password is wrong.", ""
	case errors.As(err, &refusal):
		return refusal.Why, ""
	case errors.As(err, &fast):
		return fast.Error(), ""
	case errors.As(err, &discussed):
		return discussed.Error(), fmt.Sprintf("/api/v1/items/%d", discussed.ID)
	}
	return "", ""
}

func faults(c echo.Context, err error) []Fault {
	var invalid *news.Invalid
	var media *mediaError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &invalid):
		faults := make([]Fault, len(invalid.Wrongs))
		for i, w := range invalid.Wrongs {
			faults[i] = Fault{Field: w.Field, Pointer: pointer(w.Field), Detail: w.Why}
			if w.Field == "" {
				faults[i].Field = "body"
			}
		}
		return faults
	case errors.As(err, &media):
		return []Fault{{Field: media.header, Detail: media.why}}
	case errors.As(err, &tooLarge):
		return []Fault{{Field: "body", Detail: "is larger than 1 MiB"}}
	case errors.Is(err, store.ErrWrongSecret) && Simulator(c.Request().URL.Path):
		return []Fault{{Field: "pwd_hash", Pointer: "#/pwd_hash", Detail: "is not this user's"}}
	}
	return nil
}

func pointer(field string) string {
	if field == "" {
		return "#"
	}
	return "#/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(field)
}
