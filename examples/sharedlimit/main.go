// The sharedlimit command shows one limit of three servers whose engine is
// killed and restarted. It prints how many calls each server let in by second.
//
//	go run .
//
// The engine is a Redis or Valkey server if one is installed, else a token bucket
// in memory. The program ends after nine seconds.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/redisserver"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/limit/shared"
)

// What the program shows.
const (
	seconds   = 9
	killAt    = 3 // seconds
	restartAt = 6
	each      = 5 * time.Millisecond // between two calls to a server
)

var rate = limit.Rate{N: 300, Per: time.Second, Burst: 30}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := choose(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// choose runs the program on Redis if it is installed.
func choose(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "limit")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r, err := startRedis(ctx, dir)
	switch {
	case errors.Is(err, redisserver.ErrMissing):
		return run(ctx, out, &memory{})
	case err != nil:
		return err
	}
	defer r.close()
	return run(ctx, out, r)
}

// A backend is an engine that can be killed and restarted.
type backend interface {
	shared.Engine
	fmt.Stringer
	kill()
	restart(ctx context.Context) error
}

// run lets three servers share a limit, and prints what they let in.
func run(ctx context.Context, out io.Writer, b backend) error {
	if err := b.restart(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "three servers, each is called 200 times a second; together they may let in %v\nthe engine is %v\n\n", rate, b)
	fmt.Fprintf(out, "%6s %6s %6s %6s %6s\n", "second", "A", "B", "C", "all")
	var in [3]atomic.Int64
	load, stop := context.WithCancel(ctx)
	var servers sync.WaitGroup
	for i := range in {
		gate := shared.New(b, shared.Config{Key: "orders", Rate: rate})
		servers.Go(func() { call(load, gate, &in[i]) })
	}
	err := report(ctx, out, b, &in)
	stop()
	servers.Wait()
	b.kill()
	return err
}

// call calls a server that is guarded by gate until ctx ends, and counts in in
// what it lets in.
func call(ctx context.Context, gate turret.Gate, in *atomic.Int64) {
	tick := time.NewTicker(each)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if ticket, err := gate.Enter(ctx); err == nil {
			in.Add(1)
			gate.Leave(ticket, turret.Success)
		}
	}
}

// report prints a line each second, and kills and restarts the engine.
func report(ctx context.Context, out io.Writer, b backend, in *[3]atomic.Int64) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for second := 1; second <= seconds; second++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		x, y, z := in[0].Swap(0), in[1].Swap(0), in[2].Swap(0)
		fmt.Fprintf(out, "%6d %6d %6d %6d %6d\n", second, x, y, z, x+y+z)
		switch second {
		case killAt:
			b.kill()
			fmt.Fprintln(out, "the engine is killed")
		case restartAt:
			if err := b.restart(ctx); err != nil {
				return err
			}
			fmt.Fprintln(out, "the engine is restarted")
		}
	}
	return nil
}
