package limit

// A waiter is one call that waits: for room, in Enter, or for the news of it,
// in Ready.
//
// Waiters are not pooled. A pool would save two allocations of a call that is
// about to sleep, and would carry channels from one synctest bubble to another.
type waiter struct {
	told       chan struct{} // has room for the one message that it gets
	prev, next *waiter
	list       *list // the list it stands in; nil once it has its message, or gave up
}

func newWaiter() *waiter { return &waiter{told: make(chan struct{}, 1)} }

// A list is waiters in the order in which they came. Each may leave from where
// it stands, in constant time. The zero list is empty.
type list struct {
	first, last *waiter
	n           int
}

// push puts w at the end.
func (l *list) push(w *waiter) {
	w.prev, w.list = l.last, l
	if l.last != nil {
		l.last.next = w
	} else {
		l.first = w
	}
	l.last = w
	l.n++
}

// remove takes w out and reports whether it was there.
func (l *list) remove(w *waiter) bool {
	if w.list != l {
		return false
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.last = w.prev
	}
	w.list = nil
	l.n--
	return true
}

// tell takes out the first waiter and wakes it.
func (l *list) tell() {
	w := l.first
	l.remove(w)
	w.told <- struct{}{}
}
