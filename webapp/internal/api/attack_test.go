package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/server"
	"github.com/portner/portner/webapp/internal/store"
)

// What may be sent is read from the document that the site serves, which a
// test of package server compares with its routes: a field or a parameter that
// is added there is attacked here, or the test says that it does not know how.

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 string
	Enum                 []any
	MaxLength            int
	Minimum, Maximum     *float64
	Properties           map[string]schema
	Required             []string
	AdditionalProperties *bool
}

type parameter struct {
	Ref    string `json:"$ref"`
	Name   string
	In     string
	Schema schema
}

type operation struct {
	method, path string
	Parameters   []parameter
	RequestBody  *struct {
		Content map[string]struct{ Schema schema }
	}
	Security []map[string]any
}

type site struct {
	http.Handler
	store  *store.Store
	tokens map[string]string
	schema map[string]schema
	ops    []operation
}

const password = "correct horse battery"

// start is a site with a story of ann's, a comment of bob's, and their tokens.
func start(t *testing.T) (s site, story string) {
	t.Helper()
	st, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "news.db"), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	srv, err := server.New(st, zap.NewNop(), "")
	if err != nil {
		t.Fatal(err)
	}
	s = site{Handler: srv.Handler(), store: st, tokens: make(map[string]string)}
	s.read(t)
	for _, name := range []string{"ann", "bob"} {
		if _, err := st.Register(t.Context(), name, password); err != nil {
			t.Fatal(err)
		}
		if s.tokens[name], err = st.StartSession(t.Context(), name, store.API, 1e12); err != nil {
			t.Fatal(err)
		}
	}
	id, err := st.Submit(t.Context(), "ann", news.Draft{Kind: news.Story, Title: "Ann's", Text: "sesame"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Submit(t.Context(), "bob", news.Draft{Kind: news.Comment, Parent: id, Text: "Bob's"}); err != nil {
		t.Fatal(err)
	}
	return s, fmt.Sprint(id)
}

func (s *site) read(t *testing.T) {
	t.Helper()
	var doc struct {
		Paths      map[string]map[string]operation
		Components struct {
			Schemas    map[string]schema
			Parameters map[string]parameter
		}
	}
	_, body := s.send(t, "", "GET", "/api/v1/openapi.json", "")
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	s.schema = doc.Components.Schemas
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
			o := doc.Paths[path][method]
			o.method, o.path = strings.ToUpper(method), path
			for i, p := range o.Parameters {
				if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
					o.Parameters[i] = doc.Components.Parameters[name]
				}
			}
			s.ops = append(s.ops, o)
		}
	}
	if len(s.ops) < 30 {
		t.Fatalf("%d operations", len(s.ops))
	}
}

func (s site) send(t *testing.T, name, method, path, body string) (status int, answer string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "https://news.example"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if name != "" {
		r.Header.Set("Authorization", "Bearer "+s.tokens[name])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// everything is all that is stored, but sessions.
func (s site) everything(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	if err := s.store.Export(t.Context(), store.Record{}, func(r store.Record) error { return enc.Encode(r) }); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (s site) body(o operation) (schema, bool) {
	if o.RequestBody == nil {
		return schema{}, false
	}
	name := strings.TrimPrefix(o.RequestBody.Content["application/json"].Schema.Ref, "#/components/schemas/")
	found, ok := s.schema[name]
	return found, ok
}

// at is the address of an operation about an item and ann.
func (o operation) at(item string) string {
	path := strings.NewReplacer("{list}", "newest", "{name}", "ann").Replace(o.path)
	return strings.ReplaceAll(path, "{id}", item)
}

// good is a value of every field that some operation takes.
var good = map[string]any{
	"kind": "story", "parent": 0, "title": "Good", "url": "", "text": "Good", "options": []string{}, "value": 1,
	"name": "ann", "password": password,
	"post_title": "Good", "post_text": "", "hanesst_id": 7, "post_type": "story", "post_parent": -1, "username": "eve", "pwd_hash": "x", "post_url": "",
}

// wrong are values that a field of such a schema must not take.
func (f schema) wrong(t *testing.T, name string) []any {
	t.Helper()
	switch f.Type {
	case "string":
		bad := []any{7, true, []any{}, map[string]any{}}
		switch {
		case len(f.Enum) > 0:
			bad = append(bad, "none of them", "", "STORY")
		case f.MaxLength > 0:
			bad = append(bad, strings.Repeat("x", f.MaxLength+1))
		}
		if name == "title" || name == "text" || name == "post_title" {
			bad = append(bad, "a \x00 within")
		}
		if name == "url" {
			bad = append(bad, "http://a.org/"+strings.Repeat("x", 2000), "javascript:alert(1)", "//host", "http://")
		}
		return bad
	case "integer":
		bad := []any{"7", 1.5, true, []any{}, json.Number("1e400"), json.Number("9223372036854775808")}
		if f.Minimum != nil {
			bad = append(bad, *f.Minimum-1, *f.Maximum+1)
		}
		if len(f.Enum) > 0 {
			bad = append(bad, 2, -2)
		}
		return bad
	case "array":
		return []any{"x", 7, map[string]any{}, []any{7}, []string{"one"}, []string{strings.Repeat("x", 81), "y"}}
	}
	t.Fatalf("%s is of type %q: say here what is wrong for it", name, f.Type)
	return nil
}

func TestEveryFieldRefusesWhatItMustAndNothingIsStored(t *testing.T) {
	s, story := start(t)
	before, fields := s.everything(t), 0
	for _, o := range s.ops {
		in, ok := s.body(o)
		if !ok {
			continue
		}
		if len(in.Properties) == 0 {
			t.Fatalf("%s %s takes what the document does not say", o.method, o.path)
		}
		for name, field := range in.Properties {
			fields++
			if _, ok := good[name]; !ok {
				t.Fatalf("%s %s takes %q: give it a good value above", o.method, o.path, name)
			}
			for _, bad := range field.wrong(t, name) {
				all := make(map[string]any)
				for other := range in.Properties {
					all[other] = good[other]
				}
				all[name] = bad
				if name == "options" {
					all["kind"] = "poll"
				}
				body, err := json.Marshal(all)
				if err != nil {
					t.Fatal(err)
				}
				status, answer := s.send(t, "ann", o.method, o.at(story), string(body))
				if status != 400 && status != 422 || !strings.Contains(answer, fmt.Sprintf(`"field":%q`, name)) {
					t.Errorf("%s %s with %s = %.60v: %d %.300s", o.method, o.path, name, bad, status, answer)
				}
			}
			if slices.Contains(in.Required, name) && name != "kind" {
				all := make(map[string]any)
				for _, other := range in.Required {
					all[other] = good[other]
				}
				delete(all, name)
				body, _ := json.Marshal(all)
				if status, answer := s.send(t, "ann", o.method, o.at(story), string(body)); status < 400 || status >= 500 {
					t.Errorf("%s %s without %s: %d %s", o.method, o.path, name, status, answer)
				}
			}
		}
	}
	if fields < 20 {
		t.Errorf("only %d fields were tried", fields)
	}
	if after := s.everything(t); after != before {
		t.Errorf("something was stored:\n%s", after)
	}
}

// Every parameter that the document names, given what its schema does not allow.
func TestEveryParameterSaysWhatIsWrongWithIt(t *testing.T) {
	s, story := start(t)
	bad := map[string][]string{ // what its schema does not tell
		"q": {"", " ", strings.Repeat("x", 501), "\x00", "\xff"}, "heads": {"maybe", "1", "TRUE"}, "site": {"", strings.Repeat("x", 256)}, "user": {"", strings.Repeat("x", 33)},
		"day": {"", "yesterday", "2026-02-30", "31.1.2026"}, "after": {"x", "-1", "e30", "WzFd", strings.Repeat("x", 5000)}, "limit": {"x", "0", "-1", "101", "1.5", "99999999999999999999"},
	}
	of := map[string]string{"site": "site", "user": "submissions", "day": "day"} // the list that takes it
	tried := make(map[string]bool)
	for _, o := range s.ops {
		for _, p := range o.Parameters {
			if p.In != "query" {
				continue
			}
			values, ok := bad[p.Name]
			if !ok {
				t.Fatalf("%s takes %q: say above what is wrong for it", o.path, p.Name)
			}
			tried[p.Name] = true
			list := of[p.Name]
			if list == "" {
				list = "front"
			}
			for _, value := range values {
				q := url.Values{"q": {"x"}}
				q.Set(p.Name, value)
				at := strings.NewReplacer("{list}", list, "{id}", story).Replace(o.path) + "?" + q.Encode()
				if status, answer := s.send(t, "", o.method, at, ""); status != 422 || !strings.Contains(answer, fmt.Sprintf(`"field":%q`, p.Name)) {
					t.Errorf("%s: %d %s", at, status, answer)
				}
			}
		}
	}
	if len(tried) != len(bad) {
		t.Errorf("tried %v of %d", tried, len(bad))
	}
}

// Mass assignment: every field that any answer has, and some that only the
// database has, is sent to every operation that does not take it.
func TestFieldsOfAnswersAreNotTaken(t *testing.T) {
	s, story := start(t)
	names := map[string]bool{"karma": true, "moderator": true, "state": true, "secret": true, "rank": true, "seq": true, "author": true, "root": true}
	for _, sch := range s.schema {
		for name := range sch.Properties {
			names[name] = true
		}
	}
	before := s.everything(t)
	for _, o := range s.ops {
		in, ok := s.body(o)
		if !ok || in.AdditionalProperties == nil { // POST /post: newer simulators may say more
			continue
		}
		for name := range names {
			if _, takes := in.Properties[name]; takes {
				continue
			}
			all := map[string]any{name: 1000}
			for other := range in.Properties {
				all[other] = good[other]
			}
			body, _ := json.Marshal(all)
			status, answer := s.send(t, "ann", o.method, o.at(story), string(body))
			if status != 422 || !strings.Contains(answer, fmt.Sprintf(`"field":%q`, name)) {
				t.Errorf("%s %s with %s: %d %s", o.method, o.path, name, status, answer)
			}
		}
	}
	// The simulator's post may say more, and it changes nothing.
	status, answer := s.send(t, "", "POST", "/post", `{"post_title":"x","post_text":"","hanesst_id":7,"post_type":"story","post_parent":-1,
		"username":"eve","pwd_hash":"x","post_url":"","karma":1000,"moderator":1,"points":1000,"rank":1e9,"seq":1,"created_at":1}`)
	if status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	after := strings.Replace(s.everything(t), before, "", 1)
	if eve, err := s.store.User(t.Context(), "eve"); err != nil || eve.Karma != 1 || eve.Moderator {
		t.Errorf("%+v, %v", eve, err)
	}
	if it, err := s.store.Item(t.Context(), 7); err != nil || it.Points != 1 || it.Seq != 3 {
		t.Errorf("%+v, %v\n%s", it, err, after)
	}
}

var injections = []string{
	"' OR '1'='1", `" OR "1"="1`, "1; DROP TABLE items--", "1 UNION SELECT secret, password FROM users--", "') OR 1=1--", "$1", "?", "ids($1)", "by(items_front)",
	"\x00", "\xff\xfe", "%00", "*", "NEAR(a b)", "title:x", "^", "x AND", "a:*&!b|(c)", `\`, "../../etc/passwd", "{}", "[]", "-1", "0", "99999999999999999999",
	"1e400", "NaN", "WzFlNDAwLDFd" /* [1e400,1] */, "W251bGwsbnVsbF0" /* [null,null] */, "WyIxIE9SIDE9MSIsMV0" /* ["1 OR 1=1",1] */, strings.Repeat("(", 5000),
}

func TestSQLInEveryParameterIsText(t *testing.T) {
	s, story := start(t)
	before, tried := s.everything(t), 0
	leak := regexp.MustCompile(`(?i)argon2|sqlite|syntax error|pgx|goroutine|SELECT |no such column`)
	check := func(o operation, name, path string) {
		t.Helper()
		tried++
		status, answer := s.send(t, "ann", o.method, path, "")
		if status >= 500 || leak.MatchString(strings.ReplaceAll(answer, "SELECT secret", "")) {
			t.Errorf("%s %s, %s: %d %.300s", o.method, path, name, status, answer)
		}
	}
	for _, o := range s.ops {
		if o.method != "GET" { // the bodies of the others are tried above; their ids are numbers or nothing
			for _, bad := range injections {
				check(o, "id", strings.ReplaceAll(o.path, "{id}", url.PathEscape(bad)))
			}
			continue
		}
		for _, p := range o.Parameters {
			for _, bad := range injections {
				if p.In == "path" {
					check(o, p.Name, strings.ReplaceAll(o.path, "{"+p.Name+"}", url.PathEscape(bad)))
					continue
				}
				base := []string{o.at(story)}
				if strings.Contains(o.path, "{list}") { // which list takes it is not in the document
					base = nil
					for _, list := range []string{"front", "newest", "best", "ask", "site", "day", "submissions", "threads", "favourites", "hidden", "upvoted", "flagged", "dead", "comments"} {
						base = append(base, strings.ReplaceAll(o.path, "{list}", list))
					}
				}
				for _, at := range base {
					q := url.Values{"q": {"x"}, "user": {"ann"}, "site": {"a.org"}, "day": {"2026-01-31"}}
					q.Set(p.Name, bad)
					check(o, p.Name, at+"?"+q.Encode())
				}
			}
		}
	}
	if tried < 500 {
		t.Errorf("only %d tries", tried)
	}
	if after := s.everything(t); after != before {
		t.Errorf("something was changed:\n%s", after)
	}
}

// Every operation that changes an item is tried by somebody who may not:
// without a token, with one that was ended, and with a cookie's key.
func TestChangesTakeALivingTokenOfTheRightKind(t *testing.T) {
	s, story := start(t)
	ended, err := s.store.StartSession(t.Context(), "ann", store.API, 1e12)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.EndSession(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	web, err := s.store.StartSession(t.Context(), "ann", store.Web, 1e12)
	if err != nil {
		t.Fatal(err)
	}
	s.tokens["ended"], s.tokens["web"], s.tokens["made up"] = ended, web, strings.Repeat("A", 52)
	before, tried := s.everything(t), 0
	for _, o := range s.ops {
		if len(o.Security) != 1 || len(o.Security[0]) == 0 {
			continue // open to everybody
		}
		tried++
		for _, name := range []string{"", "ended", "web", "made up"} {
			body := ""
			if in, ok := s.body(o); ok {
				all := make(map[string]any)
				for field := range in.Properties {
					all[field] = good[field]
				}
				b, _ := json.Marshal(all)
				body = string(b)
			}
			if status, answer := s.send(t, name, o.method, o.at(story), body); status != 401 {
				t.Errorf("%s %s, token %q: %d %s", o.method, o.path, name, status, answer)
			}
		}
	}
	if tried < 10 {
		t.Errorf("only %d operations take a token", tried)
	}
	if s.everything(t) != before {
		t.Error("something was changed")
	}
	// Another's token opens what is one's own alone, and no name in a request makes one another.
	for _, row := range []struct{ method, path, body string }{
		{"PATCH", "/api/v1/items/" + story, `{"title":"Bob's"}`},
		{"DELETE", "/api/v1/items/" + story, ""},
		{"GET", "/api/v1/lists/hidden?user=ann", ""},
		{"GET", "/api/v1/lists/upvoted?user=ann", ""},
	} {
		if status, answer := s.send(t, "bob", row.method, row.path, row.body); status != 403 {
			t.Errorf("bob: %s %s: %d %s", row.method, row.path, status, answer)
		}
	}
	for _, path := range []string{"/vote?name=bob", "/vote?user=bob"} {
		if status, _ := s.send(t, "ann", "PUT", "/api/v1/items/"+story+path, `{"value":1}`); status != 403 { // her own item
			t.Errorf("%s: %d", path, status)
		}
	}
	if s.everything(t) != before {
		t.Error("something was changed")
	}
}
