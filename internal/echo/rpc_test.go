package echo

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// dial returns a client of a Server called "one", which ends with the test. It
// takes its place in the bubble that calls it.
func dial(t *testing.T, options ...grpc.ServerOption) echov1.EchoServiceClient {
	t.Helper()
	pair := wire.Start(t, wire.Config{
		Register: func(s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, New("one")) },
		Server:   options,
	})
	return echov1.NewEchoServiceClient(pair.Conn)
}

// around is f around every handler, of any kind.
func around(f func(handler func() error) error) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (res any, err error) {
			err = f(func() (err error) {
				res, err = handler(ctx, req)
				return err
			})
			return res, err
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return f(func() error { return handler(srv, ss) })
		}),
	}
}

// response is what the four response messages have in common.
type response interface {
	GetPayload() []byte
	GetReport() *echov1.Report
}

// result is all that a client sees of one RPC.
type result struct {
	responses       []response
	at              []time.Duration // when each of them came, from the start
	header, trailer metadata.MD
	err             error
	took            time.Duration
}

// last returns the report of the last response.
func (r *result) last(t *testing.T) *echov1.Report {
	t.Helper()
	if r.err != nil || len(r.responses) == 0 {
		t.Fatalf("%d responses, error %v", len(r.responses), r.err)
	}
	return r.responses[len(r.responses)-1].GetReport()
}

// kinds makes one RPC of each kind with this plan. Where the client sends a
// stream, the plan comes with the first request, and each payload is a request.
var kinds = []struct {
	name string
	do   func(ctx context.Context, c echov1.EchoServiceClient, p *echov1.Plan, payloads ...string) result
}{
	{"Unary", func(ctx context.Context, c echov1.EchoServiceClient, p *echov1.Plan, payloads ...string) (r result) {
		res, err := c.Unary(ctx, &echov1.UnaryRequest{Plan: p, Payload: []byte(payloads[0])}, grpc.Header(&r.header), grpc.Trailer(&r.trailer))
		r.err = err
		if err == nil {
			r.responses = append(r.responses, res)
		}
		return r
	}},
	{"ServerStream", func(ctx context.Context, c echov1.EchoServiceClient, p *echov1.Plan, payloads ...string) (r result) {
		s, err := c.ServerStream(ctx, &echov1.ServerStreamRequest{Plan: p, Payload: []byte(payloads[0])})
		if err != nil {
			r.err = err
			return r
		}
		receive(&r, s, s.Recv)
		return r
	}},
	{"ClientStream", func(ctx context.Context, c echov1.EchoServiceClient, p *echov1.Plan, payloads ...string) (r result) {
		s, err := c.ClientStream(ctx)
		if err != nil {
			r.err = err
			return r
		}
		send(payloads, func(payload []byte) error {
			err := s.Send(&echov1.ClientStreamRequest{Plan: p, Payload: payload})
			p = nil
			return err
		})
		res, err := s.CloseAndRecv()
		r.err = err
		if err == nil {
			r.responses = append(r.responses, res)
		}
		r.header, _ = s.Header()
		r.trailer = s.Trailer()
		return r
	}},
	{"BidiStream", func(ctx context.Context, c echov1.EchoServiceClient, p *echov1.Plan, payloads ...string) (r result) {
		s, err := c.BidiStream(ctx)
		if err != nil {
			r.err = err
			return r
		}
		send(payloads, func(payload []byte) error {
			err := s.Send(&echov1.BidiStreamRequest{Plan: p, Payload: payload})
			p = nil
			return err
		})
		r.err = s.CloseSend()
		if r.err == nil {
			receive(&r, s, s.Recv)
		}
		return r
	}},
}

// send sends the payloads, until the stream ends: RecvMsg returns its
// status.
func send(payloads []string, f func([]byte) error) {
	for _, p := range payloads {
		if f([]byte(p)) != nil {
			return
		}
	}
}

func receive[Res response](r *result, s grpc.ClientStream, recv func() (Res, error)) {
	start := time.Now()
	for {
		res, err := recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.err = err
			}
			r.header, _ = s.Header()
			r.trailer = s.Trailer()
			return
		}
		r.responses = append(r.responses, res)
		r.at = append(r.at, time.Since(start))
	}
}

// eachKind runs f once for each kind of RPC, in a bubble of its own. do makes an
// RPC of that kind and notes how long it took.
func eachKind(t *testing.T, f func(t *testing.T, kind string, do func(ctx context.Context, p *echov1.Plan, payloads ...string) result)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := dial(t)
				f(t, k.name, func(ctx context.Context, p *echov1.Plan, payloads ...string) result {
					start := time.Now()
					r := k.do(ctx, client, p, payloads...)
					r.took = time.Since(start)
					return r
				})
			})
		})
	}
}

// wantCode fails the test unless the RPC ended with this code.
func wantCode(t *testing.T, r result, want codes.Code) {
	t.Helper()
	if got := status.Code(r.err); got != want {
		t.Fatalf("ended with %v (%v), want %v", got, r.err, want)
	}
}
