package interceptors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/retry"
)

// keeping is a stream below a Retry that encodes what it is sent, as gRPC does, and
// drops the bytes; it never ends.
type keeping struct {
	grpc.ClientStream

	codec interface {
		Marshal(v any) (mem.BufferSlice, error)
	}
}

func (s keeping) SendMsg(m any) error {
	data, err := s.codec.Marshal(m)
	data.Free()
	return err
}

// A stream that may be retried keeps a bounded amount of memory, however small its
// messages are, and whatever the sizes of the buffers that they are encoded into.
func TestReplayLimitBoundsMemory(t *testing.T) {
	for _, tt := range []struct {
		name     string
		message  proto.Message
		messages int
	}{
		{"empty messages", new(emptypb.Empty), 1_000_000},
		{"tiny messages", &request{Payload: []byte("x")}, 100_000},
		{"messages just above the size of a pooled buffer", &request{Payload: make([]byte, 33<<10)}, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s, err := interceptors.New(interceptors.Retry(retry.Config{})).StreamClient()(ctx, &grpc.StreamDesc{ClientStreams: true}, nil, "/a/B",
				func(_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
					for _, o := range slices.Backward(opts) {
						if codec, ok := o.(grpc.ForceCodecV2CallOption); ok {
							onFinish := opts[slices.IndexFunc(opts, func(o grpc.CallOption) bool { _, ok := o.(grpc.OnFinishCallOption); return ok })]
							context.AfterFunc(ctx, func() { onFinish.(grpc.OnFinishCallOption).OnFinish(context.Canceled) })
							return keeping{codec: codec.CodecV2}, nil
						}
					}
					return nil, errors.New("no codec")
				})
			if err != nil {
				t.Fatal(err)
			}
			before := heap()
			for range tt.messages {
				if err := s.SendMsg(tt.message); err != nil {
					t.Fatal(err)
				}
			}
			if grown, most := heap()-before, int64(2*interceptors.DefaultReplayLimit+64<<10); grown > most {
				t.Errorf("the heap grew by %d KiB, want at most %d", grown>>10, most>>10)
			}
			runtime.KeepAlive(s)
		})
	}
}

// heap returns the size of the heap in bytes. Two collections empty the pools.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The messages and codecs below are what callers have whose messages are not those
// of generated code.

// described is a message whose zero value cannot be decoded into: its type is only
// known at run time.
type described struct {
	fields *[]string
	values map[string]string
}

func newDescribed() *described {
	return &described{fields: &[]string{"a", "b"}, values: map[string]string{"a": "1"}}
}

func (d *described) MarshalJSON() ([]byte, error) {
	_ = (*d.fields)[0] // panics for the zero value
	return json.Marshal(d.values)
}

func (d *described) UnmarshalJSON(data []byte) error {
	_ = (*d.fields)[0]
	return json.Unmarshal(data, &d.values)
}

// wrapped wraps an interface.
type wrapped struct{ proto.Message }

// wrappedJSON wraps an interface, and is no message of protobuf.
type wrappedJSON struct{ json.Marshaler }

func (w *wrappedJSON) UnmarshalJSON(data []byte) error {
	return w.Marshaler.(json.Unmarshaler).UnmarshalJSON(data)
}

// legacy is a message as older generators make it: with Reset, String and
// ProtoMessage, and methods that encode it.
type legacy struct{ word string }

func (m *legacy) Reset()                      { *m = legacy{} }
func (m *legacy) String() string              { return m.word }
func (*legacy) ProtoMessage()                 {}
func (m *legacy) Marshal() ([]byte, error)    { return []byte(m.word), nil }
func (m *legacy) Unmarshal(data []byte) error { m.word = string(data); return nil }

// distrustful is a codec that panics when it is to decode a request, or to encode
// one for the second time.
type distrustful struct{ plainV2 }

func (c distrustful) Unmarshal(data mem.BufferSlice, v any) error {
	if _, ok := v.(*text); ok {
		panic("a request")
	}
	return c.plainV2.Unmarshal(data, v)
}

// numbering is a codec with state: it numbers what it encodes.
type numbering struct {
	plainV2

	encoded *int
}

func (c numbering) Marshal(v any) (mem.BufferSlice, error) {
	*c.encoded++
	return mem.BufferSlice{mem.SliceBuffer([]byte(strconv.Itoa(*c.encoded)))}, nil
}

func (numbering) Unmarshal(mem.BufferSlice, any) error { return nil }

// rawCodec is the server's: it takes bytes as they come.
type rawCodec struct{ plainV2 }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func TestReplayOfAnyMessage(t *testing.T) {
	json := func(c plainV2) []grpc.CallOption { return []grpc.CallOption{grpc.ForceCodecV2(c)} }
	tests := []struct {
		name  string
		make  func() any
		codec func() []grpc.CallOption
	}{
		{"type known at run time", func() any { return newDescribed() }, func() []grpc.CallOption { return json(plainV2{"c"}) }},
		{"wrapper", func() any { return &wrapped{&request{Payload: []byte("x")}} }, func() []grpc.CallOption { return nil }},
		{"wrapper, not of protobuf", func() any { return &wrappedJSON{newDescribed()} }, func() []grpc.CallOption { return json(plainV2{"c"}) }},
		{"wrapper of nothing", func() any { return &wrapped{} }, func() []grpc.CallOption { return []grpc.CallOption{grpc.ForceCodecV2(numbering{encoded: new(int)})} }},
		{"older generator", func() any { return &legacy{"word"} }, func() []grpc.CallOption { return nil }},
		{"not a pointer", func() any { return map[string]string{"a": "1"} }, func() []grpc.CallOption { return []grpc.CallOption{grpc.ForceCodecV2(numbering{encoded: new(int)})} }},
		{"codec that panics", func() any { return &text{[]string{"a"}} }, func() []grpc.CallOption { return []grpc.CallOption{grpc.ForceCodecV2(distrustful{})} }},
		{"codec with state", func() any { return &text{[]string{"a"}} }, func() []grpc.CallOption { return []grpc.CallOption{grpc.ForceCodecV2(numbering{encoded: new(int)})} }},
	}
	for _, tt := range tests {
		for _, k := range streamKinds {
			for failures := range 3 {
				inBubble(t, fmt.Sprintf("%s/%v/%d failures", tt.name, k, failures), func(t *testing.T) {
					reply := tt.make()
					if _, ok := reply.(*text); ok {
						reply = new(any)
					}
					testReplayOf(t, k, failures, tt.make, reply, tt.codec())
				})
			}
		}
	}
}

// testReplayOf sends messages, and compares what the attempts of the stream have
// received.
func testReplayOf(t *testing.T, k interceptors.Kind, failures int, newMessage func() any, reply any, opts []grpc.CallOption) {
	var attempts [][][]byte
	p := serveWith(t, func(n int, s grpc.ServerStream) error {
		var got [][]byte
		for {
			var m []byte
			if err := s.RecvMsg(&m); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
			got = append(got, m)
		}
		attempts = append(attempts, got)
		if n < failures {
			return errDown
		}
		return s.SendMsg(&got[0])
	}, wire.Config{Server: []grpc.ServerOption{grpc.ForceServerCodecV2(rawCodec{})}}, again())
	s := p.open(k, opts...)
	messages := 1
	if clientStreams(k) {
		messages = 3
	}
	for range messages {
		if err := s.SendMsg(newMessage()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(reply); err != nil {
		t.Fatal(err)
	}
	if len(attempts) != failures+1 || len(attempts[0]) != messages {
		t.Fatalf("the server got %q", attempts)
	}
	for _, a := range attempts[1:] {
		if !slices.EqualFunc(a, attempts[0], bytes.Equal) {
			t.Errorf("first %q, then %q", attempts[0], a)
		}
	}
}
