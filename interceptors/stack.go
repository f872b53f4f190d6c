package interceptors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/turret-go/turret"
)

// A Layer is a layer around RPCs of all kinds, on both sides. The result of its
// service is the reply message of a unary RPC, and nil for a stream.
//
// What this package says of a layer holds for many RPCs at once: the services
// that its layers make may be called concurrently, and so are the functions,
// matchers, gates and interceptors that the layers are given. One Layer value
// may be used in several stacks, which then share its state.
type Layer = turret.Layer[*RPC, any]

// A Service runs RPCs. Its Call is one RPC from opening to end, streams
// included.
type Service = turret.Service[*RPC, any]

// A Stack is a stack of layers as the four interceptors of gRPC. It is built
// once, and everything that its layers keep (limits, budgets, breakers) is
// shared by all RPCs of all kinds that pass through it, on every connection and
// server that it is given to. Use one stack for the client side and another for
// the server side.
//
// A Stack may be used concurrently and must be made by [New].
type Stack struct {
	service Service
	empty   bool
	layers  []Service   // what each layer made, outermost first; for String
	repeats atomic.Bool // a layer prepares RPCs for repetition, see newUnaryClient
}

// New returns a stack of layers. The first one listed is outermost: it sees the
// RPC first and its result last. Nil layers are skipped. A stack without layers
// is not in the way at all. New panics if a layer returns a nil service.
func New(layers ...Layer) *Stack {
	s := &Stack{}
	s.service, s.layers = stacked("New", layers, leafService{})
	s.empty = len(s.layers) == 0
	return s
}

// stacked puts layers around inner, and returns the outermost service and what
// each layer made, outermost first. constructor is whom to blame for a layer
// that makes nothing.
func stacked(constructor string, layers []Layer, inner Service) (outermost Service, made []Service) {
	for i, layer := range slices.Backward(layers) {
		if layer == nil {
			continue
		}
		if inner = layer(inner); inner == nil {
			panic(fmt.Sprintf("interceptors: %s: layer %d returned a nil service, must not", constructor, i))
		}
		made = append(made, inner)
	}
	slices.Reverse(made)
	return inner, made
}

// leafService is the innermost service of every stack: it hands the RPC to the
// leaf that the RPC carries. It is always ready.
type leafService struct{}

func (leafService) Ready(context.Context) error { return nil }

func (leafService) Call(ctx context.Context, rpc *RPC) (any, error) { return rpc.leaf.call(ctx, rpc) }

// ServerOptions returns both server interceptors as options of grpc.NewServer.
// They are chained behind interceptors of options before them.
func (s *Stack) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.UnaryServer()),
		grpc.ChainStreamInterceptor(s.StreamServer()),
	}
}

// DialOptions returns both client interceptors as options of grpc.NewClient.
// They are chained behind interceptors of options before them.
func (s *Stack) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(s.UnaryClient()),
		grpc.WithChainStreamInterceptor(s.StreamClient()),
	}
}

// Ready waits until the stack had room for an RPC a moment ago, and takes
// nothing; see [turret.Service]. It says nothing of connections or handlers.
func (s *Stack) Ready(ctx context.Context) error { return s.service.Ready(ctx) }

// String returns one line for each layer, outermost first: its name and what
// its gates count. A layer that has no String method is shown by its type.
//
// What [turret.Stack] has made one layer of is shown by the first of its layers,
// for that is all of it that can be seen here. To see all of them, give [New]
// the layers themselves: New(append(common, own...)...).
func (s *Stack) String() string {
	if s.empty {
		return "(no layers)"
	}
	lines := make([]string, len(s.layers))
	for i, layer := range s.layers {
		lines[i] = describe(layer)
	}
	return strings.Join(lines, "\n")
}

func describe(s Service) string {
	if d, ok := s.(fmt.Stringer); ok {
		return d.String()
	}
	return fmt.Sprintf("%T", s)
}

// describeInside describes layers behind a heading, each indented.
func describeInside(heading string, layers []Service) string {
	var b strings.Builder
	b.WriteString(heading)
	for _, layer := range layers {
		b.WriteString("\n  ")
		b.WriteString(strings.ReplaceAll(describe(layer), "\n", "\n  "))
	}
	return b.String()
}
