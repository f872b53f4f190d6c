package turret

import (
	"context"
	"iter"
	"runtime"
	"sync"
)

// CallAll calls s with each request of reqs, at most n at a time, and yields the
// results in the order of the requests, each with its error. An error does not
// end the loop.
//
//	for res, err := range turret.CallAll(ctx, s, slices.Values(ids), 10) {
//
// A request is taken from reqs when fewer than n are in hand: in flight, or over
// and not yet yielded. Before each call it waits until s is ready. That bounds
// nothing, as Ready reserves nothing: over a limit that has no line take an n that
// is not above it, or put a buffer between. An error of Ready ends the loop, in
// the place of the result of the request that was in hand; it matches
// [ErrNotReady], as nothing was sent. That is also how the loop ends when ctx does
// before all requests were taken.
//
// Leaving the loop early cancels the calls that are in flight and waits for
// them. reqs is run on a goroutine of its own, so that results need not wait for
// the next request; a reqs that may wait long should end with ctx, since leaving
// the loop waits for it too. A panic or runtime.Goexit in reqs or in a call goes
// on in the loop.
//
// CallAll panics if n is less than 1; math.MaxInt is no bound. What it returns
// may be ranged over as often as reqs may, also concurrently if reqs may.
func CallAll[Req, Res any](ctx context.Context, s Service[Req, Res], reqs iter.Seq[Req], n int) iter.Seq2[Res, error] {
	mustConcurrency("CallAll", n)
	return func(yield func(Res, error) bool) { newBatch(s, n, true).run(ctx, reqs, yield) }
}

// CallAllUnordered is [CallAll], but yields each result as soon as it is there.
// Which request it belongs to, only the result can say.
func CallAllUnordered[Req, Res any](ctx context.Context, s Service[Req, Res], reqs iter.Seq[Req], n int) iter.Seq2[Res, error] {
	mustConcurrency("CallAllUnordered", n)
	return func(yield func(Res, error) bool) { newBatch(s, n, false).run(ctx, reqs, yield) }
}

func mustConcurrency(constructor string, n int) {
	if n < 1 {
		misused(constructor, "n", n, "at least 1")
	}
}

// A batch is one loop over CallAll. Three parties share it: the loop, the feeder
// that takes requests, and the calls.
type batch[Req, Res any] struct {
	service Service[Req, Res]
	most    int
	ordered bool
	calls   sync.WaitGroup

	mu     sync.Mutex
	moved  sync.Cond     // any of these has changed
	inHand int           // requests that were taken and whose reply was not yielded
	line   []*reply[Res] // replies to yield, in this order; the first may not be over
	ended  bool          // there will be no more of them
	left   bool          // the caller wants no more
}

// A reply is what became of one request.
type reply[Res any] struct {
	over  bool
	res   Res
	err   error
	raise func() // if not nil, the call panicked or exited: does it again
}

func newBatch[Req, Res any](s Service[Req, Res], n int, ordered bool) *batch[Req, Res] {
	b := &batch[Req, Res]{service: s, most: n, ordered: ordered}
	b.moved.L = &b.mu
	return b
}

// run is the loop.
func (b *batch[Req, Res]) run(ctx context.Context, reqs iter.Seq[Req], yield func(Res, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	fed := make(chan struct{})
	defer func() { // also after a panic or Goexit in the loop's body
		b.leave()
		cancel()
		<-fed // and all calls are over
	}()
	go func() {
		defer close(fed)
		b.feed(ctx, reqs)
	}()
	for {
		r := b.next()
		if r == nil {
			return
		}
		if r.raise != nil {
			r.raise()
		}
		if !yield(r.res, r.err) {
			return
		}
	}
}

// next takes the next reply, or returns nil if there are no more.
func (b *batch[Req, Res]) next() *reply[Res] {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.line) == 0 && !b.ended || len(b.line) > 0 && !b.line[0].over {
		b.moved.Wait()
	}
	if len(b.line) == 0 {
		return nil
	}
	r := b.line[0]
	b.line[0] = nil // it may hold much
	b.line = b.line[1:]
	b.inHand--
	b.moved.Broadcast()
	return r
}

func (b *batch[Req, Res]) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = true
	b.moved.Broadcast()
}

// feed takes requests and starts their calls. A panic of reqs or Ready comes
// after what was started before it.
func (b *batch[Req, Res]) feed(ctx context.Context, reqs iter.Seq[Req]) {
	defer b.end()
	r := &reply[Res]{}
	defer func() {
		if r.raise != nil {
			b.take(r)
			b.finish(r)
		}
	}()
	r.catch(func() {
		if !b.room() {
			return
		}
		for req := range reqs {
			if !b.start(ctx, req) || !b.room() {
				return
			}
		}
	})
}

// room waits until one more request may be taken, and reports false if it is
// not wanted.
func (b *batch[Req, Res]) room() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.inHand >= b.most && !b.left {
		b.moved.Wait()
	}
	return !b.left
}

// start starts the call of req when the service is ready, and reports false if
// there are to be no more.
func (b *batch[Req, Res]) start(ctx context.Context, req Req) bool {
	err := ctx.Err()
	if err == nil {
		err = b.service.Ready(ctx)
	}
	r := &reply[Res]{}
	b.take(r)
	if err != nil {
		r.err = unsent(err)
		b.finish(r)
		return false
	}
	b.calls.Go(func() {
		defer b.finish(r)
		r.catch(func() { r.res, r.err = b.service.Call(ctx, req) })
	})
	return true
}

// take takes a request in hand.
func (b *batch[Req, Res]) take(r *reply[Res]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inHand++
	if b.ordered {
		b.line = append(b.line, r)
	}
}

func (b *batch[Req, Res]) finish(r *reply[Res]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r.over = true
	if !b.ordered {
		b.line = append(b.line, r)
	}
	b.moved.Broadcast()
}

// end is called when all requests that will be have been taken. It waits for
// their calls: unless the batch is ordered, those that run are not in line yet.
func (b *batch[Req, Res]) end() {
	b.calls.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.moved.Broadcast()
}

// catch runs f. If f does not return, but panics or exits, so will raise.
func (r *reply[Res]) catch(f func()) {
	r.raise = runtime.Goexit // unless f returns or panics
	defer func() {
		if p := recover(); p != nil {
			r.raise = func() { panic(p) }
		}
	}()
	f()
	r.raise = nil
}
