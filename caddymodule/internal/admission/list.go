package admission

// links chain a node to its neighbours. Whatever embeds them can be in one list
// at a time, and leaves it without a search.
type links[T any] struct{ prev, next *T } // older, newer

func (k *links[T]) self() *links[T] { return k }

// node is a pointer to something that embeds links of its own kind.
type node[T any] interface {
	*T
	self() *links[T]
}

// list holds nodes by age.
type list[T any, P node[T]] struct {
	oldest, newest *T
	n              int
}

// insert puts x behind after; nil: in front of all.
func (l *list[T, P]) insert(x, after *T) {
	k := P(x).self()
	k.prev, k.next = after, l.oldest
	if after == nil {
		l.oldest = x
	} else {
		a := P(after).self()
		k.next, a.next = a.next, x
	}
	if k.next == nil {
		l.newest = x
	} else {
		P(k.next).self().prev = x
	}
	l.n++
}

func (l *list[T, P]) remove(x *T) {
	k := P(x).self()
	if k.prev == nil {
		l.oldest = k.next
	} else {
		P(k.prev).self().next = k.next
	}
	if k.next == nil {
		l.newest = k.prev
	} else {
		P(k.next).self().prev = k.prev
	}
	k.prev, k.next = nil, nil
	l.n--
}
