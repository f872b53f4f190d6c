package drain

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
)

// OnSignal waits for one of signals, or until ctx is done, and then drains server
// as [Drainer.Drain] does. Each further signal ends the phase that runs. Without
// signals it waits for SIGTERM and [os.Interrupt]. The values of ctx are not used,
// and its end while the server drains changes nothing.
//
// OnSignal blocks, so Serve must run in another goroutine. Until OnSignal returns
// the signals do not end the process.
func OnSignal(ctx context.Context, d *Drainer, server *grpc.Server, signals ...os.Signal) Report {
	if len(signals) == 0 {
		signals = []os.Signal{syscall.SIGTERM, os.Interrupt}
	}
	came := make(chan os.Signal, 1)
	signal.Notify(came, signals...)
	defer signal.Stop(came)
	return onSignal(ctx, d, server, came)
}

// onSignal is OnSignal with the channel on which signals come.
func onSignal(ctx context.Context, d *Drainer, server *grpc.Server, came <-chan os.Signal) Report {
	select {
	case <-ctx.Done():
	case <-came:
	}
	next, done, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-came:
			}
			select {
			case <-done:
				return
			case next <- struct{}{}:
			}
		}
	}()
	defer func() {
		close(done)
		<-ended
	}()
	return d.drain(context.WithoutCancel(ctx), server, next)
}
