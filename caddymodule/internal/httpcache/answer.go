package httpcache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"strconv"
	"time"
)

// Answer is what one client gets of an object: all of it, parts, or the word
// that it has it already. Use it once, by one goroutine.
type Answer struct {
	Status int
	object *Object
	coding string // of form
	form   []byte // compressed body; nil: the object's own
	spans  []span // of a 206, relative to the whole; else nil
	empty  bool   // no body is sent
	remote bool   // who asks may be another surrogate
	border string // of a multipart body
}

// answer evaluates the request's conditions and ranges against an object (RFC
// 9111 4.3.2, RFC 9110 13.2.2, 14.2). made: a compressed form was made for it.
func (o *Object) answer(method string, request Header, with *press) (a Answer, made bool) {
	a = Answer{Status: o.status, object: o, empty: method == "HEAD"}
	ranged := method == "GET" && has(request, "Range")
	if o.pressed && !ranged && !hasMember(request, "Cache-Control", "no-transform") { // 5.2.1.6
		a.coding, a.form, made = o.body.encodedFor(request, with)
	}
	if o.status == 200 || o.status == 206 {
		if notModified(request, o.header, encodedTag(o.etag(), a.coding), o.received) {
			a.Status, a.empty = 304, true
			return a, made
		}
		if a.coding != "" && has(request, "If-None-Match") && etagListed(request, o.etag()) {
			// It has the plain body from when there was no other form, and must
			// not take that for this one.
			a.Status, a.empty, a.coding, a.form = 304, true, "", nil
			return a, made
		}
	}
	if ranged && (o.status == 200 || o.status == 206) {
		a.cut(request)
	}
	return a, made
}

// cut makes the answer one of parts, if the request may have parts.
func (a *Answer) cut(request Header) {
	o := a.object
	data, whole := o.body.whole()
	if !whole || !rangeApplies(request, o.header, o.etag(), o.received) || o.part != nil && !o.covers(request) {
		return // of a part: it is what the application sent for this very request
	}
	size := int64(len(data))
	if o.part != nil {
		size = o.part.size
	}
	spans, ok := parseRange(field(request, "Range"), size)
	switch {
	case !ok:
	case len(spans) == 0:
		a.Status, a.empty = 416, true
	default:
		a.Status, a.spans = 206, spans
		if len(spans) > 1 {
			a.border = border()
		}
	}
}

func border() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// notInEmpty are fields of a body that a 304 does not have (RFC 9110 15.4.5).
var notInEmpty = []string{"Content-Length", "Content-Type", "Content-Encoding", "Content-Range", "Content-Language", "Content-Md5", "Content-Digest"}

// CopyHeader writes the answer's fields to dst, over what is there under the
// same names. The values are dst's own.
func (a *Answer) CopyHeader(dst Header, now time.Time) {
	o := a.object
	via := dst["Cache-Status"]
	f := copyHeader(dst, o.header, 6)
	if via != nil {
		dst["Cache-Status"] = append(via, o.header["Cache-Status"]...)
	}
	delete(dst, targets[0])
	if !a.remote {
		delete(dst, surrogateControl) // it is not for browsers (Edge Architecture 2.2)
	}
	f.set("Age", strconv.FormatInt(int64(max(0, now.Sub(o.born))/time.Second), 10)) // RFC 9111 4, 5.1
	if o.hasForms() && !hasMember(dst, "Vary", "Accept-Encoding") && !variesOnAll(dst) {
		f.set("Vary", append(dst["Vary"], "Accept-Encoding")...)
	}
	if a.coding != "" {
		f.set("Content-Encoding", a.coding)
		if etag := o.etag(); etag != "" {
			f.set("Etag", encodedTag(etag, a.coding))
		}
	}
	switch a.Status {
	case 304:
		a.dropBody(dst)
	case 416:
		a.dropBody(dst)
		f.set("Content-Range", "bytes */"+strconv.FormatInt(a.size(), 10))
		f.set("Content-Length", "0")
	default:
		a.copyLength(&f)
	}
}

func (a *Answer) dropBody(dst Header) {
	for _, name := range notInEmpty {
		delete(dst, name)
	}
}

func (a *Answer) copyLength(f *filler) {
	switch n, known := a.length(); {
	case len(a.spans) == 1:
		f.set("Content-Range", contentRange(a.spans[0], a.size()))
		fallthrough
	case a.spans == nil && known && a.object.status != 204:
		f.set("Content-Length", strconv.FormatInt(n, 10))
	case a.spans != nil:
		delete(f.dst, "Content-Length") // the borders count as well; whoever sends finds out
		delete(f.dst, "Content-Range")
		f.set("Content-Type", "multipart/byteranges; boundary="+a.border)
	}
}

func (a *Answer) size() int64 {
	if a.object.part != nil {
		return a.object.part.size
	}
	data, _ := a.object.body.whole()
	return int64(len(data))
}

// length is that of the body, before borders; false: it is still coming in.
func (a *Answer) length() (int64, bool) {
	if a.spans != nil {
		var n int64
		for _, s := range a.spans {
			n += s.length()
		}
		return n, true
	}
	if a.form != nil {
		return int64(len(a.form)), true
	}
	data, whole := a.object.body.whole()
	return int64(len(data)), whole
}

// Bytes is the whole body where it is there and in one piece; nil otherwise.
// The caller must not change it.
func (a *Answer) Bytes() []byte {
	switch {
	case a.empty || a.spans != nil:
		return nil
	case a.form != nil:
		return a.form
	}
	if data, ok := a.object.body.whole(); ok {
		return data
	}
	return nil
}

// CopyBody writes the body to w as it comes. flush, when not nil, is called
// before it waits for more: followers see the first byte when the leader does.
// The error is the context's, w's, ErrIncomplete or ErrTooSlow.
func (a *Answer) CopyBody(ctx context.Context, w io.Writer, flush func()) (int64, error) {
	if ahead := a.object.ahead; ahead != nil {
		defer ahead.leave()
	}
	if a.empty {
		return 0, nil
	}
	if a.spans != nil {
		return a.copySpans(w)
	}
	if data := a.Bytes(); data != nil {
		n, err := w.Write(data)
		return int64(n), err
	}
	if ahead := a.object.ahead; ahead != nil {
		return ahead.copyTo(ctx, w, flush)
	}
	return a.object.body.copyTo(ctx, w, flush)
}

// copySpans writes one part as it is, several as multipart/byteranges (RFC 9110
// 14.6).
func (a *Answer) copySpans(w io.Writer) (sent int64, err error) {
	data, _ := a.object.body.whole()
	var offset int64
	if a.object.part != nil {
		offset = a.object.part.first
	}
	write := func(p []byte) {
		if err == nil {
			var n int
			n, err = w.Write(p)
			sent += int64(n)
		}
	}
	for _, s := range a.spans {
		if a.border != "" {
			head := "\r\n--" + a.border + "\r\n"
			if t := field(a.object.header, "Content-Type"); t != "" {
				head += "Content-Type: " + t + "\r\n"
			}
			write([]byte(head + "Content-Range: " + contentRange(s, a.size()) + "\r\n\r\n"))
		}
		write(data[s.first-offset : s.last-offset+1])
	}
	if a.border != "" {
		write([]byte("\r\n--" + a.border + "--\r\n"))
	}
	return sent, err
}

// Trailer is the trailer section, once CopyBody has ended without an error (RFC
// 9111 3.1: stored and sent apart from the header).
func (a *Answer) Trailer() Header {
	return a.object.body.trailers()
}
