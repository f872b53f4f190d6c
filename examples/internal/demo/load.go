package demo

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// Kinds are the kinds of RPC in a load, in the order in which they take turns.
var Kinds = []string{"unary", "client_stream", "server_stream", "bidi_stream"}

// A Load is an open loop: RPCs of all kinds start at a steady rate, whether
// those before them have ended or not, as they do when the callers are many.
type Load struct {
	// Rate is how many RPCs start in a second.
	Rate int
	// For is for how long they do.
	For time.Duration
	// Timeout is the deadline of each.
	Timeout time.Duration
	// Messages is how many messages a stream sends in each direction that
	// streams.
	Messages int
	// Tick, if not nil, is called as the load goes on, with what has passed.
	Tick func(passed time.Duration)
}

// Run sends the load to conn and returns once all RPCs have ended. results has
// what was seen so far, all along. It stops early when ctx is done.
func (l Load) Run(ctx context.Context, conn grpc.ClientConnInterface, results *Results) {
	client := echov1.NewEchoServiceClient(conn)
	var rpcs sync.WaitGroup
	start := time.Now()
	for n := 0; l.waitFor(ctx, n, start); n++ {
		if l.Tick != nil {
			l.Tick(time.Since(start))
		}
		kind := Kinds[n%len(Kinds)]
		rpcs.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, l.Timeout)
			defer cancel()
			began := time.Now()
			server, err := l.do(ctx, client, kind)
			results.add(kind, server, time.Since(began), err)
		})
	}
	rpcs.Wait()
}

// waitFor waits until the RPC with number n is due; late ones are due at once.
// It reports false when there are no more.
func (l Load) waitFor(ctx context.Context, n int, start time.Time) bool {
	due := time.Duration(n) * time.Second / time.Duration(l.Rate)
	if due >= l.For {
		return false
	}
	timer := time.NewTimer(time.Until(start.Add(due)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// do makes one RPC and returns the name of the server that answered.
func (l Load) do(ctx context.Context, c echov1.EchoServiceClient, kind string) (server string, err error) {
	payload := []byte("turret")
	switch kind {
	case "unary":
		res, err := c.Unary(ctx, &echov1.UnaryRequest{Payload: payload})
		return res.GetReport().GetServer(), err
	case "client_stream":
		stream, err := c.ClientStream(ctx)
		if err != nil {
			return "", err
		}
		for range l.Messages {
			if stream.Send(&echov1.ClientStreamRequest{Payload: payload}) != nil {
				break // CloseAndRecv says why
			}
		}
		res, err := stream.CloseAndRecv()
		return res.GetReport().GetServer(), err
	case "server_stream":
		stream, err := c.ServerStream(ctx, &echov1.ServerStreamRequest{
			Plan: &echov1.Plan{Responses: new(int32(l.Messages))}, Payload: payload,
		})
		if err != nil {
			return "", err
		}
		return drain(stream.Recv)
	default:
		stream, err := c.BidiStream(ctx)
		if err != nil {
			return "", err
		}
		for range l.Messages {
			if stream.Send(&echov1.BidiStreamRequest{Payload: payload}) != nil {
				break // Recv says why
			}
		}
		if err := stream.CloseSend(); err != nil {
			return "", err
		}
		return drain(stream.Recv)
	}
}

// drain reads a stream to its end.
func drain[Res interface{ GetReport() *echov1.Report }](recv func() (Res, error)) (server string, err error) {
	for {
		res, err := recv()
		if errors.Is(err, io.EOF) {
			return server, nil
		}
		if err != nil {
			return server, err
		}
		server = res.GetReport().GetServer()
	}
}
