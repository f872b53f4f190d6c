package interop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/jhump/protoreflect/desc"    //nolint:staticcheck // deprecated, and in use
	"github.com/jhump/protoreflect/dynamic" //nolint:staticcheck // deprecated, and in use
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/retry"
)

// A stream whose messages have a type that is only known at run time is sent again
// as it was: the zero value of these messages cannot be decoded into.
func TestRetryOfDynamicMessages(t *testing.T) {
	md, err := desc.LoadMessageDescriptorForMessage(new(testgrpc.Payload))
	if err != nil {
		t.Fatal(err)
	}
	for _, clientStreams := range []bool{false, true} {
		for _, serverStreams := range []bool{false, true} {
			for failures := range 3 {
				name := fmt.Sprintf("client streams %v, server streams %v, %d failures", clientStreams, serverStreams, failures)
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						testDynamic(t, md, &grpc.StreamDesc{ClientStreams: clientStreams, ServerStreams: serverStreams}, failures)
					})
				})
			}
		}
	}
}

func testDynamic(t *testing.T, md *desc.MessageDescriptor, sd *grpc.StreamDesc, failures int) {
	attempts := 0
	p := wire.Start(t, wire.Config{
		Server: []grpc.ServerOption{grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			all := new(testgrpc.Payload)
			for {
				m := new(testgrpc.Payload)
				if err := s.RecvMsg(m); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return err
				}
				all.Body = append(all.Body, m.GetBody()...)
			}
			if attempts++; attempts <= failures {
				return status.Error(codes.Unavailable, "down")
			}
			return s.SendMsg(all)
		})},
		Dial: interceptors.New(interceptors.Retry(retry.Config{})).DialOptions(),
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := p.Conn.NewStream(ctx, sd, "/test/Dynamic")
	if err != nil {
		t.Fatal(err)
	}
	sent := "a"
	if sd.ClientStreams {
		sent = "abc"
	}
	m := dynamic.NewMessage(md)
	for _, c := range []byte(sent) {
		m.SetFieldByName("body", []byte{c}) // the same message again
		if err := s.SendMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	reply := dynamic.NewMessage(md)
	if err := errors.Join(s.CloseSend(), s.RecvMsg(reply)); err != nil {
		t.Fatal(err)
	}
	if got := reply.GetFieldByName("body"); string(got.([]byte)) != sent || attempts != failures+1 {
		t.Errorf("the server got %q in attempt %d, want %q in attempt %d", got, attempts, sent, failures+1)
	}
}
