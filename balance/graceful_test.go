package balance_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/balance"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// While servers end gracefully under load, one after the other, no RPC fails,
// without any retry: those that find the connection of their endpoint lost go
// elsewhere.
func TestClientConnGracefulStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, balance.ClientConfig{Balance: balance.Config{Seed: 1}})
		names := []string{"a", "b", "c"}
		s.insert(names...)
		for round := range 30 {
			name := names[round%len(names)]
			time.AfterFunc(5*time.Millisecond, func() { s.gracefulStop(name) })
			s.busy(20 * time.Millisecond)
			s.start(name)
			time.Sleep(2 * time.Second) // gRPC has connected again
			synctest.Wait()
			if s.open(name) == 0 {
				t.Fatalf("nobody has connected to %s again", name)
			}
		}
	})
}

// gracefulStop ends a server when its RPCs have ended. It accepts no connections
// meanwhile.
func (s *site) gracefulStop(name string) { s.closed(name).GracefulStop() }

// busy makes RPCs, unary ones and streams, from many goroutines for so long. All
// have to succeed.
func (s *site) busy(length time.Duration) {
	ctx, cancel := context.WithTimeout(s.Context(), length)
	defer cancel()
	var callers sync.WaitGroup
	for i := range 40 {
		callers.Go(func() {
			plan := &echov1.Plan{Delay: durationpb.New(time.Duration(1+i%3) * time.Millisecond)}
			for ctx.Err() == nil {
				var err error
				if i%4 == 0 {
					err = s.readAll(&echov1.ServerStreamRequest{Plan: plan})
				} else {
					_, err = s.Unary(s.Context(), &echov1.UnaryRequest{Plan: plan})
				}
				if err != nil {
					s.Error(err)
				}
			}
		})
	}
	callers.Wait()
}

// readAll reads a stream of a server to its end.
func (s *site) readAll(req *echov1.ServerStreamRequest) error {
	stream, err := s.ServerStream(s.Context(), req)
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
