package page

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/store"
)

// Feeds show a list to programs as a visitor sees it: RSS 2.0, and JSON Feed
// 1.1 (https://jsonfeed.org/version/1.1).

// notice is an item in a feed.
type notice struct {
	title, link, page, html, by string
	at                          time.Time
}

func (p *Pages) notices(c echo.Context, s shelf) ([]notice, error) {
	part, err := p.store.List(c.Request().Context(), store.Listing{Of: s.of, Limit: perList, Texts: store.Brief})
	if err != nil {
		return nil, err
	}
	heads, err := p.headsOf(c, part.Items)
	if err != nil {
		return nil, err
	}
	dependsOn(c, append(tagsOf(part.Items), s.tag())...)
	origin := p.originOf(c)
	all := make([]notice, len(part.Items))
	for i, it := range part.Items {
		e := entryOf(it, nil, store.Marks{}, time.Time{})
		n := notice{title: e.Line, page: origin + e.Page(), link: e.Href, by: it.By, at: it.At}
		if it.Kind == news.Comment {
			n.title = "Comment by " + it.By
			if h, ok := heads[it.Root]; ok {
				n.title += " on " + entryOf(h, nil, store.Marks{}, time.Time{}).Line
			}
		}
		if n.link == "" {
			n.link = n.page
		}
		face := "Discussion"
		if it.Cut {
			face = "Read on"
		}
		n.html = string(p.texts.of(it)) + `<p><a href="` + html.EscapeString(n.page) + `">` + face + `</a></p>`
		all[i] = n
	}
	return all, nil
}

type rssXML struct {
	XMLName xml.Name   `xml:"rss"`
	Version string     `xml:"version,attr"`
	DC      string     `xml:"xmlns:dc,attr"`
	Channel channelXML `xml:"channel"`
}

type channelXML struct {
	Title       string    `xml:"title"`
	Link        string    `xml:"link"`
	Description string    `xml:"description"`
	Items       []itemXML `xml:"item"`
}

type itemXML struct {
	Title       string `xml:"title"`
	Link        string `xml:"link"`
	Comments    string `xml:"comments"`
	GUID        string `xml:"guid"` // the page, which stays
	Date        string `xml:"pubDate"`
	Creator     string `xml:"dc:creator"`
	Description string `xml:"description"`
}

func (p *Pages) rss(s shelf) echo.HandlerFunc {
	return func(c echo.Context) error {
		notices, err := p.notices(c, s)
		if err != nil {
			return err
		}
		feed := rssXML{Version: "2.0", DC: "http://purl.org/dc/elements/1.1/",
			Channel: channelXML{Title: feedTitle(s), Link: p.originOf(c) + s.Path, Description: s.about}}
		for _, n := range notices {
			feed.Channel.Items = append(feed.Channel.Items, itemXML{
				Title: n.title, Link: n.link, Comments: n.page, GUID: n.page, Creator: n.by, Description: n.html, Date: n.at.UTC().Format(time.RFC1123Z)})
		}
		return writeXML(c, "application/rss+xml; charset=utf-8", feed)
	}
}

func writeXML(c echo.Context, mime string, v any) error {
	body, err := xml.Marshal(v)
	if err != nil {
		return fmt.Errorf("page: make %s: %w", mime, err)
	}
	return send(c, http.StatusOK, mime, append([]byte(xml.Header), body...))
}

func feedTitle(s shelf) string {
	if s.Path == "/" {
		return SiteName
	}
	return SiteName + ": " + s.Name
}

type feedJSON struct {
	Version     string     `json:"version"`
	Title       string     `json:"title"`
	HomePage    string     `json:"home_page_url"`
	Feed        string     `json:"feed_url"`
	Description string     `json:"description"`
	Items       []itemJSON `json:"items"`
}

type itemJSON struct {
	ID       string       `json:"id"`
	URL      string       `json:"url"`
	External string       `json:"external_url,omitempty"`
	Title    string       `json:"title"`
	HTML     string       `json:"content_html"`
	Date     string       `json:"date_published"`
	Authors  []authorJSON `json:"authors"`
}

type authorJSON struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

func (p *Pages) jsonFeed(s shelf) echo.HandlerFunc {
	return func(c echo.Context) error {
		notices, err := p.notices(c, s)
		if err != nil {
			return err
		}
		origin := p.originOf(c)
		feed := feedJSON{Version: "https://jsonfeed.org/version/1.1", Title: feedTitle(s), HomePage: origin + s.Path,
			Feed: origin + s.Feed + ".json", Description: s.about, Items: []itemJSON{}}
		for _, n := range notices {
			it := itemJSON{ID: n.page, URL: n.page, Title: n.title, HTML: n.html, Date: n.at.UTC().Format(time.RFC3339),
				Authors: []authorJSON{{n.by, origin + "/user/" + n.by}}}
			if n.link != n.page {
				it.External = n.link
			}
			feed.Items = append(feed.Items, it)
		}
		body, err := json.Marshal(feed)
		if err != nil {
			return fmt.Errorf("page: make feed: %w", err)
		}
		return send(c, http.StatusOK, "application/feed+json; charset=utf-8", body)
	}
}
