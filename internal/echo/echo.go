// Package echo is a server for turret.echo.v1.EchoService: it answers with what
// it was sent, and follows the plan that each request may bring, so that a test
// or an example gets a late, failing or half-finished RPC of any kind by asking
// for it.
package echo

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// Server implements the EchoService. What it does with a plan is written at the
// fields of echov1.Plan. It keeps no state between RPCs, so its methods may be
// called concurrently, and one Server may be registered with several gRPC
// servers. Make one with [New].
//
// It returns an RPC's own context error as it is (gRPC turns it into a status),
// so that a layer around the handler sees what an ordinary handler would return.
type Server struct {
	echov1.UnimplementedEchoServiceServer

	name string
}

// New returns a Server that calls itself name in its reports.
func New(name string) *Server { return &Server{name: name} }

// Unary implements [echov1.EchoServiceServer].
func (s *Server) Unary(ctx context.Context, req *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	c := s.begin(ctx)
	if err := c.receive(req); err != nil {
		return nil, err
	}
	var res *echov1.UnaryResponse
	err := c.answer(func(payload []byte, r *echov1.Report) error {
		res = &echov1.UnaryResponse{Payload: payload, Report: r}
		return nil
	})
	return res, err
}

// ServerStream implements [echov1.EchoServiceServer].
func (s *Server) ServerStream(req *echov1.ServerStreamRequest, stream grpc.ServerStreamingServer[echov1.ServerStreamResponse]) error {
	c := s.begin(stream.Context())
	if err := c.receive(req); err != nil {
		return err
	}
	err := c.respond(func(payload []byte, r *echov1.Report) error {
		return stream.Send(&echov1.ServerStreamResponse{Payload: payload, Report: r})
	})
	if err != nil {
		return err
	}
	return c.fail(theEnd)
}

// ClientStream implements [echov1.EchoServiceServer].
func (s *Server) ClientStream(stream grpc.ClientStreamingServer[echov1.ClientStreamRequest, echov1.ClientStreamResponse]) error {
	c := s.begin(stream.Context())
	err := each(stream.Recv, func(req *echov1.ClientStreamRequest) error {
		if err := c.receive(req); err != nil {
			return err
		}
		return c.fail(c.received)
	})
	if err != nil {
		return err
	}
	return c.answer(func(payload []byte, r *echov1.Report) error {
		return stream.SendAndClose(&echov1.ClientStreamResponse{Payload: payload, Report: r})
	})
}

// BidiStream implements [echov1.EchoServiceServer].
func (s *Server) BidiStream(stream grpc.BidiStreamingServer[echov1.BidiStreamRequest, echov1.BidiStreamResponse]) error {
	c := s.begin(stream.Context())
	err := each(stream.Recv, func(req *echov1.BidiStreamRequest) error {
		if err := c.receive(req); err != nil {
			return err
		}
		return c.respond(func(payload []byte, r *echov1.Report) error {
			return stream.Send(&echov1.BidiStreamResponse{Payload: payload, Report: r})
		})
	})
	if err != nil {
		return err
	}
	return c.fail(theEnd)
}

// each calls f with every request until the client half-closes. It ends early
// with the first error of recv or f.
func each[Req any](recv func() (*Req, error), f func(*Req) error) error {
	for {
		req, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(req); err != nil {
			return err
		}
	}
}
