package turrettest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/turret-go/turret"
)

// A numbered is an error of one call.
type numbered int

func (n numbered) Error() string { return fmt.Sprintf("error of call %d", int(n)) }

// concurrentLayerCalls calls the service from many goroutines at once. What becomes of a call
// is in its number: an answer, an error, a panic, or its caller gives up.
func concurrentLayerCalls[Req, Res any](s *layerSubject[Req, Res]) {
	const callers, calls = 8, 40
	s.inner.answers(func(ctx context.Context, n int) (res Res, err error) {
		yield(n % 7)
		switch n % 8 {
		case 0:
			return res, numbered(n)
		case 1:
			panic(numbered(n))
		case 2:
			return res, ctx.Err() // its caller may have given up
		}
		return s.traits.Response(n), nil
	})
	var all sync.WaitGroup
	for i := range callers {
		random := rand.New(rand.NewPCG(2, uint64(i)))
		all.Go(func() {
			for range calls {
				c := s.begin(nil, s.call)
				if c.n%8 == 2 {
					yield(random.IntN(5))
					c.cancel()
				}
				s.look()
				for c.waits() {
					yield(1)
					pass(time.Millisecond)
				}
				s.wantOwn(c)
			}
		})
	}
	all.Wait()
	s.wantAlive()
}

// look asks the service for its readiness and its text, as other callers may at
// any time.
func (s *layerSubject[Req, Res]) look() {
	_ = turret.ReadyNow(s.service)
	if p, ok := s.service.(fmt.Stringer); ok {
		_ = p.String()
	}
}

// wantOwn fails the case if the call did not end as its number says.
func (s *layerSubject[Req, Res]) wantOwn(c *layerCall[Res]) {
	if s.inner.sentOf(c.n) == 0 {
		s.wantRefused(c)
		return
	}
	var ok bool
	switch {
	case c.n%8 == 0:
		known := errors.Is(c.err, numbered(c.n)) || s.traits.Repeats // may be that of a further attempt
		ok = c.returned && c.err != nil && known && !errors.Is(c.err, turret.ErrNotReady)
	case c.n%8 == 1 && s.traits.Recovers:
		ok = c.returned && c.err != nil
	case c.n%8 == 1:
		ok = !c.returned && c.panicked == any(numbered(c.n))
	case c.n%8 == 2:
		ok = c.returned && (c.err == nil || errors.Is(c.err, context.Canceled))
	default:
		ok = c.returned && c.err == nil && s.traits.Got(c.n, c.res)
	}
	if !ok {
		s.Errorf("call %d of many: %v, which is not what its inner call came to", c.n, c)
	}
}
