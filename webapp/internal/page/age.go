package page

import (
	"fmt"
	"time"
)

// age is when something happened, as seen from now.
type age struct{ at, now time.Time }

// String is "3 hours ago", and the date when that says more.
func (a age) String() string {
	const day = 24 * time.Hour
	switch d := a.now.Sub(a.at); {
	case d < time.Minute: // a clock that was set back, too
		return "just now"
	case d < time.Hour:
		return ago(int(d/time.Minute), "minute")
	case d < day:
		return ago(int(d/time.Hour), "hour")
	case d < 30*day:
		return ago(int(d/day), "day")
	}
	return "on " + a.at.UTC().Format("2 January 2006")
}

func ago(n int, unit string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s ago", unit)
	}
	return fmt.Sprintf("%d %ss ago", n, unit)
}

// Machine is the moment for the datetime attribute.
func (a age) Machine() string { return a.at.UTC().Format(time.RFC3339) }

// Exact is the moment for people who point at it.
func (a age) Exact() string { return a.at.UTC().Format("2 January 2006, 15:04 UTC") }
