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

// serverStack is of theirs and ours, as they are best ordered.
func serverStack(log logging.Logger) *interceptors.Stack {
	events := logging.WithLogOnEvents(logging.FinishCall)
	return interceptors.New(
		interceptors.Recover(),
		interceptors.Named("logging", interceptors.FromServer( // sees also what is refused inside it
			logging.UnaryServerInterceptor(log, events),
			logging.StreamServerInterceptor(log, events),
		)),
		interceptors.Named("auth", interceptors.FromServer( // a stranger takes no place in the limit
			auth.UnaryServerInterceptor(authenticate),
			auth.StreamServerInterceptor(authenticate),
		)),
		interceptors.ConcurrencyLimit(maxRPCs, limit.Queue{}),
		interceptors.ForKind([]interceptors.Kind{interceptors.KindUnary}, interceptors.Timeout(time.Second)),
		interceptors.Named("validation", interceptors.FromServer(
			validator.UnaryServerInterceptor(),
			validator.StreamServerInterceptor(),
		)),
	)
}

// clientStack has an interceptor of theirs inside a Retry of ours: it runs for
// each attempt.
func clientStack() *interceptors.Stack {
	return interceptors.New(
		interceptors.Retry(retry.Config{Backoff: retry.Backoff{Base: 10 * time.Millisecond}}),
		interceptors.ForKind([]interceptors.Kind{interceptors.KindUnary}, interceptors.Timeout(time.Second)),
		interceptors.Named("validation", interceptors.FromUnaryClient( // they have none for streams
			validator.UnaryClientInterceptor(),
		)),
	)
}

type userKey struct{}

// authenticate is the program's own part of their auth interceptors.
func authenticate(ctx context.Context) (context.Context, error) {
	token, err := auth.AuthFromMD(ctx, "bearer")
	if err != nil {
		return nil, err
	}
	if token != "let alice in" {
		return nil, status.Error(codes.Unauthenticated, "who are you?")
	}
	return context.WithValue(ctx, userKey{}, "alice"), nil
}

// user returns who made the RPC: what authenticate found out reaches the handler
// and all layers inside.
func user(ctx context.Context) string {
	name, _ := ctx.Value(userKey{}).(string)
	return name
}
