package httpcache

import (
	"strconv"
	"strings"
)

// span is the bytes first..last of a body, inclusive as in HTTP.
type span struct{ first, last int64 }

func (s span) length() int64 { return s.last - s.first + 1 }

// maxSpans is the most ranges that one request gets. More are a client that
// wants to make work, and RFC 9110 14.2 allows to ignore them.
const maxSpans = 16

// parseRange reads Range for a body of size bytes (RFC 9110 14.1.2). ok is false
// when the field is to be ignored: another unit, not valid, too many ranges, or
// ranges that overlap. No spans with ok: none can be satisfied, 416.
func parseRange(s string, size int64) (spans []span, ok bool) {
	unit, set, found := strings.Cut(s, "=")
	if !found || !strings.EqualFold(unit, "bytes") {
		return nil, false
	}
	n := 0
	for l := (list{lines: []string{set}}); ; n++ {
		member, more := l.next()
		if !more {
			break
		}
		x, valid := parseSpan(member, size)
		if !valid || n == maxSpans {
			return nil, false
		}
		if x.length() > 0 {
			spans = append(spans, x)
		}
	}
	return spans, n > 0 && !overlap(spans)
}

// parseSpan reads one range; one that cannot be satisfied has no length.
func parseSpan(s string, size int64) (span, bool) {
	none := span{0, -1}
	from, to, found := strings.Cut(s, "-")
	if !found {
		return none, false
	}
	if from == "" { // the last n bytes
		n, ok := parseCount(to)
		if !ok || n == 0 || size == 0 {
			return none, ok
		}
		return span{max(0, size-n), size - 1}, true
	}
	first, ok := parseCount(from)
	last, closed := parseCount(to)
	switch {
	case !ok || to != "" && (!closed || last < first):
		return none, false
	case to == "":
		last = size - 1
	}
	if first >= size {
		return none, true
	}
	return span{first, min(last, size-1)}, true
}

func overlap(spans []span) bool {
	for i, a := range spans {
		for _, b := range spans[:i] {
			if a.first <= b.last && b.first <= a.last {
				return true
			}
		}
	}
	return false
}

// parseCount reads digits and nothing else.
func parseCount(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// parseContentRange reads the one part that a 206 carries (RFC 9110 14.4). A
// part of something of unknown size is no use to a cache.
func parseContentRange(s string) (part span, size int64, ok bool) {
	s, found := strings.CutPrefix(s, "bytes ")
	part1, total, slash := strings.Cut(s, "/")
	from, to, dash := strings.Cut(part1, "-")
	first, ok1 := parseCount(from)
	last, ok2 := parseCount(to)
	size, ok3 := parseCount(total)
	ok = found && slash && dash && ok1 && ok2 && ok3 && first <= last && last < size
	return span{first, last}, size, ok
}

func contentRange(s span, size int64) string {
	return "bytes " + strconv.FormatInt(s.first, 10) + "-" + strconv.FormatInt(s.last, 10) + "/" + strconv.FormatInt(size, 10)
}
