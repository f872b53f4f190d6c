// Command quickstart shows what a stack does for the callers of servers that
// misbehave.
//
// It starts three Echo servers on loopback TCP, one of them slow and one flaky,
// and sends them unary RPCs and streams of every kind: first as gRPC comes, then
// the same load through a stack on both sides. It prints what both saw, side by
// side. It needs no argument and ends by itself. With -http :8080 it goes on
// sending until it is interrupted, and serves the status page meanwhile.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
	"google.golang.org/grpc"

	"github.com/turret-go/turret/examples/internal/demo"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/statusz"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	lasts time.Duration // both loads together
	rate  int
	http  string // the address of the page; empty: none
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.DurationVar(&o.lasts, "for", 8*time.Second, "how long to send; half of it without the stack, half with it")
	flags.IntVar(&o.rate, "rate", 300, "how many RPCs to start in a second")
	flags.StringVar(&o.http, "http", "", "serve the status page on this `address`, such as :8080, and go on sending until interrupted")
	flags.Usage = func() {
		fmt.Fprintln(out, "Sends the same load to three servers, one slow and one flaky, without stacks and through them.")
		fmt.Fprintln(out, "\nusage: quickstart [flags]")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.lasts < 200*time.Millisecond || o.lasts > time.Hour {
		return o, fmt.Errorf("-for is %v, must be between 200ms and 1h", o.lasts)
	}
	if o.rate < 1 || o.rate > 5000 {
		return o, fmt.Errorf("-rate is %d, must be between 1 and 5000", o.rate)
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; -h explains the flags", flags.Arg(0))
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args, out)
	if err != nil {
		return err
	}
	page, err := demo.ServePage(ctx, o.http, statusz.Config{
		Title:  "quickstart",
		Accept: []string{"timeout-of-streams"}, // the streams here are short
	}, out)
	if err != nil {
		return err
	}
	defer page.Stop()
	introduce(out)
	bare, err := measure(ctx, o, "without stacks", o.lasts/2, nil, dialBare)
	if err != nil {
		return err
	}
	seen := newEvents()
	made := newStacks(seen, page.Page)
	stacked, err := measure(ctx, o, "through stacks", o.lasts/2, made.servers, made.dial)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	report{bare, stacked, seen, made}.print(out)
	if err := printSpans(ctx, out); err != nil || o.http == "" {
		return err
	}
	fmt.Fprintf(out, "\nStill sending. The status page is at %s; Ctrl-C ends this.\n", page.URL)
	_, err = measure(ctx, o, "", forGood, made.servers, made.dial)
	return err
}

// forGood is how long the load goes on behind the page.
const forGood = 365 * 24 * time.Hour

// measure starts a fleet, sends it load for a time, and returns what that saw.
func measure(ctx context.Context, o options, title string, lasts time.Duration, servers []*interceptors.Stack, dial func(*demo.Fleet) (*grpc.ClientConn, error)) (*demo.Results, error) {
	fleet, err := demo.StartFleet(ctx, fleetOf(servers)...)
	if err != nil {
		return nil, err
	}
	defer fleet.Stop()
	conn, err := dial(fleet)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	load := demo.Load{Rate: o.rate, For: lasts, Timeout: 2 * time.Second, Messages: 5}
	results := demo.NewResults()
	if title == "" {
		load.Run(ctx, conn, results)
		return results, nil
	}
	bar := newBar(title, load.For)
	load.Tick = func(passed time.Duration) { _ = bar.Set64(passed.Milliseconds()) }
	load.Run(ctx, conn, results)
	return results, bar.Finish()
}

// newBar returns a progress bar on standard error; one that shows nothing if
// that, or standard output, is no terminal.
func newBar(title string, lasts time.Duration) *progressbar.ProgressBar {
	visible := term.IsTerminal(int(os.Stderr.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))
	return progressbar.NewOptions64(lasts.Milliseconds(),
		progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionSetVisibility(visible),
		progressbar.OptionSetDescription(title),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionClearOnFinish())
}
