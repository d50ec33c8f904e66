package httpcache

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// watch plays a minute of traffic, ten requests a second, and returns the
// advice.
func watch(t *testing.T, see func(i int) Seen) (got []Advice) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := NewAdvisor()
		for i := range 600 {
			s := see(i)
			s.Service = 10 * time.Millisecond
			a.Observe(s)
			time.Sleep(100 * time.Millisecond)
		}
		got = a.Advice()
	})
	return got
}

func page(uri string, sum uint64) Seen {
	return Seen{Template: "GET /", Key: NewKey("http", "example.com", uri), Anonymous: true, Sum: sum}
}

func TestAdviceForWhatStaysTheSame(t *testing.T) {
	got := watch(t, func(int) Seen { return page("/", 1) })
	if len(got) != 1 {
		t.Fatalf("%+v", got)
	}
	x := got[0]
	if x.TTL != time.Minute || x.Requests != 600 || x.Saved < 0.99 || x.Time < 5900*time.Millisecond || x.Outdated != 0 || x.Public {
		t.Errorf("%+v", x)
	}
}

func TestAdvicePrefersAShortTimeWhereThingsChange(t *testing.T) {
	// A new page every 20 s, at the full second: a time that divides it is never
	// wrong, and a minute would be.
	got := watch(t, func(i int) Seen { return page("/", uint64(i/200)) })
	if len(got) != 1 || got[0].TTL != 10*time.Second || got[0].Outdated > 0.01 {
		t.Errorf("%+v", got)
	}
}

func TestNoAdviceForWhatIsDifferentEachTime(t *testing.T) {
	for name, see := range map[string]func(i int) Seen{
		"other bytes each time": func(i int) Seen { return page("/", uint64(i)) },
		"never asked twice":     func(i int) Seen { return page("/"+strconv.Itoa(i), 1) },
		"cookies are set":       func(i int) Seen { s := page("/", 1); s.SetCookie = true; return s },
		"nobody is anonymous":   func(i int) Seen { s := page("/", 1); s.Anonymous = false; return s },
	} {
		if got := watch(t, see); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAdviceTellsWherePublicWouldHelp(t *testing.T) {
	for _, same := range []bool{true, false} {
		got := watch(t, func(i int) Seen {
			s := page("/", 1)
			if i%2 == 1 {
				s.Anonymous = false
				if !same {
					s.Sum = 2
				}
			}
			return s
		})
		if len(got) != 1 || got[0].Public != same || got[0].Saved < 0.49 || got[0].Saved > 0.5 {
			t.Errorf("same: %v: %+v", same, got)
		}
	}
}

func TestAdviceIsBounded(t *testing.T) {
	a := NewAdvisor()
	for i := range 1000 {
		for j := range 3 {
			s := page("/"+strconv.Itoa(i*3+j), 1)
			s.Template = strconv.Itoa(i)
			a.Observe(s)
			s.Template = "0"
			a.Observe(s)
		}
	}
	if n := len(a.templates); n != maxTemplates {
		t.Errorf("%d templates", n)
	}
	if n := len(a.templates["0"].sampled); n != maxSampled {
		t.Errorf("%d addresses", n)
	}
}

func TestSumsTellBodiesApart(t *testing.T) {
	a := NewAdvisor()
	sum := func(s string) uint64 { h := a.Hash(); h.WriteString(s); return h.Sum64() }
	if again := sum("a"); sum("a") == sum("b") || sum("a") != again {
		t.Error("they do not")
	}
}
