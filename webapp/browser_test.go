package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	traffic "github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// A real browser at the real door: Chromium speaks HTTPS with Caddy, whose
// app_proxy speaks HTTP with this program.

// chromium is the path of a browser. Without one the tests are skipped, loudly;
// with REQUIRE_BROWSER set they fail.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "headless-shell"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("REQUIRE_BROWSER") != "" {
		t.Fatal("a browser is required, and there is no chromium")
	}
	fmt.Fprint(os.Stderr, "\n*** NOT TESTED WITH A BROWSER: there is no chromium ***\n\n")
	t.Skip("there is no chromium")
	return ""
}

// door starts the application and Caddy in front of it, and returns the
// address of the site and the file of its database. words are more of the pool.
func door(t *testing.T, words string) (site, db string) {
	t.Helper()
	dir := t.TempDir()
	caddy := filepath.Join(dir, "caddy")
	if out, err := exec.Command("go", "build", "-o", caddy, "../cmd/caddy").CombinedOutput(); err != nil {
		t.Fatalf("build caddy: %v\n%s", err, out)
	}
	db = filepath.Join(dir, "news.db")
	app := start(t, "-listen", "127.0.0.1:0", "-db", db)
	go app.drain()

	site = "https://localhost:" + freePort(t)
	config := filepath.Join(dir, "Caddyfile")
	err := os.WriteFile(config, fmt.Appendf(nil, `{
	admin off
	auto_https disable_redirects
	skip_install_trust
	persist_config off
	grace_period 1s
	storage file_system %s
	servers {
		protocols h1 h2
	}
}
%s {
	bind 127.0.0.1
	tls internal
	app_proxy %s {
		name browser
		concurrency 4
		%s
	}
}
`, filepath.Join(dir, "storage"), site, app.addr, words), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	front := &process{cmd: exec.Command(caddy, "run", "--config", config)}
	front.begin(t, "serving initial configuration")
	go front.drain()
	shakesHands(t, strings.TrimPrefix(site, "https://"))
	return site, db
}

// shakesHands waits until the door has its certificate, which it makes while
// it listens already and announces a moment too early.
func shakesHands(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the door does not open: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// freePort is one that nobody had a moment ago: Caddy cannot say which port it
// was given when it is told to take any.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	must(t, err)
	return port
}

// drain reads the rest of the log, or the process would wait for a reader. It
// ends with the process.
func (p *process) drain() {
	for p.logs.Scan() {
	}
}

// person sits at a browser of their own.
type person struct {
	t    *testing.T
	ctx  context.Context
	site string
	name string // of the screenshots

	mu       sync.Mutex
	problems []string // mu; what the console has said, and requests to other hosts
	refusals []string // mu; of pages that are errors, as the console says them, not asked for yet
}

// refused is what the console says of a page that has this status.
func refused(status int, address string) string {
	return fmt.Sprintf("Failed to load resource: the server responded with a status of %d () %s", status, address)
}

// device is what somebody holds in hands, or sits at.
type device struct {
	name          string
	width, height int64
	phone         bool
	script        bool
	dark          bool
}

var devices = []device{
	{name: "desktop", width: 1280, height: 900, script: true},
	{name: "phone", width: 390, height: 844, phone: true, script: true},
	{name: "desktop-dark", width: 1280, height: 900, script: true, dark: true},
	{name: "phone-without-script", width: 320, height: 568, phone: true, dark: true},
}

// browse starts the browser.
func browse(t *testing.T) context.Context {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("force-color-profile", "srgb"))
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute) // or a test that hangs would say nothing
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	must(t, chromedp.Do(ctx))
	return ctx
}

// sit gives somebody a device: cookies of his own, and an eye on the console.
func sit(t *testing.T, browser context.Context, site, name string, d device) *person {
	t.Helper()
	p := &person{t: t, site: site, name: d.name + "-" + name}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.listen))
	t.Cleanup(cancel)
	p.ctx = ctx
	scheme := "light"
	if d.dark {
		scheme = "dark"
	}
	must(t, command(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: d.width, Height: d.height, DeviceScaleFactor: 1, Mobile: d.phone}))
	must(t, command(ctx, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: d.phone}))
	must(t, command(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}))
	must(t, command(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !d.script}))
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func command[P, R any](ctx context.Context, cmd cdp.Command[P, R], params P) error {
	_, err := chromedp.Call(ctx, cmd, params)
	return err
}

func (p *person) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.problems = append(p.problems, "exception: "+e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		p.problems = append(p.problems, "console: "+string(e.Type))
	case *log.EventEntryAdded:
		loud := e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning
		switch said := e.Entry.Text + " " + e.Entry.URL; {
		case loud && e.Entry.Source == log.EntrySourceNetwork && strings.HasPrefix(said, "Failed to load resource"):
			p.refusals = append(p.refusals, said)
		case loud:
			p.problems = append(p.problems, said)
		}
	case *traffic.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, p.site+"/") && !strings.HasPrefix(e.Request.URL, "data:") { // data: the browser's own icons

			p.problems = append(p.problems, "it asks for "+e.Request.URL)
		}
	}
}

func (p *person) run(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatalf("%s: %v\n%s", p.name, err, p.source())
	}
}

// goes does what leads to another page, and waits for that.
func (p *person) goes(actions ...chromedp.Action[chromedp.Void]) *person {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, actions...); err != nil {
		p.t.Fatalf("%s: %v\n%s", p.name, err, p.source())
	}
	return p
}

func (p *person) open(path string) *person {
	p.t.Helper()
	return p.goes(chromedp.Navigate(p.site + path))
}

// refused expects that the page which is shown has this status, and that the
// console says so once and nothing else of the kind.
func (p *person) refused(status int) *person {
	p.t.Helper()
	address := finds(p, chromedp.Evaluate[string](`location.href`))
	p.mu.Lock()
	defer p.mu.Unlock()
	want := refused(status, address)
	at := slices.Index(p.refusals, want)
	if at < 0 {
		p.t.Errorf("%s: the console says %q, and not %q", p.name, p.refusals, want)
		return p
	}
	p.refusals = slices.Delete(p.refusals, at, at+1)
	return p
}

// write types into a field, over what stands there.
func (p *person) write(field, words string) *person {
	p.t.Helper()
	p.run(chromedp.Focus(chromedp.CSS(field)), chromedp.KeyEvent("a", chromedp.KeyModifiers(chromedp.ModifierCtrl)), chromedp.KeyEvent(kb.Delete), chromedp.KeyEvent(words))
	return p
}

// press clicks what is called so, and waits for the page behind it.
func (p *person) press(selector string) *person {
	p.t.Helper()
	return p.goes(chromedp.Click(chromedp.CSS(selector)))
}

func (p *person) source() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	source, err := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("body")))
	if err != nil {
		return err.Error()
	}
	return source[:min(len(source), 20_000)]
}

// finds is the value of an expression in the page.
func finds[T any](p *person, action chromedp.Action[T]) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, action)
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	return v
}

func (p *person) text() string {
	p.t.Helper()
	return finds(p, chromedp.Evaluate[string](`document.body.innerText`))
}

func (p *person) sees(words ...string) *person {
	p.t.Helper()
	text := p.text()
	for _, w := range words {
		if !strings.Contains(text, w) {
			p.t.Fatalf("%s does not see %q in\n%s", p.name, w, text)
		}
	}
	return p
}

func (p *person) seesNot(words ...string) *person {
	p.t.Helper()
	text := p.text()
	for _, w := range words {
		if strings.Contains(text, w) {
			p.t.Fatalf("%s sees %q in\n%s", p.name, w, text)
		}
	}
	return p
}

// tooSmall are buttons that a finger may miss (WCAG 2.2, 2.5.8: 24 pixels);
// links within a sentence may be smaller.
const tooSmall = `[...document.querySelectorAll("button, input:not([type=hidden]):not([hidden]), textarea, nav a, .acts a")]
	.filter(e => e.checkVisibility())
	.filter(e => { const r = (e.type == "checkbox" ? e.closest("label") : e).getBoundingClientRect(); return r.width < 24 || r.height < 24 })
	.map(e => e.outerHTML).join(" ")`

// keep checks that nothing sticks out at the side or is too small, and keeps a
// picture of the page where BROWSER_SCREENSHOTS names a folder.
func (p *person) keep(name string) *person {
	p.t.Helper()
	if finds(p, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > document.documentElement.clientWidth`)) {
		p.t.Errorf("%s: %s must be pushed sideways", p.name, name)
	}
	if small := finds(p, chromedp.Evaluate[string](tooSmall)); small != "" {
		p.t.Errorf("%s: too small on %s: %s", p.name, name, small)
	}
	if dir := os.Getenv("BROWSER_SCREENSHOTS"); dir != "" {
		png := finds(p, chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(dir, p.name+"-"+name+".png"), png, 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	return p
}

// leaves fails the test when anything was said that should not be.
func (p *person) leaves() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, problem := range slices.Concat(p.problems, p.refusals) {
		p.t.Errorf("%s: %s", p.name, problem)
	}
}

const browserPassword = "correct horse battery"

func TestSiteWorksInABrowserThroughTheDoor(t *testing.T) {
	browser := browse(t)
	site, db := door(t, "cache 64MiB")
	for _, d := range devices {
		t.Run("person with "+d.name, func(t *testing.T) { useTheSite(t, browser, site, d) })
		if !d.dark || !d.script {
			t.Run("moderator with "+d.name, func(t *testing.T) { lookAfterTheSite(t, browser, site, db, d) })
		}
		t.Run("visitor with "+d.name, func(t *testing.T) { readTheSite(t, browser, site, d) })
	}
	t.Run("keys reach everything", func(t *testing.T) { useTheKeys(t, browser, site) })
	t.Run("forms are taken from this site alone", func(t *testing.T) { forge(t, site) })
}

func useTheSite(t *testing.T, browser context.Context, site string, d device) {
	name := "ann-" + d.name
	about := "A porter for " + d.name
	ann := sit(t, browser, site, "ann", d)
	defer ann.leaves()

	ann.open("/").keep("front")
	ann.press(`a[href^="/login"]`).press(`a[href^="/register"]`)
	ann.write(`input[name=name]`, name).write(`input[name=password]`, "short").press(`#register button`).sees("at least 10 characters").refused(422).keep("register-wrong")
	ann.write(`input[name=password]`, browserPassword).press(`#register button`).sees(name, "Log out")

	ann.press(`a[href="/submit"]`).keep("submit")
	ann.write(`input[name=title]`, strings.Repeat("x", 81)).press(`#submit button`).sees("the longest is 80").refused(422).keep("submit-wrong")
	ann.write(`input[name=title]`, about).write(`input[name=url]`, "https://example.com/"+d.name)
	ann.write(`textarea[name=text]`, "It *opens* doors:\r\r  go run ./cmd/caddy\r\rand closes them.").press(`#submit button`)
	ann.sees(about, "example.com", "No comments yet")
	ann.write(`textarea[name=text]`, "The first comment.").press(`#reply button`).sees("1 comment", "The first comment.")

	bob := sit(t, browser, site, "bob", d)
	defer bob.leaves()
	bob.open("/register").write(`input[name=name]`, "bob-"+d.name).write(`input[name=password]`, browserPassword).press(`#register button`)
	bob.open("/newest").press(`h2 ~ .meta a[href^="/item/"]`).sees(about)
	bob.press(`button[aria-label^="Vote up ` + about + `"]`).sees("2 points").press(`button[aria-label^="Unvote"]`).sees("1 point")
	bob.press(`button[aria-label^="Vote up the comment"]`).sees("2 points")
	bob.press(`.thread a[href$="#reply"]`).write(`textarea[name=text]`, "An answer to the first.").press(`#reply button`).sees("An answer to the first.")
	bob.press(`.context a`).sees("2 comments").keep("item")
	if d.script {
		bob.run(chromedp.Click(chromedp.CSS(`.fold`)))
		bob.seesNot("An answer to the first.", "The first comment.").keep("folded")
		bob.run(chromedp.Click(chromedp.CSS(`.fold`)))
		bob.sees("An answer to the first.", "The first comment.")
	}
	bob.press(`button[aria-label^="Favourite"]`).press(`button[aria-label^="Hide"]`)
	bob.press(`a[href^="/user/bob"]`).press(`a[href$="/favourites"]`).sees("Favourites of")
	bob.press(`a[href$="/hidden"]`).sees(about).press(`button[aria-label^="Unhide"]`).sees("You have hidden nothing.")

	ann.open("/newest").press(`.count`).press(`a[href$="/edit"]`).write(`input[name=title]`, about+", edited").press(`#edit button`).sees(about+", edited", "(edited)")
	ann.press(`a[href="/search"]`).write(`input[name=q]`, "edited "+d.name).press(`#search button`).sees(about + ", edited").keep("search")
	ann.open("/settings").write(`textarea[name=about]`, "I build doors.").press(`#profile button`).sees("It has been saved.").keep("settings")
	ann.press(`a[href^="/user/ann"]`).sees("I build doors.").keep("user")
	ann.open("/submit?kind=poll").write(`input[name=title]`, "Doors or gates? "+d.name).write(`textarea[name=options]`, "Doors\rGates").press(`#submit button`)
	ann.press(`.options button[aria-label="Choose Gates"]`).sees("1 vote").keep("poll")
	ann.press(`a[href$="/delete"]`).keep("delete").press(`#delete button`).sees("[deleted]")
	ann.open("/settings").write(`input[name=old]`, "not the old one").write(`input[name=password]`, browserPassword+"!").press(`#secret button`).sees("Old password is wrong.").refused(422).keep("password-wrong")
	ann.write(`input[name=old]`, browserPassword).write(`input[name=password]`, browserPassword+"!").press(`#secret button`).sees("It has been saved.")
	ann.press(`button[formaction="/logout"]`).seesNot("Log out")
	ann.press(`a[href^="/login"]`).write(`input[name=name]`, name).write(`input[name=password]`, browserPassword+"!").keep("login").press(`#login button`).sees("Log out")
	turnAway(t, browser, site, name, d)
}

// turnAway shows the pages of those who are refused for other reasons than what
// they typed: a name that is taken, a wrong password, and one guess too many.
func turnAway(t *testing.T, browser context.Context, site, name string, d device) {
	eve := sit(t, browser, site, "eve", d)
	defer eve.leaves()
	eve.open("/register").write(`input[name=name]`, name).write(`input[name=password]`, browserPassword).press(`#register button`)
	eve.sees("somebody else's already").refused(409).keep("register-taken")
	eve.open("/login").write(`input[name=name]`, "eve-"+d.name) // not as ann, who logs in again later
	for range 5 {
		eve.write(`input[name=password]`, "a guess").press(`#login button`).sees("Name or password is wrong.").refused(403)
	}
	eve.keep("login-wrong").write(`input[name=password]`, "a guess").press(`#login button`).sees("That was too fast.").refused(429).keep("login-too-fast")
}

func useTheKeys(t *testing.T, browser context.Context, site string) {
	p := sit(t, browser, site, "keys", devices[0])
	defer p.leaves()
	p.open("/from?site=nothing.example") // has no entries
	var reached []string
	for range 30 {
		p.run(chromedp.KeyEvent(kb.Tab))
		what := finds(p, chromedp.Evaluate[string](`(document.activeElement.textContent || "").trim()`))
		outline := finds(p, chromedp.Evaluate[string](`getComputedStyle(document.activeElement).outlineStyle`))
		if what == "" || slices.Contains(reached, what) {
			break
		}
		if outline == "none" {
			t.Errorf("nobody sees that %q has the focus", what)
		}
		reached = append(reached, what)
	}
	want := []string{"Skip to content", "Portner News", "Search", "Submit", "Log in", "Front page", "Newest", "Best", "Ask", "Show", "Jobs", "Polls", "Comments", "Past", "RSS"}
	if !slices.Equal(reached[:min(len(reached), len(want))], want) {
		t.Errorf("the keys reach %q, want %q first", reached, want)
	}
	// The skip link leads behind the navigation.
	p.open("/from?site=nothing.example")
	p.run(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	if at := finds(p, chromedp.Evaluate[string](`document.activeElement.id`)); at != "main" {
		t.Errorf("the skip link leads to %q", at)
	}
}

func forge(t *testing.T, site string) {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for origin, words := range map[string]string{site: "Name or password is wrong.", "https://evil.example": "This form is too old", "null": "This form is too old"} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", site+"/login", strings.NewReader(url.Values{"name": {"x"}, "password": {"y"}}.Encode()))
		must(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", origin)
		res, err := client.Do(req)
		must(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		must(t, err)
		if res.StatusCode != http.StatusForbidden || !strings.Contains(string(body), words) {
			t.Errorf("%s: %d, and it does not say %q", origin, res.StatusCode, words)
		}
	}
}
