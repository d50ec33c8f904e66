package front

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/portner/portner/caddymodule/internal/admission"
	"github.com/portner/portner/caddymodule/internal/upstream"
)

// notes are what the door itself wants to know of an answer's fields.
type notes struct {
	stream   bool
	report   admission.Report
	listed   []string // in Connection
	trailers []string // that are to come

	sendfile, redirect string // the file that is handed over
}

func readNotes(fields []upstream.Field) notes {
	var n notes
	var contentType, buffering, incremental string
	for _, f := range fields {
		switch f.Name {
		case "Content-Type":
			contentType = f.Value
		case "X-Accel-Buffering":
			buffering = f.Value
		case "Incremental":
			incremental = f.Value
		case "Portner-Load":
			agentWords(f.Value, &n.report)
		case "Endpoint-Load-Metrics":
			n.report.Utilization = utilization(f.Value)
		case "Connection":
			n.listed = append(n.listed, listed([]string{f.Value})...)
		case "X-Sendfile":
			n.sendfile = f.Value
		case "X-Accel-Redirect":
			n.redirect = f.Value
		case "Trailer":
			n.trailers = append(n.trailers, announced([]string{f.Value})...)
		}
	}
	n.stream = isStream(contentType, buffering, incremental)
	return n
}

// heardDirect is heard for an answer that came by the direct way.
func (d *delivery) heardDirect(a *upstream.Answer) notes {
	n := readNotes(a.Fields)
	d.effects.applyFields(a.Status, a.Fields)
	d.heard(a.Status, n.report, n.stream)
	return n
}

// announced are the fields of a Trailer field that clients are to know of.
func announced(trailer []string) []string {
	var names []string
	for name := range items(trailer) {
		if name = http.CanonicalHeaderKey(name); !ours(name) {
			names = append(names, name)
		}
	}
	return names
}

// handsOver reports whether the answer names a file that stands for its body.
func (n *notes) handsOver(f *Files) bool { return f != nil && (n.sendfile != "" || n.redirect != "") }

// passes reports whether a field of an answer goes on to the client.
func passes(name string, listed []string) bool {
	return !hop(name) && !ours(name) && name != "Endpoint-Load-Metrics" && name != "Endpoint-Load-Metrics-Bin" && !isListed(listed, name)
}

// copyAnswer passes the answer on. A short one is read to its end before anything
// is written: then the slot is free, and an answer that breaks off can still be
// told from a whole one. A long one is buffered while it is written.
func (x *exchange) copyAnswer(w http.ResponseWriter, r *http.Request, d *delivery, a *upstream.Answer) error {
	n := d.heardDirect(a)
	if n.stream {
		x.writeHead(w, r, d, a, n)
		return x.stream(w, r, d, a)
	}
	if file, info, err := x.front.cfg.Files.open(n.sendfile, n.redirect); file != nil || err != nil {
		x.setFields(w, r, d, a, n)
		x.last = nil
		d.finishUnread(a)
		if err != nil {
			clear(w.Header())
			x.failure = err
			return err
		}
		return x.sendFile(w, r, file, info)
	}
	var body []byte
	err := io.EOF
	if !a.Ended() {
		buf := x.front.cfg.Memory.buffer(a.Length)
		defer x.front.cfg.Memory.release(buf)
		body, err = readQuickly(a, *buf)
	}
	switch {
	case err == io.EOF:
		trailer := a.Trailer
		last := a.Last()
		if last { // nothing writes into an answer whose connection is gone
			d.handOn() // Werkzeug takes nobody else until we close, for up to 10 ms
		}
		x.writeHead(w, r, d, a, n)
		if !last {
			d.handOn()
		}
		return x.write(w, body, trailer)
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		x.failure = err
		d.failed(err)
		return err
	}
	x.writeHead(w, r, d, a, n)
	return x.writeSpooled(w, r, d, a, body)
}

// readQuickly reads the body into buf, and returns what it has. io.EOF: that was all.
// nil: buf is full.
func readQuickly(a *upstream.Answer, buf []byte) (body []byte, err error) {
	limited := false
	for have := 0; ; {
		if have == len(buf) {
			return buf, nil
		}
		if !limited && !a.Buffered() {
			a.Within(quick, time.Now())
			limited = true
		}
		n, err := a.Read(buf[have:])
		if have += n; err != nil {
			return buf[:have], err
		}
	}
}

// writeHead writes the answer's head.
func (x *exchange) writeHead(w http.ResponseWriter, r *http.Request, d *delivery, a *upstream.Answer, n notes) {
	h := x.setFields(w, r, d, a, n)
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // what the application does not say, nobody shall guess
	}
	w.WriteHeader(a.Status)
}

// setFields adds the answer's fields to those that Caddy has set, as reverseproxy
// does it, and returns them all.
func (x *exchange) setFields(w http.ResponseWriter, r *http.Request, d *delivery, a *upstream.Answer, n notes) http.Header {
	h := w.Header()
	delete(h, "Server")
	values := make([]string, 0, len(a.Fields)+2) // one array for all that stand alone
	set := func(h http.Header, name, value string) {
		if h[name] != nil {
			h[name] = append(h[name], value)
			return
		}
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set(h, "Via", via(1, a.Minor))
	into := h
	if x.front.cfg.AmendAnswer != nil {
		into = make(http.Header, len(a.Fields))
	}
	for _, f := range a.Fields {
		if passes(f.Name, n.listed) && !(n.handsOver(x.front.cfg.Files) && handsOver(f.Name)) {
			set(into, f.Name, f.Value)
		}
	}
	x.Status = a.Status
	if text := x.took(d); text != "" {
		set(into, "Server-Timing", text)
	}
	if x.front.cfg.AmendAnswer != nil {
		x.front.cfg.AmendAnswer(r, into, a.Status)
		for name, values := range into {
			h[name] = append(h[name], values...)
		}
	}
	if len(n.trailers) > 0 {
		h["Trailer"] = append(h["Trailer"], strings.Join(n.trailers, ", "))
	}
	return h
}

// write writes a body that is here, and the trailer.
func (x *exchange) write(w http.ResponseWriter, p []byte, trailer []upstream.Field) error {
	if len(p) > 0 {
		if _, err := w.Write(p); err != nil {
			x.Verdict = "left"
			return nil
		}
	}
	writeTrailer(w, trailer)
	return nil
}

// writeTrailer sets what came behind the body. A body of unknown length must be
// on its way by then, or net/http finds its length out, and there is no trailer.
func writeTrailer(w http.ResponseWriter, trailer []upstream.Field) {
	if len(trailer) == 0 {
		return
	}
	http.NewResponseController(w).Flush()
	for _, f := range trailer {
		if !ours(f.Name) {
			w.Header().Add(http.TrailerPrefix+f.Name, f.Value)
		}
	}
}

// stream passes an answer on while it comes. It has no end to wait for when the
// client has left.
func (x *exchange) stream(w http.ResponseWriter, r *http.Request, d *delivery, a *upstream.Answer) error {
	r = r.WithContext(x.audience(r.Context()))
	a.SetDeadline(time.Time{})
	unwatch := context.AfterFunc(r.Context(), d.hangUp)
	defer unwatch()
	if x.journal { // others wait for it to end
		defer x.front.wholeTimer(d).Stop()
	}
	http.NewResponseController(w).Flush()
	rerr, werr := relay(x.front.cfg.Memory, w, a, a.Buffered)
	if werr != nil {
		d.hangUp()
		d.end(0)
		x.Verdict = "left"
		return nil
	}
	trailer := a.Trailer
	d.broken(rerr)
	return x.conclude(w, r, rerr, trailer)
}

// writeSpooled writes an answer that is longer than what is here already, while
// another goroutine takes in the rest as fast as the application gives it.
func (x *exchange) writeSpooled(w http.ResponseWriter, r *http.Request, d *delivery, a *upstream.Answer, begun []byte) error {
	s := x.front.newSpool(d)
	s.begin(begun)
	a.SetDeadline(s.until)
	var trailer []upstream.Field // before s has ended
	unwatch := context.AfterFunc(r.Context(), d.leave)
	x.last = nil
	go func() { // ends with the answer, or after Whole, or after Abandon
		err := s.fill(a)
		unwatch()
		if errors.Is(err, os.ErrDeadlineExceeded) || err == errWhole {
			err = errWhole
			d.abandon(tooLong)
		}
		trailer = a.Trailer
		d.broken(err)
		s.end(err)
	}()
	defer s.Close()
	rerr, werr := relay(x.front.cfg.Memory, w, s, s.ready)
	if werr != nil {
		x.Verdict = "left"
		d.leave()
		return nil
	}
	return x.conclude(w, r, rerr, trailer)
}

// conclude ends an answer whose head was written. One that broke off must not look
// like a whole one.
func (x *exchange) conclude(w http.ResponseWriter, r *http.Request, err error, trailer []upstream.Field) error {
	if err == io.EOF {
		writeTrailer(w, trailer)
		return nil
	}
	http.NewResponseController(w).Flush()
	if r.Context().Err() == nil {
		x.front.log.Warn("answer broke off", zap.String("upstream", x.Upstream), zap.String("template", x.Template), zap.Error(err))
	}
	panic(http.ErrAbortHandler)
}

// relay copies src to its end, and flushes whenever nothing more is at hand. It
// returns the error of reading, io.EOF at the end, or that of writing.
func relay(memory *Budget, w http.ResponseWriter, src io.Reader, ready func() bool) (rerr, werr error) {
	buf := memory.buffer(0)
	defer memory.release(buf)
	flush := http.NewResponseController(w)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			if _, werr := w.Write((*buf)[:n]); werr != nil {
				return nil, werr
			}
		}
		if err != nil {
			return err, nil
		}
		if !ready() {
			if err := flush.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return nil, err
			}
		}
	}
}
