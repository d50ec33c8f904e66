package httpcache

import (
	"strings"
	"time"
)

// Object is one stored answer, or one that is still coming in. It does not
// change: a 304 makes another one with the same body.
type Object struct {
	key       Key
	status    int
	header    Header
	control   Control
	selectors []selector
	body      *body
	ahead     *reader       // of body, for one client; nil: it has not joined yet
	part      *part         // of a 206; nil: the body is the whole
	received  time.Time     // when its head came
	born      time.Time     // when it was made, as far as Date, Age and the journey tell
	life      time.Duration // fresh for so long since born
	pressed   bool          // may be compressed
	validity  validity
	filed     bool // read from disk
}

// part is what a stored 206 has of how much.
type part struct {
	span
	size int64
}

// objectOverhead is what an object takes besides its bytes and fields, roughly.
const objectOverhead = 512

func (o *Object) etag() string { return field(o.header, "Etag") }

// Status is the stored status code.
func (o *Object) Status() int { return o.status }

// Size is how many bytes it occupies. Bodies that several objects share count
// for each.
func (o *Object) Size() int64 {
	n := int64(objectOverhead + len(o.key.Host) + len(o.key.URI) + len(o.key.Way))
	for name, v := range o.header {
		n += int64(len(name)) + 40
		for _, s := range v {
			n += int64(len(s)) + 16
		}
	}
	for _, s := range o.selectors {
		n += int64(len(s.value)) + 32
	}
	data, _ := o.body.whole()
	return n + int64(cap(data)) + o.body.encoded.size.Load()
}

// newObject makes an object of an answer's head.
func newObject(key Key, request Header, status int, h Header, c Control, sent, received time.Time) *Object {
	o := &Object{key: key, status: status, control: c, received: received,
		header:    storedHeader(h, c),
		selectors: selectors(h, request),
		born:      received.Add(-initialAge(h, sent, received)),
	}
	if !has(o.header, "Date") { // RFC 9110 6.6.1
		o.header["Date"] = []string{formatDate(received)}
	}
	o.pressed = compressible(o.status, o.header, &c)
	return o
}

// freshened is the object with what a 304, or an answer to HEAD, says of it
// (RFC 9111 4.3.4, 4.3.5).
func (o *Object) freshened(request, news Header, sent, received time.Time) *Object {
	h := updatedHeader(o.header, news, o.control)
	if !has(news, "Date") {
		h["Date"] = []string{formatDate(received)}
	}
	f := *o
	f.control = answerControl(h)
	f.header = storedHeader(h, f.control)
	f.received = received
	merged := cloneHeader(h)
	delete(merged, "Age")
	if v, ok := news["Age"]; ok {
		merged["Age"] = v
	}
	f.born = received.Add(-initialAge(merged, sent, received))
	f.selectors = selectors(f.header, request)
	f.pressed = o.pressed && compressible(f.status, f.header, &f.control)
	return &f
}

// covers reports whether an object of a part has what a Range asks for.
func (o *Object) covers(request Header) bool {
	spans, ok := parseRange(field(request, "Range"), o.part.size)
	if !ok || len(spans) != 1 {
		return false
	}
	return o.part.first <= spans[0].first && spans[0].last <= o.part.last
}

// combined is one object of two parts of the same answer that touch (RFC 9111
// 3.4); nil when they do not or are not surely of the same, or it would be too long.
func combined(old, now *Object) *Object {
	a, b := old.part, now.part
	if !strong(now.etag()) || now.etag() != old.etag() || a.size != b.size ||
		b.first > a.last+1 || a.first > b.last+1 {
		return nil
	}
	oldBytes, ok1 := old.body.whole()
	nowBytes, ok2 := now.body.whole()
	if !ok1 || !ok2 {
		return nil
	}
	all := part{span{min(a.first, b.first), max(a.last, b.last)}, a.size}
	if all.length() > now.body.limit {
		return nil // or who asks for one part after another would have the whole cache
	}
	data := make([]byte, all.length())
	copy(data[a.first-all.first:], oldBytes)
	copy(data[b.first-all.first:], nowBytes)

	o := *now
	o.part, o.body = &all, wholeBody(data, nil)
	o.header = updatedHeader(old.header, now.header, now.control)
	if all.length() == all.size {
		o.part, o.status = nil, 200
		delete(o.header, "Content-Range")
	}
	delete(o.header, "Content-Length") // it was that of a part
	return &o
}

// compressible reports whether the cache may compress an answer: a text that is
// not compressed yet, that nobody minds being changed (RFC 9110 7.7), and that
// carries no secret. BREACH reads a cookie from the length of what is compressed
// with it.
func compressible(status int, h Header, c *Control) bool {
	return status == 200 && !has(h, "Content-Encoding") && !has(h, "Set-Cookie") && !has(h, "Content-Md5") &&
		!has(h, "Content-Digest") && !c.has(noTransform) && !hasMember(h, "Cache-Control", "no-transform") &&
		textual(field(h, "Content-Type"))
}

var textualTypes = []string{
	"application/javascript", "application/json", "application/ld+json", "application/manifest+json",
	"application/problem+json", "application/rss+xml", "application/atom+xml", "application/xhtml+xml",
	"application/xml", "application/wasm", "image/svg+xml", "font/ttf", "font/otf",
}

func textual(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(trim(media))
	if strings.HasPrefix(media, "text/") {
		return media != "text/event-stream"
	}
	for _, t := range textualTypes {
		if t == media {
			return true
		}
	}
	return false
}
