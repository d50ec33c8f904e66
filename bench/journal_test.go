package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// toldAt is an item that its client sent and was told of at some seconds.
func toldAt(id, sent, told int) posted {
	item := makeItems(1)[0]
	item.ID = id
	return posted{item: item, sent: time.Duration(sent) * time.Second, told: time.Duration(told) * time.Second, took: []time.Duration{1}}
}

func storedAs(p posted, seq int64) storedItem {
	return storedItem{Seq: seq, ID: p.item.ID, By: p.item.User, Title: p.item.Title, Body: p.item.Text}
}

func TestAuditFindsWhatIsNotAsItWasTold(t *testing.T) {
	a, b, c := toldAt(1, 0, 1), toldAt(2, 2, 3), toldAt(3, 2, 4)
	altered := storedAs(b, 2)
	altered.Title, altered.Body = "", ""
	for _, row := range []struct {
		name   string
		stored []storedItem
		want   Audit
	}{
		{"all well", []storedItem{storedAs(a, 1), storedAs(b, 2), storedAs(c, 3)}, Audit{Accepted: 3, Stored: 3}},
		{"side by side there is no order", []storedItem{storedAs(a, 1), storedAs(b, 3), storedAs(c, 2)}, Audit{Accepted: 3, Stored: 3}},
		{"lost", []storedItem{storedAs(a, 1), storedAs(c, 3)}, Audit{Accepted: 3, Stored: 2, Lost: []int{2}}},
		{"twice", []storedItem{storedAs(a, 1), storedAs(b, 2), storedAs(c, 3), storedAs(c, 4)}, Audit{Accepted: 3, Stored: 3, Twice: []int{3}}},
		{"altered", []storedItem{storedAs(a, 1), altered, storedAs(c, 3)}, Audit{Accepted: 3, Stored: 3, Altered: []int{2}}},
		{"overtaken by one that came later", []storedItem{storedAs(a, 2), storedAs(b, 1), storedAs(c, 3)}, Audit{Accepted: 3, Stored: 3, Disorder: []int{2}}},
		{"overtaken by two", []storedItem{storedAs(a, 3), storedAs(b, 1), storedAs(c, 2)}, Audit{Accepted: 3, Stored: 3, Disorder: []int{3, 2}}},
		{"nobody was told of a fourth", []storedItem{storedAs(a, 1), storedAs(b, 2), storedAs(c, 3), storedAs(toldAt(4, 0, 0), 4)}, Audit{Accepted: 3, Stored: 3}},
	} {
		if got := audit([]posted{a, b, c}, row.stored); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %+v, want %+v", row.name, got, row.want)
		}
	}
}

func TestItemsOfClientsNeverMeet(t *testing.T) {
	l := &journalLab{clients: 5, seed: 3}
	seen := make(map[int]bool)
	for round := range roundsOfSite {
		r := newKillRound(l, nil, 20+round, round)
		for client := range l.clients {
			for _, item := range r.itemsOf(client) {
				if seen[item.ID] {
					t.Fatalf("id %d twice", item.ID)
				}
				if item.Parent > 0 && !seen[item.Parent] {
					t.Fatalf("item %d answers %d, which nobody posts before", item.ID, item.Parent)
				}
				seen[item.ID] = true
				if !strings.Contains(string(item.Sent), fmt.Sprintf(`"hanesst_id":%d,`, item.ID)) {
					t.Fatalf("what is sent of item %d: %s", item.ID, item.Sent)
				}
			}
		}
	}
	if len(seen) != roundsOfSite*l.clients*itemsOfClient {
		t.Fatalf("%d items", len(seen))
	}
}

func TestSameSeedStrikesTheSameBlows(t *testing.T) {
	plan := func(seed uint64) (text string) {
		for n := range 20 {
			for _, b := range newKillRound(&journalLab{seed: seed}, nil, n, 0).plan {
				text += fmt.Sprintln(b.victim.name, b.wait, b.away)
			}
		}
		return text
	}
	one, again := plan(1), plan(1)
	if one != again {
		t.Error("two plans of one seed differ")
	}
	if one == plan(2) {
		t.Error("two seeds have one plan")
	}
	for _, v := range victims {
		if !strings.Contains(one, v.name+" ") {
			t.Errorf("%s is never killed", v.name)
		}
	}
}

func TestAKilledProxysClientCountsOnlyWhatItWasTold(t *testing.T) {
	for _, row := range []struct {
		status   int
		location string
		accepted bool
		wrong    bool
	}{{200, "", true, false}, {409, "/.well-known/portner/journal/1", true, false}, {503, "", false, false}, {502, "", false, false}, {409, "", false, true}, {400, "", false, true}} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if row.location != "" {
				w.Header().Set("Location", row.location)
			}
			w.WriteHeader(row.status)
		}))
		c := newKillClient(&journalSite{site: site{url: server.URL}}, 0)
		accepted, _, err := c.post(t.Context(), makeItems(1)[0])
		if accepted != row.accepted || (err != nil) != row.wrong {
			t.Errorf("%d %q: accepted %v, %v", row.status, row.location, accepted, err)
		}
		c.http.CloseIdleConnections()
		server.Close()
		if accepted, why, err := c.post(t.Context(), makeItems(1)[0]); accepted || err != nil || why != "connection refused" {
			t.Errorf("a server that is gone: %v, %q, %v", accepted, why, err)
		}
	}
}

func TestFloodWritesEachNumberOnce(t *testing.T) {
	var mu sync.Mutex
	bodies := make(map[string]int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) != floodBody || r.Method != http.MethodPost {
			t.Errorf("%s with %d bytes, %v", r.Method, len(body), err)
		}
		mu.Lock()
		defer mu.Unlock()
		bodies[string(body)]++
	}))
	defer server.Close()
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	var callers []*floodCaller
	for n := range 4 {
		c, err := newFloodCaller(t.Context(), strings.TrimPrefix(server.URL, "http://"), n, noise)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		callers = append(callers, c)
	}
	f := &flood{took: make([]time.Duration, 100)}
	if err := f.run(t.Context(), callers); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, n := range bodies {
		sum += n
	}
	if sum != 100 || f.done.Load() != 100 {
		t.Errorf("%d arrived, %d counted", sum, f.done.Load())
	}
	for n, took := range f.took {
		if took <= 0 {
			t.Errorf("write %d has no time", n)
		}
	}
}

func TestFloodWithARateKeepsNumbersApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, start := &flood{rate: 5000}, time.Now()
		for n := range int64(3) {
			due := f.begin(t.Context(), start, n)
			if want := time.Duration(n) * 200 * time.Microsecond; due.Sub(start) != want || time.Since(start) != want {
				t.Errorf("write %d was due after %v, and begun after %v, want %v", n, due.Sub(start), time.Since(start), want)
			}
		}
		time.Sleep(time.Second) // all callers were busy
		if due := f.begin(t.Context(), start, 10); due.Sub(start) != 2*time.Millisecond {
			t.Errorf("a write that had to wait for a caller counts from %v", due.Sub(start))
		}
	})
}

func TestFloodEndsWithTheFirstWrongAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no room", http.StatusInsufficientStorage)
	}))
	defer server.Close()
	c, err := newFloodCaller(t.Context(), strings.TrimPrefix(server.URL, "http://"), 0, make([]byte, floodBody+1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f := &flood{took: make([]time.Duration, 100)}
	if err := f.run(t.Context(), []*floodCaller{c}); err == nil || !strings.Contains(err.Error(), "507") {
		t.Errorf("%v, which does not name the status", err)
	}
}

func TestGateSpoilsWhatItsModeSays(t *testing.T) {
	for _, row := range []struct {
		mode gateMode
		want string // ids of 1 to 10 that are refused
	}{{gateOpen, ""}, {gateBroken, "1 2 3 4 5 6 7 8 9 10 "}, {gatePart, "5 10 "}, {gatePoison, "3 "}} {
		g := newGate("", "")
		g.poison = 3
		g.set(row.mode)
		got := ""
		for id := 1; id <= 10; id++ {
			if g.refuses(id) {
				got += fmt.Sprint(id, " ")
			}
		}
		if got != row.want {
			t.Errorf("mode %d refuses %q, want %q", row.mode, got, row.want)
		}
	}
}

func TestConfidenceHoldsTheMedian(t *testing.T) {
	var values []float64
	for i := range 101 {
		values = append(values, float64(i))
	}
	low, high := confidence(values)
	if !(low < 50 && high > 50 && low > 20 && high < 80) {
		t.Errorf("%v to %v around 50", low, high)
	}
}

func TestJournalRefusesNumbersOutOfBounds(t *testing.T) {
	for _, args := range []string{"-rounds 0", "-entries 1", "-clients 1000", "-scenes nothing", "-faults nothing", "-count 5", "-pairs 1"} {
		if err := journalBench(t.Context(), strings.Fields(args)); err != errUsage {
			t.Errorf("%s: %v", args, err)
		}
	}
}
