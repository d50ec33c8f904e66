package httpcache

import (
	"strings"
	"time"
)

// dateFormat is IMF-fixdate (RFC 9110 5.6.7), the form that is sent.
const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

func formatDate(t time.Time) string { return t.UTC().Format(dateFormat) }

// parseDate reads the three forms of RFC 9110 5.6.7, in whatever case (RFC 9111
// 4.2). now settles the century of a year of two digits.
func parseDate(s string, now time.Time) (t time.Time, ok bool) {
	if n := len(s) - len("GMT"); n > 0 && strings.EqualFold(s[n:], "GMT") {
		s = s[:n] + "GMT" // Parse minds its case alone
	}
	for _, format := range []string{dateFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
		t, err := time.Parse(format, s)
		if err != nil || !strings.EqualFold(afterDay(t.Format(format)), afterDay(s)) { // Parse is lenient about digits
			continue
		}
		// A date that seems to be more than 50 years ahead is of the century
		// before, and so are those that Go puts into this one.
		if format[6] == ',' {
			for t.Before(now.AddDate(-50, 0, 0)) {
				t = t.AddDate(100, 0, 0)
			}
			for t.After(now.AddDate(50, 0, 0)) {
				t = t.AddDate(-100, 0, 0)
			}
		}
		return t, true
	}
	return time.Time{}, false
}

// afterDay is a date without its weekday, which says nothing that the rest does
// not; many get it wrong.
func afterDay(s string) string {
	_, s, _ = strings.Cut(s, " ")
	return s
}
