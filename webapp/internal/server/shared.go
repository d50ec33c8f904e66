package server

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/store"
)

// Pages that the door may keep for visitors, in seconds: as long as nobody minds
// that "3 minutes ago" is older, and then while one request fetches the new one.
// When this process cannot answer, an old page is better than none for a day.
const doorKeeps = "max-age=5, stale-while-revalidate=55, stale-if-error=86400"

// everyPage is the tag of all that the door keeps. What is posted is on lists, on
// pages of items, of users and of what it answers to: one tag for each of them would
// be forgotten in one place some day.
const everyPage = "pages"

// shared tells the door what it may keep, and when to forget it: before the answer
// to a write has reached the writer, nobody gets a page without it. The words are
// for the door alone; browsers and other caches are told nothing.
func shared(st *store.Store) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r, res := c.Request(), c.Response()
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				res.Before(func() {
					if mayKeep(r, res) {
						res.Header().Set("Portner-Cache-Control", doorKeeps)
						res.Header().Set("Cache-Tag", everyPage)
					}
				})
				return next(c)
			}
			before, _ := st.Shared()
			res.Before(func() {
				if after, _ := st.Shared(); after != before && !ofSession(r.URL.Path) {
					res.Header().Set("Portner-Invalidate", "tag="+everyPage)
				}
			})
			return next(c)
		}
	}
}

// mayKeep reports whether an answer is the same for all visitors.
func mayKeep(r *http.Request, res *echo.Response) bool {
	h := res.Header()
	return res.Status == http.StatusOK && remembered(r.URL.Path) && r.Header["Cookie"] == nil && r.Header["Authorization"] == nil &&
		h["Set-Cookie"] == nil && h["Cache-Control"] == nil
}

// ofSession paths change what one person may do, and no page.
func ofSession(path string) bool { return path == "/login" || path == "/logout" }
