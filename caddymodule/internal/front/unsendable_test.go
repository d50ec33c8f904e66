package front

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/journal"
	"github.com/portner/portner/caddymodule/internal/route"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// keeping lets a house keep the writes to /post.
func (h *house) keeping(t *testing.T) *journal.Journal {
	t.Helper()
	pattern, err := route.ParsePattern("POST", "/post")
	if err != nil {
		t.Fatal(err)
	}
	if h.cfg.Routes, err = route.NewTable([]route.Route{{Pattern: pattern}}); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	h.cfg.Journaling = Journaling{
		Journal:  func() *journal.Journal { return j },
		Life:     t.Context,
		Patience: context.Background,
		Routes:   map[string]*JournalRoute{pattern.String(): {AnswerWithin: 10 * time.Second, Respond: http.StatusAccepted, MaxBytes: 1 << 20}},
		Client:   func(*http.Request) string { return "" },
		Prepare:  func(r *http.Request, _ http.ResponseWriter, _ string) *http.Request { return r },
		Send:     h.send,
	}
	return j
}

// TestEntryThatCannotBeSentGivesEverythingBack: nothing else is heard of its exchange.
func TestEntryThatCannotBeSentGivesEverythingBack(t *testing.T) {
	h, closeAll := newHouse(Config{}, admission.Config{}, application(func(*http.Request) (*http.Response, error) {
		t.Error("it was sent")
		return nil, errDial
	}))
	defer closeAll()
	h.keeping(t)
	for what, e := range map[string]*journal.Entry{
		"a target that is none":         {Method: "POST", URI: "bar"},
		"a field that would end a line": {Method: "POST", URI: "/post", Header: map[string][]string{"X": {"a\nb"}}},
	} {
		x := h.attemptOf(e)
		x.body = &body{budget: h.cfg.Memory}
		x.body.refs.Store(1)
		if err := x.body.takeIn(strings.NewReader("the body"), -1, 4); err != nil {
			t.Fatal(err)
		}
		if o := h.attempt(t.Context(), x, e, 1, &recorder{header: make(http.Header)}); o.Kind != journal.Unsendable {
			t.Errorf("%s: %v", what, o.Kind)
		}
		if _, err := x.body.file.Stat(); !errors.Is(err, os.ErrClosed) || h.cfg.Memory.Used() != 0 || h.inFlight() != 0 {
			t.Errorf("%s: file %v, %d bytes of the budget, %d slots out", what, err, h.cfg.Memory.Used(), h.inFlight())
		}
	}
}

// TestClientOfAWriteThatCannotBeSentIsToldSo, where it turns out only when the write
// was kept and is sent. A body that could not be read is another matter.
func TestClientOfAWriteThatCannotBeSentIsToldSo(t *testing.T) {
	for _, row := range []struct {
		err    error
		status int
		reason string
		depth  int64
	}{
		{upstream.ErrRequest, http.StatusBadRequest, "request-unsendable", 0},
		{upstream.ErrBody, http.StatusAccepted, "", 1},
	} {
		h, closeAll := newHouse(Config{}, admission.Config{}, application(func(*http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("transport: %w", row.err)
		}))
		defer closeAll()
		j := h.keeping(t)
		w := httptest.NewRecorder()
		err := h.Serve(w, httptest.NewRequest("POST", "/post", strings.NewReader("the body")), h.send)
		if err != nil || w.Code != row.status || !strings.Contains(w.Body.String(), row.reason) {
			t.Errorf("%v: %v, %d %s", row.err, err, w.Code, w.Body)
		}
		for settled := time.Now(); j.Stats().Depth != row.depth && time.Since(settled) < 10*time.Second; {
			time.Sleep(time.Millisecond) // its end is noted meanwhile
		}
		if s := j.Stats(); s.Depth != row.depth || s.DeadLetters != 0 || s.Appended != 1 {
			t.Errorf("%v: %+v", row.err, s)
		}
	}
}

// TestEntryWithoutFieldsIsSent: an import may bring one, and nothing catches a panic
// above a delivery.
func TestEntryWithoutFieldsIsSent(t *testing.T) {
	h, closeAll := newHouse(Config{}, admission.Config{}, application(func(*http.Request) (*http.Response, error) {
		return answerWith(text("taken")), nil
	}))
	defer closeAll()
	h.keeping(t)
	if o := h.Deliver(t.Context(), &journal.Entry{Method: "POST", URI: "/post"}, 1); o.Kind != journal.Taken || string(o.Answer.Body) != "taken" {
		t.Errorf("%+v", o)
	}
}
