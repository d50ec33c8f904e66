package route

import (
	"slices"
	"strings"
	"testing"
)

// headers makes a lookup of "Name: value" lines.
func headers(lines ...string) func(string) string {
	return func(name string) string {
		for _, line := range lines {
			if n, value, _ := strings.Cut(line, ": "); n == name {
				return value
			}
		}
		return ""
	}
}

const (
	firefox = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
	google  = "User-Agent: Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
	html    = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
)

func TestClassIsGuessedWithoutConfiguration(t *testing.T) {
	for _, test := range []struct {
		method, path string
		header       []string
		want         string
	}{
		{"POST", "/post", nil, Writes},
		{"DELETE", "/item/1", []string{firefox}, Writes},
		{"POST", "/hook", []string{"User-Agent: Slackbot 1.0 (+https://api.slack.com/robots)"}, Writes},
		{"OPTIONS", "/post", []string{"Sec-Fetch-Mode: cors"}, API},
		{"PROPFIND", "/dav/", nil, API},
		{"BREW", "/pot", nil, API}, // nobody gets a weight for a word that he made up
		{"", "/", nil, API},

		{"GET", "/", []string{firefox, html}, Pages},
		{"HEAD", "/", []string{firefox, html}, Pages},
		{"GET", "/", []string{firefox, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, Pages},
		{"GET", "/app.js", []string{"Sec-Fetch-Dest: script", "Accept: */*"}, Pages},
		{"GET", "/x", []string{"Sec-Fetch-Dest: style"}, Pages},
		{"GET", "/x", []string{"Sec-Fetch-Dest: image"}, Pages},
		{"GET", "/x", []string{"Accept: image/avif,image/webp,*/*;q=0.8"}, Pages}, // http sends no Sec-Fetch
		{"GET", "/x", []string{"Accept: text/css,*/*;q=0.1"}, Pages},
		{"GET", "/static/app.js", []string{"Accept: */*"}, Pages},
		{"GET", "/a/LOGO.PNG", nil, Pages},

		{"GET", "/", []string{"User-Agent: curl/8.5.0", "Accept: */*"}, API},
		{"GET", "/latest", nil, API},
		{"GET", "/data.json", []string{"Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: */*"}, API},
		{"GET", "/style.css", []string{"Sec-Fetch-Dest: empty"}, API}, // a script asks for it
		{"GET", "/", []string{"X-Requested-With: XMLHttpRequest", html}, API},
		{"GET", "/", []string{"Accept: application/json"}, API},
		{"GET", "/", []string{"Accept: application/json, text/html;q=0.9"}, API},
		{"GET", "/", []string{"Accept: application/json;q=0.5, text/html;q=0.9"}, Pages},
		{"GET", "/", []string{"Accept: application/json, text/html"}, Pages},
		{"GET", "/", []string{"Accept: text/html;q=0, application/json"}, API},
		{"GET", "/", []string{"Accept: application/vnd.api+json"}, API},
		{"GET", "/", []string{"Accept: text/event-stream"}, API},
		{"GET", "/", []string{"Accept: text/html;q=NaN"}, API},
		{"GET", "/", []string{"Accept: text/html;q=NaN, text/css;q=0.5"}, Pages},
		{"GET", "/", []string{"Accept: application/json;q=0.8, text/html;q=0.8"}, Pages},
		{"GET", "/", []string{"Accept: ,;;q=,=;,text/html ; Q=1"}, Pages},

		{"GET", "/", []string{google, html}, Robots},
		{"GET", "/app.js", []string{google, "Sec-Fetch-Dest: script"}, Robots},
		{"GET", "/", []string{"User-Agent: facebookexternalhit/1.1", html}, Robots},
		{"GET", "/", []string{"User-Agent: SomeSPIDER", html}, Robots},
		{"GET", "/", []string{"User-Agent: Mozilla/5.0 (Linux; Android 10; CUBOT X30)", html}, Pages},
		{"GET", "/", []string{"User-Agent: Mozilla/5.0+(compatible; UptimeRobot/2.0)", html}, Pages},
		{"GET", "/next", []string{firefox, html, "Sec-Purpose: prefetch", "Sec-Fetch-Mode: navigate"}, Robots},
		{"GET", "/next", []string{firefox, html, "Sec-Purpose: prefetch;prerender"}, Robots},
		{"GET", "/next", []string{firefox, html, "Purpose: prefetch"}, Robots},
		{"GET", "/next", []string{firefox, html, "X-Moz: prefetch"}, Robots},
		{"POST", "/next", []string{"Purpose: prefetch"}, Writes},
	} {
		if got := Guess(test.method, test.path, headers(test.header...)); got != test.want {
			t.Errorf("%s %s %q: got %s, want %s", test.method, test.path, test.header, got, test.want)
		}
	}
}

func TestHealthPathIsWorthNoMoreThanAPage(t *testing.T) {
	for _, path := range []string{"/up", "/ready", "/health", "/healthz", "/status", "/livez", "/readyz"} {
		for _, header := range [][]string{nil, {"User-Agent: kube-probe/1.32"}, {google}, {"Accept: application/json"}} {
			if got := Guess("GET", path, headers(header...)); got != Pages {
				t.Errorf("%s %q: got %s, want %s", path, header, got, Pages)
			}
		}
	}
}

func TestClientsPriorityNeverRaisesAClass(t *testing.T) {
	for _, test := range []struct{ class, priority, want string }{
		{Pages, "", Pages},
		{Pages, "u=0", Pages},
		{Pages, "u=3", Pages},
		{Pages, "i", Pages},
		{Robots, "u=0", Robots},
		{Probe, "u=4", Pages},
		{Writes, "u=4", Pages},
		{Writes, "u=5, i", Pages},
		{Pages, "u=4", API},
		{API, "u=5", Robots},
		{Robots, "u=5", Robots},
		{Writes, "u=6", Robots},
		{Pages, "u=7", Robots},
		{Robots, "u=7", Robots},
		{"mine", "u=7", "mine"}, // not in the table
		{"", "u=7", ""},
		{Pages, "u=8", Pages},
		{Pages, "u=7 u=3", Pages},
	} {
		if got := BuiltIn().Lower(test.class, test.priority); got != test.want {
			t.Errorf("%s with %s: got %s, want %s", test.class, test.priority, got, test.want)
		}
	}
}

func TestPriorityKeepsToWeightsThatWereChanged(t *testing.T) {
	w := BuiltIn()
	w[Robots], w["mine"], w["last"] = 20, 5, 1
	for _, test := range []struct{ class, priority, want string }{
		{Pages, "u=7", Pages}, // robots are heavier now
		{Pages, "u=4", API},
		{API, "u=4", API},
		{"mine", "u=4", API},
		{"last", "u=7", "last"},
		{Probe, "u=7", Robots},
		{Probe, "u=4", Robots}, // the heaviest that is lighter
	} {
		if got := w.Lower(test.class, test.priority); got != test.want {
			t.Errorf("%s with %s: got %s, want %s", test.class, test.priority, got, test.want)
		}
	}
}

func TestClassAsLightAsRobotsStaysItself(t *testing.T) {
	w := BuiltIn()
	w["late"] = w[Robots]
	if got := w.Lower("late", "u=7"); got != "late" {
		t.Errorf("got %s", got)
	}
}

func TestBuiltInWeightsAreThoseOfTheManual(t *testing.T) {
	w := BuiltIn()
	for class, weight := range map[string]int{"probe": 32, "journal": 16, "writes": 16, "pages": 8, "api": 4, "robots": 1} {
		if w[class] != weight {
			t.Errorf("%s: got %d, want %d", class, w[class], weight)
		}
	}
	if w["probe"] = 0; BuiltIn()["probe"] != 32 {
		t.Error("one who changed his weights changed everybody's")
	}
}

func TestUrgencyIsReadStrictly(t *testing.T) {
	for field, want := range map[string]int{
		"u=0": 0, "u=7": 7, "u=5, i": 5, "i, u=5": 5, "u=5,i": 5, "u=5\t,\ti": 5, " u=5 ": 5, "u=05": 5,
		"u=1, u=6":                          6, // the last counts
		"u=6, u=x":                          3,
		"u=5;x=1":                           5,
		"u=5;x":                             5,
		"u=5; x=\"a,b\\\"\";y=?0":           5,
		"a=(1 2 \"x\";y=1), u=5":            5,
		"a=(), u=5":                         5,
		"a=:aGk=:, b=@-12, c=%\"%c3\", u=5": 5,
		"a=-1.5, b=tok/en:x, *c=*t, u=5":    5,
		"":                                  3, "u": 3, "u=-1": 3, "u=8": 3, "u=5.0": 3, "u=\"5\"": 3, "u=?1": 3, "u=(5)": 3, "U=5": 3, "u=10": 3, "u=-0": 0,
		// Broken anywhere: worth nothing.
		"u=5,": 3, ",u=5": 3, "u=5 i": 3, "u=5;": 3, "u=5,,i": 3, "u =5": 3, "u= 5": 3, "u=": 3, "u=5, a=": 3, "u=5, a=(1": 3,
		"u=5, a=(1,2)": 3, "u=5, a=\"x": 3, "u=5, a=\"\\x\"": 3, "u=5, a=:x": 3, "u=5, a=?2": 3, "u=5, a=@1.5": 3, "u=5, a=@": 3,
		"u=5, a=%x": 3, "u=5, a=%\"%C3\"": 3, "u=5, a=1.": 3, "u=5, a=1.1234": 3, "u=5, a=1234567890123456": 3, "u=5, a=-": 3,
		"u=5, a=\"\x7f\"": 3, "u=5, é": 3, "\tu=5": 3, "u=5, a=(1\"x\")": 3,
		"u=5, a=" + strings.Repeat("x", 256): 3,
	} {
		if got := urgency(field); got != want {
			t.Errorf("%q: got %d, want %d", field, got, want)
		}
	}
}

func FuzzGuessAndLowerTakeAnything(f *testing.F) {
	f.Add("GET", "/a.css", "bot", "text/html;q=0.1,*/*", "u=5, i")
	f.Add("POST", "/", "", ",;=", "a=(1 \"x\";y), u=7;z=:aa=:")
	f.Add("HEAD", "", "cubot", "image/*", "u=7, b=%\"%c3%a9\", c=@1, d=-1.5")
	f.Fuzz(func(t *testing.T, method, path, agent, accept, priority string) {
		class := Guess(method, path, headers("User-Agent: "+agent, "Accept: "+accept))
		if !slices.Contains([]string{Writes, Pages, API, Robots}, class) {
			t.Errorf("guessed %q", class)
		}
		w := BuiltIn()
		for class, weight := range w {
			lowered := w.Lower(class, priority)
			if w[lowered] > weight || w[lowered] == 0 || w[lowered] == weight && lowered != class {
				t.Errorf("%q made %s %s", priority, class, lowered)
			}
		}
	})
}

func TestGuessAllocatesNothing(t *testing.T) {
	header := headers(firefox, html, "Priority: u=5, i")
	w := BuiltIn()
	if n := testing.AllocsPerRun(100, func() { w.Lower(Guess("GET", "/item/1", header), header("Priority")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkGuess(b *testing.B) {
	m := map[string]string{"User-Agent": firefox[12:], "Accept": html[8:], "Priority": "u=5, i"}
	header := func(name string) string { return m[name] }
	w := BuiltIn()
	b.ReportAllocs()
	for b.Loop() {
		w.Lower(Guess("GET", "/item/1", header), header("Priority"))
	}
}
