package server

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/api"
	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/page"
	"github.com/portner/portner/webapp/internal/store"
)

// memory keeps what visitors were shown last. A page is the same for all of
// them until something of it changes, and making it costs ten times what
// sending it does.
//
// Always: a kept page is older than no commit of this process that changed
// something of it (by its tags; without them, than no commit at all), and than
// a second at most, because other processes may write too and pages say how old
// things are. Only what a visitor gets without a cookie is kept, at most
// maxPages of them and maxBytes of memory.
type memory struct {
	store *store.Store

	mu    sync.Mutex
	pages map[string]kept          // mu; by what nameOf makes of a request
	bytes int                      // mu; of all bodies
	made  map[string]chan struct{} // mu; pages that somebody makes now; closed when he has
}

type kept struct {
	at      time.Time
	version int64        // changes that had been committed before it was made
	marks   []store.Mark // of its tags
	header  http.Header
	body    []byte
}

const (
	maxPages    = 64
	maxPage     = 2 << 20  // bytes of one page
	maxBytes    = 16 << 20 // of all
	keptFor     = time.Second
	maxKeptName = 512
)

func newMemory(st *store.Store) *memory {
	return &memory{store: st, pages: make(map[string]kept), made: make(map[string]chan struct{})}
}

func (m *memory) middleware(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		name := nameOf(c)
		if r.Method != http.MethodGet || r.Header.Get("Cookie") != "" || r.Header.Get("Range") != "" || !remembered(r.URL.Path) || len(name) > maxKeptName {
			return next(c)
		}
		p, mine, err := m.await(r.Context(), name)
		switch {
		case err != nil:
			return err
		case p != nil:
			return p.send(c)
		case mine == nil:
			return next(c)
		}
		defer m.follow(name, mine)
		// Before the page is made: what is committed meanwhile makes it old.
		version, _ := m.store.Shared()
		now := time.Now()
		w := &copying{ResponseWriter: c.Response().Writer, have: r.Header["If-None-Match"]}
		c.Response().Writer = w
		err = next(c)
		c.Response().Writer = w.ResponseWriter
		if h := c.Response().Header(); err == nil && c.Response().Status == http.StatusOK && !w.tooLong && h.Get("Set-Cookie") == "" && h.Get("Cache-Control") == "" {
			m.keep(name, kept{at: now, version: version, marks: marksOf(h), header: own(h), body: w.body.Bytes()})
		}
		if w.same {
			c.Response().Status, c.Response().Size = http.StatusNotModified, 0 // for the log
		}
		return err
	}
}

// await finds the page that is kept, or waits for whoever makes it now. It gives
// mine to who must make it himself, and neither to who has waited in vain: the
// page was none to be kept. What was committed before the request came is in
// its answer.
func (m *memory) await(ctx context.Context, name string) (p *kept, mine chan struct{}, err error) {
	asked, _ := m.store.Shared()
	for range 2 { // who began before a commit is waited for, and then who began after it
		p, mine, others := m.lead(name, asked)
		if p != nil || mine != nil {
			return p, mine, nil
		}
		select {
		case <-others:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		if p := m.find(name, asked); p != nil {
			return p, nil, nil
		}
	}
	return nil, nil, nil
}

// lead finds a page, or gives a channel to whoever makes it first and to the
// others the one that is closed when he is done.
func (m *memory) lead(name string, version int64) (p *kept, mine chan struct{}, others <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p, ok := m.pages[name]; ok && m.good(p, version) && time.Since(p.at) < keptFor {
		return &p, nil, nil
	}
	if others, ok := m.made[name]; ok {
		return nil, nil, others
	}
	m.forgetLocked(name)
	mine = make(chan struct{})
	m.made[name] = mine
	return nil, mine, nil
}

// find is for who has waited: what he finds was made meanwhile, however long
// that took.
func (m *memory) find(name string, version int64) *kept {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p, ok := m.pages[name]; ok && m.good(p, version) {
		return &p
	}
	return nil
}

// good reports whether a page has in it what was committed when there were that
// many changes.
func (m *memory) good(p kept, version int64) bool {
	return p.version >= version || p.marks != nil && m.store.Fresh(p.marks, p.version)
}

// follow lets go those who wait for a page.
func (m *memory) follow(name string, mine chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.made, name)
	close(mine)
}

func (p *kept) send(c echo.Context) error {
	h := c.Response().Header()
	for name, values := range p.header {
		h[name] = values
	}
	if same(c.Request().Header["If-None-Match"], h.Get("ETag")) {
		keepType(h)
		return c.NoContent(http.StatusNotModified)
	}
	return c.Blob(http.StatusOK, p.header.Get(echo.HeaderContentType), p.body)
}

// nameOf has the host as well: a page names its own address, and one that was
// asked for under a false name is shown under no other.
func nameOf(c echo.Context) string {
	return c.Scheme() + " " + c.Request().Host + " " + c.Request().RequestURI
}

// remembered are the pages: not files, which are cheap, nor what programs ask.
func remembered(path string) bool {
	return !api.Owns(path) && path != "/up" && path != "/ready" && !strings.HasPrefix(path, "/static/")
}

// own are the headers that belong to the page and not to one answer.
func own(h http.Header) http.Header {
	kept := make(http.Header)
	for _, name := range []string{echo.HeaderContentType, "Etag", page.HeaderTags} {
		if values := h.Values(name); len(values) > 0 {
			kept[http.CanonicalHeaderKey(name)] = values
		}
	}
	return kept
}

func marksOf(h http.Header) (marks []store.Mark) {
	for tag := range strings.SplitSeq(h.Get(page.HeaderTags), ", ") {
		if tag != "" {
			marks = append(marks, store.MarkOf(news.Tag(tag)))
		}
	}
	return marks
}

func (m *memory) keep(name string, p kept) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(name)
	if m.fullLocked(p) {
		for old, had := range m.pages {
			if had.version != p.version || p.at.Sub(had.at) >= keptFor {
				m.forgetLocked(old)
			}
		}
	}
	if m.fullLocked(p) {
		clear(m.pages)
		m.bytes = 0
	}
	m.pages[name] = p
	m.bytes += len(p.body)
}

func (m *memory) fullLocked(p kept) bool {
	return len(m.pages) >= maxPages || m.bytes+len(p.body) > maxBytes
}

func (m *memory) forgetLocked(name string) {
	m.bytes -= len(m.pages[name].body)
	delete(m.pages, name)
}

// copying keeps what is written, up to maxPage, and sends it unless the client
// has it.
type copying struct {
	http.ResponseWriter
	have    []string // If-None-Match
	same    bool     // as what the client has
	body    bytes.Buffer
	tooLong bool
}

func (w *copying) WriteHeader(status int) {
	if status == http.StatusOK && same(w.have, w.Header().Get("ETag")) {
		w.same, status = true, http.StatusNotModified
		w.Header().Del(echo.HeaderContentLength)
		keepType(w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *copying) Write(b []byte) (int, error) {
	if w.body.Len()+len(b) > maxPage {
		w.tooLong = true
	} else {
		w.body.Write(b)
	}
	if w.same {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// typeOf304 is a name under which net/http lets the type into a 304.
var typeOf304 = strings.ToLower(echo.HeaderContentType)

// keepType says in a 304 of what type the page is. A cache may take what a 304
// says, and what it does not say, for news about what it has stored (RFC 9110,
// 15.4.5: "guiding cache updates"); a page without a type is shown as its source.
func keepType(h http.Header) { h[typeOf304] = h[echo.HeaderContentType] }

// same reports whether a client that sent If-None-Match has the page with this
// ETag (RFC 9110, 13.1.2: compared weakly).
func same(have []string, etag string) bool {
	if etag == "" {
		return false
	}
	for _, line := range have {
		for one := range strings.SplitSeq(line, ",") {
			if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == etag || one == "*" {
				return true
			}
		}
	}
	return false
}

func (w *copying) Unwrap() http.ResponseWriter { return w.ResponseWriter }
