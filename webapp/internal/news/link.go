package news

import (
	"net/url"
	"strings"
)

// Link is an address on another site that is safe to point to.
type Link struct {
	Href string
	Host string // without "www.", for people
}

// ParseLink reads an absolute http or https address. Everything else, above
// all javascript: and data:, is not a link.
func ParseLink(s string) (Link, bool) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return Link{}, false
	}
	if u.Scheme != "http" && u.Scheme != "https" { // Parse has lowered it
		return Link{}, false
	}
	host := strings.ToLower(u.Hostname())
	return Link{Href: u.String(), Host: strings.TrimPrefix(host, "www.")}, true
}
