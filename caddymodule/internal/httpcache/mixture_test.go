package httpcache

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestEveryMixtureOfRequestsGetsItsOwnPage: conditions, ranges, codings,
// variants and writes at once, over real HTTP, against one cache that is too
// small for all of it. What a client gets must be its page, of its language, and
// not older than the last write that was answered.
func TestEveryMixtureOfRequestsGetsItsOwnPage(t *testing.T) {
	const pages, clients, requests = 20, 8, 150
	var version, answered [pages]atomic.Int64
	text := func(page int, lang string, v int64) string {
		return strings.Repeat(fmt.Sprintf("page %d in %s, version %d; ", page, lang, v), 100+page*20)
	}
	_, server := newProxy(t, Config{Bytes: 300 << 10, Object: 30 << 10}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var page int
		fmt.Sscanf(r.URL.Path, "/%d", &page)
		if r.Method == http.MethodPost {
			version[page].Add(1)
			w.Header().Set("Portner-Invalidate", fmt.Sprintf("tag=p%d", page))
			return
		}
		v, lang := version[page].Load(), r.Header.Get("Accept-Language")
		h := w.Header()
		h.Set("Cache-Control", []string{"max-age=60", "no-cache", "max-age=0, stale-while-revalidate=60"}[page%3])
		h.Set("Cache-Tag", fmt.Sprintf("p%d", page))
		h.Set("Vary", "Accept-Language")
		h.Set("Content-Type", "text/plain")
		h.Set("Etag", fmt.Sprintf(`"%d-%s-%d"`, page, lang, v))
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text(page, lang, v)))
	}))

	client := &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: clients}}
	var wg sync.WaitGroup
	for g := range clients {
		rng := rand.New(rand.NewPCG(1, uint64(g)))
		wg.Go(func() {
			tags := make(map[string]string) // what this client has
			for range requests {
				page, lang := rng.IntN(pages), []string{"en", "da"}[rng.IntN(2)]
				address := fmt.Sprintf("%s/%d", server.URL, page)
				if rng.IntN(20) == 0 {
					res, err := client.Post(address, "", nil)
					if err != nil {
						t.Error(err)
						return
					}
					res.Body.Close()
					answered[page].Add(1) // only now is the write done
					continue
				}
				r, _ := http.NewRequest("GET", address, nil)
				r.Header.Set("Accept-Language", lang)
				coding := []string{"", "gzip", "zstd", "gzip, zstd"}[rng.IntN(4)]
				if coding != "" {
					r.Header.Set("Accept-Encoding", coding)
				}
				have := fmt.Sprint(page, lang, coding)
				kind := rng.IntN(3)
				switch {
				case kind == 1:
					r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", rng.IntN(500), 500+rng.IntN(500)))
				case kind == 2 && tags[have] != "":
					r.Header.Set("If-None-Match", tags[have])
				}
				least := answered[page].Load()
				res, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil {
					t.Error(err)
					return
				}
				var gotPage int
				var v int64
				tag := strings.NewReplacer("-gzip", "", "-zstd", "", "-en-", " ", "-da-", " ", `"`, "").Replace(res.Header.Get("Etag"))
				if _, err := fmt.Sscanf(tag, "%d %d", &gotPage, &v); err != nil || gotPage != page || v < least {
					t.Errorf("%s %v: %s %v, version %d expected", address, r.Header, res.Status, res.Header, least)
					return
				}
				whole := text(page, lang, v)
				switch res.StatusCode {
				case 200:
					if unpress(t, res.Header.Get("Content-Encoding"), string(b)) != whole {
						t.Errorf("%s %v: not the page: %v", address, r.Header, res.Header)
					}
					tags[have] = res.Header.Get("Etag")
				case 206:
					var from, to, size int
					fmt.Sscanf(res.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size)
					if size != len(whole) || string(b) != whole[from:to+1] {
						t.Errorf("%s %v: not the part: %v", address, r.Header, res.Header)
					}
				case 304:
					if res.Header.Get("Etag") != tags[have] || len(b) > 0 {
						t.Errorf("%s %v: %v", address, r.Header, res.Header)
					}
				default:
					t.Errorf("%s %v: %s", address, r.Header, res.Status)
				}
			}
		})
	}
	wg.Wait()
}
