package turret

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Describe returns what x says of itself, and all that is inside it, as a tree.
// It is a snapshot: figures of one node belong together as far as its Describer
// sees to it, those of different nodes were read one after the other.
//
// x is usually a [Describer]. Of a service that was made of layers, such as
// Stack(a, b)(s), the children are those layers, outermost first. They are found
// through the Service that each embeds; a layer that embeds something else says
// what it passes calls on to by a method Inner() any. A layer or gate that is no
// Describer is shown by its type and its String. A [Layer] alone shows its type:
// what it keeps is in the services that it makes.
//
// most is how many endpoints of one balancer are listed; if 0 or less, 100.
//
// A tree has at most 10,000 nodes and 32 levels. A Describer that panics, or has
// not returned after half a second, does not harm the rest: its node says so in
// a State "description". One that has not returned is not asked again until it has.
// Describe returns after about two seconds at the latest; what has not been
// described by then says so.
func Describe(x any, most int) Node {
	if most <= 0 {
		most = 100
	}
	w := &walk{most: most, nodes: 1, done: make(chan struct{})}
	if layers := withoutLeaf(chain(nil, x)); len(layers) > 1 {
		w.root.Kind = "service"
		w.root.Title = fmt.Sprintf("%d layers", len(layers))
		w.expand(place{&w.root, x, 0}, layers)
	} else {
		w.queue = []place{{&w.root, x, 0}}
	}
	w.run()
	return w.root
}

// A walk describes one tree, breadth first. A worker goroutine asks the
// Describers, one after the other; run waits for it, and replaces it when one of
// them does not answer. Everything below mu is guarded by it. A worker that was
// replaced writes nothing to the tree any more.
type walk struct {
	most int
	done chan struct{} // closed when nothing is left to describe

	mu     sync.Mutex
	root   Node
	queue  []place // what is still to be described
	nodes  int     // in the tree, described or not
	seen   map[any]struct{}
	now    place // what worker is asking
	asked  int   // how many were asked: tells run that there was progress
	worker int   // the number of the worker that may write
	over   bool
}

// A place is where in the tree the description of x goes.
type place struct {
	node  *Node
	x     any
	depth int
}

// How long a Describer, and all of a walk, may take, in slices of time that
// begin anew each time: a process that stood still loses one slice by it.
const (
	slice      = 50 * time.Millisecond
	oneSlices  = 10
	walkSlices = 40
)

// run waits until the tree is described, or time is over.
func (w *walk) run() {
	go w.work(0)
	tick := time.NewTimer(slice)
	defer tick.Stop()
	for total, one, seen := 0, 0, 0; ; {
		select {
		case <-w.done:
			return
		case <-tick.C:
		}
		total++
		one++
		if asked := w.progress(); asked != seen {
			one, seen = 0, asked
		}
		switch {
		case total >= walkSlices:
			if w.finish() {
				return
			}
		case one >= oneSlices:
			w.replace(seen)
			one = 0
		}
		tick.Reset(slice)
	}
}

func (w *walk) progress() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

// replace gives up the worker if it is still busy with the Describer that was
// the seen-th, and starts another one on the rest.
func (w *walk) replace(seen int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked != seen || w.over {
		return
	}
	w.abandon()
	go w.work(w.worker)
}

// finish ends the walk where it stands. It reports false if the walk has ended
// by itself.
func (w *walk) finish() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return false
	}
	w.abandon()
	w.over = true
	for _, p := range w.queue {
		*p.node = about(p.x, "not asked: the time was over")
	}
	return true
}

// abandon notes that the Describer that is being asked does not answer, and
// takes the right to write away from its worker.
func (w *walk) abandon() {
	w.worker++
	if w.now.node != nil {
		*w.now.node = about(w.now.x, "no answer")
		silent.add(w.now.x)
	}
}

// about returns the node of x that could not be described, for what reason.
func about(x any, reason string) Node {
	return Node{
		Kind:    clip(fmt.Sprintf("%T", x)),
		Figures: []Figure{{Name: aboutDescription, Kind: State, Text: clip(reason)}},
	}
}

// What most Describers have no more of: there is room for it from the start.
const (
	fewFigures  = 24
	fewChildren = 16
)

// work describes what is in the queue, as worker number me.
func (w *walk) work(me int) {
	d := &Description{node: Node{Figures: make([]Figure, 0, fewFigures)}, children: make([]any, 0, fewChildren), layers: make([]any, 0, fewChildren), most: w.most}
	for {
		p, ok := w.next(me)
		if !ok {
			return
		}
		returned := false
		func() {
			defer func() {
				if !returned { // runtime.Goexit: this goroutine is ending
					d.State(aboutDescription, "called runtime.Goexit")
					if w.put(me, p, d) {
						go w.work(me)
					}
				}
			}()
			ask(p.x, d)
			returned = true
		}()
		if !w.put(me, p, d) {
			return
		}
	}
}

// next takes the next place out of the queue. It reports false if there is none,
// or if me is not the worker any more.
func (w *walk) next(me int) (place, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for me == w.worker && !w.over {
		w.now = place{}
		if len(w.queue) == 0 {
			w.over = true
			close(w.done)
			break
		}
		p := w.queue[0]
		w.queue = w.queue[1:]
		w.asked++
		if silent.has(p.x) {
			*p.node = about(p.x, "not asked: has not answered an earlier question yet")
			continue
		}
		w.now = p
		return p, true
	}
	return place{}, false
}

// put writes what d collected to its place, empties d, and reports whether me
// is still the worker.
func (w *walk) put(me int, p place, d *Description) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if me != w.worker || w.over {
		silent.remove(p.x)
		return false
	}
	w.now = place{}
	if d.omitted > 0 {
		d.node.Figures = append(d.node.Figures, Figure{Name: aboutDescription, Kind: State, Text: fmt.Sprintf("%d figures left out", d.omitted)})
	}
	d.node.Again = w.again(d.source)
	figures := d.node.Figures
	*p.node = d.node
	p.node.Figures = slices.Clone(figures)
	w.expand(p, d.children)
	clear(d.children)
	*d = Description{node: Node{Figures: figures[:0]}, children: d.children[:0], layers: d.layers, most: d.most}
	return true
}

// again reports whether x has been described before in this tree. Only what is
// shared by its address can be: equal values may be different things.
func (w *walk) again(x any) bool {
	v := reflect.ValueOf(x)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Type().Elem().Size() == 0 {
		return false
	}
	if _, ok := w.seen[x]; ok {
		return true
	}
	if w.seen == nil {
		w.seen = map[any]struct{}{}
	}
	w.seen[x] = struct{}{}
	return false
}

// expand makes room in the tree for the children of p.
func (w *walk) expand(p place, children []any) {
	room := min(len(children), mostNodes-w.nodes)
	if p.depth >= mostDepth-1 {
		room = 0
	}
	p.node.More += len(children) - room
	if room == 0 {
		return
	}
	w.nodes += room
	p.node.Children = make([]Node, room)
	w.queue = slices.Grow(w.queue, room)
	for i, child := range children[:room] {
		w.queue = append(w.queue, place{&p.node.Children[i], child, p.depth + 1})
	}
}

// ask fills d in with what x says of itself. A panic of it is said in d.
func ask(x any, d *Description) {
	defer func() {
		if p := recover(); p != nil {
			d.node.Figures = d.node.Figures[:min(len(d.node.Figures), mostFigures-1)]
			d.Is(fmt.Sprintf("%T", x), "")
			d.State(aboutDescription, fmt.Sprintf("panicked: %v", p))
		}
	}()
	d.Forward(x)
	if d.node.Kind == "" {
		d.Is(fmt.Sprintf("%T", x), "")
	}
}

// silent are the Describers that some walk has given up and that have not
// returned yet. Without it, each look at one that never returns would leave one
// goroutine more behind.
var silent silence

type silence struct {
	any  atomic.Bool
	mu   sync.Mutex
	them map[any]int
}

// has reports whether x has not answered yet.
func (s *silence) has(x any) bool {
	if !s.any.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.them[identity(x)] > 0
}

func (s *silence) add(x any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.them == nil {
		s.them = map[any]int{}
	}
	s.them[identity(x)]++
	s.any.Store(true)
}

func (s *silence) remove(x any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := identity(x)
	if s.them[id]--; s.them[id] <= 0 {
		delete(s.them, id)
	}
	s.any.Store(len(s.them) > 0)
}

// identity returns what tells x from others: itself, or its type if values of it
// cannot be compared.
func identity(x any) any {
	if v := reflect.ValueOf(x); v.IsValid() && !v.Comparable() {
		return v.Type()
	}
	return x
}
