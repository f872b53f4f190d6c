// Command policy runs the stacks of examples/quickstart from a file, and changes
// the file while it runs.
//
// It starts three Echo servers, one of them slow and one flaky, and sends them
// RPCs. At half time it switches retries on in the file. It prints what the policy
// says of a method, what the change did, and how the RPCs ended before and after it.
// It needs no argument and ends by itself. With -http :8080 it goes on sending until
// it is interrupted, and serves the status page meanwhile: edit the file that it
// names, and see its limits and warnings change.
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
	"github.com/turret-go/turret/statusz"
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
	address := flags.String("http", "", "serve the status page on this `address`, such as :8080, and go on sending until interrupted")
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
	page, err := demo.ServePage(ctx, *address, statusz.Config{Title: "policy"}, out)
	if err != nil {
		return err
	}
	defer page.Stop()
	return show(ctx, p, file, *lasts/2, page, out)
}

// show sends RPCs, changes the file, and sends RPCs again.
func show(ctx context.Context, p *policy.Policy, file string, lasts time.Duration, page demo.Served, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	reports, watched := make(chan policyfile.Report, 1), make(chan error, 1)
	go func() {
		watched <- policyfile.Watch(ctx, p, file, 50*time.Millisecond, func(r policyfile.Report) {
			select {
			case reports <- r: // the change at half time
			default:
				fmt.Fprintf(out, "\nthe file has changed: %v %v\n", r.Err, r.Changes)
			}
		})
	}()
	defer func() {
		cancel()
		<-watched //nolint:errcheck // the end of a context
	}()
	made := newStacks(p, page.Page)
	fleet, conn, err := made.start(ctx)
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
	if page.Page == nil {
		return nil
	}
	select {
	case reports <- policyfile.Report{}: // full: from here on changes are printed
	default:
	}
	fmt.Fprintf(out, "\nStill sending. The status page is at %s; edit %s to change the policy; Ctrl-C ends this.\n", page.URL, file)
	send(ctx, conn, forGood, "all in all", out)
	return nil
}

// forGood is how long the load goes on behind the page.
const forGood = 365 * 24 * time.Hour

// names are those of the three servers.
var names = []string{"steady", "slow", "flaky"}

// stacks are that of the client, and one of each server.
type stacks struct {
	client  *interceptors.Stack
	servers []*interceptors.Stack
}

// newStacks makes the stacks, and puts them on the page if there is one.
func newStacks(p *policy.Policy, page *statusz.Page) *stacks {
	s := &stacks{client: interceptors.New(p.Client())}
	for range names {
		s.servers = append(s.servers, interceptors.New(interceptors.Recover(), p.Server()))
	}
	if page != nil {
		page.Add("client", s.client)
		for i, name := range names {
			page.Add("server "+name, s.servers[i])
		}
	}
	return s
}

// start starts three servers behind their stacks, and a client with its own.
func (s *stacks) start(ctx context.Context) (*demo.Fleet, *grpc.ClientConn, error) {
	servers := []demo.Server{
		{Delay: 3 * time.Millisecond},
		{Delay: 400 * time.Millisecond},
		{Delay: 3 * time.Millisecond, FailShare: 0.3},
	}
	for i, stack := range s.servers {
		servers[i].Name, servers[i].Options = names[i], stack.ServerOptions()
	}
	fleet, err := demo.StartFleet(ctx, servers...)
	if err != nil {
		return nil, nil, err
	}
	conn, err := fleet.Dial(append(s.client.DialOptions(), balance.WithP2C(balance.Config{}))...)
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
