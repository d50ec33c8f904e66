package httpcache

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// worthCompressing is the least bytes that are compressed: below it a client
// gains no packet.
const worthCompressing = 1 << 10

// encodings are a body's compressed forms, each made once, when the first
// client asks for it.
type encodings struct {
	forms [2]atomic.Pointer[[]byte] // by index in presses; points to nil: not worth it
	busy  sync.Mutex                // one compresses; others take what is there
	size  atomic.Int64              // bytes of all forms
}

// press makes compressed forms. It belongs to one cache.
type press struct {
	zstd func() *zstd.Encoder // made at the first use: it takes megabytes
}

// presses are the codings that the cache makes itself, the better first.
var presses = []struct {
	name  string
	press func(p *press, data []byte) []byte
}{{"zstd", (*press).pressZstd}, {"gzip", (*press).pressGzip}}

func newPress() *press {
	return &press{zstd: sync.OnceValue(func() *zstd.Encoder {
		// RFC 9659: no decoder must hold more than 8 MiB.
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		if err != nil {
			panic(err) // the options above are constants
		}
		return e
	})}
}

func (p *press) pressZstd(data []byte) []byte { return p.zstd().EncodeAll(data, nil) }

func (p *press) pressGzip(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data) // a buffer takes everything
	w.Close()
	return b.Bytes()
}

// encodedFor is the form of a whole body that a client likes best; an empty name
// is the body itself. made: a form was made just now.
func (b *body) encodedFor(request Header, with *press) (name string, form []byte, made bool) {
	data, ok := b.whole()
	if !ok || len(data) < worthCompressing {
		return "", nil, false
	}
	for i := range presses {
		if !accepts(request, presses[i].name) {
			continue
		}
		p := b.encoded.forms[i].Load()
		if p == nil && b.encoded.busy.TryLock() {
			if p = b.encoded.forms[i].Load(); p == nil {
				p, made = b.encoded.make(i, data, with), true
			}
			b.encoded.busy.Unlock()
		}
		if p != nil && *p != nil {
			return presses[i].name, *p, made
		}
	}
	return "", nil, made
}

// hasForms reports whether the object is there in several codings, or may be when
// it is whole.
func (o *Object) hasForms() bool {
	if !o.pressed {
		return false
	}
	if data, whole := o.body.whole(); whole {
		return len(data) >= worthCompressing
	}
	n := contentLength(o.header)
	return n < 0 || n >= worthCompressing
}

// make compresses. What saves less than a tenth is not worth a client's work.
func (e *encodings) make(i int, data []byte, with *press) *[]byte {
	form := presses[i].press(with, data)
	if len(form) > len(data)-len(data)/10 {
		form = nil
	} else {
		form = append(make([]byte, 0, len(form)), form...)
		e.size.Add(int64(len(form)))
	}
	e.forms[i].Store(&form)
	return &form
}

// encodedTag is the entity tag of a compressed form: other bytes need another
// strong tag (RFC 9110 8.8.3.3).
func encodedTag(etag, coding string) string {
	if coding == "" || !strong(etag) {
		return etag
	}
	return etag[:len(etag)-1] + "-" + coding + `"`
}
