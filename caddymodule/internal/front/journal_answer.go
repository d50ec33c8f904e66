package front

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/portner/portner/caddymodule/internal/journal"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// StatusPath is where the door says what became of an accepted write; its id follows.
const StatusPath = "/.well-known/portner/journal/"

// accepted tells the client that its write is kept.
func (f *Front) accepted(w http.ResponseWriter, r *http.Request, x *exchange, p *JournalRoute, e *journal.Entry) error {
	x.Verdict = "accepted"
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if p.Respond != http.StatusAccepted || p.Body != "" {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		return answerText(w, r, p.Respond, p.Body)
	}
	at := StatusPath + e.ID.String()
	h.Set("Location", at)
	h.Set("Retry-After", "1")
	return answerJSON(w, r, http.StatusAccepted, map[string]string{"id": e.ID.String(), "state": "accepted", "status_url": at})
}

// notKept answers for a write that the journal did not take, or has already.
func (f *Front) notKept(w http.ResponseWriter, r *http.Request, x *exchange, err error) error {
	var repeat *journal.Repeat
	switch {
	case errors.Is(err, upstream.ErrRequest):
		return f.fail(w, r, x, err)
	case !errors.As(err, &repeat):
		return f.refuse(w, r, x, err)
	}
	if a := repeat.Answer; a != nil && repeat.State != journal.Undelivered && !a.Cut {
		x.Verdict = "repeat"
		delete(w.Header(), "Server")
		copyFields(w.Header(), a.Header)
		w.WriteHeader(a.Status)
		w.Write(a.Body)
		return nil
	}
	w.Header().Set("Location", StatusPath+repeat.ID.String())
	return f.refuse(w, r, x, errRepeat)
}

// errRepeat: the client has sent it already, and there is no answer to give again.
var errRepeat = errors.New("the same request was accepted already")

// answersItself answers what is the door's own business.
func (f *Front) answersItself(w http.ResponseWriter, r *http.Request, x *exchange) (done bool, err error) {
	c := &f.cfg.Journaling
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false, nil
	}
	if x.route != nil && c.Status[x.route.Policy.Template] {
		x.forgo(w, r, false)
		return true, f.tellState(w, r, x)
	}
	id, ok := strings.CutPrefix(r.URL.Path, StatusPath)
	if !ok || c.Find == nil {
		return false, nil
	}
	x.Verdict = "status"
	x.forgo(w, r, false)
	return true, f.tellEntry(w, r, id)
}

// tellState says Alive, Update or Down. With Update nothing is lost: writes are
// kept, and the others wait.
func (f *Front) tellState(w http.ResponseWriter, r *http.Request, x *exchange) error {
	x.Verdict = "status"
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if _, ready := f.queue.Predict(x.ask); ready {
		return answerText(w, r, http.StatusOK, "Alive")
	}
	if j := f.cfg.Journaling.get(); j != nil && j.Err() == nil {
		return answerText(w, r, http.StatusOK, "Update")
	}
	return answerText(w, r, http.StatusServiceUnavailable, "Down")
}

// entryStatus is what the one who knows its id is told of an entry.
type entryStatus struct {
	ID       string       `json:"id"`
	State    string       `json:"state"`
	Attempts int          `json:"attempts"`
	Reason   string       `json:"reason,omitempty"`
	Answer   *entryAnswer `json:"answer,omitempty"`
}

type entryAnswer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header,omitempty"`
	Text   string      `json:"text,omitempty"` // of a body that is text
	Body   []byte      `json:"body,omitempty"` // of another, in base64
	Cut    bool        `json:"cut,omitempty"`  // it was too long to be kept, or the disk too full
}

func (f *Front) tellEntry(w http.ResponseWriter, r *http.Request, text string) error {
	w.Header().Set("Cache-Control", "no-store")
	status, err := journal.Status{}, journal.ErrNotFound
	if id, bad := journal.ParseID(text); bad == nil {
		status, err = f.cfg.Journaling.Find(id)
	}
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return answerJSON(w, r, http.StatusNotFound, map[string]any{"type": "about:blank", "title": "Not Found", "status": http.StatusNotFound, "reason": "unknown-entry"})
	case err != nil:
		return answerJSON(w, r, http.StatusServiceUnavailable, map[string]any{"type": "about:blank", "title": "Service Unavailable", "status": http.StatusServiceUnavailable, "reason": "journal-failed"})
	}
	told := entryStatus{ID: status.ID.String(), State: status.State.String(), Attempts: status.Attempts, Reason: status.Reason}
	if a := status.Answer; a != nil {
		told.Answer = &entryAnswer{Status: a.Status, Header: http.Header(a.Header).Clone(), Cut: a.Cut}
		told.Answer.Header.Del("Set-Cookie") // for its client's browser, which is not the one that asks
		if utf8.Valid(a.Body) {
			told.Answer.Text = string(a.Body)
		} else {
			told.Answer.Body = a.Body
		}
	}
	return answerJSON(w, r, http.StatusOK, told)
}

func answerJSON(w http.ResponseWriter, r *http.Request, status int, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return answerText(w, r, status, string(text)+"\n")
}

func answerText(w http.ResponseWriter, r *http.Request, status int, text string) error {
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead && status != http.StatusNoContent {
		io.WriteString(w, text)
	}
	return nil
}
