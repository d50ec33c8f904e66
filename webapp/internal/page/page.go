// Package page shows the site to people: front page, newest, an item with its
// replies. Everything is made on the server, works without a script and loads
// nothing from another host.
//
// A handler returns an error before its first byte or not at all, because a
// page is made whole before it is sent.
package page

import (
	"bytes"
	"embed"
	"fmt"
	"hash/fnv"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
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

// Pages makes pages from a store.
type Pages struct {
	store     *store.Store
	sessions  *session.Sessions
	templates map[string]*template.Template // by name of the page
	buffers   sync.Pool                     // of *bytes.Buffer
}

// New reads the templates.
func New(st *store.Store, sessions *session.Sessions) (*Pages, error) {
	p := &Pages{store: st, sessions: sessions, templates: make(map[string]*template.Template)}
	p.buffers.New = func() any { return new(bytes.Buffer) }
	version, err := hashOf(staticFiles)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"list", "item", "error"} {
		t := template.New("layout.html").Funcs(template.FuncMap{
			// A new version of a file gets a new address, so it may be kept for ever.
			"static": func(file string) string { return "/static/" + file + "?v=" + version },
		})
		t, err := t.ParseFS(templateFiles, "templates/layout.html", "templates/"+name+".html")
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
	reads := []string{http.MethodGet, http.MethodHead}
	e.Match(reads, "/", p.front)
	e.Match(reads, "/newest", p.newest)
	e.Match(reads, "/item/:id", p.item)
	e.Match(reads, "/item", p.oldItem)
	e.Match(reads, "/static/:file", static)
}

// view is what the layout needs of every page.
type view struct {
	Title string // of the window, before the name of the site
	Here  string // path of the entry in the navigation that is shown
}

// show makes the page in memory and sends it.
func (p *Pages) show(c echo.Context, status int, name string, data any) error {
	b := p.buffers.Get().(*bytes.Buffer)
	defer p.buffers.Put(b)
	b.Reset()
	if err := p.templates[name].Execute(b, data); err != nil {
		return fmt.Errorf("page: make %s: %w", name, err)
	}
	return c.Blob(status, echo.MIMETextHTMLCharsetUTF8, b.Bytes())
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

// part reads which part of a list is wanted: ?p=2 is the second.
func part(c echo.Context) (int, error) {
	s := c.QueryParam("p")
	if s == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxPart {
		return 0, fmt.Errorf("page: part %q: %w", s, news.ErrNoSuchItem)
	}
	return n, nil
}

// maxPart keeps what is skipped in front of a part within an int.
const maxPart = 1_000_000
