package admission

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestAgesKnowEveryPlace compares them with a sorted list under random changes.
func TestAgesKnowEveryPlace(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var a ages
	var list []*ticket
	order := func(x, y *ticket) int {
		if x.before(y) {
			return -1
		}
		return 1
	}
	for seq := range uint64(3000) {
		if len(list) > 0 && rnd.IntN(5) < 2 {
			i := rnd.IntN(len(list))
			a.remove(list[i])
			list = slices.Delete(list, i, i+1)
		} else {
			one := &ticket{seq: seq, cost: time.Duration(rnd.IntN(100)), ask: Ask{Since: time.Unix(int64(1+rnd.IntN(200)), 0)}}
			a.insert(one)
			list = append(list, one)
			slices.SortFunc(list, order)
		}
		who := &ticket{seq: seq + 1, ask: Ask{Since: time.Unix(int64(rnd.IntN(203)), 0)}}
		var newest *ticket
		var cost time.Duration
		for _, other := range list {
			if other.before(who) {
				newest, cost = other, cost+other.cost
			}
		}
		if gotNewest, gotCost := a.before(who); gotNewest != newest || gotCost != cost {
			t.Fatalf("after %d changes: %v before it, want %v", seq, gotCost, cost)
		}
	}
	if depth := a.root.depth(); depth > 40 {
		t.Errorf("%d tickets at depth %d", len(list), depth)
	}
}

func (t *ticket) depth() int {
	if t == nil {
		return 0
	}
	return 1 + max(t.older.depth(), t.newer.depth())
}

// BenchmarkReturningAmong is a refusal of one of the returning among many, which
// grows with their logarithm.
func BenchmarkReturningAmong(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			q := pool(Config{Limit: 1, Depth: n, Wait: time.Hour}, 1)
			admit(b, q, Ask{Route: "/"})
			q.mu.Lock()
			defer q.mu.Unlock()
			for i := range n {
				q.arriveLocked(backAtRandom(i))
			}
			b.ReportAllocs()
			for b.Loop() {
				q.arriveLocked(Ask{Route: "/", Since: time.Unix(1e9-1800, 0)})
			}
		})
	}
}
