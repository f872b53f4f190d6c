// Command balance shows what balancing policies make of a server that turns
// bad: the same load through four of them, side by side and live on a terminal.
//
// Five Echo servers run on loopback TCP. After a third of the time one of them
// becomes slow and another one flaky, and after two thirds they are well again.
// There is no retry and no other layer: what differs is which server is chosen.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/leastrequest" // registers the policy

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/examples/internal/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, term.IsTerminal(int(os.Stdout.Fd())))
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "balance:", err)
		os.Exit(1)
	}
}

// policies are what is compared, in the order of the table.
var policies = []struct {
	name   string
	choose grpc.DialOption
}{
	{"pick_first", policy("pick_first")},
	{"round_robin", policy("round_robin")},
	{"least_request", policy("least_request_experimental")},
	{balance.Name, balance.WithP2C(balance.Config{})},
}

func policy(name string) grpc.DialOption {
	return grpc.WithDefaultServiceConfig(fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}]}`, name))
}

// names are those of the servers; the first two turn bad.
var names = []string{"a", "b", "c", "d", "e"}

const wellDelay = 5 * time.Millisecond

func run(ctx context.Context, args []string, out io.Writer, live bool) error {
	flags := flag.NewFlagSet("balance", flag.ContinueOnError)
	flags.SetOutput(out)
	lasts := flags.Duration("for", 12*time.Second, "how long to send")
	rate := flags.Int("rate", 150, "how many RPCs to start in a second, through each policy")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *lasts < 300*time.Millisecond || *lasts > time.Hour:
		return fmt.Errorf("-for is %v, must be between 300ms and 1h", *lasts)
	case *rate < 1 || *rate > 2000:
		return fmt.Errorf("-rate is %d, must be between 1 and 2000", *rate)
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q; -h explains the flags", flags.Arg(0))
	}
	load := demo.Load{Rate: *rate, For: *lasts, Timeout: time.Second, Messages: 3}
	results, err := compare(ctx, load, func(r []*demo.Results) func() { return show(out, live, r) })
	if err != nil {
		return err
	}
	fmt.Fprintln(out, render(results))
	return nil
}

// compare sends the same load through every policy at once, to one fleet, and
// returns what each saw. watch gets the results as they grow, and
// returns a function that ends the watching.
func compare(ctx context.Context, load demo.Load, watch func([]*demo.Results) func()) ([]*demo.Results, error) {
	var servers []demo.Server
	for _, name := range names {
		servers = append(servers, demo.Server{Name: name, Delay: wellDelay})
	}
	fleet, err := demo.StartFleet(ctx, servers...)
	if err != nil {
		return nil, err
	}
	defer fleet.Stop()
	third := load.For / 3
	bad := time.AfterFunc(third, func() {
		fleet.Change("a", 300*time.Millisecond, 0)
		fleet.Change("b", time.Millisecond, 0.5)
	})
	defer bad.Stop()
	well := time.AfterFunc(2*third, func() {
		fleet.Change("a", wellDelay, 0)
		fleet.Change("b", wellDelay, 0)
	})
	defer well.Stop()

	results := make([]*demo.Results, len(policies))
	for i := range results {
		results[i] = demo.NewResults()
	}
	defer watch(results)()
	var loads sync.WaitGroup
	defer loads.Wait()
	for i, p := range policies {
		conn, err := fleet.Dial(p.choose)
		if err != nil {
			return nil, fmt.Errorf("dial with %s: %w", p.name, err)
		}
		loads.Go(func() {
			defer conn.Close()
			load.Run(ctx, conn, results[i])
		})
	}
	loads.Wait()
	return results, ctx.Err()
}

// show draws the results over and over on a terminal, until the function that it
// returns is called.
func show(out io.Writer, live bool, results []*demo.Results) (stop func()) {
	if !live {
		return func() {}
	}
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				picture := render(results)
				fmt.Fprintln(out, picture)
				fmt.Fprint(out, text.CursorUp.Sprintn(1+strings.Count(picture, "\n")))
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-over
	}
}

// render returns the results as a table.
func render(results []*demo.Results) string {
	t := table.NewWriter()
	header := table.Row{"policy", "calls", "failed", "p50", "p99", "p99.9"}
	for _, name := range names {
		header = append(header, "from "+name)
	}
	t.AppendHeader(header)
	for i, r := range results {
		calls := r.Calls()
		row := table.Row{policies[i].name, calls, calls - r.Succeeded()}
		for _, q := range []float64{0.5, 0.99, 0.999} {
			row = append(row, fmt.Sprintf("%.1f ms", float64(r.QuantileOfAll(q))/float64(time.Millisecond)))
		}
		for _, name := range names {
			row = append(row, fmt.Sprintf("%.1f %%", 100*r.Share(name)))
		}
		t.AppendRow(row)
	}
	return t.Render()
}
