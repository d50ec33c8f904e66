// Package page shows the site to people: the lists, an item with its replies,
// users, and the forms by which somebody takes part. Everything is made on the
// server, works without a script but for the folding of replies, and loads
// nothing from another host.
//
// Always: GET changes nothing; a form that was filled in wrongly comes back
// with what was typed, passwords excepted, and nothing has been stored; a text
// is shown only to whoever may read it (news.Item.VisibleTo). A handler returns
// an error before its first byte or not at all, because a page is made whole
// before it is sent. Safe for concurrent use.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"html/template"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/session"
	"github.com/portner/portner/webapp/internal/store"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static/*
var staticFiles embed.FS

// SiteName is what the site calls itself.
const SiteName = "Portner News"

// Pages makes pages from a store.
type Pages struct {
	store     *store.Store
	sessions  *session.Sessions
	origin    string
	templates map[string]*template.Template // by name of the page
	buffers   sync.Pool                     // of *bytes.Buffer
	texts     *texts
}

// New reads the templates. origin begins the addresses in feeds, the sitemap
// and what other sites show of a page, as "https://news.example.com"; when it
// is empty, they begin as the request did.
func New(st *store.Store, sessions *session.Sessions, origin string) (*Pages, error) {
	p := &Pages{store: st, sessions: sessions, origin: origin, templates: make(map[string]*template.Template), texts: newTexts()}
	p.buffers.New = func() any { return new(bytes.Buffer) }
	version, err := hashOf(staticFiles)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"list", "item", "user", "form", "error"} {
		t := template.New("layout.html").Funcs(template.FuncMap{
			// A new version of a file gets a new address, so it may be kept for ever.
			"static":   func(file string) string { return "/static/" + file + "?v=" + version },
			"site":     func() string { return SiteName },
			"sections": func() []shelf { return shelves },
		})
		t, err := t.ParseFS(templateFiles, "templates/layout.html", "templates/parts.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("page: read template %s: %w", name, err)
		}
		p.templates[name] = t
	}
	return p, nil
}

func hashOf(files fs.FS) (string, error) {
	sum := fnv.New64a()
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(files, path)
		sum.Write(b)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("page: read static files: %w", err)
	}
	return strconv.FormatUint(sum.Sum64(), 36), nil
}

// Register adds the routes to e.
func (p *Pages) Register(e *echo.Echo) {
	read := func(path string, h echo.HandlerFunc) { e.Match([]string{http.MethodGet, http.MethodHead}, path, h) }
	for _, s := range shelves {
		read(s.Path, p.shelf(s))
		if s.Feed != "" {
			read(s.Feed+".rss", p.rss(s))
			read(s.Feed+".json", p.jsonFeed(s))
		}
	}
	read("/rss", p.rss(shelves[0]))
	read("/from", p.from)
	read("/past", p.past)
	read("/search", p.search)
	read("/flagged", p.member(p.flagged))
	read("/dead", p.member(p.dead))
	read("/item/:id", p.item)
	read("/item", p.oldItem)
	read("/user/:name", p.user)
	read("/user", p.oldUser)
	for old, path := range oldLists {
		read(old, oldList(path))
	}
	for old, word := range oldUserLists {
		read(old, p.oldUserList(word))
	}
	read("/front", p.oldDay)
	for _, s := range ofUser {
		read("/user/:name/"+s.word, p.userList(s))
	}
	read("/login", p.loginForm)
	e.POST("/login", p.login)
	read("/register", p.registerForm)
	e.POST("/register", p.register)
	e.POST("/logout", p.logout)
	read("/settings", p.member(p.settings))
	e.POST("/settings", p.member(p.saveSettings))
	e.POST("/settings/password", p.member(p.changePassword))
	read("/submit", p.member(p.submitForm))
	e.POST("/submit", p.member(p.submit))
	e.POST("/item/:id/reply", p.member(p.reply))
	read("/item/:id/edit", p.member(p.editForm))
	e.POST("/item/:id/edit", p.member(p.edit))
	read("/item/:id/delete", p.member(p.deleteForm))
	e.POST("/item/:id/delete", p.member(p.remove))
	e.POST("/item/:id/vote", p.member(p.vote))
	for word, set := range map[string]marker{"flag": p.store.Flag, "favourite": p.store.Favourite, "hide": p.store.Hide, "kill": p.store.Kill} {
		e.POST("/item/:id/"+word, p.mark(set))
	}
	read("/sitemap.xml", p.sitemap)
	read("/robots.txt", p.robots)
	read("/static/:file", static)
	read("/favicon.ico", icon)
}

// view is what the layout needs of every page.
type view struct {
	Title    string     // of the window, before the name of the site
	Here     string     // path of the entry in the navigation that is shown
	Me       *news.User // nil for a visitor
	CSRF     string
	Path     string // of the request, with its query: where a button returns to
	Origin   string
	Address  string // path by which the page is known; "" when it has no lasting one
	About    string // a sentence for other sites
	Type     string // what the page is for them: website when empty, article, profile
	Feed     string // path of the list's feeds without their ending
	Unlisted bool   // not for search engines
}

func (p *Pages) view(c echo.Context, title, here string) view {
	path := c.Request().URL.RequestURI()
	if c.Request().Method == http.MethodPost { // an address that is sent to is often none to go to
		path = "/"
	}
	return view{Title: title, Here: here, Me: session.User(c), CSRF: session.CSRF(c), Path: path, Origin: p.originOf(c)}
}

func (p *Pages) originOf(c echo.Context) string {
	if p.origin != "" {
		return p.origin
	}
	return c.Scheme() + "://" + c.Request().Host // the door says which scheme; echo believes it from private addresses alone
}

// show makes the page in memory and sends it.
func (p *Pages) show(c echo.Context, status int, name string, data any) error {
	b := p.buffers.Get().(*bytes.Buffer)
	defer p.buffers.Put(b)
	b.Reset()
	if err := p.templates[name].Execute(b, data); err != nil {
		return fmt.Errorf("page: make %s: %w", name, err)
	}
	return send(c, status, echo.MIMETextHTMLCharsetUTF8, b.Bytes())
}

// send says how long the answer is, so that HEAD does too. What visitors get has
// an ETag, so that whoever has kept it need not be sent it again.
func send(c echo.Context, status int, mime string, body []byte) error {
	h := c.Response().Header()
	if status == http.StatusOK && session.User(c) == nil {
		h.Set("ETag", etag(body))
	}
	h.Set(echo.HeaderContentLength, strconv.Itoa(len(body)))
	return c.Blob(status, mime, body)
}

// etag is a strong validator: the same bytes have the same in every process.
func etag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// HeaderTags names what a page depends on, for whoever keeps it.
const HeaderTags = "Cache-Tag"

// dependsOn says by which changes the page becomes old. The door keeps no page
// that does not say it, and none of somebody who is logged in.
func dependsOn(c echo.Context, tags ...news.Tag) {
	if session.User(c) != nil {
		return
	}
	slices.Sort(tags)
	var b strings.Builder
	b.WriteString(string(news.Everything))
	for _, tag := range slices.Compact(tags) {
		b.WriteString(", " + string(tag))
	}
	c.Response().Header().Set(HeaderTags, b.String())
}

// tagsOf are those of items that are shown.
func tagsOf(items []news.Item) (tags []news.Tag) {
	for _, it := range items {
		tags = append(tags, it.Tags()[0])
	}
	return tags
}

func static(c echo.Context) error {
	b, err := fs.ReadFile(staticFiles, "static/"+c.Param("file"))
	if err != nil {
		return echo.ErrNotFound
	}
	c.Response().Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(c.Response(), c.Request(), c.Param("file"), time.Time{}, bytes.NewReader(b))
	return nil
}

// icon is what browsers ask for beside a feed, which cannot name its own.
func icon(c echo.Context) error {
	b, err := fs.ReadFile(staticFiles, "static/icon.svg")
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", "public, max-age=86400")
	return c.Blob(http.StatusOK, "image/svg+xml", b)
}

// number reads a small number of the query, which counts from 1: ?p=2 is the
// second part.
func number(c echo.Context, name string) (int, error) {
	s := c.QueryParam(name)
	if s == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxNumber {
		return 0, fmt.Errorf("page: %s %q: %w", name, s, news.ErrNoSuchItem)
	}
	return n, nil
}

// maxNumber keeps what is skipped in front of a part within an int.
const maxNumber = 1_000_000

// parameter reads a value of the query. What is no text names nothing.
func parameter(c echo.Context, name string) string {
	return strings.ToValidUTF8(c.QueryParam(name), "\uFFFD")
}
