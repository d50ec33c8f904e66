package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/portner/portner/caddymodule/internal/journal"
)

// journalStatus is one pool's journal as GET /app_proxy/journal shows it.
type journalStatus struct {
	Pool        string   `json:"pool,omitempty"`
	Folder      string   `json:"folder"`
	Orphan      bool     `json:"orphan,omitempty"` // no pool of that name is configured
	Depth       int64    `json:"depth"`            // entries that are not delivered
	Oldest      float64  `json:"oldest_seconds"`
	DeadLetters int64    `json:"dead_letters"`
	Bytes       int64    `json:"bytes"`
	MaxBytes    int64    `json:"max_bytes"`
	Failed      string   `json:"failed,omitempty"`
	Damaged     []string `json:"damaged,omitempty"`
}

// journalEntry is one entry as a list shows it: without fields and body, which may
// be anybody's secrets.
type journalEntry struct {
	ID       string    `json:"id"`
	Seq      uint64    `json:"seq"`
	State    string    `json:"state"`
	Route    string    `json:"route"`
	Lane     string    `json:"lane"`
	Method   string    `json:"method"`
	URI      string    `json:"uri"`
	Bytes    int       `json:"bytes"`
	Arrived  time.Time `json:"arrived"`
	Attempts int       `json:"attempts"`
	Reason   string    `json:"reason,omitempty"`
	Status   int       `json:"status,omitempty"`
}

// journalDetail is one entry as GET /app_proxy/journal/show shows it, with secrets
// masked.
type journalDetail struct {
	journalEntry
	Key    string              `json:"key"`
	Header map[string][]string `json:"header"`
	Body   string              `json:"body"`
	Answer *journalAnswer      `json:"answer,omitempty"`
}

// journalAnswer is what the application said last.
type journalAnswer struct {
	Status int                 `json:"status"`
	Header map[string][]string `json:"header"`
	Body   string              `json:"body"`
	Cut    bool                `json:"cut,omitempty"` // it was too long to be kept
}

// poolsWithJournals are the pools that keep writes, or should, by name.
func poolsWithJournals() map[string]*pool {
	keep := make(map[string]*pool)
	pools.Range(func(_, value any) bool {
		if p := value.(*pool); p.journal.Load() != nil {
			keep[p.name] = p
		}
		return true
	})
	return keep
}

func journalStatuses() []journalStatus {
	list := []journalStatus{}
	for name, p := range poolsWithJournals() {
		if j := p.journal.Load(); j != nil {
			list = append(list, p.journalStatus(name, j.Stats()))
		}
	}
	list = append(list, orphans(nil)...)
	slices.SortFunc(list, func(a, b journalStatus) int {
		return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.Folder, b.Folder))
	})
	return list
}

func (p *pool) journalStatus(name string, s journal.Stats) journalStatus {
	status := journalStatus{
		Pool: name, Folder: p.journalFolder(), Depth: s.Depth, Oldest: s.Oldest.Seconds(), DeadLetters: s.DeadLetters,
		Bytes: s.Bytes, MaxBytes: s.MaxBytes, Damaged: s.Damaged,
	}
	if s.Failed != nil {
		status.Failed = s.Failed.Error()
	}
	return status
}

// serveJournal is everything below /app_proxy/journal. GET looks, POST changes.
func serveJournal(w http.ResponseWriter, r *http.Request) error {
	verb := strings.Trim(strings.TrimPrefix(r.URL.Path, "/app_proxy/journal"), "/")
	act, ok := journalActs[verb]
	if !ok {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("%s: expected list, show, retry, drop, export, import or reopen", verb)}
	}
	if act.method != r.Method {
		w.Header().Set("Allow", act.method)
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("%s: only %s", r.Method, act.method)}
	}
	if act.method == http.MethodPost { // what a form of some page cannot say
		if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" && media != "application/jsonl" {
			return caddy.APIError{HTTPStatus: http.StatusUnsupportedMediaType, Err: errors.New("expected application/json")}
		}
	}
	if verb == "" {
		return adminJSON(w, journalStatuses())
	}
	p, err := poolOf(r.URL.Query().Get("pool"))
	if err == nil {
		err = act.do(p, w, r)
	}
	for _, known := range journalErrors {
		if errors.Is(err, known.err) {
			return caddy.APIError{HTTPStatus: known.status, Err: err}
		}
	}
	return err
}

var journalErrors = []struct {
	err    error
	status int
}{
	{journal.ErrNotFound, http.StatusNotFound},
	{errNoSuchJournal, http.StatusNotFound},
	{journal.ErrBusy, http.StatusConflict},
	{journal.ErrNotDead, http.StatusConflict},
	{journal.ErrFull, http.StatusInsufficientStorage},
	{journal.ErrFailed, http.StatusServiceUnavailable},
	{journal.ErrClosed, http.StatusServiceUnavailable},
}

var journalActs = map[string]struct {
	method string
	do     func(*pool, http.ResponseWriter, *http.Request) error
}{
	"":       {http.MethodGet, nil},
	"list":   {http.MethodGet, withJournal(listJournal)},
	"show":   {http.MethodGet, withJournal(showEntry)},
	"retry":  {http.MethodPost, withJournal(changeEntries((*journal.Journal).Retry))},
	"drop":   {http.MethodPost, withJournal(changeEntries((*journal.Journal).Drop))},
	"export": {http.MethodGet, withJournal(exportJournal)},
	"import": {http.MethodPost, withJournal(importJournal)},
	"reopen": {http.MethodPost, reopenJournal},
}

var errNoSuchJournal = errors.New("no such journal")

// poolOf finds a pool that keeps writes; without a name, the only one.
func poolOf(name string) (*pool, error) {
	keep := poolsWithJournals()
	if p := keep[name]; p != nil {
		return p, nil
	}
	if name == "" && len(keep) == 1 {
		for _, p := range keep {
			return p, nil
		}
	}
	names := slices.Sorted(maps.Keys(keep))
	return nil, fmt.Errorf("%w: pool %q; expected one of: %s", errNoSuchJournal, name, strings.Join(names, ", "))
}

// withJournal is for what needs the journal alone.
func withJournal(do func(*journal.Journal, http.ResponseWriter, *http.Request) error) func(*pool, http.ResponseWriter, *http.Request) error {
	return func(p *pool, w http.ResponseWriter, r *http.Request) error {
		j := p.journal.Load()
		if j == nil {
			return errNoSuchJournal
		}
		return do(j, w, r)
	}
}

// reopenJournal opens a journal that has failed now, and makes one if there is none.
func reopenJournal(p *pool, w http.ResponseWriter, r *http.Request) error {
	err := p.reopen(r.Context(), true)
	switch {
	case err == nil || errors.Is(err, errWorks):
		return adminJSON(w, map[string]bool{"open": true})
	case errors.Is(err, errNoSuchJournal):
		return err
	}
	return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
}

func adminJSON(w http.ResponseWriter, value any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(value)
}

func stateOf(r *http.Request) (journal.State, error) {
	switch r.URL.Query().Get("state") {
	case "", "undelivered":
		return journal.Undelivered, nil
	case "dead":
		return journal.Dead, nil
	}
	return 0, badRequest(errors.New("state: expected undelivered or dead"))
}

func badRequest(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
}

func listJournal(j *journal.Journal, w http.ResponseWriter, r *http.Request) error {
	state, err := stateOf(r)
	if err != nil {
		return err
	}
	after, n := uint64(0), journal.MaxList
	if text := r.URL.Query().Get("after"); text != "" {
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			return badRequest(fmt.Errorf("after: %w", err))
		}
	}
	briefs, err := j.List(state, after, n)
	if err != nil {
		return err
	}
	list := []journalEntry{}
	for _, b := range briefs {
		list = append(list, journalEntry{b.ID.String(), b.Seq, b.State.String(), b.Route, b.Lane, b.Method, b.URI, b.Bytes, b.Arrived, b.Attempts, b.Reason, b.Status})
	}
	return adminJSON(w, list)
}

func showEntry(j *journal.Journal, w http.ResponseWriter, r *http.Request) error {
	id, err := journal.ParseID(r.URL.Query().Get("id"))
	if err != nil {
		return badRequest(err)
	}
	e, s, err := j.Show(id)
	if err != nil {
		return err
	}
	var d journalDetail
	if a := s.Answer; a != nil {
		d.Answer = &journalAnswer{a.Status, a.Header, string(a.Body), a.Cut}
	}
	d.ID, d.Seq, d.State, d.Attempts, d.Reason = s.ID.String(), s.Seq, s.State.String(), s.Attempts, s.Reason
	if e != nil { // of a delivered one only the answer is left
		d.Route, d.Lane, d.Method, d.URI, d.Bytes, d.Arrived = e.Route, e.Lane, e.Method, e.URI, len(e.Body), e.Arrived
		d.Key, d.Header, d.Body = e.Key, e.Header, string(e.Body)
	}
	return adminJSON(w, d)
}

// changeEntries does it to one entry, or to all dead letters.
func changeEntries(change func(*journal.Journal, context.Context, journal.ID) error) func(*journal.Journal, http.ResponseWriter, *http.Request) error {
	return func(j *journal.Journal, w http.ResponseWriter, r *http.Request) error {
		if r.URL.Query().Get("all") == "dead" {
			n, err := changeDead(r.Context(), j, change)
			if err != nil {
				return err
			}
			return adminJSON(w, map[string]int{"changed": n})
		}
		id, err := journal.ParseID(r.URL.Query().Get("id"))
		if err != nil {
			return badRequest(fmt.Errorf("expected id=<id>, or all=dead: %w", err))
		}
		if err := change(j, r.Context(), id); err != nil {
			return err
		}
		return adminJSON(w, map[string]int{"changed": 1})
	}
}

func changeDead(ctx context.Context, j *journal.Journal, change func(*journal.Journal, context.Context, journal.ID) error) (n int, err error) {
	for after := uint64(0); ; {
		list, err := j.List(journal.Dead, after, journal.MaxList)
		if err != nil || len(list) == 0 {
			return n, err
		}
		for _, b := range list {
			after = b.Seq
			if err := change(j, ctx, b.ID); err != nil && !errors.Is(err, journal.ErrNotFound) {
				return n, err
			}
			n++
		}
	}
}

func exportJournal(j *journal.Journal, w http.ResponseWriter, r *http.Request) error {
	states := []journal.State{journal.Undelivered, journal.Dead}
	if r.URL.Query().Get("state") != "" {
		state, err := stateOf(r)
		if err != nil {
			return err
		}
		states = []journal.State{state}
	}
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Trailer", exportedTrailer)
	n, err := j.Export(r.Context(), w, states...)
	if err != nil {
		panic(http.ErrAbortHandler) // it must not look like a whole one
	}
	w.Header().Set(exportedTrailer, strconv.Itoa(n))
	return nil
}

// exportedTrailer says at the end of an export how many entries it has.
const exportedTrailer = "Portner-Exported"

func importJournal(j *journal.Journal, w http.ResponseWriter, r *http.Request) error {
	n, err := j.Import(r.Context(), r.Body)
	if err != nil {
		err = fmt.Errorf("after %d entries: %w", n, err)
		if errors.Is(err, journal.ErrFull) {
			return err
		}
		return badRequest(err)
	}
	return adminJSON(w, map[string]int{"imported": n})
}
