package httpcache

import (
	"net/url"
	"strings"
)

// resolve is the key of a URL that an answer to a request for base names (RFC
// 3986 5.2). A path that begins with '/' is taken as it is written.
func resolve(base Key, ref string) (Key, bool) {
	ref, _, _ = strings.Cut(ref, "#")
	if strings.HasPrefix(ref, "/") && !strings.HasPrefix(ref, "//") {
		base.URI = ref
		return base, true
	}
	u, err := url.Parse(ref)
	if err != nil {
		return Key{}, false
	}
	from, err := url.Parse(base.Scheme + "://" + base.Host + base.URI)
	if err != nil {
		return Key{}, false
	}
	u = from.ResolveReference(u)
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return Key{}, false
	}
	key := NewKey(u.Scheme, u.Host, u.RequestURI())
	key.Way = base.Way
	return key, true
}
