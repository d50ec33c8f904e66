package server

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/page"
	"github.com/portner/portner/webapp/internal/store"
)

// Pages that the door may keep for visitors, in seconds: as long as nobody minds
// that "3 minutes ago" is older, and then while one request fetches the new one.
// When this process cannot answer, an old page is better than none for a day.
const doorKeeps = "max-age=5, stale-while-revalidate=55, stale-if-error=86400"

// shared tells the door what it may keep, and what to forget: before the answer to
// a write has reached the writer, nobody gets a page without it. Pages say what
// they depend on (page.HeaderTags), the store what a change has touched, both in
// the tags of package news. The words are for the door alone; browsers and other
// caches are told nothing.
func shared(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, res := c.Request(), c.Response()
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			res.Before(func() {
				switch {
				case res.Header()[page.HeaderTags] == nil:
				case mayKeep(r, res):
					res.Header().Set("Portner-Cache-Control", doorKeeps)
				default:
					res.Header().Del(page.HeaderTags)
				}
			})
			return next(c)
		}
		ctx, touched := store.WithTouched(r.Context())
		c.SetRequest(r.WithContext(ctx))
		res.Before(func() {
			if tags := touched.Tags(); len(tags) > 0 {
				res.Header().Set("Portner-Invalidate", invalidation(tags))
			}
		})
		return next(c)
	}
}

// mayKeep reports whether an answer is the same for all visitors.
func mayKeep(r *http.Request, res *echo.Response) bool {
	h := res.Header()
	return (res.Status == http.StatusOK || res.Status == http.StatusNotModified) && r.Header["Cookie"] == nil && r.Header["Authorization"] == nil &&
		h["Set-Cookie"] == nil && h["Cache-Control"] == nil
}

func invalidation(tags []news.Tag) string {
	all := make([]string, len(tags))
	for i, tag := range tags {
		all[i] = `tag="` + string(tag) + `"`
	}
	return strings.Join(all, ", ")
}
