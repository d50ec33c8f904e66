package page

import (
	"strconv"
	"time"
)

// age is when something happened, as seen from now.
type age struct{ at, now time.Time }

// String is "3 hours ago", and the date when that says more.
func (a age) String() string { return string(a.append(nil)) }

func (a age) append(b []byte) []byte {
	const day = 24 * time.Hour
	switch d := a.now.Sub(a.at); {
	case d < time.Minute: // a clock that was set back, too
		return append(b, "just now"...)
	case d < time.Hour:
		return ago(b, int64(d/time.Minute), " minute")
	case d < day:
		return ago(b, int64(d/time.Hour), " hour")
	case d < 30*day:
		return ago(b, int64(d/day), " day")
	}
	return a.at.UTC().AppendFormat(append(b, "on "...), "2 January 2006")
}

func ago(b []byte, n int64, unit string) []byte {
	b = append(strconv.AppendInt(b, n, 10), unit...)
	if n != 1 {
		b = append(b, 's')
	}
	return append(b, " ago"...)
}

const exactly = "2 January 2006, 15:04 UTC"

// Machine is the moment for the datetime attribute.
func (a age) Machine() string { return a.at.UTC().Format(time.RFC3339) }

// Exact is the moment for people who point at it.
func (a age) Exact() string { return a.at.UTC().Format(exactly) }
