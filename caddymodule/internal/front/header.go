package front

import (
	"cmp"
	"iter"
	"math/rand/v2"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portner/portner/caddymodule/internal/upstream"
)

// hop are the fields that concern one connection alone (RFC 9110, section 7.6.1),
// and those by which a message is framed, which is done anew. Names are canonical.
func hop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Alt-Svc":
		return true
	}
	return false
}

// items are those of a list that stands in one or more field lines (RFC 9110,
// section 5.6.1), without the space around them.
func items(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for item := range strings.SplitSeq(line, ",") {
				if item = textproto.TrimString(item); item != "" && !yield(item) {
					return
				}
			}
		}
	}
}

// listed are the further fields that a Connection field names as its own, in
// lower case.
func listed(connection []string) []string {
	var names []string
	for name := range items(connection) {
		if name = strings.ToLower(name); name != "close" && name != "keep-alive" {
			names = append(names, name)
		}
	}
	return names
}

// isListed reports whether a field is one of those that listed has found.
func isListed(listed []string, name string) bool {
	for _, l := range listed {
		if strings.EqualFold(l, name) {
			return true
		}
	}
	return false
}

// ours reports whether Portner and the application talk by a field: clients must
// neither forge nor see it. CGI, WSGI and their like take '_' for '-'.
func ours(name string) bool {
	return strings.HasPrefix(name, "Portner-") || strings.HasPrefix(name, "Portner_")
}

// dropOurs removes our fields.
func dropOurs(h http.Header) {
	for name := range h {
		if ours(name) {
			delete(h, name)
		}
	}
}

// onward says which fields of a request go on to the application as they are, and
// which are made for it.
type onward struct {
	listed []string // in the request's Connection
	made   []upstream.Field
	room   [maxMade]upstream.Field // for made
}

// maxMade is how many fields prepare makes at the most.
const maxMade = 9

// Drops reports whether a field of the client's does not go on.
func (o *onward) Drops(name string) bool {
	switch name {
	case "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Request-Id", "X-Request-Start", "Expect",
		"X-Sendfile-Type", "X-Accel-Mapping": // by which a client would say what files we send (CVE-2025-61780)
		return true
	}
	return hop(name) || ours(name) || isListed(o.listed, name)
}

// prepare finds out what goes on of a request. What clients say of themselves
// counts only where the operator trusts the address that they come from.
func (o *onward) prepare(r *http.Request, arrived time.Time, trusted bool) {
	h := r.Header
	o.made, o.listed = o.room[:0], nil
	if c := h["Connection"]; c != nil {
		o.listed = listed(c)
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	client, _, _ = strings.Cut(client, "%") // the zone of an IPv6 address
	proto := "http"
	if r.TLS != nil {
		proto = "https"
		if !r.TLS.HandshakeComplete {
			o.make("Early-Data", "1") // RFC 8470, section 5.1
		}
	}
	if err == nil || trusted && r.RemoteAddr == "@" {
		o.make("X-Forwarded-For", joinList(kept(h["X-Forwarded-For"], trusted), client))
		o.make("X-Forwarded-Proto", cmp.Or(last(h["X-Forwarded-Proto"], trusted), proto))
		o.make("X-Forwarded-Host", cmp.Or(last(h["X-Forwarded-Host"], trusted), r.Host))
	}
	o.make("Forwarded", joinList(kept(h["Forwarded"], trusted), forwarded(client, r.Host, proto)))
	start := kept(h["X-Request-Start"], trusted)
	if start == "" {
		start = startText(arrived)
	}
	o.make("X-Request-Start", start)
	o.make("X-Request-Id", requestID(h["X-Request-Id"]))
	o.make("Via", via(r.ProtoMajor, r.ProtoMinor))
	if wantsTrailers(h["Te"]) {
		o.make("Te", "trailers")
	}
}

func (o *onward) make(name, value string) {
	if value != "" {
		o.made = append(o.made, upstream.Field{Name: name, Value: value})
	}
}

// kept is what a trusted client says.
func kept(values []string, trusted bool) string {
	if !trusted {
		return ""
	}
	return strings.Join(values, ", ")
}

// via is what RFC 9110, section 7.6.3, wants to be said of the message.
func via(major, minor int) string {
	switch {
	case major == 1 && minor == 1:
		return "1.1 Caddy"
	case major == 2 && minor == 0:
		return "2.0 Caddy"
	}
	return strconv.Itoa(major) + "." + strconv.Itoa(minor) + " Caddy"
}

// forwarded is the element of RFC 7239 for one client; who is no IP address is
// unknown.
func forwarded(client, host, proto string) string {
	node, quoted := client, ""
	switch {
	case client == "":
		node = "unknown"
	case strings.Contains(client, ":"):
		node, quoted = "["+client+"]", `"`
	}
	if host == "" || strings.ContainsAny(host, "\"\\") {
		return "for=" + quoted + node + quoted + ";proto=" + proto
	}
	return "for=" + quoted + node + quoted + ";proto=" + proto + `;host="` + host + `"`
}

// startText is when the request came, as New Relic, Scout and others read it:
// milliseconds since 1970.
func startText(t time.Time) string {
	return string(strconv.AppendInt(append(make([]byte, 0, 24), "t="...), t.UnixMilli(), 10))
}

// maxRequestID is how long an id of the client's may be.
const maxRequestID = 128

// requestID keeps the id that the client has given, so that its log and ours can
// be laid side by side, or makes one of 128 random bits. Nothing is kept secret by
// it.
func requestID(given []string) string {
	if len(given) == 1 && isRequestID(given[0]) {
		return given[0]
	}
	var id [32]byte
	const digits = "0123456789abcdef"
	a, b := rand.Uint64(), rand.Uint64()
	for i := range 16 {
		id[i], id[16+i] = digits[a&15], digits[b&15]
		a, b = a>>4, b>>4
	}
	return string(id[:])
}

func isRequestID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-_.:/+=", rune(c)) {
			return false
		}
	}
	return id != "" && len(id) <= maxRequestID
}

func wantsTrailers(te []string) bool {
	for item := range items(te) {
		item, _, _ = strings.Cut(item, ";")
		if strings.EqualFold(textproto.TrimString(item), "trailers") {
			return true
		}
	}
	return false
}

func joinList(prior, item string) string {
	switch {
	case prior == "":
		return item
	case item == "":
		return prior
	}
	return prior + ", " + item
}

func last(values []string, trusted bool) string {
	if !trusted || len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// apply writes what prepare has found into a request, for who sends by a map.
// X-Forwarded-* and Via are left to reverseproxy, which has the same rules.
func (o *onward) apply(r *http.Request) {
	for _, name := range []string{"Expect", "X-Sendfile-Type", "X-Accel-Mapping"} {
		delete(r.Header, name)
	}
	// What Connection lists goes now, or it would go with what is made below.
	for _, name := range o.listed {
		if name != "upgrade" && name != "te" {
			r.Header.Del(name)
		}
	}
	if slices.Contains(o.listed, "upgrade") {
		r.Header["Connection"] = []string{"Upgrade"}
	} else {
		delete(r.Header, "Connection")
	}
	for _, f := range o.made {
		switch f.Name {
		case "Forwarded", "X-Request-Start", "X-Request-Id", "Te", attemptField:
			r.Header[f.Name] = []string{f.Value}
		}
	}
}
