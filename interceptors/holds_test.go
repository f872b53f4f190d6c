package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
)

// serverEnds are the interceptors of a world's server around its stack.
type serverEnds struct {
	ran    atomic.Int64              // handlers that were called
	before func(ctx context.Context) // if not nil, what every handler does first
	held   chan *heldHandler         // handlers that were asked to wait
	panics chan any                  // what came through the stack; the outside of it
}

// errPanicked is what the client of a world sees of a panic that its server's
// stack let through.
var errPanicked = status.Error(codes.Aborted, "a panic came out of the stack")

// front keeps a panic that comes out of the stack from ending the process.
func (s *serverEnds) front(err *error) {
	if p := recover(); p != nil {
		s.panics <- p
		*err = errPanicked
	}
}

func (s *serverEnds) frontUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
	defer s.front(&err)
	return handler(ctx, req)
}

func (s *serverEnds) frontStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer s.front(&err)
	return handler(srv, stream)
}

func (s *serverEnds) backUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (s *serverEnds) backStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := s.begin(stream.Context()); err != nil {
		return err
	}
	return handler(srv, stream)
}

// holdKey in the metadata of a request asks the server to hold its handler.
const holdKey = "hold"

// holding returns a context whose RPCs are held in front of their handler.
func holding(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, holdKey, "please")
}

// A heldHandler waits until it is released or its context ends.
type heldHandler struct {
	ctx     context.Context //nolint:containedctx // that of the handler, for the test to look at
	release chan error      // with what it is to return; nil goes on to the handler
}

func (s *serverEnds) begin(ctx context.Context) error {
	s.ran.Add(1)
	if s.before != nil {
		s.before(ctx)
	}
	if len(metadata.ValueFromIncomingContext(ctx, holdKey)) == 0 {
		return nil
	}
	h := &heldHandler{ctx, make(chan error)}
	select {
	case s.held <- h:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-h.release:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hold starts an RPC and waits until its handler is held. release ends it, and
// returns an error if that was no success.
func (w *world) hold(ctx context.Context, k interceptors.Kind) (release func() error, err error) {
	r := w.start(holding(ctx), k, nil)
	select {
	case h := <-w.server.held:
		return func() error {
			close(h.release)
			<-r.done
			return r.wants(codes.OK, "")
		}, nil
	case <-r.done:
		return nil, fmt.Errorf("the RPC that was to be held: %w", errors.Join(r.err, r.wants(codes.OK, "")))
	}
}
