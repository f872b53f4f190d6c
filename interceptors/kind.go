package interceptors

import "fmt"

// Kind is the kind of an RPC: which sides send a stream of messages.
type Kind uint8

// String returns the name of k in gRPC's words.
func (k Kind) String() string {
	switch k {
	case KindUnary:
		return "unary"
	case KindClientStream:
		return "client_stream"
	case KindServerStream:
		return "server_stream"
	case KindBidiStream:
		return "bidi_stream"
	default:
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
}

// MarshalText returns what String does, so that slog and encoding/json write
// the name. It never fails; an unknown kind is Kind(9).
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// The kinds of RPC.
const (
	KindUnary        Kind = iota // one request, one reply
	KindClientStream             // many requests, one reply
	KindServerStream             // one request, many replies
	KindBidiStream               // many of both, independent of each other
)

// kindOf returns the kind of a method, from the two flags of gRPC's descriptors.
func kindOf(clientStreams, serverStreams bool) Kind {
	switch {
	case clientStreams && serverStreams:
		return KindBidiStream
	case clientStreams:
		return KindClientStream
	case serverStreams:
		return KindServerStream
	default:
		return KindUnary
	}
}

// Side says on which end of the connection a stack runs.
type Side uint8

// String returns "client" or "server".
func (s Side) String() string {
	switch s {
	case SideClient:
		return "client"
	case SideServer:
		return "server"
	default:
		return fmt.Sprintf("Side(%d)", uint8(s))
	}
}

// MarshalText returns what String does, so that slog and encoding/json write
// the name. It never fails; an unknown side is Side(9).
func (s Side) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// The sides.
const (
	SideClient Side = iota
	SideServer
)
