package soak

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/interceptors"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/test/faults/internal/traffic"
)

// A caller sends one RPC after another. About one in three of them does not
// simply go well.
type caller struct {
	world *world
	rand  *rand.Rand
}

// A patience is when a caller gives up.
type patience struct {
	deadline time.Duration
	cancel   time.Duration // 0: never
}

// call carries out RPC number i of a round. It fails if the answer is wrong, not
// if there is none.
func (c *caller) call(round uint64, i int) error {
	r := traffic.RPC{
		Client: c.world.client,
		ID:     uint64(i),
		Kind:   traffic.Kinds[c.rand.IntN(len(traffic.Kinds))],
		Plan:   new(echov1.Plan),
	}
	p := c.trouble(&r)
	ctx, cancel := context.WithTimeout(context.Background(), p.deadline)
	defer cancel()
	if p.cancel > 0 {
		defer time.AfterFunc(p.cancel, cancel).Stop()
	}
	_, err := r.Do(context.WithValue(ctx, ticketKey{}, ticket{round, uint64(i)}))
	if wrong, ok := errors.AsType[*traffic.AnswerError](err); ok {
		return wrong
	}
	o := outcome(ctx, err)
	c.world.tally.rpcs[i].Store(uint32(o))
	if o&refused != 0 {
		c.pause()
	}
	return nil
}

// pause keeps a caller that was refused from calling again at once, which would take
// time from the RPCs that were admitted.
func (c *caller) pause() {
	timer := time.NewTimer(time.Duration(c.rand.IntN(4000)) * time.Microsecond)
	defer timer.Stop()
	<-timer.C
}

// trouble draws what goes wrong with an RPC.
func (c *caller) trouble(r *traffic.RPC) patience {
	patient := patience{deadline: 5 * time.Second}
	fail := func(f *echov1.Failure) patience {
		r.Plan.Failure = f
		return patient
	}
	switch n := c.rand.IntN(100); {
	case n < 6: // what a retry helps against
		return fail(&echov1.Failure{Code: int32(codes.Unavailable), Attempts: 1})
	case n < 8: // what no retry helps against
		return fail(&echov1.Failure{Code: int32(codes.Unavailable)})
	case n < 11:
		return fail(&echov1.Failure{Code: int32(codes.Internal)})
	case n < 13: // a stream fails in the middle, when it is too late for a retry
		return fail(&echov1.Failure{Code: int32(codes.Unavailable), After: 2})
	case n < 14:
		return fail(&echov1.Failure{Code: int32(codes.NotFound)})
	case n < 16:
		return fail(&echov1.Failure{Panic: "the handler panics"})
	case n < 19: // slow
		r.Plan.Delay = durationpb.New(5 * time.Millisecond)
	case n < 20: // too slow for the server's own timeout of unary RPCs
		r.Kind, r.Plan.Delay = interceptors.KindUnary, durationpb.New(150*time.Millisecond)
	case n < 24: // impatient
		return patience{deadline: time.Duration(c.rand.IntN(3000)) * time.Microsecond}
	case n < 30: // cancelled by the user
		patient.cancel = time.Duration(1+c.rand.IntN(3000)) * time.Microsecond
	case n < 33:
		r.Size = 16 << 10
	}
	return patient
}
