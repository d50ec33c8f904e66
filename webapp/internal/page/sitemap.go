package page

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/store"
)

type sitemapXML struct {
	XMLName xml.Name     `xml:"urlset"`
	NS      string       `xml:"xmlns,attr"`
	URLs    []addressXML `xml:"url"`
}

type addressXML struct {
	Loc  string `xml:"loc"`
	Date string `xml:"lastmod,omitempty"`
}

// perSitemap is how many heads the sitemap names, the newest; the pages of
// past days lead to all others.
const perSitemap = 1000

func (p *Pages) sitemap(c echo.Context) error {
	part, err := p.store.List(c.Request().Context(), store.Listing{Of: store.Newest, Limit: perSitemap, Texts: store.NoTexts})
	if err != nil {
		return err
	}
	origin := p.originOf(c)
	m := sitemapXML{NS: "http://www.sitemaps.org/schemas/sitemap/0.9"}
	for _, s := range shelves {
		m.URLs = append(m.URLs, addressXML{Loc: origin + s.Path})
	}
	m.URLs = append(m.URLs, addressXML{Loc: origin + "/past"})
	for _, it := range part.Items {
		at := it.At
		if it.Edited.After(at) {
			at = it.Edited
		}
		m.URLs = append(m.URLs, addressXML{Loc: fmt.Sprintf("%s/item/%d", origin, it.ID), Date: at.UTC().Format(time.RFC3339)})
	}
	return writeXML(c, "application/xml; charset=utf-8", m)
}

// robots keeps crawlers away from what has no end or is for members.
func (p *Pages) robots(c echo.Context) error {
	var b strings.Builder
	b.WriteString("User-agent: *\n")
	for _, path := range []string{"/search", "/login", "/register", "/submit", "/settings", "/flagged", "/dead", "/item/*/edit", "/item/*/delete", "/*after="} {
		b.WriteString("Disallow: " + path + "\n")
	}
	b.WriteString("\nSitemap: " + p.originOf(c) + "/sitemap.xml\n")
	return c.String(http.StatusOK, b.String())
}
