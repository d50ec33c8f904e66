package journal

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// TestSharesAreExactBeyondTheClientsRemembered writes for more clients than have
// their bytes in memory.
func TestSharesAreExactBeyondTheClientsRemembered(t *testing.T) {
	probe := inMemory(t, Options{})
	size := mustAppend(t, probe, write("lane", "x")).Entry().size
	j := inMemory(t, Options{Limits: Limits{MaxBytes: 1 << 30, PerClient: size + size/2}})
	of := func(client int) Write {
		w := write("lane", "x")
		w.Client = fmt.Sprint(client)
		return w
	}
	const clients = maxRecent + 100
	var open []*Live
	for c := range clients {
		open = append(open, mustAppend(t, j, of(c)))
	}
	for c := range clients {
		if _, err := j.Append(context.Background(), of(c)); !errors.Is(err, ErrShare) {
			t.Fatalf("client %d, who has used up its share: %v", c, err)
		}
	}
	for _, l := range open {
		deliverNow(t, l)
	}
	for c := range clients {
		mustAppend(t, j, of(c)).Accept()
	}
	if n := len(j.store.(*pebbleStore).recent); n > maxRecent {
		t.Errorf("%d clients are remembered, at most %d may be", n, maxRecent)
	}
}

func deliverNow(t testing.TB, l *Live) {
	t.Helper()
	if !l.Begin() || !l.End(Outcome{Kind: Taken, Answer: &Answer{Status: 200}}) {
		t.Fatal("the answer is not for the client")
	}
}

// BenchmarkDelivered is one client whose writes are delivered at once, one after
// the other. It must not matter how many there were before.
func BenchmarkDelivered(b *testing.B) {
	for _, before := range []int{0, 5000} {
		b.Run(fmt.Sprintf("before=%d", before), func(b *testing.B) {
			j := inMemory(b, Options{})
			one := func() {
				deliverNow(b, mustAppend(b, j, write("lane", "x")))
			}
			for range before {
				one()
			}
			for b.Loop() {
				one()
			}
		})
	}
}
