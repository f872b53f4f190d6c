package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret/interceptors"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// A call makes an RPC of one kind with this plan, and returns what the server
// reports of it.
type call struct {
	kind interceptors.Kind
	do   func(ctx context.Context, c echov1.EchoServiceClient, p *echov1.Plan) (*echov1.Report, error)
}

var calls = []call{
	{interceptors.KindUnary, func(ctx context.Context, c echov1.EchoServiceClient, p *echov1.Plan) (*echov1.Report, error) {
		res, err := c.Unary(ctx, &echov1.UnaryRequest{Plan: p})
		return res.GetReport(), err
	}},
	{interceptors.KindClientStream, func(ctx context.Context, c echov1.EchoServiceClient, p *echov1.Plan) (*echov1.Report, error) {
		s, err := c.ClientStream(ctx)
		if err != nil {
			return nil, err
		}
		if err := s.Send(&echov1.ClientStreamRequest{Plan: p}); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		res, err := s.CloseAndRecv() // says why, if Send said io.EOF
		return res.GetReport(), err
	}},
	{interceptors.KindServerStream, func(ctx context.Context, c echov1.EchoServiceClient, p *echov1.Plan) (*echov1.Report, error) {
		s, err := c.ServerStream(ctx, &echov1.ServerStreamRequest{Plan: p})
		if err != nil {
			return nil, err
		}
		return lastOf(s.Recv)
	}},
	{interceptors.KindBidiStream, func(ctx context.Context, c echov1.EchoServiceClient, p *echov1.Plan) (*echov1.Report, error) {
		s, err := c.BidiStream(ctx)
		if err != nil {
			return nil, err
		}
		if err := s.Send(&echov1.BidiStreamRequest{Plan: p}); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if err := s.CloseSend(); err != nil {
			return nil, err
		}
		return lastOf(s.Recv)
	}},
}

// lastOf reads a stream to its end.
func lastOf[Res interface{ GetReport() *echov1.Report }](recv func() (Res, error)) (last *echov1.Report, err error) {
	for {
		res, err := recv()
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return last, err
		}
		last = res.GetReport()
	}
}

// as returns a context whose RPCs carry a token.
func as(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "bearer "+token)
}

// occupy makes an RPC that takes a place of the server until leave is called.
func occupy(ctx context.Context, c echov1.EchoServiceClient) (leave func() error, err error) {
	s, err := c.BidiStream(as(ctx, "a1"))
	if err != nil {
		return nil, err
	}
	if err := s.Send(&echov1.BidiStreamRequest{}); err != nil {
		return nil, err
	}
	if _, err := s.Recv(); err != nil {
		return nil, fmt.Errorf("the RPC that is to occupy the server: %w", err)
	}
	return func() error {
		if err := s.CloseSend(); err != nil {
			return err
		}
		_, err := lastOf(s.Recv)
		return err
	}, nil
}
