// Command ownlayer runs layers that are not Turret's own: one that measures
// latency, written once for all kinds of RPC and both sides, and a gate that an
// operator turns off. doc/writing-a-layer.md explains how they are written.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/turret-go/turret/examples/internal/demo"
	"github.com/turret-go/turret/interceptors"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "ownlayer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	var client, server samples
	var orders Switch
	behind := interceptors.New(Latency(server.add), interceptors.Named("orders", interceptors.Admit(&orders)))
	fleet, err := demo.StartFleet(ctx, demo.Server{Name: "echo", Delay: 2 * time.Millisecond, Options: behind.ServerOptions()})
	if err != nil {
		return err
	}
	defer fleet.Stop()
	front := interceptors.New(Nothing(), Greet(slog.New(slog.DiscardHandler)), Latency(client.add))
	conn, err := fleet.Dial(front.DialOptions()...)
	if err != nil {
		return err
	}
	defer conn.Close()

	load := demo.Load{Rate: 200, For: 200 * time.Millisecond, Timeout: 5 * time.Second, Messages: 3}
	load.Run(ctx, conn, demo.NewResults())
	orders.Turn(false)
	load.Run(ctx, conn, demo.NewResults())

	fmt.Fprintln(out, "The client saw:")
	client.print(out)
	fmt.Fprintln(out, "The server saw:")
	server.print(out)
	fmt.Fprintln(out, "The server's stack:")
	fmt.Fprintln(out, behind)
	return nil
}

// samples collects what a latency layer recorded.
type samples struct {
	mu  sync.Mutex
	all []Sample
}

func (s *samples) add(one Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, one)
}

// print prints how many RPCs of each kind went how.
func (s *samples) print(out io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := map[Sample]int{}
	for _, one := range s.all {
		one.Took = 0
		counts[one]++
	}
	var keys []Sample
	for key := range counts {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b Sample) int {
		return cmp.Or(cmp.Compare(a.Method, b.Method), cmp.Compare(a.Outcome, b.Outcome))
	})
	for _, key := range keys {
		fmt.Fprintf(out, "  %4d %-8v %s\n", counts[key], key.Outcome, key.Method)
	}
}
