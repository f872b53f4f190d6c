package bench

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// again is a Retry that nothing stops.
func again() interceptors.Layer {
	return interceptors.Retry(retry.Config{Backoff: retry.Backoff{Base: -1}, Budget: retry.Unlimited})
}

// streamSides are clients without and with a Retry.
var streamSides = []struct {
	name   string
	client *interceptors.Stack
}{
	{"bare", nil},
	{"bare, again", nil},
	{"a layer that does nothing", interceptors.New(pass)},
	{"retry", interceptors.New(again())},
	{"concurrency > retry", interceptors.New(interceptors.ConcurrencyLimit(100, limit.Queue{}), again())},
	{"timeout > concurrency > retry", interceptors.New(interceptors.Timeout(30*time.Second), interceptors.ConcurrencyLimit(100, limit.Queue{}), again())},
}

// BenchmarkStreamRetry is what a Retry costs a bidirectional stream that does
// not fail: an empty one, one with a hundred messages there and back, one that
// sends a hundred messages, which are all kept, and a message there and back on
// a stream that is open and committed.
func BenchmarkStreamRetry(b *testing.B) {
	talk := func(sent, received int) func(ctx context.Context, b *testing.B, c echov1.EchoServiceClient) func() {
		return func(ctx context.Context, b *testing.B, c echov1.EchoServiceClient) func() {
			return func() { converse(ctx, b, c, sent, received) }
		}
	}
	for _, bench := range []struct {
		name string
		call func(ctx context.Context, b *testing.B, c echov1.EchoServiceClient) func()
	}{
		{"Empty", talk(0, 0)},
		{"Conversation", talk(100, 100)},
		{"Upload", talk(100, 0)},
		{"Message", onOpenStream},
	} {
		b.Run(bench.name, func(b *testing.B) {
			ctx := withDeadline(b)
			var rows []row
			for _, s := range streamSides {
				rows = append(rows, row{s.name, bench.call(ctx, b, connected(b, stacks(s.client, nil)))})
			}
			compare(b, rows...)
		})
	}
}

// converse opens a stream, sends messages of 100 bytes, of which the first ones
// are answered at once and the others not at all, and reads to the end.
func converse(ctx context.Context, b *testing.B, c echov1.EchoServiceClient, sent, received int) {
	stream, err := c.BidiStream(ctx)
	if err != nil {
		b.Fatal(err)
	}
	req := &echov1.BidiStreamRequest{Payload: make([]byte, 100)}
	if received == 0 {
		req.Plan = &echov1.Plan{Responses: new(int32(0))}
	}
	for i := range sent {
		if err := stream.Send(req); err != nil {
			b.Fatal(err)
		}
		if i < received {
			if _, err := stream.Recv(); err != nil {
				b.Fatal(err)
			}
		}
	}
	_ = stream.CloseSend()
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
}

func onOpenStream(ctx context.Context, b *testing.B, c echov1.EchoServiceClient) func() {
	stream, err := c.BidiStream(ctx)
	if err != nil {
		b.Fatal(err)
	}
	req := &echov1.BidiStreamRequest{Payload: make([]byte, 100)}
	call := func() {
		if err := stream.Send(req); err != nil {
			b.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			b.Fatal(err)
		}
	}
	call() // commits
	return call
}

// BenchmarkStreamRetried is a stream whose first attempt fails after it has
// received a hundred messages, beside one that does not fail.
func BenchmarkStreamRetried(b *testing.B) {
	ctx := withDeadline(b)
	failing := &echov1.Failure{Code: int32(codes.Unavailable), After: 100, Attempts: 1}
	upload := func(c echov1.EchoServiceClient, failure *echov1.Failure) func() {
		return func() {
			stream, err := c.ClientStream(ctx)
			if err != nil {
				b.Fatal(err)
			}
			req := &echov1.ClientStreamRequest{Payload: make([]byte, 100), Plan: &echov1.Plan{Failure: failure}}
			for range 100 {
				if err := stream.Send(req); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := stream.CloseAndRecv(); err != nil {
				b.Fatal(err)
			}
		}
	}
	with := stacks(interceptors.New(again()), nil)
	compare(b,
		row{"does not fail", upload(connected(b, with), nil)},
		row{"fails once", upload(connected(b, with), failing)},
	)
}

// nowhere is a stream that costs nothing.
type nowhere struct{ grpc.ClientStream }

func (nowhere) SendMsg(any) error            { return nil }
func (nowhere) RecvMsg(any) error            { return nil }
func (nowhere) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (nowhere) CloseSend() error             { return nil }

// BenchmarkStreamMethods is SendMsg and RecvMsg of a committed stream, without a
// connection.
func BenchmarkStreamMethods(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(cancel)
	streamer := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
		return nowhere{}, nil
	}
	call := func(s grpc.ClientStream) func() {
		return func() {
			if s.SendMsg(nil) != nil || s.RecvMsg(nil) != nil {
				b.Fatal("it failed")
			}
		}
	}
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	rows := []row{{"bare", call(nowhere{})}, {"bare, again", call(nowhere{})}}
	for _, s := range streamSides[2:4] {
		stream, err := s.client.StreamClient()(ctx, desc, nil, "/x/Y", streamer)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := stream.Header(); err != nil { // commits
			b.Fatal(err)
		}
		rows = append(rows, row{s.name, call(stream)})
	}
	compare(b, rows...)
}
