package interceptors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// The reasons of an [EventWarning].
const (
	// reasonWrongSide: a layer of one side is in a stack that runs RPCs of the
	// other side, which pass through it.
	reasonWrongSide = "WRONG_SIDE"
	// reasonBothSides: a stack runs RPCs of both sides.
	reasonBothSides = "BOTH_SIDES"
	// reasonNoSuchMethod: a pattern names a method that its service does not have.
	reasonNoSuchMethod = "NO_SUCH_METHOD"
)

// A warning is what is most likely a mistake, and shows only when an RPC comes. It
// is reported once. The zero value is ready to use.
type warning struct{ reported atomic.Bool }

// report logs text with slog's default logger, and tells it as an event to the
// observers of rpc, unless that was done before.
func (w *warning) report(ctx context.Context, rpc *RPC, layer, reason, text string) {
	// Loading first keeps the line of memory shared between processors once it is true.
	if w.reported.Load() || w.reported.Swap(true) {
		return
	}
	slog.WarnContext(ctx, "turret: "+text, "layer", layer, "reason", reason, "method", rpc.Method, "side", rpc.Side)
	rpc.tell(ctx, &Event{Kind: EventWarning, Layer: layer, Reason: reason, Err: errors.New(text)})
}

// sides notes which sides' RPCs pass through a stack.
type sides struct {
	seen   atomic.Uint32 // a bit for each side
	shared warning
}

// note notes an RPC of side, and warns when the stack has both sides: the RPCs
// that a handler makes then wait for the room that the handler holds.
func (s *sides) note(ctx context.Context, side Side, method string, layers []Service) {
	bit := uint32(1) << side
	// Either the side was noted before, or it is the first side of the stack.
	if s.seen.Load()&bit != 0 || s.seen.Or(bit)&^bit == 0 {
		return
	}
	rpc := &RPC{Method: method, Side: side}
	for _, layer := range layers { // the outermost observers
		if o, ok := layer.(*observeService); ok {
			rpc = rpc.with(o.add)
		}
	}
	defer func() {
		// The observers are called outside of the layers here, where no Recover of
		// the stack catches what they panic with.
		if p := recover(); p != nil {
			slog.ErrorContext(ctx, "turret: an observer panicked at a warning", "panic", fmt.Sprint(p))
		}
	}()
	s.shared.report(ctx, rpc, "stack", reasonBothSides,
		"one stack runs the RPCs of a server and those of a client: they share its limits and budgets, so that a handler can wait for itself; make a stack for each side")
}

// otherSide returns the name of the side that is not s.
func otherSide(s Side) Side {
	if s == SideServer {
		return SideClient
	}
	return SideServer
}

// warnOfSide reports that a layer does nothing on the side of rpc.
func (w *warning) warnOfSide(ctx context.Context, rpc *RPC, layer, what string) {
	if w.reported.Load() {
		return // before the text is made
	}
	w.report(ctx, rpc, layer, reasonWrongSide, fmt.Sprintf(
		"%s acts on the RPCs of a %s only, and this stack runs those of a %s: they pass through it; move it to a stack of its side", what, otherSide(rpc.Side), rpc.Side))
}

// unknownMethod returns the first of patterns that names a method which its
// service, known from generated code that is linked in, does not have. Nothing is
// known of a service without generated code.
func unknownMethod(patterns []string) (pattern string, found bool) {
	for _, p := range patterns {
		service, method, ok := splitMethod(p)
		if !ok || method == "*" {
			continue
		}
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			continue
		}
		if s, ok := d.(protoreflect.ServiceDescriptor); !ok || s.Methods().ByName(protoreflect.Name(method)) == nil {
			return p, true
		}
	}
	return "", false
}

// A patternCheck looks once whether the patterns of a layer name methods that
// exist.
type patternCheck struct {
	patterns []string
	done     atomic.Bool
	warning  warning
}

// look looks at the patterns at the first RPC of a server.
func (c *patternCheck) look(ctx context.Context, rpc *RPC, layer string) {
	if rpc.Side != SideServer || c.done.Load() || c.done.Swap(true) {
		return
	}
	if p, found := unknownMethod(c.patterns); found {
		c.warning.report(ctx, rpc, layer, reasonNoSuchMethod, fmt.Sprintf(
			"the pattern %q names a method that its service does not have, so that it matches no RPC", strings.TrimSpace(p)))
	}
}
