package front

import (
	"testing"
	"time"
)

func TestHeadIsWaitedForUntilTheShorterBound(t *testing.T) {
	for _, c := range []struct {
		first, whole time.Duration
		journal      bool
		want         time.Duration
		late         error
	}{
		{first: 2, whole: 3, want: 2, late: errFirstByte},
		{first: 3, whole: 2, want: 2, late: errWhole},
		{first: 2, whole: 2, want: 2, late: errWhole},
		{first: -1, whole: 2, want: 2, late: errWhole},
		{first: 2, whole: -1, want: 2, late: errFirstByte},
		{first: -1, whole: -1, want: -1, late: errWhole},
		{first: 2, whole: 3, journal: true, want: 3, late: errWhole}, // a second attempt would run beside it
		{first: 2, whole: -1, journal: true, want: -1, late: errWhole},
	} {
		x := &exchange{front: &Front{cfg: Config{FirstByte: c.first, Whole: c.whole}}, journal: c.journal}
		if limit, late := x.headWithin(); limit != c.want || late != c.late {
			t.Errorf("%+v: %d, %v", c, limit, late)
		}
	}
}
