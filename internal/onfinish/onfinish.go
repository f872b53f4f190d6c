// Package onfinish calls grpc.OnFinish functions once for each RPC, as gRPC
// promises, where one RPC of the caller is several of gRPC.
package onfinish

import (
	"slices"

	"google.golang.org/grpc"
)

// Take returns opts without its OnFinish options, and these. gRPC would call them
// once for each attempt, with its status, and not at all for an RPC that was
// refused; the taker must call them once, with what the caller gets. Take does not
// allocate if there are none. Appending to rest copies it.
func Take(opts []grpc.CallOption) (rest []grpc.CallOption, onFinish []func(error)) {
	for i, o := range opts {
		f, ok := o.(grpc.OnFinishCallOption)
		switch {
		case ok && onFinish == nil:
			rest = append(make([]grpc.CallOption, 0, len(opts)), opts[:i]...)
			onFinish = append(onFinish, f.OnFinish)
		case ok:
			onFinish = append(onFinish, f.OnFinish)
		case onFinish != nil:
			rest = append(rest, o)
		}
	}
	if onFinish == nil {
		return slices.Clip(opts), nil
	}
	return slices.Clip(rest), onFinish
}

// Tell calls those that were taken with the end of the RPC.
func Tell(onFinish []func(error), err error) {
	for _, f := range onFinish {
		f(err)
	}
}
