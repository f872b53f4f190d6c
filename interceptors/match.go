package interceptors

import (
	"context"
	"fmt"
	"slices"
	"strings"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
)

// For returns a [Layer] that runs layers, first listed outermost, around RPCs
// whose method matches pattern; others go past them. A pattern is one of
//
//	/package.Service/Method   one method
//	/package.Service/*        all methods of a service
//	/*                        all methods
//
// It panics if pattern has another form. Its Ready is that of what follows it:
// the layers in it do not make RPCs of other methods wait.
func For(pattern string, layers ...Layer) Layer {
	match := mustPattern("For", pattern)
	return branch("For", "for "+pattern, func(_ context.Context, rpc *RPC) bool { return match(rpc.Method) }, layers)
}

// Except returns a [Layer] that runs layers around all RPCs but those whose
// method matches pattern, in the forms of [For]: health checks, reflection.
func Except(pattern string, layers ...Layer) Layer {
	match := mustPattern("Except", pattern)
	return branch("Except", "except "+pattern, func(_ context.Context, rpc *RPC) bool { return !match(rpc.Method) }, layers)
}

// ForKind returns a [Layer] that runs layers around RPCs of the given kinds;
// others go past them. It panics if kinds is empty or holds an unknown kind.
func ForKind(kinds []Kind, layers ...Layer) Layer {
	if len(kinds) == 0 {
		misused("ForKind", "kinds", kinds, "at least one kind")
	}
	var set [KindBidiStream + 1]bool
	names := make([]string, len(kinds))
	for i, k := range kinds {
		if int(k) >= len(set) {
			misused("ForKind", fmt.Sprintf("kinds[%d]", i), k, "between KindUnary and KindBidiStream")
		}
		set[k], names[i] = true, k.String()
	}
	return branch("ForKind", "for "+strings.Join(names, ", "), func(_ context.Context, rpc *RPC) bool { return set[rpc.Kind] }, layers)
}

// ForMatch returns a [Layer] that runs layers around RPCs that m matches: a
// matcher of go-grpc-middleware, such as selector.MatchFunc. It panics if m is
// nil.
func ForMatch(m selector.Matcher, layers ...Layer) Layer {
	if m == nil {
		misused("ForMatch", "matcher", nil, "non-nil")
	}
	return branch("ForMatch", "for match", func(ctx context.Context, rpc *RPC) bool { return m.Match(ctx, callMeta(rpc)) }, layers)
}

// branch returns a layer that runs layers around the RPCs that match.
func branch(constructor, heading string, match func(context.Context, *RPC) bool, layers []Layer) Layer {
	layers = slices.Clone(layers)
	return func(inner Service) Service {
		b := &branchService{Service: inner, match: match, heading: heading}
		b.inside, b.layers = stacked(constructor, layers, inner)
		return b
	}
}

// branchService is as ready as the service it embeds, which follows it.
type branchService struct {
	Service

	inside  Service
	match   func(context.Context, *RPC) bool
	heading string
	layers  []Service
}

func (b *branchService) Call(ctx context.Context, rpc *RPC) (any, error) {
	if b.match(ctx, rpc) {
		return b.inside.Call(ctx, rpc)
	}
	return b.Service.Call(ctx, rpc)
}

func (b *branchService) String() string { return describeInside(b.heading, b.layers) }

func mustPattern(constructor, pattern string) func(method string) bool {
	match, ok := parsePattern(pattern)
	if !ok {
		misused(constructor, "pattern", pattern, `"/package.Service/Method", "/package.Service/*" or "/*"`)
	}
	return match
}

// parsePattern returns the predicate that pattern stands for, or false if pattern
// has none of the forms of [For].
func parsePattern(pattern string) (match func(method string) bool, ok bool) {
	if pattern == "/*" {
		return func(string) bool { return true }, true
	}
	service, method, ok := strings.Cut(strings.TrimPrefix(pattern, "/"), "/")
	if !strings.HasPrefix(pattern, "/") || !ok || service == "" || method == "" ||
		strings.Contains(service, "*") || strings.Contains(method, "/") || method != "*" && strings.Contains(method, "*") {
		return nil, false
	}
	if method == "*" {
		prefix := "/" + service + "/"
		return func(m string) bool { return strings.HasPrefix(m, prefix) }, true
	}
	return func(m string) bool { return m == pattern }, true
}

// callMeta is what matchers and interceptors of go-grpc-middleware see of rpc.
func callMeta(rpc *RPC) middleware.CallMeta {
	service, method, _ := strings.Cut(strings.TrimPrefix(rpc.Method, "/"), "/")
	return middleware.CallMeta{
		ReqOrNil: rpc.Request,
		Typ:      middleware.GRPCType(rpc.Kind.String()),
		Service:  service,
		Method:   method,
		IsClient: rpc.Side == SideClient,
	}
}
