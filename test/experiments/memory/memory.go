// Package memory has gRPC servers and clients that meet in memory, and so can run in
// virtual time: a service whose methods take a number and answer with one.
package memory

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Method and Other are the full names of the methods. They do the same.
const (
	Method = "/memory.Memory/Call"
	Other  = "/memory.Memory/Other"
)

// A Handler answers a call.
type Handler func(ctx context.Context, in uint64) error

// A Server is a gRPC server in memory.
type Server struct {
	listener *bufconn.Listener
	server   *grpc.Server
	conns    []*grpc.ClientConn
}

// Small buffers: there are many connections.
const (
	pipe   = 16 << 10
	buffer = 1 << 10
)

// Serve starts a server.
func Serve(h Handler, opts ...grpc.ServerOption) *Server {
	opts = append(opts, grpc.ReadBufferSize(buffer), grpc.WriteBufferSize(buffer), grpc.WaitForHandlers(true))
	s := &Server{listener: bufconn.Listen(pipe), server: grpc.NewServer(opts...)}
	s.server.RegisterService(&description, h)
	go func() { _ = s.server.Serve(s.listener) }()
	return s
}

// Dial returns a client. Retries of gRPC's own are off unless opts turn them on.
func (s *Server) Dial(opts ...grpc.DialOption) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///memory", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.listener.DialContext(ctx) }),
		grpc.WithIdleTimeout(0),
		grpc.WithReadBufferSize(buffer), grpc.WithWriteBufferSize(buffer),
	}, opts...)...)
	if err != nil {
		panic(err)
	}
	conn.Connect()
	s.conns = append(s.conns, conn)
	return conn
}

// Close ends the clients and the server, when all calls have ended.
func (s *Server) Close() {
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.server.Stop()
	time.Sleep(time.Minute) // what gRPC still waits for ends inside the bubble
}

// CallOther makes a call of the other method.
func CallOther(ctx context.Context, conn *grpc.ClientConn, in uint64, opts ...grpc.CallOption) error {
	return conn.Invoke(ctx, Other, wrapperspb.UInt64(in), new(wrapperspb.UInt64Value), opts...)
}

// Call makes a call.
func Call(ctx context.Context, conn *grpc.ClientConn, in uint64, opts ...grpc.CallOption) error {
	return conn.Invoke(ctx, Method, wrapperspb.UInt64(in), new(wrapperspb.UInt64Value), opts...)
}

// Number returns the number in a request.
func Number(req any) uint64 { return req.(*wrapperspb.UInt64Value).GetValue() }

var description = grpc.ServiceDesc{
	ServiceName: "memory.Memory",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Call", Handler: handle(Method)}, {MethodName: "Other", Handler: handle(Other)}},
}

// handle returns the handler of a method.
func handle(method string) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		in := new(wrapperspb.UInt64Value)
		if err := decode(in); err != nil {
			return nil, err
		}
		call := func(ctx context.Context, _ any) (any, error) {
			if err := srv.(Handler)(ctx, in.GetValue()); err != nil {
				return nil, err
			}
			return wrapperspb.UInt64(0), nil
		}
		if interceptor == nil {
			return call(ctx, in)
		}
		return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: method}, call)
	}
}
