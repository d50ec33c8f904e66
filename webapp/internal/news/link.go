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

// SiteOf is the site of an address: its host without "www.", "" when it is no link.
func SiteOf(address string) string {
	link, ok := ParseLink(address)
	if !ok {
		return ""
	}
	host, _, _ := strings.Cut(link.Host, ":")
	return host
}

// SameLink is what two addresses of one page have in common: scheme, "www.",
// fragment, a slash at the end and the marks of campaigns do not count. It is
// "" when the address is no link. Two posts with one SameLink belong into one
// discussion.
func SameLink(address string) string {
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil {
		return ""
	}
	link, ok := ParseLink(address)
	if !ok {
		return ""
	}
	key := link.Host
	if port := u.Port(); port != "" && port != "80" && port != "443" {
		key += ":" + port
	}
	key += strings.TrimSuffix(u.EscapedPath(), "/")
	query := u.Query() // parts that cannot be read are left out
	for name := range query {
		if strings.HasPrefix(name, "utm_") || name == "fbclid" || name == "gclid" {
			query.Del(name)
		}
	}
	if len(query) > 0 {
		key += "?" + query.Encode() // sorted
	}
	return key
}
