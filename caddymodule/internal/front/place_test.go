package front

import (
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// noon is a time in whole milliseconds, as places have it.
var noon = time.UnixMilli(1_700_000_000_000)

// given is the cookie of one who came at came and was refused at now.
func given(t *testing.T, p *Places, came, now time.Time) *http.Cookie {
	t.Helper()
	h := make(http.Header)
	p.give(h, came, 0, now, true)
	cookies := (&http.Response{Header: h}).Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%v", h)
	}
	return cookies[0]
}

func with(value string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: placeCookie, Value: value})
	return r
}

func TestPlaceIsKeptForTenMinutes(t *testing.T) {
	p := NewPlaces("news")
	c := given(t, p, noon, noon.Add(time.Minute))
	if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.MaxAge != 600 {
		t.Errorf("%v", c)
	}
	for after, want := range map[time.Duration]time.Time{
		time.Minute:        noon,
		11 * time.Minute:   noon,
		11*time.Minute + 1: {},
		24 * time.Hour:     {},
		0:                  noon,
		-time.Millisecond:  {}, // nobody has come yet
	} {
		if got, _ := p.arrival(with(c.Value), noon.Add(after)); !got.Equal(want) {
			t.Errorf("after %v: %v, want %v", after, got, want)
		}
	}
}

func TestNobodyMakesAPlaceForHimself(t *testing.T) {
	p := NewPlaces("news")
	value := given(t, p, noon, noon).Value
	raw, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	earlier := slices.Clone(raw)
	binary.BigEndian.PutUint64(earlier, uint64(noon.Add(-time.Hour).UnixMilli()))
	longer := slices.Clone(raw)
	binary.BigEndian.PutUint64(longer[8:], uint64(noon.Add(24*time.Hour).UnixMilli()))
	other := slices.Clone(raw)
	other[16]++
	foreign := NewPlaces("shop")
	foreign.key = p.key
	for what, value := range map[string]string{
		"empty":           "",
		"no base64":       "%%%",
		"truncated":       encode(raw[:len(raw)-1]),
		"only times":      encode(raw[:placeBytes]),
		"too long":        encode(append(slices.Clone(raw), 0)),
		"an earlier time": encode(earlier),
		"a longer one":    encode(longer),
		"no signature":    encode(append(slices.Clone(raw[:placeBytes]), make([]byte, 32)...)),
		"of another pool": given(t, foreign, noon, noon).Value,
		"of another day":  given(t, NewPlaces("news"), noon, noon).Value,
		"another number":  encode(other),
		"from the future": given(t, p, noon.Add(time.Hour), noon).Value,
		"padded base64":   base64.URLEncoding.EncodeToString(append(slices.Clone(raw), 0)),
		"upside down":     strings.ToUpper(value),
	} {
		if got, _ := p.arrival(with(value), noon.Add(time.Second)); !got.IsZero() {
			t.Errorf("%s: came %v", what, got)
		}
	}
	if got, _ := p.arrival(httptest.NewRequest("GET", "/", nil), noon); !got.IsZero() {
		t.Errorf("without a cookie: %v", got)
	}
	var none *Places
	if got, _ := none.arrival(with(value), noon); !got.IsZero() {
		t.Errorf("without places: %v", got)
	}
}

// TestPlaceKeepsItsNumber: who is refused again and again has one place, and two
// who came at the same time have two.
func TestPlaceKeepsItsNumber(t *testing.T) {
	p := NewPlaces("news")
	_, first := p.arrival(with(given(t, p, noon, noon).Value), noon)
	_, second := p.arrival(with(given(t, p, noon, noon).Value), noon)
	if first == 0 || second == 0 || first == second {
		t.Errorf("places %d and %d", first, second)
	}
	h := make(http.Header)
	p.give(h, noon, first, noon.Add(time.Minute), true)
	came, place := p.arrival(with((&http.Response{Header: h}).Cookies()[0].Value), noon.Add(11*time.Minute))
	if !came.Equal(noon) || place != first {
		t.Errorf("came %v in place %d, want %d", came, place, first)
	}
}

func FuzzOnlyGivenPlacesCount(f *testing.F) {
	p := NewPlaces("news")
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, placeBytes+32)))
	f.Fuzz(func(t *testing.T, value string) {
		if got, _ := p.arrival(with(value), noon); !got.IsZero() {
			t.Errorf("%q: came %v", value, got)
		}
	})
}

// TestOnePlaceAtATime: an attempt that failed after the place was taken, and the
// refusal that follows, must not send two cookies.
func TestOnePlaceAtATime(t *testing.T) {
	p := NewPlaces("news")
	h := http.Header{"Set-Cookie": {"mine=1"}}
	p.take(h, false)
	p.take(h, false)
	p.give(h, noon, 0, noon, false)
	cookies := (&http.Response{Header: h}).Cookies()
	if len(cookies) != 2 || cookies[0].Name != "mine" || cookies[1].MaxAge != 600 {
		t.Errorf("%v", h["Set-Cookie"])
	}
}

func TestPlaceIsNobodyElsesBusiness(t *testing.T) {
	for _, c := range []struct{ sent, want []string }{
		{[]string{"portner_place=abc"}, nil},
		{[]string{"a=1; portner_place=abc; b=2"}, []string{"a=1; b=2"}},
		{[]string{"a=1", "portner_place=abc", "b=2"}, []string{"a=1", "b=2"}},
		{[]string{"a=1; my_portner_place=2"}, []string{"a=1; my_portner_place=2"}},
		{[]string{"a=1"}, []string{"a=1"}},
	} {
		h := http.Header{"Cookie": c.sent}
		NewPlaces("app").hide(h)
		if got := h["Cookie"]; !slices.Equal(got, c.want) {
			t.Errorf("%q becomes %q, want %q", c.sent, got, c.want)
		}
	}
}
