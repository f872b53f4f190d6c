package interceptors

import (
	"context"
	"fmt"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/internal/misuse"
)

// Hedge returns a [Layer] that sends a unary RPC of a client a second time when
// its answer takes unusually long, as c says, and takes the answer that comes
// first; streams and RPCs of a server pass through it. It panics with the error
// of c.Validate if there is one.
//
// Without c.Success, what [Classify] calls a Success is an answer, NOT_FOUND and
// the like too. Any other error waits for the attempts that still run. If none
// succeeds the RPC has the status of the first one that was sent. The losers are
// cancelled, with the cause hedge.ErrSuperseded, and waited for. A server that
// says when to come back (grpc-retry-pushback-ms, or RetryInfo) gets no further
// hedge of this RPC.
//
// Each hedge has a reply of its own, and its own destinations of grpc.Header,
// grpc.Trailer and grpc.Peer; when all attempts have returned, those of the one
// that won are copied to the caller's. It carries grpc-previous-rpc-attempts. With
// the balancer turret.P2C it goes to an endpoint that no attempt was sent to, if
// there is one.
//
// A hedge is a second RPC to the server: use it where carrying out a request
// twice does no harm, for example with [For]. Inside [Retry], the usual place,
// each attempt of the Retry may be hedged; set c.Counted if both have the same
// Budget. Put a [Timeout] of each attempt, and a Trace of each, inside it.
func Hedge(c hedge.Config) Layer {
	misuse.Check("interceptors: Hedge", c.Validate())
	return HedgeWith(NewHedgePolicy(c))
}

// NewHedgePolicy returns the policy of [Hedge] with c, for [HedgeWith]. Its Set
// changes it while it is in use. It panics with the error of c.Validate if there
// is one.
func NewHedgePolicy(c hedge.Config) *hedge.Policy {
	if c.Success == nil {
		c.Success = func(ctx context.Context, err error) bool {
			return Classify(ctx, nil, nil, err) == turret.Success
		}
	}
	c.RetryAfter = firstAsked(c.RetryAfter)
	misuse.Check("interceptors: NewHedgePolicy", c.Validate())
	return hedge.NewPolicy(c)
}

// HedgeWith is [Hedge] with a policy of [NewHedgePolicy]. It panics if p is nil.
func HedgeWith(p *hedge.Policy) Layer {
	if p == nil {
		misused("HedgeWith", "policy", nil, "non-nil")
	}
	layer := hedge.LayerOf[*RPC, answer](p, hedgeOf)
	return func(inner Service) Service {
		return &hedgeService{Service: inner, hedged: layer(&hedgeAttempts{inner})}
	}
}

// hedgeOf is the request of a hedge.
func hedgeOf(_ context.Context, rpc *RPC, attempt int) (*RPC, bool) {
	return rpc.end().fork(rpc, attempt)
}

// An answer is what an attempt ended with, if need be beside an error.
type answer struct {
	reply any
	of    *repetition // of the attempt's leaf
}

// hedgeService is the hedge of RPCs: around the mechanism, it prepares the RPC for
// several attempts, and gives the caller what the one that won has left.
type hedgeService struct {
	Service // inside

	hedged    turret.Service[*RPC, answer]
	wrongSide warning
}

func (s *hedgeService) Call(ctx context.Context, rpc *RPC) (any, error) {
	r := rpc.end().hedge(rpc)
	if r == nil {
		if rpc.Side == SideServer {
			s.wrongSide.warnOfSide(ctx, rpc, "hedge", "a Hedge")
		}
		return s.Service.Call(ctx, rpc)
	}
	a, err := s.hedged.Call(r.of.carried(ctx), rpc)
	if a.of != r {
		a.of.publish()
		if r.refused != nil {
			rpc.tell(ctx, r.refused)
		}
	}
	r.refused = nil
	return a.reply, err
}

func (s *hedgeService) String() string { return fmt.Sprint(s.hedged) }

// hedgeAttempts is between the mechanism and what is inside the layer: each of its
// calls is an attempt.
type hedgeAttempts struct{ inner Service }

func (s *hedgeAttempts) Ready(ctx context.Context) error { return s.inner.Ready(ctx) }

func (s *hedgeAttempts) Call(ctx context.Context, rpc *RPC) (answer, error) {
	r := rpc.end().hedge(rpc)
	first := !r.forked
	if !first {
		r.forked = false // for a Hedge inside this one it is the first
		rpc.tell(ctx, &Event{Kind: EventHedge, Layer: "hedge", Attempt: rpc.Attempt})
	}
	reply, err := s.inner.Call(ctx, rpc)
	if err != nil {
		r.ended(ctx, rpc, err, first)
	}
	return answer{reply, r}, err
}

// Describe says what the mechanism says.
func (s *hedgeService) Describe(d *turret.Description) { d.Forward(s.hedged) }
