package interceptors

import (
	"context"
	"errors"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
	"github.com/turret-go/turret/limit"
)

// PerKey returns a [Layer] with a gate for each key: key says whose RPC it is, such
// as a tenant, a peer or a method, and may be called concurrently. c says what
// gates the keys have, and how many. A stream is inside until it has ended. PerKey
// panics with the error of c.Validate if there is one, and if key is nil.
//
// A key should be something that the caller cannot choose at will, such as the
// identity that an authentication has found. It refuses as the gate does.
//
// Ready is that of what follows it: which key will be asked for is not known.
func PerKey(key func(ctx context.Context, rpc *RPC) string, c limit.KeyedConfig, o ...GateOption) Layer {
	misuse.Check("interceptors: PerKey", c.Validate())
	if key == nil {
		misused("PerKey", "key", nil, "non-nil")
	}
	keyed := limit.NewKeyed(c)
	classify := gateOptionsOf("PerKey", o).classify
	return func(inner Service) Service { return &perKeyService{inner, keyed, key, classify} }
}

type perKeyService struct {
	Service

	keyed    *limit.Keyed
	key      func(ctx context.Context, rpc *RPC) string
	classify Classifier
}

// Call does what turret.Gated does, with a gate that is found by key: Leave runs on every way out.
func (s *perKeyService) Call(ctx context.Context, rpc *RPC) (reply any, err error) {
	ticket, err := s.keyed.Enter(ctx, s.key(ctx, rpc))
	if err != nil {
		return nil, err
	}
	outcome := turret.Failure // unless the call and classify return
	defer func() { s.keyed.Leave(ticket, outcome) }()
	reply, err = s.Service.Call(ctx, rpc)
	if err != nil && errors.Is(err, turret.ErrNotReady) {
		outcome = turret.Unused
		return reply, err
	}
	outcome = s.classify(ctx, rpc, reply, err)
	return reply, err
}

func (s *perKeyService) String() string { return s.keyed.String() }

// Describe says what the gates say.
func (s *perKeyService) Describe(d *turret.Description) { d.Forward(s.keyed) }
