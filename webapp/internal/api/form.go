package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/portner/portner/webapp/internal/news"
	"github.com/portner/portner/webapp/internal/store"
)

type marker func(ctx context.Context, name string, id news.ID, on bool) error

//go:embed openapi.json
var openAPI []byte

func (a *API) openAPI(c echo.Context) error { return blob(c, openAPI) }

// answer sends what everybody or, with a token, one person may read. Its ETag
// is made of its bytes: a client that has them already gets 304.
func answer(c echo.Context, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return blob(c, append(body, '\n'))
}

func blob(c echo.Context, body []byte) error {
	sum := sha256.Sum256(body)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	h := c.Response().Header()
	h.Set("ETag", tag)
	h.Set("Access-Control-Allow-Origin", "*") // no cookie opens anything here
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-cache") // keep it, and ask whether it is still the same
	}
	if matches(c.Request().Header.Get("If-None-Match"), tag) {
		return c.NoContent(http.StatusNotModified)
	}
	return c.Blob(http.StatusOK, "application/json", body)
}

func matches(ifNoneMatch, tag string) bool {
	for one := range strings.SplitSeq(ifNoneMatch, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}

// decode reads a JSON object into v. A field that v does not have is refused:
// whoever sends "karma" should hear that it was not taken. Errors are
// *news.Invalid.
func decode(c echo.Context, v any) error {
	if err := jsonOnly(c.Request().Header); err != nil {
		return err
	}
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return err
	}
	if !utf8.Valid(body) {
		return malformed("", "is not valid UTF-8")
	}
	if trimmed := bytes.TrimSpace(body); len(trimmed) == 0 || trimmed[0] != '{' {
		return malformed("", "must be a JSON object")
	}
	if err := knownFields(body, v); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	err = dec.Decode(v)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType):
		return &news.Invalid{Wrongs: []news.Wrong{{Field: wrongType.Field, Why: "must be " + called(wrongType.Type.Kind().String())}}}
	case err != nil:
		return malformed("", "is not JSON: "+err.Error())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return malformed("", "goes on after the JSON object")
	}
	return nil
}

// knownFields refuses the names that v does not have, and those that stand there
// twice. encoding/json takes "TEXT" for "text", and the last of two: another
// reader of the same document, such as a door that checks it, may see another
// one. What is not JSON is left to whoever reads the rest.
func knownFields(body []byte, v any) error {
	names := make(map[string]bool) // whether it was there
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v).Elem()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names[name] = false
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.Token() // {
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil
		}
		was, known := names[name]
		switch {
		case !known:
			return &news.Invalid{Wrongs: []news.Wrong{{Field: clip(name), Why: "is not known here"}}}
		case was:
			return &news.Invalid{Wrongs: []news.Wrong{{Field: name, Why: "stands there twice"}}}
		}
		names[name] = true
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return nil
		}
	}
	return nil
}

func called(kind string) string {
	switch kind {
	case "string":
		return "a string"
	case "slice":
		return "a list of strings"
	}
	return "an integer"
}

func clip(s string) string {
	if runes := []rune(s); len(runes) > 40 {
		return string(runes[:40]) + "…"
	}
	return s
}

func malformed(field, why string) error {
	return &news.Invalid{Malformed: true, Wrongs: []news.Wrong{{Field: field, Why: why}}}
}

// query reads parameters and collects what is wrong with them.
type query struct {
	c      echo.Context
	wrongs []news.Wrong
}

func asked(c echo.Context) *query { return &query{c: c} }

func (q *query) wrong(field, why string, args ...any) {
	q.wrongs = append(q.wrongs, news.Wrong{Field: field, Why: fmt.Sprintf(why, args...)})
}

func (q *query) err() error {
	if len(q.wrongs) == 0 {
		return nil
	}
	return &news.Invalid{Wrongs: q.wrongs}
}

func (q *query) number(name string, byDefault, least, most int) int {
	s := q.c.QueryParam(name)
	if s == "" {
		return byDefault
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		q.wrong(name, "must be an integer from %d to %d", least, most)
		return least
	}
	return n
}

func (q *query) flag(name string) bool {
	s := q.c.QueryParam(name)
	if s != "" && s != "true" && s != "false" {
		q.wrong(name, "must be true or false")
	}
	return s == "true"
}

const (
	usualLimit = 30
	mostLimit  = 100
)

func (q *query) limit() int { return q.number("limit", usualLimit, 1, mostLimit) }

// part reads a part of a list; a position that none has given is wrong.
func (q *query) part(p store.Part, err error) (store.Part, error) {
	if errors.Is(err, store.ErrNoSuchPart) {
		q.wrong("after", "must be the next of an answer")
		return p, q.err()
	}
	return p, err
}

func (q *query) text(name string, longest int) string {
	s := q.c.QueryParam(name)
	switch {
	case strings.TrimSpace(s) == "":
		q.wrong(name, "is missing")
	case len(s) > longest:
		q.wrong(name, "is longer than %d bytes", longest)
	case !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0:
		q.wrong(name, "is not valid text")
	}
	return s
}

func (q *query) day(name string) time.Time {
	day, err := time.Parse(time.DateOnly, q.c.QueryParam(name))
	if err != nil {
		q.wrong(name, "must be a day such as 2026-01-31")
	}
	return day
}
