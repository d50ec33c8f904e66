package httpcache

import (
	"encoding/binary"
	"time"
)

// An object on disk: key, status, times, epochs, fields, selectors, trailer, and the
// body to the end. What can be computed from the fields is not in it. Numbers are
// uvarints, texts and lists begin with their length.

func appendObject(b []byte, o *Object) []byte {
	for _, s := range [...]string{o.key.Scheme, o.key.Host, o.key.URI, o.key.Way} {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(o.status))
	for _, n := range [...]int64{o.received.UnixNano(), o.born.UnixNano(), int64(o.life)} {
		b = binary.AppendVarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(truth(o.pressed)))
	b = binary.AppendUvarint(b, o.validity.sent)
	b = binary.AppendUvarint(b, uint64(len(o.validity.marks)))
	for _, m := range o.validity.marks {
		b = binary.AppendUvarint(b, uint64(m))
	}
	b = appendFields(b, o.header)
	b = binary.AppendUvarint(b, uint64(len(o.selectors)))
	for _, s := range o.selectors {
		b = appendText(appendText(b, s.name), s.value)
	}
	data, _ := o.body.whole()
	return append(appendFields(b, o.body.trailers()), data...)
}

func truth(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFields(b []byte, h Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(h)))
	for name, values := range h {
		b = binary.AppendUvarint(appendText(b, name), uint64(len(values)))
		for _, v := range values {
			b = appendText(b, v)
		}
	}
	return b
}

// decoder reads what appendObject has written; bad: it was something else.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) signed() int64 {
	n, size := binary.Varint(d.rest)
	if size <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

// length is of something that takes a byte each at least: a bad one must not
// allocate gigabytes.
func (d *decoder) length() int {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.length()
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) fields() Header {
	n := d.length()
	h := make(Header, n)
	for range n {
		name := d.text()
		values := make([]string, d.length())
		for i := range values {
			values[i] = d.text()
		}
		h[name] = values
	}
	return h
}

// decodeObject is the object of a payload, whose bytes it keeps.
func decodeObject(payload []byte) (*Object, error) {
	d := &decoder{rest: payload}
	o := &Object{filed: true}
	o.key = Key{d.text(), d.text(), d.text(), d.text()}
	o.status = int(d.number())
	o.received, o.born = time.Unix(0, d.signed()), time.Unix(0, d.signed())
	o.life = time.Duration(d.signed())
	o.pressed = d.number() == 1
	o.validity.sent = d.number()
	o.validity.marks = make([]uint32, d.length())
	for i := range o.validity.marks {
		o.validity.marks[i] = uint32(d.number() % marks)
	}
	o.header = d.fields()
	for range d.length() {
		o.selectors = append(o.selectors, selector{d.text(), d.text()})
	}
	trailer := d.fields()
	if d.bad || o.status < 200 || o.status > 999 || o.status == 206 {
		return nil, errDamaged
	}
	if len(trailer) == 0 {
		trailer = nil
	}
	o.control = answerControl(o.header)
	o.body = wholeBody(d.rest[:len(d.rest):len(d.rest)], trailer)
	return o, nil
}
