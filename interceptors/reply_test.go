package interceptors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// failsOnce is an invoker that fails the first time.
func failsOnce() grpc.UnaryInvoker {
	calls := 0
	return func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		if calls++; calls == 1 {
			return status.Error(codes.Unavailable, "once")
		}
		return nil
	}
}

// What no layer replaces comes as it was, of whatever type a codec may
// understand, and none of them makes a stack panic.
func TestReplyOfAnyType(t *testing.T) {
	type uncomparable struct{ list []int }
	replies := []any{
		new(response), (*response)(nil),
		new(uncomparable),
		uncomparable{list: []int{1}},
		&[]int{1},
		[]int{1},
		[]int{},
		[1]func(){},
		map[string]int{"a": 1},
		map[string]int(nil),
		func() {}, make(chan int), new(any), "text", 1.5,
	}
	again := interceptors.New(retrying(2), passing)
	for _, s := range []*interceptors.Stack{interceptors.New(), interceptors.New(passing), again} {
		if err := invoke(t.Context(), s, nil, succeeds); err != nil {
			t.Errorf("no reply, where none is wanted, ended with %v", err)
		}
		for _, reply := range replies {
			if err := invoke(t.Context(), s, reply, succeeds); err != nil {
				t.Errorf("a reply of type %T ended with %v", reply, err)
			}
			got, err := s.UnaryServer()(t.Context(), nil, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) { return reply, nil })
			if err != nil || reflect.TypeOf(got) != reflect.TypeOf(reply) || reflect.TypeOf(got).Comparable() && got != reply {
				t.Errorf("a handler's reply of type %T became %T, %v", reply, got, err)
			}
		}
	}
	for _, reply := range replies {
		if err := invoke(t.Context(), again, reply, failsOnce()); err != nil {
			t.Errorf("a reply of type %T, on the second attempt, ended with %v", reply, err)
		}
	}
}

// The layers of a client see the very reply that the caller will read.
func TestReplyIsTheCallers(t *testing.T) {
	var seen any
	s := interceptors.New(turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		reply, err := inner.Call(ctx, rpc)
		seen = reply
		return reply, err
	}), retrying(2))
	reply := new(response)
	if err := invoke(t.Context(), s, reply, succeeds); err != nil || seen != any(reply) {
		t.Errorf("the layer saw %p, the caller reads %p (%v)", seen, reply, err)
	}
}

// answering is a layer that calls what is inside, and answers something else.
func answering(reply any) interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		if _, err := inner.Call(ctx, rpc); err != nil {
			return nil, err
		}
		return reply, nil
	})
}

func TestReplacedReply(t *testing.T) {
	type plain struct{ A, B int }
	descriptor := (&response{}).ProtoReflect().Descriptor()
	old, replaced := dynamicpb.NewMessage(descriptor), dynamicpb.NewMessage(descriptor)
	replaced.Set(descriptor.Fields().ByName("payload"), protoreflect.ValueOfBytes([]byte("new")))
	other := dynamicpb.NewMessage((&request{}).ProtoReflect().Descriptor())
	for _, tt := range []struct {
		name            string
		reply, replaced any
		want            any // nil: INTERNAL, with both types in its text
	}{
		{"message", &response{Payload: []byte("old"), Report: &echov1.Report{}}, &response{Payload: []byte("new")}, &response{Payload: []byte("new")}},
		{"struct", &plain{A: 1, B: 2}, &plain{B: 3}, &plain{B: 3}},
		{"dynamic message", old, replaced, replaced},
		{"dynamic message of another type", old, other, nil},
		{"another message", new(response), new(request), nil},
		{"another struct", &plain{}, new(int), nil},
		{"nil", new(response), nil, nil},
		{"typed nil", new(response), (*response)(nil), nil},
		{"another map", map[string]int{}, map[string]int{}, nil},
		{"not a pointer", new(response), plain{}, nil},
		{"reply where none is wanted", nil, new(response), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := invoke(t.Context(), interceptors.New(answering(tt.replaced)), tt.reply, succeeds)
			if tt.want == nil {
				text := status.Convert(err).Message()
				if status.Code(err) != codes.Internal || !strings.Contains(text, fmt.Sprintf("%T", tt.reply)) || !strings.Contains(text, fmt.Sprintf("%T", tt.replaced)) {
					t.Errorf("ended with %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, isProto := tt.reply.(proto.Message)
			if isProto && !proto.Equal(got, tt.want.(proto.Message)) || !isProto && !reflect.DeepEqual(tt.reply, tt.want) {
				t.Errorf("the caller reads %v, want %v", tt.reply, tt.want)
			}
		})
	}
}

// A layer that answers instead of the other side makes its reply with NewReply.
func TestNewReply(t *testing.T) {
	for _, reply := range []fmt.Stringer{&response{Payload: []byte("old")}, bytes.NewBufferString("old")} {
		s := interceptors.New(turret.Wrap(func(_ context.Context, rpc *interceptors.RPC, _ interceptors.Service) (any, error) {
			return rpc.NewReply(), nil
		}))
		if err := invoke(t.Context(), s, reply, nil); err != nil || reply.String() != "" {
			t.Errorf("the caller reads %q, %v", reply, err)
		}
	}
	s := interceptors.New(turret.Wrap(func(_ context.Context, rpc *interceptors.RPC, _ interceptors.Service) (any, error) {
		return rpc.NewReply(), nil
	}))
	if _, err := s.UnaryServer()(t.Context(), nil, &grpc.UnaryServerInfo{}, nil); status.Code(err) != codes.Internal {
		t.Errorf("a server, which does not know the type, ended with %v", err)
	}
}

// jsonName is the name of a codec that merges into what it reads into.
const jsonName = "turret-test-json"

type jsonCodec struct{}

func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
func (jsonCodec) Name() string                       { return jsonName }

func init() { encoding.RegisterCodec(jsonCodec{}) }

// A note is a message that is not one of protobuf.
type note struct {
	A, B, C string         `json:",omitempty"`
	M       map[string]int `json:",omitempty"`
}

// notes is a service without protobuf. Take swaps A and B; the first attempt of
// Half fails behind its answer, which the client has read by then.
func notes(s grpc.ServiceRegistrar) {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Notes",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Take", Handler: takeNote}},
		Streams:     []grpc.StreamDesc{{StreamName: "Half", ServerStreams: true, Handler: halfNote}},
	}, struct{}{})
}

func takeNote(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // as gRPC has it
	in := new(note)
	if err := decode(in); err != nil {
		return nil, err
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/test.Notes/Take"}
	return interceptor(ctx, in, info, func(context.Context, any) (any, error) { return &note{A: in.B, B: in.A}, nil })
}

func halfNote(_ any, s grpc.ServerStream) error {
	if err := s.RecvMsg(new(note)); err != nil {
		return err
	}
	if metadata.ValueFromIncomingContext(s.Context(), previousKey) != nil {
		return s.SendMsg(&note{B: "second", M: map[string]int{"second": 2}})
	}
	if err := s.SendMsg(&note{A: "first", M: map[string]int{"first": 1}}); err != nil {
		return err
	}
	return status.Error(codes.Unavailable, "behind the answer")
}

// A codec that is not protobuf's works on both sides. One that merges, as JSON
// does, does not mix the answers of two attempts, and keeps what the caller had
// in its reply.
func TestOtherCodec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := interceptors.New(interceptors.Recover(), retrying(2), passing)
		server := interceptors.New(interceptors.Recover(), interceptors.For("/test.Notes/*", passing), interceptors.InContext())
		p := wire.Start(t, wire.Config{Register: notes, Server: server.ServerOptions(), Dial: client.DialOptions()})
		for _, tt := range []struct{ method, want string }{
			{"Take", `{"A":"b","B":"a","C":"mine"}`},
			{"Half", `{"B":"second","C":"mine","M":{"second":2}}`},
		} {
			got := note{C: "mine"}
			err := p.Conn.Invoke(t.Context(), "/test.Notes/"+tt.method, &note{A: "a", B: "b"}, &got, grpc.CallContentSubtype(jsonName))
			if text, _ := json.Marshal(got); err != nil || string(text) != tt.want {
				t.Errorf("%s answered %s, %v, want %s", tt.method, text, err, tt.want)
			}
		}
		// The same into an empty reply.
		var got note
		err := p.Conn.Invoke(t.Context(), "/test.Notes/Half", new(note), &got, grpc.CallContentSubtype(jsonName))
		if text, _ := json.Marshal(got); err != nil || string(text) != `{"B":"second","M":{"second":2}}` {
			t.Errorf("Half answered %s, %v", text, err)
		}
	})
}

// An attempt starts with an empty message of protobuf, also where the codec
// merges.
func TestRetryResetsTheReply(t *testing.T) {
	n := 0
	reply := new(response)
	err := invoke(t.Context(), interceptors.New(retrying(2)), reply, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		if n++; n == 1 {
			reply.Payload = []byte("first")
			return status.Error(codes.Unavailable, "behind the answer")
		}
		reply.Report = &echov1.Report{Server: "second"}
		return nil
	})
	if err != nil || reply.GetPayload() != nil || reply.GetReport().GetServer() != "second" {
		t.Errorf("answered %v, %v", reply, err)
	}
}
