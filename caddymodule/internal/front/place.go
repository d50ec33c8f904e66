package front

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Places lets a browser that was refused keep its place in the queue while it is
// away: a cookie says when it came first, signed, because everybody would like to
// have been early. Safe for concurrent use.
type Places struct {
	pool string
	key  [sha256.Size]byte // of this process; after a restart everybody is new
}

// NewPlaces makes the places of a pool.
func NewPlaces(pool string) *Places {
	p := &Places{pool: pool}
	rand.Read(p.key[:])
	return p
}

const (
	placeCookie = "portner_place"
	// placeHolds is how long a place is kept for who does not come back.
	placeHolds = 10 * time.Minute
)

// A place is when its owner came first, until when it is kept, and a number that
// tells it from the others: admission lets nobody wait twice in one place.
const placeBytes = 3 * 8

// arrival is when the request's client came first, and the number of its place, if
// it can prove that.
func (p *Places) arrival(r *http.Request, now time.Time) (came time.Time, place uint64) {
	cookie, err := r.Cookie(placeCookie)
	if p == nil || err != nil {
		return time.Time{}, 0
	}
	raw, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || len(raw) != placeBytes+sha256.Size || !hmac.Equal(raw[placeBytes:], p.sign(raw[:placeBytes])) {
		return time.Time{}, 0
	}
	came = time.UnixMilli(int64(binary.BigEndian.Uint64(raw)))
	until := time.UnixMilli(int64(binary.BigEndian.Uint64(raw[8:])))
	if now.After(until) || came.After(now) {
		return time.Time{}, 0
	}
	return came, binary.BigEndian.Uint64(raw[16:])
}

// hide takes the cookie out of a request: it is between the browser and the door.
func (p *Places) hide(h http.Header) {
	for i, line := range h["Cookie"] {
		if !strings.Contains(line, placeCookie+"=") {
			continue
		}
		var kept []string
		for pair := range strings.SplitSeq(line, ";") {
			if pair = strings.TrimSpace(pair); !strings.HasPrefix(pair, placeCookie+"=") {
				kept = append(kept, pair)
			}
		}
		h["Cookie"] = slices.Clone(h["Cookie"])
		h["Cookie"][i] = strings.Join(kept, "; ")
	}
	if h["Cookie"] = slices.DeleteFunc(h["Cookie"], func(line string) bool { return line == "" }); len(h["Cookie"]) == 0 {
		delete(h, "Cookie")
	}
}

// give sets the cookie of one who came at the given time, in the place that he has
// proven, or, 0, in a new one. A place stays the same for who comes again and again,
// or each time would make one more of it.
func (p *Places) give(h http.Header, came time.Time, place uint64, now time.Time, secure bool) {
	raw := make([]byte, placeBytes, placeBytes+sha256.Size)
	if binary.BigEndian.PutUint64(raw[16:], place); place == 0 {
		rand.Read(raw[16:])
	}
	binary.BigEndian.PutUint64(raw, uint64(came.UnixMilli()))
	binary.BigEndian.PutUint64(raw[8:], uint64(now.Add(placeHolds).UnixMilli()))
	p.set(h, base64.RawURLEncoding.EncodeToString(append(raw, p.sign(raw)...)), int(placeHolds.Seconds()), secure)
}

// take ends the place of one who was served.
func (p *Places) take(h http.Header, secure bool) { p.set(h, "", -1, secure) }

func (p *Places) set(h http.Header, value string, maxAge int, secure bool) {
	cookie := http.Cookie{
		Name: placeCookie, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	}
	h["Set-Cookie"] = append(slices.DeleteFunc(h["Set-Cookie"], func(line string) bool {
		return strings.HasPrefix(line, placeCookie+"=") // of an earlier attempt
	}), cookie.String())
}

func (p *Places) sign(text []byte) []byte {
	mac := hmac.New(sha256.New, p.key[:])
	mac.Write([]byte(p.pool))
	mac.Write([]byte{0})
	mac.Write(text)
	return mac.Sum(nil)
}
