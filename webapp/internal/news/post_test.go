package news

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// with is a good post in which some members are replaced; "" removes one.
func with(changes ...string) string {
	members := []string{
		`"post_title"`, `"Y Combinator"`, `"post_text"`, `""`, `"hanesst_id"`, `1`, `"post_type"`, `"story"`,
		`"post_parent"`, `-1`, `"username"`, `"pg"`, `"pwd_hash"`, `"Y89KIJ3frM"`, `"post_url"`, `"http://ycombinator.com"`,
	}
	for i := 0; i < len(changes); i += 2 {
		at := slices.Index(members, `"`+changes[i]+`"`)
		members[at+1] = changes[i+1]
	}
	var pairs []string
	for i := 0; i < len(members); i += 2 {
		if members[i+1] != "" {
			pairs = append(pairs, members[i]+": "+members[i+1])
		}
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

func TestGoodPostIsReadWhole(t *testing.T) {
	got, err := ParsePost([]byte(with(
		"post_title", `"Tab\there, line\nthere, \u0092 and \ud83d\ude00"`,
		"post_text", `"&#62; <p>kept as it is</p>"`,
		"hanesst_id", `17`, "post_type", `"comment"`, "post_parent", `16`)))
	want := Post{
		ID: 17, Kind: Comment, Parent: 16, By: "pg", Secret: "Y89KIJ3frM",
		Title: "Tab\there, line\nthere, \u0092 and 😀", Body: "&#62; <p>kept as it is</p>", URL: "http://ycombinator.com",
	}
	if err != nil || got != want {
		t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	body := strings.Replace(with(), "{", `{"later": {"a": [1, 2]}, `, 1)
	if _, err := ParsePost([]byte(body)); err != nil {
		t.Fatal(err)
	}
}

func TestReplyWithoutParentIsNotLost(t *testing.T) {
	for _, kind := range []string{`"comment"`, `"pollopt"`} {
		if _, err := ParsePost([]byte(with("post_type", kind))); err != nil {
			t.Errorf("%s with post_parent -1: %v", kind, err)
		}
	}
}

func TestBadPostIsRefusedByField(t *testing.T) {
	rows := []struct {
		name, body, field string
		malformed         bool
	}{
		{"nothing", "", "", true},
		{"white space", "  \n", "", true},
		{"not JSON", "post_title=x", "", true},
		{"array", "[" + with() + "]", "", true},
		{"string", `"post"`, "", true},
		{"null", "null", "", true},
		{"cut off in the first name", `{"post_ti`, "", true},
		{"cut off in a value", with()[:20], "post_title", true},
		{"cut off in a later name", with()[:40], "post_title", true},
		{"cut off before the end", strings.TrimSuffix(with(), "}"), "post_url", true},
		{"trailing object", with() + with(), "", true},
		{"trailing bytes", with() + "x", "", true},
		{"trailing bracket", with() + "}", "", true},
		{"trailing comma", strings.TrimSuffix(with(), "}") + ",}", "post_url", true},
		{"comment", "/* hello */" + with(), "", true},
		{"byte order mark", "\ufeff" + with(), "", true},
		{"broken value", with("hanesst_id", "01"), "hanesst_id", true},
		{"NaN", with("hanesst_id", "NaN"), "hanesst_id", true},
		{"raw line end in a string", with("post_title", "\"a\nb\""), "post_title", true},
		{"raw NUL in a string", with("post_text", "\"a\x00b\""), "post_text", true},
		{"bad UTF-8", with("post_text", "\"a\xffb\""), "post_text", true},
		{"overlong UTF-8", with("post_title", "\"\xc0\xaf\""), "post_title", true},
		{"surrogate in UTF-8", with("username", "\"\xed\xa0\x80\""), "username", true},
		{"bad UTF-8 in a name", strings.Replace(with(), "post_type", "post\xfftype", 1), "hanesst_id", true},
		{"field twice", strings.TrimSuffix(with(), "}") + `, "username": "eve"}`, "username", true},
		{"field twice, escaped", strings.TrimSuffix(with(), "}") + `, "user\u006eame": "eve"}`, "username", true},
		{"unknown field twice", strings.Replace(with(), "{", `{"x": 1, "x": 2, `, 1), "x", true},

		{"wrong case", strings.Replace(with(), "post_url", "POST_URL", 1), "post_url", true},
		{"wrong case beside the right one", strings.TrimSuffix(with(), "}") + `, "Username": "eve"}`, "username", true},
		{"letter that folds to another", strings.Replace(with(), "username", "uſername", 1), "username", true},

		{"title is a number", with("post_title", "7"), "post_title", false},
		{"title is null", with("post_title", "null"), "post_title", false},
		{"text is an object", with("post_text", "{}"), "post_text", false},
		{"url is an array", with("post_url", "[]"), "post_url", false},
		{"id is a string", with("hanesst_id", `"1"`), "hanesst_id", false},
		{"id is a fraction", with("hanesst_id", "1.5"), "hanesst_id", false},
		{"id is written as a fraction", with("hanesst_id", "1.0"), "hanesst_id", false},
		{"id with exponent", with("hanesst_id", "1e3"), "hanesst_id", false},
		{"id is zero", with("hanesst_id", "0"), "hanesst_id", false},
		{"id is negative", with("hanesst_id", "-1"), "hanesst_id", false},
		{"id beyond exact integers", with("hanesst_id", "9007199254740992"), "hanesst_id", false},
		{"id beyond 64 bits", with("hanesst_id", "99999999999999999999"), "hanesst_id", false},
		{"id is true", with("hanesst_id", "true"), "hanesst_id", false},
		{"id is null", with("hanesst_id", "null"), "hanesst_id", false},
		{"parent is null", with("post_parent", "null"), "post_parent", false},
		{"parent is zero", with("post_parent", "0"), "post_parent", false},
		{"parent is -2", with("post_parent", "-2"), "post_parent", false},
		{"parent is itself", with("post_type", `"comment"`, "post_parent", "1"), "post_parent", false},
		{"story below another", with("post_parent", "7"), "post_parent", false},
		{"unknown type", with("post_type", `"photo"`), "post_type", false},
		{"type in capitals", with("post_type", `"Story"`), "post_type", false},
		{"type is a number", with("post_type", "1"), "post_type", false},
		{"name is empty", with("username", `""`), "username", false},
		{"name with a blank", with("username", `"p g"`), "username", false},
		{"name with a slash", with("username", `"../pg"`), "username", false},
		{"name with markup", with("username", `"<b>"`), "username", false},
		{"name that looks like another", with("username", `"рg"`), "username", false},
		{"name too long", with("username", `"`+strings.Repeat("x", MaxName+1)+`"`), "username", false},
		{"secret is empty", with("pwd_hash", `""`), "pwd_hash", false},
		{"secret too long", with("pwd_hash", `"`+strings.Repeat("x", maxSecret+1)+`"`), "pwd_hash", false},
		{"title too long", with("post_title", `"`+strings.Repeat("é", maxTitle+1)+`"`), "post_title", false},
		{"url too long", with("post_url", `"http://x/`+strings.Repeat("x", maxURL)+`"`), "post_url", false},
		{"NUL in the title", with("post_title", `"a\u0000b"`), "post_title", false},
		{"NUL in the text", with("post_text", `"\u0000"`), "post_text", false},
		{"half a surrogate pair", with("post_text", `"\ud83d"`), "post_text", false},
		{"second half first", with("post_text", `"\ude00\ud83d"`), "post_text", false},
		{"second half twice", with("post_text", `"\ude00\ude00"`), "post_text", false},
		{"half a pair before text", with("post_text", `"\ud83d\\ude00"`), "post_text", false},
	}
	for _, field := range fieldNames {
		rows = append(rows, struct {
			name, body, field string
			malformed         bool
		}{"without " + field, with(field, ""), field, false})
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := ParsePost([]byte(row.body))
			var invalid *Invalid
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, want an *Invalid for\n%s", err, row.body)
			}
			if len(invalid.Wrongs) != 1 || invalid.Wrongs[0].Field != row.field || invalid.Malformed != row.malformed {
				t.Errorf("got malformed %v, %q, want malformed %v and field %q", invalid.Malformed, invalid.Wrongs, row.malformed, row.field)
			}
		})
	}
}

func TestEverythingWrongIsSaidAtOnce(t *testing.T) {
	_, err := ParsePost([]byte(with("post_title", "1", "hanesst_id", `"1"`, "username", "")))
	want := "post_title must be a string; hanesst_id must be an integer; username is missing"
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
}

func TestDeepNestingDoesNotCrash(t *testing.T) {
	deep := strings.Repeat("[", 500_000)
	_, err := ParsePost([]byte(strings.Replace(with(), "{", `{"x": `+deep+`, `, 1)))
	var invalid *Invalid
	if !errors.As(err, &invalid) || invalid.Wrongs[0].Field != "x" {
		t.Fatalf("got %v", err)
	}
}

func TestMessageDoesNotRepeatALongName(t *testing.T) {
	name := strings.Repeat("x", 1<<19)
	_, err := ParsePost([]byte(`{"` + name + `": 1, "` + name + `": 2}`))
	if err == nil || len(err.Error()) > 200 {
		t.Fatalf("message of %d bytes", len(err.Error()))
	}
}

func TestIDHasOneSpelling(t *testing.T) {
	for _, s := range []string{"", "0", "-1", "+1", "01", "1.0", " 1", "1 ", "١", "1e3", "0x1", "9007199254740992", "99999999999999999999"} {
		if id, err := ParseID(s); !errors.Is(err, ErrNoSuchItem) {
			t.Errorf("ParseID(%q) = %d, %v", s, id, err)
		}
	}
	if id, err := ParseID("9007199254740991"); id != MaxID || err != nil {
		t.Errorf("the largest id: %d, %v", id, err)
	}
}

// What ParsePost takes keeps the package's promises, and encoding/json reads
// the same from it: there is one post in those bytes, not two.
func FuzzParsePost(f *testing.F) {
	f.Add([]byte(with()))
	f.Add([]byte(with("post_text", `"\ud83d\ude00\u0092&#34;<p>"`, "post_type", `"pollopt"`, "post_parent", "3")))
	f.Add([]byte(with("post_text", "\"\xff\"")))
	f.Add([]byte(`{"post_title"`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ParsePost(body)
		var invalid *Invalid
		if err != nil {
			if !errors.As(err, &invalid) || len(invalid.Wrongs) == 0 {
				t.Fatalf("error %#v", err)
			}
			return
		}
		if p.ID < 1 || p.ID > MaxID || p.Parent < 0 || p.Parent == p.ID || !ValidName(p.By) || !slices.Contains(Kinds, p.Kind) {
			t.Fatalf("took %+v", p)
		}
		for _, s := range []string{p.Title, p.Body, p.URL, p.Secret} {
			if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
				t.Fatalf("took %q", s)
			}
		}
		var other struct {
			Title string `json:"post_title"`
			By    string `json:"username"`
			ID    ID     `json:"hanesst_id"`
		}
		if err := json.Unmarshal(body, &other); err != nil || (other.Title != p.Title || other.By != p.By || other.ID != p.ID) {
			t.Fatalf("two readers: %+v and %+v, %v", p, other, err)
		}
	})
}
