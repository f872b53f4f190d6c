package ready

import (
	"context"
	"time"

	"github.com/turret-go/turret"
)

// A Readier can be asked whether it is ready, by the rules of [turret.Service].
// Every turret.Service is one, and so is a struct that embeds one.
type Readier interface {
	Ready(ctx context.Context) error
}

// pause is how long the cache waits before it asks a service again that says
// "not ready" instead of waiting. None should.
const pause = 100 * time.Millisecond

// ask waits until s is ready, has failed for good, or ctx ends.
func ask(ctx context.Context, s Readier) error {
	for {
		err := s.Ready(ctx)
		if err == nil || turret.IsFinal(err) || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// now calls Ready of s without waiting and without values of a caller.
func now(s Readier) error { return s.Ready(ended) }

// ended is done from the start: Ready answers it at once.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()
