package route

import (
	"strconv"
	"strings"
)

// The built-in classes.
const (
	Probe   = "probe"   // health and admin
	Journal = "journal" // delivery of kept writes
	Writes  = "writes"
	Pages   = "pages" // what somebody looks at, and what such a page needs
	API     = "api"
	Robots  = "robots" // and prefetches: nobody waits for them
)

// Weights is how much of a busy application each class may have, relative to the
// others that want it. The keys are all classes there are.
type Weights map[string]int

// BuiltIn is a fresh table of the built-in classes. Each step down is half of
// the one above, so that every class gets something at any time, but for robots:
// they come back by themselves.
func BuiltIn() Weights {
	return Weights{Probe: 32, Journal: 16, Writes: 16, Pages: 8, API: 4, Robots: 1}
}

// Lower is the class of a request whose client said priority, the value of the
// Priority field of RFC 9218: an urgency of 4 or 5 is worth the heaviest of
// pages, api and robots that is lighter than class, 6 or 7 is worth robots.
// Nothing makes a class heavier: not a low number, not a changed weight. A class
// that w does not know, and a field that is broken, change nothing.
func (w Weights) Lower(class, priority string) string {
	if priority == "" {
		return class
	}
	lighter := func(other string) bool { weight, ok := w[other]; return ok && weight < w[class] }
	switch u := urgency(priority); {
	case u >= 6:
		if lighter(Robots) {
			return Robots
		}
	case u >= 4:
		best := class
		for _, other := range [...]string{Pages, API, Robots} {
			if lighter(other) && (best == class || w[other] > w[best]) {
				best = other
			}
		}
		return best
	}
	return class
}

// Guess is the class of a request of which no route says it.
//
// Whatever it looks at, a client can forge. So nothing here is worth more than
// what everybody has for the asking: who asks for /health over and over gets the
// weight of pages, not that of a probe. That class belongs to the pool's own
// checks and to routes that say so (route GET /health { class probe }).
//
// header is asked for canonical names and gives one value, empty if absent.
func Guess(method, escapedPath string, header func(name string) string) string {
	switch method {
	case "GET", "HEAD":
	case "POST", "PUT", "PATCH", "DELETE", "MKCOL", "MOVE", "COPY", "PROPPATCH", "LOCK", "UNLOCK":
		return Writes // even a robot's: webhooks come from them
	default:
		return API // safe ones such as OPTIONS and PROPFIND, and those that nobody knows
	}
	switch {
	case isHealth(escapedPath):
		return Pages // a monitor should see what people see; many call themselves bots
	case isPrefetch(header), isRobot(header("User-Agent")):
		return Robots
	}
	// Browsers say what a request is for, over https.
	switch header("Sec-Fetch-Mode") {
	case "navigate", "nested-navigate":
		return Pages
	}
	switch header("Sec-Fetch-Dest") {
	case "document", "embed", "fencedframe", "font", "frame", "iframe", "image", "manifest", "object",
		"audio", "video", "track", "style", "script", "worker", "sharedworker", "serviceworker",
		"audioworklet", "paintworklet", "xslt":
		return Pages
	case "empty", "json", "report", "webidentity":
		return API
	}
	if header("X-Requested-With") == "XMLHttpRequest" {
		return API
	}
	switch wanted(header("Accept")) {
	case Pages:
		return Pages
	case API:
		return API
	}
	if isAsset(escapedPath) {
		return Pages
	}
	return API
}

func isHealth(path string) bool {
	switch path {
	case "/up", "/ready", "/health", "/healthz", "/status", "/livez", "/readyz":
		return true
	}
	return false
}

func isPrefetch(header func(string) string) bool {
	for _, name := range [...]string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		purpose, _, _ := strings.Cut(header(name), ";") // prefetch;prerender
		if strings.EqualFold(strings.TrimSpace(purpose), "prefetch") {
			return true
		}
	}
	return false
}

// Robots are those that say so. Tools such as curl are people, or programs that
// somebody waits for.
var (
	robots = newWords("bot", "crawl", "spider", "slurp", "facebookexternalhit",
		"mediapartners-google", "google-inspectiontool", "bingpreview", "ia_archiver", "feedfetcher")
	// A phone, and monitors: they should see what people see.
	notRobots = newWords("cubot", "uptimerobot", "pingdom", "better uptime")
)

func isRobot(agent string) bool {
	agent = agent[:min(len(agent), 512)]
	return robots.in(agent) && !notRobots.in(agent)
}

// words are in lower-case ASCII, by their first letter: every request is
// searched for them.
type words ['z' + 1][]string

func newWords(all ...string) *words {
	w := new(words)
	for _, word := range all {
		w[word[0]] = append(w[word[0]], word)
	}
	return w
}

// in reports whether s has one of the words in it, in letters of any size.
func (w *words) in(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if int(c) >= len(w) {
			continue
		}
		for _, word := range w[c] {
			if i+len(word) <= len(s) && strings.EqualFold(s[i:i+len(word)], word) {
				return true
			}
		}
	}
	return false
}

// wanted is the class that an Accept field speaks for, empty if for none: what
// it likes best, pages when it likes both as much.
func wanted(accept string) string {
	var page, api float64
	rest := accept[:min(len(accept), 1024)]
	for rest != "" {
		var item string
		item, rest, _ = strings.Cut(rest, ",")
		name, params, _ := strings.Cut(item, ";")
		name = strings.TrimSpace(name)
		q := quality(params)
		switch {
		case strings.EqualFold(name, "text/html"), strings.EqualFold(name, "application/xhtml+xml"), strings.EqualFold(name, "text/css"),
			len(name) > 6 && strings.EqualFold(name[:6], "image/"):
			if q == 1 {
				return Pages // nothing is liked better
			}
			page = max(page, q)
		case strings.EqualFold(name, "application/json"), strings.EqualFold(name, "text/event-stream"),
			len(name) > 5 && strings.EqualFold(name[len(name)-5:], "+json"):
			api = max(api, q)
		}
	}
	switch {
	case page > 0 && page >= api:
		return Pages
	case api > 0:
		return API
	}
	return ""
}

// quality is the q among the parameters of a media range.
func quality(params string) float64 {
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		name, value, ok := strings.Cut(p, "=")
		if ok && strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || !(q >= 0 && q <= 1) {
				return 0
			}
			return q
		}
	}
	return 1
}

// isAsset reports whether a path names a file that pages need.
func isAsset(path string) bool {
	e, ok := extensionOf(path[strings.LastIndexByte(path, '/')+1:])
	return ok && e.asset
}
