package interceptors

import (
	"context"
	"errors"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/turret-go/turret"
)

// adopted is the layer of interceptors that exist. It runs each RPC through the
// interceptor of its kind and side, if there is one: the RPC's leaf knows how,
// see its method adopt.
type adopted struct {
	interceptorSet
	entry // to the layers inside

	wrongSide warning
}

// interceptorSet is what an adopted layer is made of. Nil ones are passed by.
type interceptorSet struct {
	name         string
	unaryServer  grpc.UnaryServerInterceptor
	streamServer grpc.StreamServerInterceptor
	unaryClient  grpc.UnaryClientInterceptor
	streamClient grpc.StreamClientInterceptor
}

// The leaf has the caller's connection, handler and stream, which an interceptor is
// called with: so the leaf makes the call.
func (a *adopted) Call(ctx context.Context, rpc *RPC) (any, error) {
	if !a.actsOn(rpc.Side) {
		a.wrongSide.warnOfSide(ctx, rpc, "adopted", a.name)
	}
	return rpc.end().adopt(ctx, rpc, a)
}

// actsOn reports whether there is an interceptor for a side.
func (a *adopted) actsOn(side Side) bool {
	if side == SideServer {
		return a.unaryServer != nil || a.streamServer != nil
	}
	return a.unaryClient != nil || a.streamClient != nil
}

// String returns the name that the constructor gave.
func (a *adopted) String() string { return a.name }

// passages counts how often an adopted interceptor has gone on to what is inside
// it. It may do so from several goroutines.
type passages struct {
	begun atomic.Int32
	sent  atomic.Int32 // those of which it cannot be said that nothing was sent
}

// begin counts a passage, and returns how many there were before it.
func (p *passages) begin() int {
	p.sent.Add(1)
	return int(p.begun.Add(1)) - 1
}

// back notes that a passage has come back with err.
func (p *passages) back(err error) {
	if errors.Is(err, turret.ErrNotReady) {
		p.sent.Add(-1)
	}
}

// out returns err, the interceptor's, as it is to go on outwards.
func (p *passages) out(err error) error {
	if p.sent.Load() > 0 {
		return turret.Sent(err)
	}
	return err
}

// Describe says that an interceptor was adopted.
func (a *adopted) Describe(d *turret.Description) { d.Is("adopted", a.name) }
