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
	"github.com/turret-go/turret/test/bench/measure"
)

// again is a Retry that nothing stops.
func again() interceptors.Layer {
	return interceptors.Retry(retry.Config{Backoff: retry.Backoff{Base: -1}, Budget: retry.Unlimited})
}

// A streamSide is a client and a server that streams are measured through.
type streamSide struct {
	name string
	side side
}

// retried are clients without and with a Retry.
func retried() []streamSide {
	return []streamSide{
		{"bare", side{}},
		{"Turret: a layer that does nothing", stacks(interceptors.New(pass), nil)},
		{"Turret: Retry", stacks(interceptors.New(again()), nil)},
	}
}

// streamSides are all that streams are measured through.
func streamSides() []streamSide {
	one, four := interceptors.New(pass), interceptors.New(fiveLayers(2 * time.Hour)[:4]...)
	more := interceptors.New(interceptors.Timeout(2*time.Hour), interceptors.ConcurrencyLimit(places, limit.Queue{}), again())
	return append(retried(), []streamSide{
		{"bare, again", side{}},
		{"Turret: four layers, on the client", stacks(four, nil)},
		{"Turret: timeout, concurrency limit, Retry", stacks(more, nil)},
		{"Turret: a layer that does nothing, on the server", stacks(nil, one)},
		{"Turret: four layers, on the server", stacks(nil, four)},
		{"Turret: a layer that does nothing, on both", stacks(one, one)},
		{"gRPC: chains of 10", chains(10)},
		{"otelgrpc, no-op providers", otel(noSpans)},
	}...)
}

// elsewhere is a bare client that opens each stream on a goroutine of its own:
// what Turret would do if its stack, which has one, opened them (decision 0003).
func elsewhere() streamSide {
	open := func(
		ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption,
	) (stream grpc.ClientStream, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			stream, err = streamer(ctx, desc, cc, method, opts...)
		}()
		<-done
		return stream, err
	}
	return streamSide{"bare, opened on a new goroutine", side{dial: []grpc.DialOption{grpc.WithStreamInterceptor(open)}}}
}

// BenchmarkStream is a bidirectional stream over loopback, and a message there
// and back on one that is open and committed. (failsafe-go has nothing for
// streams.)
func BenchmarkStream(b *testing.B) {
	empty := func(b *testing.B) { measure.Compare(b, streams(b, append(streamSides(), elsewhere()), 0, 0)...) }
	b.Run("empty stream, one processor", onOne(empty))
	b.Run("empty stream, all processors", empty)
	b.Run("message there and back", func(b *testing.B) {
		var rows []measure.Row
		for _, s := range streamSides() {
			rows = append(rows, measure.Row{Name: s.name, F: onOpenStream(deadline(b, time.Hour), b, connected(b, s.side))})
		}
		measure.Compare(b, rows...)
	})
	b.Run("fails after 100 messages and is retried", benchmarkReplay)
	b.Run("SendMsg and RecvMsg, without a connection", benchmarkMethods)
}

// streams returns rows of one stream each.
func streams(b *testing.B, sides []streamSide, sent, received int) []measure.Row {
	ctx := deadline(b, time.Hour)
	var rows []measure.Row
	for _, s := range sides {
		c := connected(b, s.side)
		rows = append(rows, measure.Row{Name: s.name, F: func() { converse(ctx, b, c, sent, received) }})
	}
	return rows
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

// benchmarkReplay is a stream whose first attempt fails after it has received a
// hundred messages, beside one that does not fail.
func benchmarkReplay(b *testing.B) {
	ctx := deadline(b, time.Hour)
	failure := &echov1.Failure{Code: int32(codes.Unavailable), After: 100, Attempts: 1}
	upload := func(failure *echov1.Failure) func() {
		c := connected(b, stacks(interceptors.New(again()), nil))
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
	measure.Compare(b, measure.Row{Name: "Turret: fails once", F: upload(failure)}, measure.Row{Name: "Turret: does not fail", F: upload(nil)})
}

// nowhere is a stream that costs nothing.
type nowhere struct{ grpc.ClientStream }

func (nowhere) SendMsg(any) error            { return nil }
func (nowhere) RecvMsg(any) error            { return nil }
func (nowhere) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (nowhere) CloseSend() error             { return nil }

// benchmarkMethods is SendMsg and RecvMsg of a committed stream.
func benchmarkMethods(b *testing.B) {
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
	through := func(l interceptors.Layer) func() {
		stream, err := interceptors.New(l).StreamClient()(ctx, desc, nil, "/x/Y", streamer)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := stream.Header(); err != nil { // commits
			b.Fatal(err)
		}
		return call(stream)
	}
	measure.Compare(b,
		measure.Row{Name: "bare", F: call(nowhere{})},
		measure.Row{Name: "Turret: a layer that does nothing", F: through(pass)},
		measure.Row{Name: "Turret: Retry", F: through(again())},
	)
}
