package admission

import "time"

// ages finds a place among tickets by age, and what is before it, in O(log n): a
// treap (Seidel, Aragon: "Randomized Search Trees", Algorithmica 16, 1996). The
// returning need it: they do not arrive in the order in which they wait.
type ages struct{ root *ticket }

// branches are a ticket's place in ages.
type branches struct {
	older, newer *ticket
	rank         uint64        // no lower than that of those below
	total        time.Duration // cost of the ticket and of all below
}

func (a *ages) insert(t *ticket) {
	t.branches = branches{rank: t.seq * 0x9E3779B97F4A7C15} // as good as random
	a.root = insertAged(a.root, t)
}

func (a *ages) remove(t *ticket) {
	a.root = removeAged(a.root, t)
	t.branches = branches{}
}

// before is the newest of those that are not newer than t, and the cost of them
// all.
func (a *ages) before(t *ticket) (newest *ticket, cost time.Duration) {
	for n := a.root; n != nil; {
		if t.before(n) {
			n = n.older
			continue
		}
		newest = n
		cost += n.cost + n.older.totalCost()
		n = n.newer
	}
	return newest, cost
}

func (t *ticket) totalCost() time.Duration {
	if t == nil {
		return 0
	}
	return t.total
}

// with sets what is below t.
func (t *ticket) with(older, newer *ticket) *ticket {
	t.older, t.newer = older, newer
	t.total = t.cost + older.totalCost() + newer.totalCost()
	return t
}

func insertAged(n, t *ticket) *ticket {
	switch {
	case n == nil || t.rank > n.rank:
		return t.with(splitAged(n, t))
	case t.before(n):
		return n.with(insertAged(n.older, t), n.newer)
	}
	return n.with(n.older, insertAged(n.newer, t))
}

func removeAged(n, t *ticket) *ticket {
	switch {
	case n == t:
		return mergeAged(n.older, n.newer)
	case t.before(n):
		return n.with(removeAged(n.older, t), n.newer)
	}
	return n.with(n.older, removeAged(n.newer, t))
}

// splitAged parts n into those that are older than t and those that are newer.
func splitAged(n, t *ticket) (older, newer *ticket) {
	switch {
	case n == nil:
		return nil, nil
	case t.before(n):
		older, newer = splitAged(n.older, t)
		return older, n.with(newer, n.newer)
	}
	older, newer = splitAged(n.newer, t)
	return n.with(n.older, older), newer
}

// mergeAged joins two of which the first is older.
func mergeAged(a, b *ticket) *ticket {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.rank > b.rank:
		return a.with(a.older, mergeAged(a.newer, b))
	}
	return b.with(mergeAged(a, b.older), b.newer)
}
