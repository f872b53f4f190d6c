package bench

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

func insecurely() grpc.DialOption { return grpc.WithTransportCredentials(insecure.NewCredentials()) }

func passOn(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoker(ctx, method, req, reply, cc, opts...)
}

func passOnServer(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(ctx, req)
}

// chain returns an RPC through gRPC's own chain of n interceptors that pass it
// on. A last one does not, as there is no connection.
func chain(b *testing.B, n int) func() {
	var options []grpc.DialOption
	for range n {
		options = append(options, grpc.WithChainUnaryInterceptor(passOn))
	}
	options = append(options, grpc.WithChainUnaryInterceptor(func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
		return nil
	}), insecurely())
	cc, err := grpc.NewClient("passthrough:///none", options...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cc.Close() })
	ctx, req, reply := b.Context(), new(int), new(int)
	return func() { _ = cc.Invoke(ctx, rpcMethod, req, reply) }
}

// serverChain returns an RPC through gRPC's own chain of n interceptors of a
// server. Only the code of services sees the chain, so an RPC fetches it
// there.
func serverChain(b *testing.B, n int) func() {
	var chained grpc.UnaryServerInterceptor
	service := &grpc.ServiceDesc{ServiceName: "package.Service", Methods: []grpc.MethodDesc{{
		MethodName: "Method",
		Handler: func(_ any, _ context.Context, _ func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
			chained = i
			return new(echov1.UnaryResponse), nil
		},
	}}}
	var options []grpc.ServerOption
	for range n {
		options = append(options, grpc.ChainUnaryInterceptor(passOnServer))
	}
	p := wire.Start(b, wire.Config{Register: func(r grpc.ServiceRegistrar) { r.RegisterService(service, nil) }, Server: options})
	if err := p.Conn.Invoke(b.Context(), rpcMethod, new(echov1.UnaryRequest), new(echov1.UnaryResponse)); err != nil {
		b.Fatal(err)
	}
	return handling(b.Context(), chained)
}

// chains is gRPC's own chain of n interceptors that do nothing, on each side.
func chains(n int) (s side) {
	for range n {
		s.dial = append(s.dial, grpc.WithChainUnaryInterceptor(passOn), grpc.WithChainStreamInterceptor(
			func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				return streamer(ctx, desc, cc, method, opts...)
			}))
		s.server = append(s.server, grpc.ChainUnaryInterceptor(passOnServer), grpc.ChainStreamInterceptor(
			func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				return handler(srv, ss)
			}))
	}
	return s
}
