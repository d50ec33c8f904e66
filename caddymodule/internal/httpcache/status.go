package httpcache

import (
	"strconv"
	"time"
)

// name is how the cache calls itself (RFC 9211 2).
const name = "Portner"

// Note is what the cache did for one request, for Cache-Status (RFC 9211).
type Note struct {
	Hit       bool
	Forward   string        // why the request went on: bypass, method, uri-miss, vary-miss, miss, request, stale, partial
	Answered  int           // the application's status, where the client got another; 0: the same
	Stored    bool          // the answer is stored
	Collapsed bool          // the request waited for another's answer
	TTL       time.Duration // fresh for so long; < 0: stale
	Lives     bool          // TTL is known
	Detail    string        // a token of ours
}

// String is the field's value for this cache (RFC 9211 2).
func (n Note) String() string {
	b := make([]byte, 0, 80)
	b = append(b, name...)
	if n.Hit {
		b = append(b, "; hit"...)
	} else if n.Forward != "" {
		b = append(append(b, "; fwd="...), n.Forward...)
		if n.Answered != 0 {
			b = strconv.AppendInt(append(b, "; fwd-status="...), int64(n.Answered), 10)
		}
		if n.Stored {
			b = append(b, "; stored"...)
		}
		if n.Collapsed {
			b = append(b, "; collapsed"...)
		}
	}
	if n.Lives {
		b = strconv.AppendInt(append(b, "; ttl="...), seconds(n.TTL), 10)
	}
	if n.Detail != "" {
		b = append(append(b, "; detail="...), n.Detail...)
	}
	return string(b)
}

// seconds rounds down, so that what is stale by a moment is not "ttl=0".
func seconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d < 0 && d%time.Second != 0 {
		s--
	}
	return s
}

// AddTo appends the note to an answer's Cache-Status: each cache on the way
// adds one, the one nearest to the application first (RFC 9211 2).
func (n Note) AddTo(h Header) {
	lines := h["Cache-Status"]
	h["Cache-Status"] = append(lines[:len(lines):len(lines)], n.String())
}
