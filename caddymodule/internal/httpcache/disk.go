package httpcache

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"
)

// The file of Save begins with a line, then comes one record after the other:
// length, checksum (CRC-32C), gob. The most wanted objects come first.
const diskVersion = "portner cache 1\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is an object on disk. What can be computed from the header is not in it.
type record struct {
	Key       Key
	Status    int
	Header    Header
	Selectors [][2]string
	Part      []int64 // first, last, size; nil: the whole
	Received  time.Time
	Born      time.Time
	Life      time.Duration
	Pressed   bool
	Trailer   Header
	Body      []byte
}

// Save writes what is worth it to a file, up to bytes, the most wanted first.
// What was invalidated, hard or softly, stays behind. Call it when nobody uses the
// cache any more: an invalidation after it would be lost.
func (c *Cache) Save(path string, bytes int64) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".cache-*") // mode 0600: pages may be for few
	if err != nil {
		return fmt.Errorf("httpcache: save: %w", err)
	}
	defer os.Remove(f.Name()) // fails after the rename
	err = c.writeTo(f, bytes)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("httpcache: save to %s: %w", path, err)
	}
	return nil
}

func (c *Cache) writeTo(f io.Writer, limit int64) error {
	w := bufio.NewWriter(f)
	if _, err := w.WriteString(diskVersion); err != nil {
		return err
	}
	now := time.Now()
	for e := range c.store.entries.Hottest() {
		for _, o := range e.Value.objects {
			if !c.lasts(o, now) {
				continue
			}
			if limit -= o.Size(); limit < 0 {
				return w.Flush()
			}
			if err := writeRecord(w, o); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}

// lasts reports whether an object is worth a restart. Those with fields left out
// are not: the tags may be among them.
func (c *Cache) lasts(o *Object, now time.Time) bool {
	if _, soft := c.epochs.softened(&o.validity); soft || !c.epochs.valid(&o.validity) {
		return false
	}
	_, whole := o.body.whole()
	return whole && o.control.privateFields == nil && o.control.noCacheFields == nil && useful(o, now)
}

func writeRecord(w io.Writer, o *Object) error {
	data, _ := o.body.whole()
	r := record{Key: o.key, Status: o.status, Header: o.header, Received: o.received, Born: o.born, Life: o.life,
		Pressed: o.pressed, Trailer: o.body.trailers(), Body: data}
	for _, s := range o.selectors {
		r.Selectors = append(r.Selectors, [2]string{s.name, s.value})
	}
	if o.part != nil {
		r.Part = []int64{o.part.first, o.part.last, o.part.size}
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(r); err != nil {
		return err
	}
	var head [8]byte
	binary.BigEndian.PutUint32(head[:4], uint32(b.Len()))
	binary.BigEndian.PutUint32(head[4:], crc32.Checksum(b.Bytes(), castagnoli))
	_, err := w.Write(append(head[:], b.Bytes()...))
	return err
}

// Load reads what Save has written, and takes the file away before anything of
// it can be used: after a crash, which loses the invalidations since, the cache
// begins empty. It reports how many objects it has read. A file that is not there
// is none; of one that is damaged it uses what comes before the damage, and says
// so.
func (c *Cache) Load(path string) (objects int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("httpcache: load: %w", err)
	}
	defer f.Close()
	if err := os.Remove(path); err != nil {
		return 0, fmt.Errorf("httpcache: load: %w", err)
	}
	r := bufio.NewReader(f)
	line, err := r.ReadString('\n')
	if err != nil || line != diskVersion {
		return 0, fmt.Errorf("httpcache: load %s: not a file of this version", path)
	}
	for {
		o, err := c.readRecord(r)
		if err == io.EOF {
			return objects, nil
		}
		if err != nil {
			return objects, fmt.Errorf("httpcache: load %s, object %d: %w", path, objects, err)
		}
		c.store.put(o, c.epochs)
		objects++
	}
}

// errDamaged: a length or checksum is wrong.
var errDamaged = errors.New("damaged")

func (c *Cache) readRecord(r io.Reader) (*Object, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, errDamaged
	}
	// A length is believed as far as there are bytes: a bad one must not
	// allocate gigabytes.
	var b bytes.Buffer
	n := int64(binary.BigEndian.Uint32(head[:4]))
	if read, err := io.CopyN(&b, r, n); read != n || err != nil || crc32.Checksum(b.Bytes(), castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, errDamaged
	}
	var x record
	if err := gob.NewDecoder(&b).Decode(&x); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if !x.coherent() {
		return nil, errDamaged
	}
	return c.restored(&x), nil
}

// coherent reports whether the body is what the record says that it is.
func (x *record) coherent() bool {
	if x.Part == nil {
		return x.Status != 206
	}
	return len(x.Part) == 3 && 0 <= x.Part[0] && x.Part[0] <= x.Part[1] && x.Part[1] < x.Part[2] &&
		x.Part[1]-x.Part[0]+1 == int64(len(x.Body))
}

func (c *Cache) restored(x *record) *Object {
	if x.Header == nil {
		x.Header = Header{}
	}
	o := &Object{key: x.Key, status: x.Status, header: x.Header, control: answerControl(x.Header), body: wholeBody(x.Body, x.Trailer),
		received: x.Received, born: x.Born, life: x.Life, pressed: x.Pressed && !c.cfg.Load().Plain}
	for _, s := range x.Selectors {
		o.selectors = append(o.selectors, selector{s[0], s[1]})
	}
	if x.Part != nil {
		o.part = &part{span{x.Part[0], x.Part[1]}, x.Part[2]}
	}
	o.validity = c.validity(o.key, tagsOf(o.header), c.epochs.now())
	return o
}
