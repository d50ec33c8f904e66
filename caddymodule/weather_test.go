package caddymodule_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// moody is an application of a few pages, each of which is the number of writes
// that it has taken in. The weather decides what becomes of a request.
type moody struct {
	*app
	mu      sync.Mutex
	weather *rand.Rand      // mu; nil: it is fine
	pages   []int           // mu
	keys    map[string]bool // mu; writes that were taken in
	taken   []string        // mu; their bodies, in order
}

func newMoody(t *testing.T, seed uint64, pages int) *moody {
	s := &moody{weather: rand.New(rand.NewPCG(seed, 0)), pages: make([]int, pages), keys: make(map[string]bool)}
	s.app = newApp(t, func(w http.ResponseWriter, r *http.Request) {
		page, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/page/"))
		if err != nil || page >= pages {
			http.NotFound(w, r)
			return
		}
		switch fate := s.fate(); {
		case fate == "refuses":
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.Method == http.MethodPost:
			s.take(w, r, page, fate)
		default:
			s.show(w, r, page, fate)
		}
	})
	return s
}

func (s *moody) fate() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.weather == nil {
		return ""
	}
	switch n := s.weather.IntN(20); {
	case n < 1:
		return "refuses"
	case n < 2:
		return "breaks"
	case n < 5:
		return "works"
	}
	return ""
}

func (s *moody) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.weather = nil
}

// take takes a write in, once; where it breaks, it has done so all the same.
func (s *moody) take(w http.ResponseWriter, r *http.Request, page int, fate string) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	if key := r.Header.Get("Idempotency-Key"); !s.keys[key] {
		s.keys[key] = true
		s.pages[page]++
		s.taken = append(s.taken, string(body))
	}
	version := s.pages[page]
	s.mu.Unlock()
	finish(fate)
	w.Header().Set("Portner-Invalidate", fmt.Sprintf("tag=p%d%s", page, soft(page)))
	w.WriteHeader(http.StatusCreated)
	fmt.Fprint(w, version)
}

// finish is what is left to do when it is decided what an answer will be.
func finish(fate string) {
	switch fate {
	case "works":
		time.Sleep(20 * time.Millisecond)
	case "breaks":
		panic(http.ErrAbortHandler)
	}
}

// soft: what is written to every other page makes it stale only. (POST invalidates
// its own address in any case, which is why readers have another.)
func soft(page int) string {
	if page%2 == 1 {
		return ";soft"
	}
	return ""
}

func (s *moody) version(page int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pages[page]
}

func (s *moody) show(w http.ResponseWriter, r *http.Request, page int, fate string) {
	version, h := s.version(page), w.Header()
	finish(fate)
	h.Set("Cache-Tag", fmt.Sprint("p", page))
	h.Set("Cache-Control", []string{"max-age=60, stale-if-error=60", "max-age=0, stale-while-revalidate=60, stale-if-error=60", "no-cache"}[page/2%3])
	h.Set("Etag", fmt.Sprintf(`"%d-%d"`, page, version))
	if r.Header.Get("If-None-Match") == h.Get("Etag") {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	fmt.Fprint(w, version)
}

func (s *moody) has() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

// crowd is clients who write and read side by side, and what they were told.
type crowd struct {
	d        *door
	mu       sync.Mutex
	answered []int               // mu; per page, the newest version whose writer has the application's answer
	accepted map[string][]string // mu; per client, its writes, in order
	cut      []string            // mu; writes of which nobody was told anything: a reload came in between
	seen     map[string]int      // mu; kinds of answers
}

// ask sends a request; status 0: the connection broke.
func (c *crowd) ask(t *testing.T, client *http.Client, method, path, body string) (status int, text string, h http.Header) {
	req, err := http.NewRequestWithContext(t.Context(), method, c.d.url+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, "", nil
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, "", nil
	}
	return res.StatusCode, string(b), res.Header
}

func (c *crowd) note(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[kind]++
}

func (c *crowd) write(t *testing.T, client *http.Client, who string, n, page int) {
	body := fmt.Sprint(who, " ", n)
	status, text, _ := c.ask(t, client, "POST", fmt.Sprint("/page/", page, "?", who), body)
	c.note(fmt.Sprint("write ", status))
	c.mu.Lock()
	defer c.mu.Unlock()
	switch status {
	case 201:
		version, err := strconv.Atoi(text)
		if err != nil {
			t.Error(err)
		}
		c.answered[page] = max(c.answered[page], version)
		c.accepted[who] = append(c.accepted[who], body)
	case 202:
		c.accepted[who] = append(c.accepted[who], body)
	case 0:
		c.cut = append(c.cut, body)
	case 503: // by the door, before it was read: then it is not taken in either
	default:
		t.Errorf("a write got %d %s", status, text)
	}
}

func (c *crowd) read(t *testing.T, client *http.Client, page int) {
	c.mu.Lock()
	least := c.answered[page]
	c.mu.Unlock()
	status, text, h := c.ask(t, client, "GET", fmt.Sprint("/page/", page), "")
	note := h.Get("Cache-Status")
	stale := strings.Contains(note, "ttl=-") || strings.Contains(note, "detail=")
	if c.note(fmt.Sprint("read ", status)); stale && status == 200 {
		c.note("read 200 stale")
	}
	switch version, err := strconv.Atoi(text); {
	case status == 0 || status >= 500:
	case status != 200 || err != nil:
		t.Errorf("page %d: %d %q", page, status, text)
	case version < least && !(stale && soft(page) != ""):
		t.Errorf("page %d: version %d after the writer of %d had its answer; %s", page, version, least, note)
	}
}

const outdoors = 12

// TestBadWeather: journal, cache and overload at once, before an application that
// refuses, breaks off and dawdles, and through reloads. It never sees more requests at
// a time than it may; every write is taken in, each client's in its order; nobody reads what a
// write has replaced whose writer has the application's answer; and in the end every
// page shows everything.
//
// TEST_WEATHER=7 tries seed 7 alone, TEST_WEATHER=0-99 a hundred.
func TestBadWeather(t *testing.T) {
	first, last := uint64(0), uint64(1)
	if text := os.Getenv("TEST_WEATHER"); text != "" {
		if _, err := fmt.Sscanf(text, "%d-%d", &first, &last); err != nil {
			last = first
		}
	}
	eachWay(t, func(t *testing.T, direct string) {
		seen := make(map[string]int)
		for seed := first; seed <= last; seed++ {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { badWeather(t, direct, seed, seen) })
		}
		t.Log(seen)
		if cut := seen["write 0"] + seen["read 0"]; uint64(cut) > 2*outdoors*(last-first+1) {
			t.Errorf("%d broke in two reloads each", cut)
		}
		for _, kind := range []string{"write 201", "write 202", "read 200", "read 200 stale", "read 503"} {
			if seen[kind] == 0 {
				t.Errorf("no %s: the weather was not bad enough, or too bad", kind)
			}
		}
	})
}

func badWeather(t *testing.T, direct string, seed uint64, seen map[string]int) {
	const requests, pages = 40, 6
	limit := 1 + int32(seed%2)
	s := newMoody(t, seed, pages)
	words := fmt.Sprintf("app_proxy %s {\nname weather%d%s\njournal_dir %s\nconcurrency %d\nqueue {\nwait 20ms\ndepth 4\n}\ncache 64MiB\nroute POST /page/{id} {\njournal {\nanswer_within 50ms\nlane {http.request.uri.query}\n}\n}%s}",
		s.addr, seed, strings.TrimSpace(direct)[len("direct "):], t.TempDir(), limit, direct)
	d := open(t, words)
	c := &crowd{d: d, answered: make([]int, pages), accepted: make(map[string][]string), seen: seen}
	var wg sync.WaitGroup
	for g := range uint64(outdoors) {
		rng := rand.New(rand.NewPCG(seed, 1+g))
		who, transport := fmt.Sprint("client", g), &http.Transport{MaxConnsPerHost: 1}
		client := &http.Client{Transport: transport}
		wg.Go(func() {
			defer transport.CloseIdleConnections()
			for n := range requests {
				if page := rng.IntN(pages); rng.IntN(5) == 0 {
					c.write(t, client, who, n, page)
				} else {
					c.read(t, client, page)
				}
			}
		})
	}
	for _, cache := range []string{"32MiB", "64MiB"} {
		d.load(strings.Replace(words, "cache 64MiB", "cache "+cache, 1))
	}
	wg.Wait()
	s.clear()
	c.settled(t, s)
	if most := s.most.Load(); most > limit {
		t.Errorf("%d requests at a time, %d were allowed", most, limit)
	}
}

// settled waits until everything was delivered, and looks at it.
func (c *crowd) settled(t *testing.T, s *moody) {
	t.Helper()
	eventually(t, "every accepted write is taken in", func() bool {
		has := s.has()
		for _, writes := range c.accepted {
			for _, w := range writes {
				if !slices.Contains(has, w) {
					return false
				}
			}
		}
		return true
	})
	has := s.has()
	for who, writes := range c.accepted {
		theirs := slices.DeleteFunc(slices.Clone(has), func(body string) bool { return !strings.HasPrefix(body, who+" ") || slices.Contains(c.cut, body) })
		if !slices.Equal(theirs, writes) {
			t.Errorf("%s wrote %v, taken in were %v", who, writes, theirs)
		}
	}
	for page := range c.answered {
		eventually(t, fmt.Sprint("page ", page, " shows everything"), func() bool {
			_, text := c.d.get(fmt.Sprint("/page/", page))
			return text == fmt.Sprint(s.version(page))
		})
	}
}
