package interceptors_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// FuzzMetadata sends metadata there and back, through stacks that read and write
// metadata themselves, and without: what the handler and the caller see of it is
// the same, and so is how the RPC ends if gRPC does not send it.
func FuzzMetadata(f *testing.F) {
	values := []string{"", "-1", "\x00", "\xff", "é", " y ", "a,b", strings.Repeat("z", 20_000)}
	for i, key := range []string{
		"x", "X-Key", "x-bin", "", " ", "é", "x\n", ":path", "grpc-status", "grpc-timeout", "grpc-previous-rpc-attempts", pushbackKey,
		"grpc-status-details-bin", "content-type", "te", "user-agent", "grpc-trace-bin", "host",
	} {
		f.Add(key, "y", uint8(i))
		f.Add(key, values[i%len(values)], uint8(i/4))
	}
	f.Fuzz(func(t *testing.T, key, value string, k uint8) {
		if len(key)+len(value) > 1<<16 || slices.Contains(written, strings.ToLower(key)) {
			return
		}
		var bare, stacked exchange
		synctest.Test(t, func(t *testing.T) { bare = exchanged(t, nil, nil, key, value, kinds[k%4]) })
		synctest.Test(t, func(t *testing.T) {
			tracing, again := newSpans().layer(), interceptors.Retry(retry.Config{MaxAttempts: 2, Backoff: noDelay})
			client := interceptors.New(tracing, again, tracing, interceptors.InContext())
			server := interceptors.New(interceptors.Recover(), tracing, interceptors.InContext(), interceptors.Filter(everybody))
			stacked = exchanged(t, client, server, key, value, kinds[k%4])
		})
		if bare.String() != stacked.String() {
			t.Errorf("with stacks:\n%v\nwithout:\n%v", stacked, bare)
		}
	})
}

// An exchange is what was seen of an RPC's metadata.
type exchange struct {
	server, header, trailer metadata.MD // of the handler, and of the caller
	status                  *status.Status
}

// written are the keys that a Trace layer writes, in place of the caller's.
var written = []string{"traceparent", "tracestate", "baggage"}

func (e exchange) String() string {
	var b bytes.Buffer
	for i, md := range []metadata.MD{e.server, e.header, e.trailer} {
		fmt.Fprintf(&b, "%s\n", [...]string{"server:", "header:", "trailer:"}[i])
		for _, key := range slices.Sorted(maps.Keys(md)) {
			if i > 0 || !slices.Contains(written, key) {
				fmt.Fprintf(&b, "  %q: %q\n", key, md[key])
			}
		}
	}
	fmt.Fprintf(&b, "status: %v", e.status.Proto())
	return b.String()
}

// exchanged makes an RPC with metadata in the request, the header and the
// trailer.
func exchanged(t *testing.T, client, server *interceptors.Stack, key, value string, k interceptors.Kind) (e exchange) {
	saw := make(chan metadata.MD, 8)
	look := func(ctx context.Context) {
		md, _ := metadata.FromIncomingContext(ctx)
		saw <- md
	}
	c := wire.Config{Register: func(s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, echo.New("one")) }}
	if client != nil {
		c.Dial, c.Server = client.DialOptions(), server.ServerOptions()
	}
	c.Server = append(c.Server, grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		look(ctx)
		return handler(ctx, req)
	}), grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		look(s.Context())
		return handler(srv, s)
	}))
	w := &world{Pair: wire.Start(t, c), t: t, bubble: true}
	back := []*echov1.MetadataEntry{{Key: key, Values: []string{value, "again"}}}
	r := w.do(metadata.AppendToOutgoingContext(t.Context(), key, value), k, &echov1.Plan{Headers: back, Trailers: back})
	if r.panicked != nil || r.exited {
		t.Fatalf("the caller saw a panic: %v", r.panicked)
	}
	if err := w.settle(); err != nil {
		t.Error(err)
	}
	e.header, e.trailer, e.status = r.header, r.trailer, status.Convert(r.err)
	if len(saw) > 0 {
		e.server = <-saw
	}
	return e
}
