package main

import (
	"context"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/validator"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

// maxRPCs is how many RPCs the server admits at a time. One is few, so that it is
// easily full.
const maxRPCs = 1

// serverStack is of theirs and ours, in the order in which an RPC meets them.
func serverStack(log logging.Logger) *interceptors.Stack {
	ends := logging.WithLogOnEvents(logging.FinishCall)
	return interceptors.New(
		interceptors.Recover(),
		// Theirs. Outside of all that may end the RPC, so that it sees every end.
		interceptors.FromServer(logging.UnaryServerInterceptor(log, ends), logging.StreamServerInterceptor(log, ends)),
		// Theirs. Outside of the limit, so that strangers take no place.
		interceptors.FromServer(auth.UnaryServerInterceptor(authenticate), auth.StreamServerInterceptor(authenticate)),
		// Ours, which finds in the context what theirs has found out.
		interceptors.Filter(onlyAlice),
		interceptors.ConcurrencyLimit(maxRPCs, limit.Queue{}),
		interceptors.ForKind([]interceptors.Kind{interceptors.KindUnary}, interceptors.Timeout(time.Minute)),
		// Theirs. It sees the messages of streams as they come.
		interceptors.FromServer(validator.UnaryServerInterceptor(), validator.StreamServerInterceptor()),
	)
}

// clientStack has an interceptor of theirs inside a Retry of ours: it sees each
// attempt as an RPC.
func clientStack(log logging.Logger) *interceptors.Stack {
	ends := logging.WithLogOnEvents(logging.FinishCall)
	return interceptors.New(
		interceptors.Retry(retry.Config{Backoff: retry.Backoff{Base: 10 * time.Millisecond}}),
		interceptors.FromClient(logging.UnaryClientInterceptor(log, ends), logging.StreamClientInterceptor(log, ends)),
	)
}

type userKey struct{}

// authenticate is the program's own part of their auth interceptors.
func authenticate(ctx context.Context) (context.Context, error) {
	token, err := auth.AuthFromMD(ctx, "bearer")
	if err != nil {
		return nil, err
	}
	name, ok := map[string]string{"a1": "alice", "b2": "bob"}[token]
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "who are you?")
	}
	return context.WithValue(ctx, userKey{}, name), nil
}

func onlyAlice(ctx context.Context, _ *interceptors.RPC) (context.Context, error) {
	if name := ctx.Value(userKey{}); name != "alice" {
		return nil, status.Errorf(codes.PermissionDenied, "%v is not alice", name)
	}
	return ctx, nil
}
