package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/load/alarm"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/statusz"
)

// A server is one of the fleet. It gets its listener by xDS, and its RPCs pass
// through a stack as they would without.
type server struct {
	echov1.UnimplementedEchoServiceServer

	name    string // the zone and a number: "a1"
	weight  uint32
	address string
	alarm   *alarm.Alarm
	stack   *interceptors.Stack
	xds     *xds.GRPCServer
	ended   chan struct{}

	sick  atomic.Bool
	calls atomic.Int64 // that it has answered well
}

// startServer starts a server, which serves once the control plane has sent it its
// listener.
func startServer(ctx context.Context, p *plane, page *statusz.Page, name string, weight uint32) (*server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{name: name, weight: weight, address: l.Addr().String(), alarm: alarm.New(alarm.Config{}), ended: make(chan struct{})}
	s.stack = interceptors.New(
		interceptors.Recover(),
		s.alarm.Layer(),
		interceptors.ConcurrencyLimit(100, limit.Queue{Max: 100, Timeout: patience}),
		interceptors.ForUnary(interceptors.Timeout(patience)),
	)
	page.Add("server "+name, s.stack)
	if _, err := p.publish(name, serverResources(s.address)); err != nil {
		return nil, err
	}
	options := append(s.stack.ServerOptions(), grpc.Creds(insecure.NewCredentials()),
		xds.BootstrapContentsForTesting(bootstrap(p.address, name)), xds.ServingModeCallback(mode))
	if s.xds, err = xds.NewGRPCServer(options...); err != nil {
		return nil, fmt.Errorf("server %s: %w", name, err)
	}
	echov1.RegisterEchoServiceServer(s.xds, s)
	s.alarm.Register(s.xds)
	go func() {
		defer close(s.ended)
		_ = s.xds.Serve(l) // ends with Stop
	}()
	return s, nil
}

// mode logs that a server serves no more. gRPC by itself logs both as errors.
func mode(address net.Addr, m xds.ServingModeChangeArgs) {
	if m.Mode != connectivity.ServingModeServing {
		slog.Warn("not serving", "address", address, "mode", m.Mode, "err", m.Err)
	}
}

func (s *server) stop() {
	s.xds.Stop()
	<-s.ended
}

// Unary answers after 2 ms, or fails at once if the server is sick.
func (s *server) Unary(ctx context.Context, _ *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	if s.sick.Load() {
		return nil, status.Error(codes.Unavailable, "no database")
	}
	t := time.NewTimer(2 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.C:
	}
	s.calls.Add(1)
	return &echov1.UnaryResponse{}, nil
}
