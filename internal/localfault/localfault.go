// Package localfault recognizes what gRPC itself refuses because of the caller: a
// message that is too large or cannot be encoded, a compressor that does not exist,
// credentials that fail, metadata that may not be sent. Such an error says nothing
// about the server, although its code is one that a server might send.
//
// gRPC gives these errors no type and no detail of their own, so they are recognised
// by code and text. The tests of package interceptors have gRPC make each of them,
// and fail when a version of gRPC changes its words.
package localfault

import (
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A Kind says how far an RPC came that gRPC refused.
type Kind uint8

// The kinds. None, the zero value, says that the error is no local fault.
const (
	None Kind = iota
	// Unsent: the message was not sent. Nothing of a unary RPC was.
	Unsent
	// Sent: the request may have been sent and carried out; the reply was refused.
	Sent
)

// A fault is a local fault as gRPC words it.
type fault struct {
	code   codes.Code
	prefix string
	kind   Kind
}

var faults = [...]fault{
	{codes.ResourceExhausted, "trying to send message larger than max", Unsent},
	{codes.ResourceExhausted, "grpc: received message larger than max", Sent}, // here, or where the request came in
	{codes.ResourceExhausted, "grpc: message after decompression larger than max", Sent},
	{codes.ResourceExhausted, "grpc: received message after decompression larger than max", Sent},
	{codes.Internal, "grpc: error while marshaling", Unsent},
	{codes.Internal, "grpc: error while compressing", Unsent},
	{codes.Internal, "grpc: Compressor is not installed for requested grpc-encoding", Unsent},
	{codes.Internal, "grpc: Decompressor is not installed for grpc-encoding", Sent},
	{codes.Unimplemented, "grpc: Decompressor is not installed for grpc-encoding", Sent},
	{codes.Unauthenticated, "transport: per-RPC creds failed due to error", Unsent},
	{codes.Internal, "transport: per-RPC creds failed due to error", Unsent},
	{codes.Internal, "transport: received per-RPC creds error with illegal status", Unsent},
	{codes.Unauthenticated, "transport: cannot send secure credentials on an insecure connection", Unsent},
	{codes.Internal, "header key ", Unsent},
	{codes.Internal, "there is an empty key in the header", Unsent},
}

// Of returns the kind of the local fault that st is; None if it is none. It does
// not allocate and may be called concurrently.
func Of(st *status.Status) Kind {
	switch st.Code() {
	case codes.ResourceExhausted, codes.Internal, codes.Unimplemented, codes.Unauthenticated:
	default:
		return None
	}
	text := st.Message()
	for i := range faults {
		if f := &faults[i]; f.code == st.Code() && strings.HasPrefix(text, f.prefix) {
			return f.kind
		}
	}
	return None
}
