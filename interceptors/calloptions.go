package interceptors

import "google.golang.org/grpc"

// CallOptions returns the options that the caller of a client gave the RPC, but
// those of [grpc.OnFinish], which a stack calls itself. Options that layers add
// with [RPC.WithOptions] are not among them. It is nil on the server. The slice
// is the caller's and must not be changed.
//
// A layer may have options of its own: types that embed [grpc.EmptyCallOption],
// which gRPC ignores.
func (r *RPC) CallOptions() []grpc.CallOption { return r.end().callOptions() }
