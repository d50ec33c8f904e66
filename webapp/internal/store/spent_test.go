package store

import (
	"testing"
	"time"
)

func TestTimeWithTheStoreIsCountedOnce(t *testing.T) {
	s := fresh(t)
	take(t, s, story(1), comment(2, 1))
	ctx, spent := WithSpent(t.Context())
	before := time.Duration(0)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"a query", func() error { _, err := s.Latest(ctx); return err }},
		{"a list", func() error { _, err := s.List(ctx, Listing{}); return err }},
		{"a thread", func() error { _, err := s.Thread(ctx, 1, Whole, 10, 0); return err }},
		{"a post", func() error { return s.Take(ctx, comment(3, 1)) }},
		{"a vote", func() error { return s.Vote(ctx, "sama", 1, 1) }},
	} {
		start := time.Now()
		if err := step.do(); err != nil {
			t.Fatal(step.name, err)
		}
		took := time.Since(start)
		if after := spent.Duration(); after <= before || after-before > took {
			t.Errorf("%s took %v, counted %v", step.name, took, after-before)
		}
		before = spent.Duration()
	}
	if _, other := WithSpent(t.Context()); other.Duration() != 0 {
		t.Error("another request's time is counted")
	}
}
