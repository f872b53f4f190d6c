package interceptors

import (
	"context"
	"fmt"
	"slices"
	"strings"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"

	"github.com/turret-go/turret"
)

// For returns a [Layer] that runs layers, first listed outermost, around RPCs
// whose method matches pattern; others go past them. A pattern is one of
//
//	/package.Service/Method   one method
//	/package.Service/*        all methods of a service
//	/*                        all methods
//
// A method is read as gRPC routes it: its service ends at the last slash. For
// several patterns there is [ForAny]. For panics if pattern has another form. Its
// Ready is that of what follows it: the layers in it do not make RPCs of other
// methods wait.
func For(pattern string, layers ...Layer) Layer {
	match := mustPattern("For", "pattern", pattern)
	return branch("For", "for "+pattern, []string{pattern}, func(_ context.Context, rpc *RPC) bool { return match(rpc.Method) }, layers)
}

// ForAny is [For] with several patterns: it runs layers around RPCs whose method
// matches one of them. It panics if patterns is empty or one has another form.
func ForAny(patterns []string, layers ...Layer) Layer {
	match := mustPatterns("ForAny", patterns)
	return branch("ForAny", "for "+strings.Join(patterns, ", "), patterns, func(_ context.Context, rpc *RPC) bool { return match(rpc.Method) }, layers)
}

// Except returns a [Layer] that runs layers around all RPCs but those whose
// method matches pattern, in the forms of [For]: health checks, reflection.
func Except(pattern string, layers ...Layer) Layer {
	match := mustPattern("Except", "pattern", pattern)
	return branch("Except", "except "+pattern, []string{pattern}, func(_ context.Context, rpc *RPC) bool { return !match(rpc.Method) }, layers)
}

// ExceptAny is [Except] with several patterns: it runs layers around RPCs whose
// method matches none of them. It panics if patterns is empty or one has another
// form.
//
//	ExceptAny([]string{"/grpc.health.v1.Health/*", "/grpc.reflection.v1.ServerReflection/*"}, layers...)
func ExceptAny(patterns []string, layers ...Layer) Layer {
	match := mustPatterns("ExceptAny", patterns)
	return branch("ExceptAny", "except "+strings.Join(patterns, ", "), patterns, func(_ context.Context, rpc *RPC) bool { return !match(rpc.Method) }, layers)
}

// ForUnary returns a [Layer] that runs layers around unary RPCs; streams go past
// them. It is ForKind([]Kind{KindUnary}, layers...).
func ForUnary(layers ...Layer) Layer { return ForKind([]Kind{KindUnary}, layers...) }

// ForStreams returns a [Layer] that runs layers around streams of all three kinds;
// unary RPCs go past them.
func ForStreams(layers ...Layer) Layer {
	return ForKind([]Kind{KindClientStream, KindServerStream, KindBidiStream}, layers...)
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
	return branch("ForKind", "for "+strings.Join(names, ", "), nil, func(_ context.Context, rpc *RPC) bool { return set[rpc.Kind] }, layers)
}

// ForMatch returns a [Layer] that runs layers around RPCs that m matches: a
// matcher of go-grpc-middleware, such as selector.MatchFunc. It panics if m is
// nil.
func ForMatch(m selector.Matcher, layers ...Layer) Layer {
	if m == nil {
		misused("ForMatch", "matcher", nil, "non-nil")
	}
	return branch("ForMatch", "for match", nil, func(ctx context.Context, rpc *RPC) bool { return m.Match(ctx, callMeta(rpc)) }, layers)
}

// ExceptMatch returns a [Layer] that runs layers around all RPCs but those that m
// matches. It panics if m is nil.
func ExceptMatch(m selector.Matcher, layers ...Layer) Layer {
	if m == nil {
		misused("ExceptMatch", "matcher", nil, "non-nil")
	}
	return branch("ExceptMatch", "except match", nil, func(ctx context.Context, rpc *RPC) bool { return !m.Match(ctx, callMeta(rpc)) }, layers)
}

// branch returns a layer that runs layers around the RPCs that match. patterns are
// those that match stands for, if it stands for patterns.
func branch(constructor, heading string, patterns []string, match func(context.Context, *RPC) bool, layers []Layer) Layer {
	layers, patterns = slices.Clone(layers), slices.Clone(patterns)
	return func(inner Service) Service {
		b := &branchService{Service: inner, match: match, heading: heading, check: patternCheck{patterns: patterns}}
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
	check   patternCheck
}

func (b *branchService) Call(ctx context.Context, rpc *RPC) (any, error) {
	b.check.look(ctx, rpc, b.heading)
	if b.match(ctx, rpc) {
		return b.inside.Call(ctx, rpc)
	}
	return b.Service.Call(ctx, rpc)
}

func (b *branchService) String() string { return describeInside(b.heading, b.layers) }

// mustPattern returns the predicate that pattern stands for, or panics.
func mustPattern(constructor, parameter, pattern string) func(method string) bool {
	match, ok := parsePattern(pattern)
	if !ok {
		misused(constructor, parameter, pattern, `"/package.Service/Method", "/package.Service/*" or "/*"`)
	}
	return match
}

// mustPatterns returns a predicate that is true where that of one of patterns is.
func mustPatterns(constructor string, patterns []string) func(method string) bool {
	if len(patterns) == 0 {
		misused(constructor, "patterns", patterns, "at least one pattern")
	}
	matches := make([]func(string) bool, len(patterns))
	for i, p := range patterns {
		matches[i] = mustPattern(constructor, fmt.Sprintf("patterns[%d]", i), p)
	}
	return func(method string) bool {
		for _, match := range matches {
			if match(method) {
				return true
			}
		}
		return false
	}
}

// parsePattern returns the predicate that pattern stands for, or false if pattern
// has none of the forms of [For].
func parsePattern(pattern string) (match func(method string) bool, ok bool) {
	if pattern == "/*" {
		return func(string) bool { return true }, true
	}
	service, method, ok := splitMethod(pattern)
	if !ok || !strings.HasPrefix(pattern, "/") || service == "" || method == "" ||
		strings.ContainsAny(service, "*/") || method != "*" && strings.Contains(method, "*") {
		return nil, false
	}
	return func(m string) bool {
		s, name, ok := splitMethod(m)
		return ok && s == service && (method == "*" || name == method)
	}, true
}

// callMeta is what matchers and interceptors of go-grpc-middleware see of rpc.
func callMeta(rpc *RPC) middleware.CallMeta {
	service, method, _ := splitMethod(rpc.Method)
	return middleware.CallMeta{
		ReqOrNil: rpc.Request,
		Typ:      middleware.GRPCType(rpc.Kind.String()),
		Service:  service,
		Method:   method,
		IsClient: rpc.Side == SideClient,
	}
}

// Describe describes the layers that run for some RPCs only.
func (b *branchService) Describe(d *turret.Description) {
	d.Is("for", b.heading)
	describeLayers(d, b.layers, b.Service)
}
