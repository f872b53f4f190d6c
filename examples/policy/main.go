// Command policy runs the stacks of examples/quickstart from a file, and changes
// the file while it runs.
//
// It starts three Echo servers, one of them slow and one flaky, and sends them
// RPCs. At half time it switches retries on in the file. It prints what the policy says of a method, what the
// change did, and how the RPCs ended before and after it. It needs no argument and
// ends by itself.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/examples/internal/demo"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/policyfile"
)

//go:embed policy.yaml
var before string

// after is the policy with retries.
var after = strings.Replace(before, "retry: {off: true}", "retry: {max_attempts: 3, codes: [UNAVAILABLE], backoff: {base: 5ms}, budget: {ratio: 1}}", 1)

const method = "/turret.echo.v1.EchoService/Unary"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "policy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("policy", flag.ContinueOnError)
	flags.SetOutput(out)
	lasts := flags.Duration("for", 4*time.Second, "how long to send; half of it with each policy")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "policy")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		return err
	}
	document, err := policyfile.Load(file)
	if err != nil {
		return err
	}
	p, err := policy.New(document, policy.Config{})
	if err != nil {
		return err
	}
	return show(ctx, p, file, *lasts/2, out)
}

// show sends RPCs, changes the file, and sends RPCs again.
func show(ctx context.Context, p *policy.Policy, file string, lasts time.Duration, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	reports, watched := make(chan policyfile.Report, 1), make(chan error, 1)
	go func() {
		watched <- policyfile.Watch(ctx, p, file, 50*time.Millisecond, func(r policyfile.Report) { reports <- r })
	}()
	defer func() {
		cancel()
		<-watched //nolint:errcheck // the end of a context
	}()
	fleet, conn, err := start(ctx, p)
	if err != nil {
		return err
	}
	defer fleet.Stop()
	defer conn.Close()

	fmt.Fprintln(out, p.Explain(method))
	send(ctx, conn, lasts, "without retries", out)
	if err := os.WriteFile(file, []byte(after), 0o600); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return errors.New("interrupted")
	case r := <-reports:
		if r.Err != nil {
			return r.Err
		}
		fmt.Fprintf(out, "\nthe file has changed:\n%v\n\n", r.Changes)
	}
	send(ctx, conn, lasts, "with retries", out)
	return nil
}

// start starts three servers behind the policy, and a client with it.
func start(ctx context.Context, p *policy.Policy) (*demo.Fleet, *grpc.ClientConn, error) {
	options := func() []grpc.ServerOption {
		return interceptors.New(interceptors.Recover(), p.Server()).ServerOptions()
	}
	fleet, err := demo.StartFleet(ctx,
		demo.Server{Name: "steady", Delay: 3 * time.Millisecond, Options: options()},
		demo.Server{Name: "slow", Delay: 400 * time.Millisecond, Options: options()},
		demo.Server{Name: "flaky", Delay: 3 * time.Millisecond, FailShare: 0.3, Options: options()},
	)
	if err != nil {
		return nil, nil, err
	}
	conn, err := fleet.Dial(append(interceptors.New(p.Client()).DialOptions(), balance.WithP2C(balance.Config{}))...)
	if err != nil {
		fleet.Stop()
	}
	return fleet, conn, err
}

func send(ctx context.Context, conn *grpc.ClientConn, lasts time.Duration, title string, out io.Writer) {
	results := demo.NewResults()
	demo.Load{Rate: 200, For: lasts, Timeout: 2 * time.Second, Messages: 5}.Run(ctx, conn, results)
	fmt.Fprintf(out, "%s: %d of %d RPCs succeeded\n", title, results.Succeeded(), results.Calls())
}
