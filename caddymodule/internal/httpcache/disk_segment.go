package httpcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// segment is one file of records, each a label and what it says of a payload. It is
// only appended to. A record that is not whole ends it.
type segment struct {
	number uint64
	file   *os.File
	dirty  bool     // not synced; of the writer
	size   int64    // of the records; disk.mu
	sums   []digest // of the records, alive or not; disk.mu
}

const segmentSuffix = ".objects"

func (d *disk) segmentPath(number uint64) string {
	return filepath.Join(d.dir, fmt.Sprintf("%016x%s", number, segmentSuffix))
}

// label is what a record begins with: checksum, kind, size of the payload, checksum
// of the payload, digest, variant, received. Its own checksum begins with the
// folder's salt: nobody can make one by what is in a page.
type label struct {
	kind     uint32
	size     uint32
	check    uint32
	sum      digest
	variant  uint64
	received int64
}

// Kinds of records.
const (
	kept uint32 = iota + 1
	gone        // what was stored before under this digest and variant
)

const labelSize = 48

func (h *label) append(dst []byte, seed uint32) []byte {
	from := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, h.kind)
	dst = binary.BigEndian.AppendUint32(dst, h.size)
	dst = binary.BigEndian.AppendUint32(dst, h.check)
	dst = append(dst, h.sum[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.variant)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.received))
	binary.BigEndian.PutUint32(dst[from:], crc32.Update(seed, castagnoli, dst[from+4:]))
	return dst
}

func parseLabel(b []byte, seed uint32) (h label, ok bool) {
	if len(b) < labelSize || binary.BigEndian.Uint32(b) != crc32.Update(seed, castagnoli, b[4:labelSize]) {
		return h, false
	}
	h.kind, h.size, h.check = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	copy(h.sum[:], b[16:])
	h.variant, h.received = binary.BigEndian.Uint64(b[32:]), int64(binary.BigEndian.Uint64(b[40:]))
	return h, true
}

func (h *label) matches(payload []byte) bool {
	return h.kind == kept && int(h.size) == len(payload) && crc32.Checksum(payload, castagnoli) == h.check
}

// scan makes the index of what is there.
func (d *disk) scan() error {
	names, err := d.files()
	if err != nil {
		return err
	}
	for _, name := range names {
		number, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 16, 64)
		if err != nil {
			continue // not ours
		}
		f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		s := &segment{number: number, file: f}
		d.segments = append(d.segments, s)
		if err := d.scanSegment(s); err != nil {
			return err
		}
	}
	return nil
}

// scanSegment reads the labels alone: payloads are checked when they are used.
func (d *disk) scanSegment(s *segment) error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	var b [labelSize]byte
	for s.size < info.Size() {
		if _, err := s.file.ReadAt(b[:], s.size); err != nil && err != io.EOF {
			return err
		}
		h, ok := parseLabel(b[:], d.book.seed)
		end := s.size + labelSize + int64(h.size)
		if !ok || end > info.Size() {
			d.counts.damaged.Add(1)
			d.log.Warn("the cache's file ends with something that is not whole", zap.String("file", s.file.Name()), zap.Int64("at", s.size))
			if err := s.file.Truncate(s.size); err != nil {
				return err
			}
			break
		}
		d.noteLocked(s, h, s.size)
		s.size = end
	}
	d.size += s.size
	return nil
}

// noteLocked puts a record into the index, unless a later one is there.
func (d *disk) noteLocked(s *segment, h label, at int64) {
	places := d.index[h.sum]
	for i := range places {
		if places[i].variant == h.variant {
			if h.kind == kept && places[i].received > h.received {
				return
			}
			places = append(places[:i:i], places[i+1:]...)
			break
		}
	}
	if h.kind == kept {
		s.sums = append(s.sums, h.sum)
		places = append(places, place{s, at, labelSize + int64(h.size), h.variant, h.received})
		places = places[max(0, len(places)-maxVariants):]
	}
	d.setLocked(h.sum, places)
}

// write is the writer: the one goroutine that changes files.
func (d *disk) write() {
	defer close(d.ended)
	var room []byte
	for j := range d.queue {
		switch {
		case j.end:
			return
		case j.synced != nil:
			j.synced <- d.settle()
		case j.clear:
			d.empty()
		case j.gone != nil:
			d.append(*j.gone, j.gone.append(room[:0], d.book.seed))
		default:
			h := label{kind: kept, sum: digestOf(j.object.key), variant: variantOf(j.object.selectors), received: j.object.received.UnixNano()}
			room = h.seal(room[:0], j.object, d.book.seed)
			d.append(h, room)
			d.waiting.Add(-j.object.Size())
			if cap(room) > 1<<20 {
				room = nil
			}
		}
	}
}

// seal makes the record of an object.
func (h *label) seal(dst []byte, o *Object, seed uint32) []byte {
	dst = appendObject(append(dst, make([]byte, labelSize)...), o)
	payload := dst[labelSize:]
	h.size, h.check = uint32(len(payload)), crc32.Checksum(payload, castagnoli)
	h.append(dst[:0], seed)
	return dst
}

// append writes a record at the end, after it has made room.
func (d *disk) append(h label, record []byte) {
	err := d.book.failed()
	if err == nil && d.tooLate(&h) {
		d.counts.dropped.Add(1)
		return
	}
	if err == nil {
		d.book.touch()
		var s *segment
		if s, err = d.room(int64(len(record))); err == nil {
			err = d.appendTo(s, h, record)
		}
	}
	switch was := d.failing.Swap(err != nil); {
	case err == nil && h.kind == kept:
		d.counts.written.Add(1)
	case err != nil && h.kind == kept:
		d.counts.dropped.Add(1)
		fallthrough
	case err != nil:
		if !was {
			d.log.Error("the cache cannot write to disk", zap.String("folder", d.dir), zap.Error(err))
		}
	}
}

// tooLate reports whether something came after it that could not be queued.
func (d *disk) tooLate(h *label) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return h.kind == kept && h.received <= d.behind
}

func (d *disk) appendTo(s *segment, h label, record []byte) error {
	if _, err := s.file.WriteAt(record, s.size); err != nil {
		return errors.Join(err, s.file.Truncate(s.size))
	}
	s.dirty = true
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noteLocked(s, h, s.size)
	s.size += int64(len(record))
	d.size += int64(len(record))
	return nil
}

// room is the segment to write so many bytes to.
func (d *disk) room(bytes int64) (*segment, error) {
	limit := d.limit.Load()
	for {
		d.mu.Lock()
		full := len(d.segments) > 0 && d.size+bytes > limit
		d.mu.Unlock()
		if !full {
			break
		}
		d.dropOldest()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var next uint64
	if n := len(d.segments); n > 0 {
		last := d.segments[n-1]
		if last.size+bytes <= limit/diskSegments || last.size == 0 {
			return last, nil
		}
		next = last.number + 1
	}
	f, err := os.OpenFile(d.segmentPath(next), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	s := &segment{number: next, file: f}
	d.segments = append(d.segments, s)
	return s, nil
}

// dropOldest takes the oldest segment away. What memory has of it is wanted, and
// written again, as far as that is less than half.
func (d *disk) dropOldest() {
	d.mu.Lock()
	s := d.segments[0]
	d.segments = d.segments[1:]
	d.size -= s.size
	lost := make(map[digest]bool)
	for _, sum := range s.sums {
		for _, p := range d.index[sum] {
			if p.in == s {
				d.withoutLocked(sum, p.variant)
				lost[sum] = true
			}
		}
	}
	d.mu.Unlock()
	name := s.file.Name()
	if err := errors.Join(s.file.Close(), os.Remove(name)); err != nil {
		d.log.Error("the cache cannot free its disk", zap.Error(err))
	}
	again, now := s.size/2, time.Now()
	for key, e := range d.memory() {
		if !lost[digestOf(key)] {
			continue
		}
		for _, o := range e.objects {
			if again -= o.Size(); again < 0 {
				return
			}
			d.add(o, now)
		}
	}
}

// empty takes everything away that was written so far.
func (d *disk) empty() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.index)
	for _, s := range d.segments {
		if err := errors.Join(s.file.Close(), os.Remove(s.file.Name())); err != nil {
			d.log.Error("the cache cannot free its disk", zap.Error(err))
		}
	}
	d.segments, d.size = nil, 0
}

// settle syncs everything, and says so in the book.
func (d *disk) settle() error {
	d.mu.Lock()
	segments := append([]*segment(nil), d.segments...)
	d.mu.Unlock()
	var err error
	for _, s := range segments {
		if s.dirty {
			err = errors.Join(err, s.file.Sync())
			s.dirty = err != nil
		}
	}
	if err = errors.Join(err, syncDir(d.dir)); err != nil {
		return fmt.Errorf("httpcache: sync %s: %w", d.dir, err)
	}
	return d.book.settle()
}
