package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"golang.org/x/net/html"

	"github.com/portner/portner/webapp/internal/store"
)

// visitor is a browser without a script: it keeps a cookie, follows redirects,
// fills in forms and presses buttons, and can do nothing that the page does
// not offer.
type visitor struct {
	t       *testing.T
	handler http.Handler
	cookie  string
	at      string // path of the page
	status  int
	header  http.Header
	body    string
	page    *html.Node
}

// inTown runs test with the whole site on a clock that moves when test sleeps.
func inTown(t *testing.T, test func(t *testing.T, st *store.Store, visit func() *visitor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "news.db"), zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		srv, err := New(st, zap.NewNop(), "")
		if err != nil {
			t.Fatal(err)
		}
		test(t, st, func() *visitor { return &visitor{t: t, handler: srv.Handler()} })
	})
}

// send makes one request and follows nothing.
func (v *visitor) send(method, path string, values url.Values, header ...string) {
	v.t.Helper()
	v.at = path
	path, _, _ = strings.Cut(path, "#") // stays in the browser
	var r *http.Request
	if method == "POST" {
		r = httptest.NewRequestWithContext(v.t.Context(), method, path, strings.NewReader(values.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		r = httptest.NewRequestWithContext(v.t.Context(), method, path, nil)
	}
	r.RemoteAddr = "127.0.0.1:40000" // the door
	if v.cookie != "" {
		r.Header.Set("Cookie", v.cookie)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	rec := httptest.NewRecorder()
	v.handler.ServeHTTP(rec, r)
	for _, c := range rec.Result().Cookies() {
		v.cookie = c.Name + "=" + c.Value
		if c.MaxAge < 0 {
			v.cookie = ""
		}
	}
	v.status, v.header, v.body = rec.Code, rec.Header(), rec.Body.String()
}

// open goes to a page, as a person does: redirects are followed.
func (v *visitor) open(path string) *visitor {
	v.t.Helper()
	v.send("GET", path, nil)
	v.follow()
	return v
}

func (v *visitor) follow() {
	v.t.Helper()
	for range 5 {
		if v.status < 300 || v.status > 399 {
			page, err := html.Parse(strings.NewReader(v.body))
			if err != nil {
				v.t.Fatal(err)
			}
			v.page = page
			return
		}
		to := v.header.Get("Location")
		if !strings.HasPrefix(to, "/") {
			v.t.Fatalf("%s leads to %q", v.at, to)
		}
		v.send("GET", to, nil)
	}
	v.t.Fatalf("%s leads round in circles", v.at)
}

// fill sends the form of this id with its values as they stand, but those given.
func (v *visitor) fill(id string, values ...string) *visitor {
	v.t.Helper()
	form := v.find(func(n *html.Node) bool { return n.Data == "form" && attr(n, "id") == id })
	if form == nil {
		v.t.Fatalf("%s has no form %q:\n%s", v.at, id, v.body)
	}
	sent := fields(form)
	for i := 0; i < len(values); i += 2 {
		if field := v.find(func(n *html.Node) bool { return attr(n, "name") == values[i] && below(n, form) }); field == nil {
			v.t.Fatalf("%s: the form %q does not ask for %q", v.at, id, values[i])
		}
		sent.Set(values[i], values[i+1])
		if values[i+1] == "" && values[i] == "showdead" {
			sent.Del(values[i]) // a box that is not ticked is not sent
		}
	}
	method, action := strings.ToUpper(attr(form, "method")), attr(form, "action")
	if method == "" {
		method, action = "GET", action+"?"+sent.Encode()
	}
	v.send(method, action, sent)
	v.follow()
	return v
}

// press presses the button of this name, as it is read out.
func (v *visitor) press(name string) *visitor {
	v.t.Helper()
	button := v.button(name)
	if button == nil {
		v.t.Fatalf("%s has no button %q:\n%s", v.at, name, v.body)
	}
	form := v.find(func(n *html.Node) bool { return n.Data == "form" && attr(n, "id") == attr(button, "form") })
	if form == nil {
		v.t.Fatalf("%s: the button %q belongs to no form", v.at, name)
	}
	sent := fields(form)
	if attr(button, "name") != "" {
		sent.Set(attr(button, "name"), attr(button, "value"))
	}
	v.send("POST", attr(button, "formaction"), sent)
	v.follow()
	return v
}

func (v *visitor) button(name string) *html.Node {
	return v.find(func(n *html.Node) bool {
		return n.Data == "button" && (attr(n, "aria-label") == name || attr(n, "aria-label") == "" && strings.TrimSpace(text(n)) == name)
	})
}

// sees fails the test unless the page shows these words.
func (v *visitor) sees(words ...string) *visitor {
	v.t.Helper()
	shown := text(v.page)
	for _, w := range words {
		if !strings.Contains(shown, w) {
			v.t.Fatalf("%s (%d) does not show %q:\n%s", v.at, v.status, w, v.body)
		}
	}
	return v
}

func (v *visitor) seesNot(words ...string) *visitor {
	v.t.Helper()
	shown := text(v.page)
	for _, w := range words {
		if strings.Contains(shown, w) {
			v.t.Fatalf("%s shows %q", v.at, w)
		}
	}
	return v
}

// value is what stands in a field; a textarea's first line break is not part of it.
func (v *visitor) value(name string) string {
	v.t.Helper()
	field := v.find(func(n *html.Node) bool {
		return attr(n, "name") == name && (n.Data == "input" || n.Data == "textarea")
	})
	if field == nil {
		v.t.Fatalf("%s asks for no %q", v.at, name)
	}
	return valueOf(field)
}

// wrong is what is said beside a field.
func (v *visitor) wrong(name string) string {
	v.t.Helper()
	field := v.find(func(n *html.Node) bool {
		return attr(n, "name") == name && (n.Data == "input" || n.Data == "textarea")
	})
	if field == nil || attr(field, "aria-invalid") != "true" {
		return ""
	}
	for id := range strings.FieldsSeq(attr(field, "aria-describedby")) {
		if note := v.find(func(n *html.Node) bool { return attr(n, "id") == id }); note != nil && attr(note, "class") == "wrong" {
			return text(note)
		}
	}
	return ""
}

func (v *visitor) register(name string) *visitor {
	v.t.Helper()
	return v.open("/register").fill("register", "name", name, "password", password).sees("Log out", name)
}

func (v *visitor) find(match func(*html.Node) bool) *html.Node { return find(v.page, match) }

func find(n *html.Node, match func(*html.Node) bool) *html.Node {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && match(d) {
			return d
		}
	}
	return nil
}

func below(n, top *html.Node) bool {
	for ; n != nil; n = n.Parent {
		if n == top {
			return true
		}
	}
	return false
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func valueOf(field *html.Node) string {
	if field.Data != "textarea" {
		return attr(field, "value")
	}
	if field.FirstChild == nil {
		return ""
	}
	return field.FirstChild.Data
}

// fields are what a form sends as it stands.
func fields(form *html.Node) url.Values {
	sent := make(url.Values)
	for n := range form.Descendants() {
		if n.Data != "input" && n.Data != "textarea" || attr(n, "name") == "" {
			continue
		}
		if attr(n, "type") == "checkbox" && find(form, func(m *html.Node) bool { return m == n && hasAttr(n, "checked") }) == nil {
			continue
		}
		sent.Set(attr(n, "name"), valueOf(n))
	}
	return sent
}

func hasAttr(n *html.Node, name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}

// everything is what the database holds, but for sessions.
func everything(t *testing.T, st *store.Store) string {
	t.Helper()
	var b strings.Builder
	must(t, st.Export(t.Context(), store.Record{}, func(r store.Record) error { return json.NewEncoder(&b).Encode(r) }))
	return b.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// itemOf is the id in the address of the page.
func (v *visitor) itemOf() string {
	v.t.Helper()
	path, _, _ := strings.Cut(strings.TrimPrefix(v.at, "/item/"), "#")
	path, _, _ = strings.Cut(path, "?")
	if path == "" || strings.Trim(path, "0123456789") != "" {
		v.t.Fatalf("%s is no item's page", v.at)
	}
	return path
}

func (v *visitor) submit(title, address, words string) (id string) {
	v.t.Helper()
	v.open("/submit").fill("submit", "title", title, "url", address, "text", words)
	if v.status != 200 {
		v.t.Fatalf("%d %s", v.status, v.body)
	}
	return v.itemOf()
}

func (v *visitor) say(on, words string) (id string) {
	v.t.Helper()
	v.open("/item/"+on).fill("reply", "text", words)
	_, id, ok := strings.Cut(v.at, "#item-")
	if !ok {
		v.t.Fatalf("%s (%d):\n%s", v.at, v.status, v.body)
	}
	return id
}

// answered describes the last answer, for messages.
func (v *visitor) answered() string { return fmt.Sprintf("%s: %d", v.at, v.status) }
