package httpcache

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fields is a header section in the notation of RFCs, one field a line. `-N` and
// `+N` as the value of a date field are seconds from now.
func fields(lines ...string) Header {
	h := Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if slices.Contains([]string{"Date", "Expires", "Last-Modified", "If-Modified-Since"}, name) && len(value) > 1 && strings.ContainsAny(value[:1], "+-") {
			d, err := time.ParseDuration(value[1:] + "s")
			if err != nil {
				panic(err)
			}
			if value[0] == '-' {
				d = -d
			}
			value = formatDate(time.Now().Add(d))
		}
		h[name] = append(h[name], value)
	}
	return h
}

// app is what the application would answer.
type app struct {
	status int // 0: it breaks off
	header Header
	body   string
}

// told is what the client got, and what it cost.
type told struct {
	status int
	header Header
	body   string
	sent   Header // what the application was asked; nil: nothing
}

func (x told) cached() bool { return x.sent == nil }

// talk is one exchange from end to end, without a network: what front does.
func talk(t testing.TB, c *Cache, p Policy, r Request, a app) told {
	t.Helper()
	found, err := c.Follow(context.Background(), &r, p, c.Lookup(&r, p))
	if err != nil {
		t.Fatal(err)
	}
	switch found.Verdict {
	case Hit, Stale:
		x := give(t, c, r, found.Object, found.Note)
		if found.Flight != nil { // in the background
			x.header["Refreshed"] = []string{"yes"}
			fly(t, found.Flight, r, a)
		}
		return x
	case Refuse:
		return told{status: 504}
	case Pass:
		c.Answered(&r, a.status, a.header)
		c.Invalidate(r.Key, ParseInvalidations(a.header["Portner-Invalidate"])...)
		return told{a.status, a.header, a.body, maps.Clone(r.Header)}
	}
	got, sent := fly(t, found.Flight, r, a)
	switch {
	case a.status == 0:
		if o := got.Object; o != nil {
			x := give(t, c, r, o, got.Note)
			x.sent = sent
			return x
		}
		return told{502, nil, "", sent}
	case got.Use == Forward:
		h := cloneHeader(a.header)
		got.Note.AddTo(h)
		return told{a.status, h, a.body, sent}
	}
	x := give(t, c, r, got.Object, got.Note)
	x.sent = sent
	for _, name := range got.Own {
		x.header[name] = a.header[name]
	}
	return x
}

// fly carries a flight out. An application answers 304 where its validators match
// and its status is 200.
func fly(t testing.TB, f *Flight, r Request, a app) (Received, Header) {
	t.Helper()
	defer f.Done()
	for range 2 {
		h := cloneHeader(r.Header)
		f.Prepare(h)
		f.Sent()
		if a.status == 0 {
			o, note, _ := f.Instead(Unreachable)
			return Received{Use: Replace, Object: o, Note: note}, h
		}
		got := f.Receive(a.status, a.header)
		switch got.Use {
		case Again:
			a.status = 200
			continue
		case Keep:
			f.Write([]byte(a.body))
			f.End(nil)
		}
		return got, h
	}
	t.Fatal("sent three times")
	return Received{}, nil
}

func give(t testing.TB, c *Cache, r Request, o *Object, note Note) told {
	t.Helper()
	a := c.Answer(&r, o)
	x := told{status: a.Status, header: Header{}}
	a.CopyHeader(x.header, time.Now())
	note.AddTo(x.header)
	var b bytes.Buffer
	if _, err := a.CopyBody(context.Background(), &b, nil); err != nil {
		t.Fatal(err)
	}
	x.body = b.String()
	return x
}

func get(uri string, lines ...string) Request {
	return Request{Key: NewKey("http", "example.com", uri), Method: "GET", Header: fields(lines...)}
}

func request(method, uri string, lines ...string) Request {
	r := get(uri, lines...)
	r.Method = method
	return r
}

func ok(body string, lines ...string) app { return app{200, fields(lines...), body} }

// inBubble runs a promise with a cache of its own, in time of its own.
func inBubble(t *testing.T, cfg Config, f func(t *testing.T, c *Cache)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, mustNew(t, cfg)) })
}
