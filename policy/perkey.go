package policy

import (
	"context"
	"net"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// perKeyGates returns the gates of a per_key, outermost first.
func perKeyGates(m *policyv1.PerKey) (gates []turret.Gate) {
	of := func(made func(string) turret.Gate) {
		keyed := limit.NewKeyed(limit.KeyedConfig{New: made, MaxKeys: int(m.GetMaxKeys())})
		gates = append(gates, keyed.By(keyOf(m)))
	}
	if r := m.GetRateLimit(); r != nil {
		of(func(string) turret.Gate { return limit.NewTokenBucket(rateOf(r), queueOf(r.GetQueue())) })
	}
	if l := m.GetLimit(); l != nil {
		of(func(string) turret.Gate { return limit.NewConcurrency(int(l.GetMax()), queueOf(l.GetQueue())) })
	}
	return gates
}

// layersOf returns one layer of several gates, outermost first.
func layersOf(gates []turret.Gate, shadow bool) interceptors.Layer {
	layers := make([]interceptors.Layer, len(gates))
	for i, g := range gates {
		if shadow {
			layers[i] = interceptors.Shadow(g)
		} else {
			layers[i] = interceptors.Admit(g)
		}
	}
	return turret.Stack(layers...)
}

// keyOf returns what tells the keys apart: the first value of a metadata key, "" if
// there is none, or the address of the peer.
func keyOf(m *policyv1.PerKey) func(context.Context) string {
	name := m.GetMetadata()
	if name == "" {
		return peerAddress
	}
	return func(ctx context.Context) string {
		if values := metadata.ValueFromIncomingContext(ctx, name); len(values) > 0 {
			return values[0]
		}
		return ""
	}
}

func peerAddress(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	address := p.Addr.String()
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
