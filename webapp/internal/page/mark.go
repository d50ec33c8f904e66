package page

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
)

// marker is one of the marks that the store sets on an item.
type marker = func(ctx context.Context, name string, id news.ID, on bool) error

func (p *Pages) vote(c echo.Context, me *news.User) error {
	value, ok := map[string]int{"1": 1, "0": 0, "-1": -1}[asked(c, "value")]
	if !ok {
		return errNoValue
	}
	if err := p.store.Vote(c.Request().Context(), me.Name, itemAsked(c), value); err != nil {
		return err
	}
	return back(c)
}

func (p *Pages) mark(set marker) echo.HandlerFunc {
	return p.member(func(c echo.Context, me *news.User) error {
		value := asked(c, "value")
		if value != "0" && value != "1" {
			return errNoValue
		}
		if err := set(c.Request().Context(), me.Name, itemAsked(c), value == "1"); err != nil {
			return err
		}
		return back(c)
	})
}

var errNoValue = &news.Invalid{Malformed: true, Wrongs: []news.Wrong{{Field: "value", Why: "is missing"}}}

// back leads to where a button was pressed.
func back(c echo.Context) error {
	path, _, _ := strings.Cut(within(asked(c, "goto")), "#")
	return c.Redirect(http.StatusSeeOther, fmt.Sprintf("%s#item-%d", path, itemAsked(c)))
}
