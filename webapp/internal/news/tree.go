package news

import (
	"cmp"
	"slices"
)

// Node is an item's place in a thread.
type Node struct {
	ID, Parent ID
	Points     int
}

// Placed is a node in reading order; replies to the top have depth 0.
type Placed struct {
	ID    ID
	Depth int
}

// Flatten puts everything below top in reading order: a reply after what it
// answers, siblings with most points first, of equals the oldest. Nodes that do not hang below top are left
// out. It keeps a stack of its own, because trees are as deep as people are
// stubborn.
func Flatten(top ID, nodes []Node) []Placed {
	byParent := slices.Clone(nodes)
	slices.SortFunc(byParent, func(a, b Node) int {
		return cmp.Or(cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Points, b.Points), cmp.Compare(b.ID, a.ID)) // last first: the stack turns it round
	})
	replies := func(id ID) []Node {
		from, _ := slices.BinarySearchFunc(byParent, id, func(n Node, id ID) int { return cmp.Compare(n.Parent, id) })
		to := from
		for to < len(byParent) && byParent[to].Parent == id {
			to++
		}
		return byParent[from:to]
	}
	order := make([]Placed, 0, len(nodes))
	var stack []Placed
	push := func(id ID, depth int) {
		for _, n := range replies(id) {
			// Two comments may name each other as parent. As each node has one
			// parent, a ring that can be reached from top goes through top.
			if n.ID != top {
				stack = append(stack, Placed{n.ID, depth})
			}
		}
	}
	push(top, 0)
	for len(stack) > 0 {
		next := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		order = append(order, next)
		push(next.ID, next.Depth+1)
	}
	return order
}
