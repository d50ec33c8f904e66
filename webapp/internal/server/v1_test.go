package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
)

const password = "correct horse battery"

// token registers a user and gives him a token for the API.
func (s site) token(t *testing.T, name string) string {
	t.Helper()
	if _, err := s.store.Register(t.Context(), name, password); err != nil {
		t.Fatal(err)
	}
	got := s.send(t, "", "POST", "/tokens", fmt.Sprintf(`{"name":%q,"password":%q}`, name, password))
	if got.status != 201 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	return got.field(t, "token").(string)
}

// send asks /api/v1 with a token, "" for none.
func (s site) send(t *testing.T, token, method, path, body string, header ...string) answer {
	t.Helper()
	if token != "" {
		header = append(header, "Authorization", "Bearer "+token)
	}
	if body != "" {
		header = append(header, "Content-Type", "application/json")
	}
	return s.do(t, method, "/api/v1"+path, strings.NewReader(body), header...)
}

func (a answer) field(t *testing.T, name string) any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return v[name]
}

// ids of a list, of items or plain.
func (a answer) ids(t *testing.T) (ids []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`"id":(\d+)`).FindAllStringSubmatch(a.body, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

func TestSubmittedByTokenIsThere(t *testing.T) {
	s := start(t)
	ann := s.token(t, "ann")
	made := s.send(t, ann, "POST", "/items", `{"kind":"story","title":"Mine <b>","url":"https://b.org/x","text":"*So* <script>"}`)
	id := fmt.Sprintf("%.0f", made.field(t, "id"))
	if made.status != 201 || made.header.Get("Location") != "/api/v1/items/"+id || made.field(t, "by") != "ann" {
		t.Fatalf("%d %v %s", made.status, made.header, made.body)
	}
	said := s.send(t, ann, "POST", "/items", `{"kind":"comment","parent":`+id+`,"text":"Hello"}`)
	if said.status != 201 {
		t.Fatalf("%d %s", said.status, said.body)
	}
	got := s.get(t, "/api/v1/items/"+id)
	if got.field(t, "title") != "Mine <b>" || got.field(t, "html") != "<i>So</i> &lt;script&gt;" || got.field(t, "site") != "b.org" || got.field(t, "replies") != 1.0 {
		t.Errorf("%s", got.body)
	}
	if below := s.get(t, "/api/v1/items/"+id+"/replies"); !strings.Contains(below.body, `"depth":0`) || !strings.Contains(below.body, "Hello") {
		t.Errorf("%s", below.body)
	}
	again := s.send(t, s.token(t, "bob"), "POST", "/items", `{"kind":"story","title":"Other","url":"http://www.b.org/x/"}`)
	wantProblem(t, again, 409)
	if again.field(t, "discussion") != "/api/v1/items/"+id {
		t.Errorf("%s", again.body)
	}
	edited := s.send(t, ann, "PATCH", "/items/"+id, `{"title":"Better"}`)
	if edited.status != 200 || edited.field(t, "title") != "Better" || edited.field(t, "url") != "https://b.org/x" {
		t.Errorf("%d %s", edited.status, edited.body)
	}
	if gone := s.send(t, ann, "DELETE", "/items/"+id, ""); gone.status != 204 {
		t.Errorf("%d %s", gone.status, gone.body)
	}
	if got := s.get(t, "/api/v1/items/"+id); got.field(t, "deleted") != true || got.field(t, "title") != nil {
		t.Errorf("%s", got.body)
	}
}

// TestSubmissionThatTheDoorBringsAgainIsTheSame: a kept write comes at least once.
func TestSubmissionThatTheDoorBringsAgainIsTheSame(t *testing.T) {
	s := start(t)
	ann := s.token(t, "ann")
	const draft = `{"kind":"story","title":"Mine"}`
	made := s.send(t, ann, "POST", "/items", draft, "Idempotency-Key", "k")
	at := made.header.Get("Location")
	if made.status != 201 || s.send(t, ann, "PATCH", strings.TrimPrefix(at, "/api/v1"), `{"title":"Better"}`).status != 200 {
		t.Fatalf("%d %s", made.status, made.body)
	}
	again := s.send(t, ann, "POST", "/items", draft, "Idempotency-Key", "k")
	if again.status != 201 || again.header.Get("Location") != at || again.field(t, "title") != "Better" {
		t.Errorf("%d %v %s", again.status, again.header, again.body)
	}
}

func TestWhatIsWrongIsSaidBesideItsField(t *testing.T) {
	s := start(t)
	ann := s.token(t, "ann")
	for body, row := range map[string]struct {
		status int
		fields []string
	}{
		`{"kind":"story","title":"","url":"javascript:alert(1)"}`:    {422, []string{"title", "url"}},
		`{"kind":"story","title":"` + strings.Repeat("x", 81) + `"}`: {422, []string{"title"}},
		`{"kind":"comment","text":"x"}`:                              {422, []string{"parent"}},
		`{"kind":"poll","title":"x","options":["one"]}`:              {422, []string{"options"}},
		`{"kind":"pollopt","title":"x"}`:                             {422, []string{"kind"}},
		`{"kind":"story","title":7}`:                                 {422, []string{"title"}},
		`{"kind":"story","title":"x","options":"y"}`:                 {422, []string{"options"}},
		`{"kind":"story","title":"\u0000"}`:                          {422, []string{"title"}},
		`[]`:                                                         {400, []string{"body"}},
		`{"kind"`:                                                    {400, []string{"body"}},
		`{} {}`:                                                      {400, []string{"body"}},
		"{\"title\":\"\xff\"}":                                       {400, []string{"body"}},
	} {
		wantProblem(t, s.send(t, ann, "POST", "/items", body), row.status, row.fields...)
	}
	for _, query := range []string{"/lists/newest?limit=0", "/lists/newest?limit=101", "/lists/newest?limit=x"} {
		wantProblem(t, s.send(t, "", "GET", query, ""), 422, "limit")
	}
	wantProblem(t, s.send(t, "", "GET", "/lists/day?day=yesterday", ""), 422, "day")
	wantProblem(t, s.send(t, "", "GET", "/search", ""), 422, "q")
	wantProblem(t, s.send(t, "", "GET", "/lists/newest?after=x", ""), 422, "after")
	wantProblem(t, s.send(t, "", "GET", "/lists/nothing", ""), 404)
	wantProblem(t, s.send(t, "", "GET", "/items/0", ""), 404)
	wantProblem(t, s.send(t, "", "GET", "/users/nobody", ""), 404)
	wantProblem(t, s.send(t, "", "GET", "/nothing", ""), 404)
	s.wantLatest(t, "0")
}

// Mass assignment: what is not the sender's to say is refused, not dropped.
func TestFieldsThatAreNotTheSendersAreRefused(t *testing.T) {
	s := start(t)
	ann := s.token(t, "ann")
	for _, field := range []string{"id", "by", "points", "karma", "state", "dead", "moderator", "at", "Points"} {
		got := s.send(t, ann, "POST", "/items", fmt.Sprintf(`{"kind":"story","title":"x",%q:1000}`, field))
		wantProblem(t, got, 422, field)
	}
	for body, field := range map[string]string{
		`{"KIND":"story","title":"x"}`: "KIND", `{"kind":"story","title":"x","Text":"y"}`: "Text", `{"kind":"story","title":"x","\u212aind":"y"}`: "\u212aind",
		`{"kind":"story","title":"x","title":"y"}`: "title", `{"kind":"story","title":"x","":"y"}`: "",
	} {
		got := s.send(t, ann, "POST", "/items", body)
		if field == "" {
			field = "body"
		}
		wantProblem(t, got, 422, field)
	}
	s.wantLatest(t, "0")
}

func TestOptionsAreNoComments(t *testing.T) {
	s := start(t)
	ann := s.token(t, "ann")
	poll := fmt.Sprintf("%.0f", s.send(t, ann, "POST", "/items", `{"kind":"poll","title":"Which?","options":["a","b"]}`).field(t, "id"))
	said := s.send(t, ann, "POST", "/items", `{"kind":"comment","parent":`+poll+`,"text":"Both"}`)
	want := []string{fmt.Sprintf("%.0f", said.field(t, "id"))}
	if got := s.get(t, "/api/v1/lists/threads?user=ann").ids(t); !slices.Equal(got, want) {
		t.Errorf("comments of ann: %v, want %v", got, want)
	}
	if got := s.get(t, "/user/ann/comments"); !strings.Contains(got.body, "Both") || strings.Contains(got.body, `id="item-1000000000002"`) {
		t.Errorf("the page of her comments:\n%s", got.body)
	}
}

func TestPatchTakesWhatTheKindHas(t *testing.T) {
	s := start(t)
	ann := s.token(t, "ann")
	made := func(body string) string {
		return fmt.Sprintf("%.0f", s.send(t, ann, "POST", "/items", body).field(t, "id"))
	}
	story := made(`{"kind":"story","title":"Mine","text":"x"}`)
	said := made(`{"kind":"comment","parent":` + story + `,"text":"Hello"}`)
	wantProblem(t, s.send(t, ann, "PATCH", "/items/"+said, `{"title":"x"}`), 422, "title")
	wantProblem(t, s.send(t, ann, "PATCH", "/items/"+said, `{"url":"https://a.org/"}`), 422, "url")
	wantProblem(t, s.send(t, ann, "PATCH", "/items/"+said, `{"TEXT":"x"}`), 422, "TEXT")
	for id, body := range map[string]string{story: `{"title":"Mine"}`, said: `{}`} {
		if got := s.send(t, ann, "PATCH", "/items/"+id, body); got.status != 200 || got.field(t, "edited") != nil {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
	if got := s.send(t, ann, "PATCH", "/items/"+said, `{"text":"Hello you"}`); got.status != 200 || got.field(t, "edited") == nil {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// IDOR: a number in an address opens nothing that is another's.
func TestWhatIsAnothersStaysHis(t *testing.T) {
	s := start(t)
	ann, bob := s.token(t, "ann"), s.token(t, "bob")
	made := s.send(t, ann, "POST", "/items", `{"kind":"story","title":"Mine"}`)
	item := fmt.Sprintf("/items/%.0f", made.field(t, "id"))
	if got := s.send(t, ann, "PUT", item+"/hidden", ""); got.status != 204 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for name, row := range map[string]struct {
		token, method, path, body string
		status                    int
	}{
		"edit another's":               {bob, "PATCH", item, `{"title":"His"}`, 403},
		"delete another's":             {bob, "DELETE", item, "", 403},
		"vote one's own":               {ann, "PUT", item + "/vote", `{"value":1}`, 403},
		"another's hidden":             {bob, "GET", "/lists/hidden?user=ann", "", 403},
		"another's upvoted":            {bob, "GET", "/lists/upvoted?user=ann", "", 403},
		"flagged by no moderator":      {bob, "GET", "/lists/flagged", "", 403},
		"the dead by no moderator":     {bob, "GET", "/lists/dead", "", 403},
		"another's hidden, no token":   {"", "GET", "/lists/hidden?user=ann", "", 401},
		"edit, no token":               {"", "PATCH", item, `{"title":"His"}`, 401},
		"submit, no token":             {"", "POST", "/items", `{"kind":"story","title":"x"}`, 401},
		"flag, no token":               {"", "PUT", item + "/flag", "", 401},
		"end a token, no token":        {"", "DELETE", "/tokens/current", "", 401},
		"me, no token":                 {"", "GET", "/me", "", 401},
		"a made-up token":              {"made-up", "GET", item, "", 401},
		"flag without karma":           {bob, "PUT", item + "/flag", "", 403},
		"vote down a story":            {bob, "PUT", item + "/vote", `{"value":-1}`, 403},
		"vote ten":                     {bob, "PUT", item + "/vote", `{"value":10}`, 422},
		"vote on what is not there":    {bob, "PUT", "/items/77/vote", `{"value":1}`, 404},
		"comment on what is not there": {bob, "POST", "/items", `{"kind":"comment","parent":77,"text":"x"}`, 404},
	} {
		got := s.send(t, row.token, row.method, row.path, row.body)
		if got.status != row.status || got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if row.status == 401 && !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: no challenge", name)
		}
	}
	if got := s.get(t, "/api/v1"+item); got.field(t, "title") != "Mine" || got.field(t, "points") != 1.0 {
		t.Errorf("%s", got.body)
	}
}

func TestTokenEnds(t *testing.T) {
	s := start(t)
	ann := s.token(t, "ann")
	if got := s.send(t, ann, "GET", "/me", ""); got.field(t, "name") != "ann" || got.header.Get("Cache-Control") != "private, no-store" {
		t.Errorf("%v %s", got.header, got.body)
	}
	if got := s.send(t, ann, "DELETE", "/tokens/current", ""); got.status != 204 {
		t.Errorf("%d", got.status)
	}
	wantProblem(t, s.send(t, ann, "GET", "/me", ""), 401)
	for i := range 6 {
		got := s.send(t, "", "POST", "/tokens", `{"name":"ann","password":"guess"}`)
		if want := map[bool]int{true: 403, false: 429}[i < 4]; got.status != want && i != 4 { // one was her own login
			t.Errorf("guess %d: %d", i, got.status)
		}
		if got.status == 429 && got.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
}

func TestSQLInEveryParameterIsText(t *testing.T) {
	s := start(t)
	s.post(t, item(1, "story", -1, "x", ""))
	for _, path := range []string{
		"/api/v1/items/%s", "/api/v1/lists/%s", "/api/v1/lists/newest?after=%s", "/api/v1/lists/site?site=%s", "/api/v1/lists/submissions?user=%s",
		"/api/v1/lists/day?day=%s", "/api/v1/search?q=%s", "/api/v1/search?q=x&after=%s", "/api/v1/users/%s", "/v0/item/%s.json", "/v0/user/%s.json", "/item/%s", "/newest?p=%s",
	} {
		for _, attack := range []string{"1%27%20OR%20%271%27=%271", "1;DROP%20TABLE%20items--", "%22%20OR%201=1--", "%00", "%FF", "1%20UNION%20SELECT%20secret%20FROM%20users", "*", "NEAR(", "%25"} {
			got := s.get(t, fmt.Sprintf(path, attack))
			if got.status >= 500 || strings.Contains(got.body, "argon2") || strings.Contains(got.body, "SQL") {
				t.Errorf(path+": %d %s", attack, got.status, got.body)
			}
		}
	}
	s.wantLatest(t, "1")
}

func TestSameAnswerIsNotSentTwice(t *testing.T) {
	s := start(t)
	s.post(t, item(1, "story", -1, "x", ""))
	for _, path := range []string{"/api/v1/items/1", "/api/v1/lists/front", "/api/v1/users/pg", "/v0/item/1.json", "/v0/topstories.json", "/api/v1/openapi.json"} {
		first := s.get(t, path)
		tag := first.header.Get("ETag")
		if first.status != 200 || tag == "" {
			t.Fatalf("%s: %d %v", path, first.status, first.header)
		}
		for _, sent := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			if got := s.do(t, "GET", path, nil, "If-None-Match", sent); got.status != 304 || got.body != "" || got.header.Get("ETag") != tag {
				t.Errorf("%s with %s: %d", path, sent, got.status)
			}
		}
		if got := s.do(t, "GET", path, nil, "If-None-Match", `"x"`); got.status != 200 {
			t.Errorf("%s with another: %d", path, got.status)
		}
	}
	before := s.get(t, "/api/v1/items/1").header.Get("ETag")
	s.post(t, item(2, "comment", 1, "", "y"))
	if s.get(t, "/api/v1/items/1").header.Get("ETag") == before {
		t.Error("it has changed, its ETag has not")
	}
}

func TestListsAreReadInParts(t *testing.T) {
	s := start(t)
	for id := 1; id <= 7; id++ {
		s.post(t, item(id, "story", -1, "porter "+strconv.Itoa(id), ""))
	}
	s.post(t, item(8, "comment", 1, "", "porter"))
	for path, want := range map[string]string{
		"/lists/newest?limit=3": "7 6 5|4 3 2|1", "/lists/submissions?user=pg&limit=3": "7 6 5|4 3 2|1", "/lists/best?limit=4": "7 6 5 4|3 2 1",
		"/search?q=porter&limit=4": "8 7 6 5|4 3 2 1", "/search?q=porter&heads=true&limit=4": "7 6 5 4|3 2 1", "/items/1/replies?limit=1": "8",
	} {
		var parts []string
		for next := path; ; {
			got := s.send(t, "", "GET", next, "")
			if got.status != 200 {
				t.Fatalf("%s: %d %s", next, got.status, got.body)
			}
			parts = append(parts, strings.Join(got.ids(t), " "))
			after, more := got.field(t, "next").(string)
			if !more {
				break
			}
			next = path + "&after=" + after
		}
		if got := strings.Join(parts, "|"); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// A part that is full of long texts has fewer items than were asked for, and who
// goes on by next gets all of them.
func TestLongTextsAreReadInParts(t *testing.T) {
	s := start(t)
	s.post(t, item(1, "poll", -1, "Which?", ""))
	s.post(t, item(2, "pollopt", 1, "", strings.Repeat("option ", 10_000)))
	want := make(map[string]int)
	for id := 3; id <= 14; id++ {
		words := "porter " + strings.Repeat("'", 100_000+id)
		s.post(t, item(id, "comment", 1, "", words))
		want[strconv.Itoa(id)] = len(words)
	}
	for _, path := range []string{"/items/1/replies?limit=100", "/lists/comments?limit=100", "/lists/threads?user=pg&limit=100", "/search?q=porter&limit=100"} {
		got, parts := make(map[string]int), 0
		for next := path; next != ""; parts++ {
			answer := s.send(t, "", "GET", next, "")
			if answer.status != 200 || len(answer.body) > 5<<20 {
				t.Fatalf("%s: %d, %d bytes", next, answer.status, len(answer.body))
			}
			var part struct {
				Items []struct {
					ID   json.Number
					Text string
					Cut  bool
				}
				Next string
			}
			if err := json.Unmarshal([]byte(answer.body), &part); err != nil {
				t.Fatal(err)
			}
			for _, it := range part.Items {
				if got[it.ID.String()] = len(it.Text); it.Cut {
					t.Errorf("%s: item %s is cut", next, it.ID)
				}
			}
			if next = ""; part.Next != "" {
				next = path + "&after=" + part.Next
			}
		}
		if !maps.Equal(got, want) || parts != 6 {
			t.Errorf("%s: in %d parts %v, want %v", path, parts, got, want)
		}
	}
	if poll := s.get(t, "/api/v1/items/1"); len(poll.body) > 20_000 || !strings.Contains(poll.body, `"cut":true`) {
		t.Errorf("a poll is %d bytes, or does not say that an option is longer", len(poll.body))
	}
	if option := s.get(t, "/api/v1/items/2"); len(option.field(t, "text").(string)) != 70_000 || option.field(t, "cut") != nil {
		t.Error("the option itself is cut")
	}
}

// What existing readers of Hacker News ask.
func TestHackerNewsReadersFindWhatTheyKnow(t *testing.T) {
	s := start(t)
	s.post(t, item(1, "story", -1, "A &amp; B", "One<p>Two"))
	s.post(t, item(2, "comment", 1, "", "Reply <script>"))
	s.post(t, item(3, "comment", 2, "", "Deeper"))
	s.post(t, item(4, "poll", -1, "Which?", ""))
	s.post(t, item(5, "pollopt", 4, "This", ""))
	s.post(t, item(6, "job", -1, "Work", ""))
	timeless := regexp.MustCompile(`"(time|created)":\d+`)
	for path, want := range map[string]string{
		"/v0/item/1.json":      `{"by":"pg","descendants":2,"id":1,"kids":[2],"score":1,"text":"One<p>Two","time":0,"title":"A & B","type":"story"}`,
		"/v0/item/2.json":      `{"by":"pg","id":2,"kids":[3],"parent":1,"text":"Reply &lt;script&gt;","time":0,"type":"comment"}`,
		"/v0/item/4.json":      `{"by":"pg","descendants":0,"id":4,"parts":[5],"score":1,"time":0,"title":"Which?","type":"poll"}`,
		"/v0/item/5.json":      `{"by":"pg","id":5,"poll":4,"score":0,"text":"This","time":0,"type":"pollopt"}`,
		"/v0/item/77.json":     `null`,
		"/v0/item/x.json":      `null`,
		"/v0/user/nobody.json": `null`,
		"/v0/user/pg.json":     `{"about":"","created":0,"id":"pg","karma":1,"submitted":[6,4,1,3,2]}`,
		"/v0/maxitem.json":     `6`,
		"/v0/newstories.json":  `[6,4,1]`,
		"/v0/topstories.json":  `[1,6,4]`,
		"/v0/jobstories.json":  `[6]`,
		"/v0/askstories.json":  `[]`,
		"/v0/updates.json":     `{"items":[6,4,1,3,2],"profiles":["pg"]}`,
	} {
		got := s.get(t, path)
		body := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(strings.TrimSpace(got.body))
		if body = timeless.ReplaceAllString(body, `"$1":0`); got.status != 200 || body != want {
			t.Errorf("%s: %d\ngot  %s\nwant %s", path, got.status, body, want)
		}
		if got.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s is closed to programs in browsers", path)
		}
	}
	if got := s.get(t, "/v0/item/1"); got.status != 404 {
		t.Errorf("without .json: %d", got.status)
	}
}

// The document names every route that a program may use, and no other, and an
// answer has no field that the document does not have.
func TestOpenAPIDocumentIsTheAPI(t *testing.T) {
	s := start(t)
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	raw := s.get(t, "/api/v1/openapi.json").body
	if err := json.Unmarshal([]byte(raw), &doc); err != nil {
		t.Fatal(err)
	}
	var documented, served []string
	for path, methods := range doc.Paths {
		for method := range methods {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	param := regexp.MustCompile(`:(\w+)`)
	for _, r := range s.srv.Handler().(*echo.Echo).Routes() {
		path := strings.Replace(param.ReplaceAllString(r.Path, "{$1}"), "{file}", "{id}.json", 1)
		program := strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/v0/") || slices.Contains([]string{"/post", "/latest", "/status"}, path)
		if program && r.Method != http.MethodHead {
			served = append(served, r.Method+" "+path)
		}
	}
	slices.Sort(documented)
	slices.Sort(served)
	if !slices.Equal(documented, served) {
		t.Errorf("documented\n%s\nserved\n%s", strings.Join(documented, "\n"), strings.Join(served, "\n"))
	}
	for _, m := range regexp.MustCompile(`"\$ref": "#/components/([^"]+)"`).FindAllStringSubmatch(raw, -1) {
		kind, name, _ := strings.Cut(m[1], "/")
		var all struct {
			Components map[string]map[string]json.RawMessage
		}
		if err := json.Unmarshal([]byte(raw), &all); err != nil || all.Components[kind][name] == nil {
			t.Errorf("nothing is called %s", m[1])
		}
	}

	ann := s.token(t, "ann")
	s.post(t, item(1, "poll", -1, "Which?", "text"))
	s.post(t, item(2, "pollopt", 1, "This", ""))
	s.post(t, item(3, "comment", 1, "", "x"))
	for path, schema := range map[string]string{
		"/api/v1/items/1": "Item", "/api/v1/items/1/replies": "Part", "/api/v1/lists/front": "Part", "/api/v1/users/ann": "User", "/api/v1/me": "User",
		"/v0/item/1.json": "HNItem", "/v0/item/2.json": "HNItem", "/v0/user/pg.json": "HNUser", "/v0/updates.json": "HNUpdates", "/api/v1/items/77": "Problem",
	} {
		header := []string{}
		if strings.HasPrefix(path, "/api/") {
			header = []string{"Authorization", "Bearer " + ann}
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(s.do(t, "GET", path, nil, header...).body), &fields); err != nil {
			t.Fatal(err)
		}
		objects := []map[string]any{fields}
		names := []string{schema}
		if items, ok := fields["items"].([]any); ok && schema == "Part" {
			for _, it := range items {
				objects, names = append(objects, it.(map[string]any)), append(names, "Item")
			}
		}
		for i, object := range objects {
			for field := range object {
				if doc.Components.Schemas[names[i]].Properties[field] == nil {
					t.Errorf("%s gives %q, which %s does not have", path, field, names[i])
				}
			}
		}
	}
}

func TestDeadTextsAreNotGivenToPrograms(t *testing.T) {
	s := start(t)
	s.post(t, item(1, "story", -1, "sesame title", "sesame text"))
	s.post(t, item(2, "comment", 1, "", "sesame comment"))
	s.token(t, "mod")
	if err := s.store.SetModerator(t.Context(), "mod", true); err != nil {
		t.Fatal(err)
	}
	for _, id := range []news.ID{1, 2} {
		if err := s.store.Kill(t.Context(), "mod", id, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/api/v1/items/1", "/api/v1/items/1/replies", "/api/v1/items/2", "/api/v1/lists/newest", "/api/v1/lists/comments",
		"/api/v1/search?q=sesame", "/v0/item/1.json", "/v0/item/2.json"} {
		if got := s.get(t, path); got.status != 200 || strings.Contains(got.body, "sesame ") {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}
