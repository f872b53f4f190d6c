package interceptors

import (
	"context"
	"reflect"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret/internal/pushback"
)

// vain tells the callers of handlers that retries were in vain. A nil *vain tells
// nothing.
//
// The way to the caller is the stream of the handler's RPC, which gRPC keeps in the
// handler's context and so in that of the RPCs that the handler makes: it reaches
// through handlers that make an error of their own, and costs nothing until a
// Retry gives up.
type vain struct {
	// informed holds the streams that were informed last, by their addresses: a handler
	// whose RPCs fail by the hundred must not send a trailer for each.
	informed [64]atomic.Pointer[grpc.ServerTransportStream]
}

// neverAgain is the trailer that says not to come back.
var neverAgain = metadata.MD{pushback.Key: {"-1"}}

// tell tells the caller of the handler that ctx belongs to, if there is one. A
// handler that has returned cannot be reached any more.
func (v *vain) tell(ctx context.Context) {
	stream := grpc.ServerTransportStreamFromContext(ctx)
	if v == nil || stream == nil {
		return
	}
	if p := reflect.ValueOf(stream); p.Kind() == reflect.Pointer {
		slot := &v.informed[p.Pointer()/128%uintptr(len(v.informed))]
		if last := slot.Load(); last != nil && *last == stream {
			return
		}
		slot.Store(&stream)
	}
	_ = grpc.SetTrailer(ctx, neverAgain)
}
