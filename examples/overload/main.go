// Command overload shows what becomes of a server under a surge of twice what it
// can do: one that admits everything, one with a fixed limit that was chosen too
// high, and one with AdaptiveLimit, side by side and live on a terminal.
//
// With -http they are on a status page too, as long as they run:
//
//	go run ./examples/overload -http localhost:8080 -for 2m
//
// Each server has four workers that take 20 ms for a call, so it can answer 200 a
// second; callers give up after 200 ms. The load is 140 a second, 400 in the
// middle third, and 140 again. All runs in this process, over connections in
// memory, and ends by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/examples/internal/demo"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/statusz"
)

const (
	workers  = 4
	work     = 20 * time.Millisecond
	deadline = 200 * time.Millisecond
	normal   = 140 // calls a second
	surge    = 400
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, term.IsTerminal(int(os.Stdout.Fd())))
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "overload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer, live bool) error {
	flags := flag.NewFlagSet("overload", flag.ContinueOnError)
	flags.SetOutput(out)
	lasts := flags.Duration("for", 15*time.Second, "how long to send")
	address := flags.String("http", "", "serve the status page on this `address`, such as localhost:8080, meanwhile")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *lasts < 3*time.Second || *lasts > time.Hour:
		return fmt.Errorf("-for is %v, must be between 3s and 1h", *lasts)
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q; -h explains the flags", flags.Arg(0))
	}
	page, err := demo.ServePage(ctx, *address, statusz.Config{Title: "overload"}, out)
	if err != nil {
		return err
	}
	defer page.Stop()
	contestants, stop, err := start(page.Page)
	if err != nil {
		return err
	}
	defer stop()
	if page.Page != nil {
		fmt.Fprintln(out, "The status page is at", page.URL)
	}
	hide := show(out, live, contestants)
	send(ctx, *lasts, contestants)
	hide()
	fmt.Fprintln(out, render(contestants))
	return ctx.Err()
}

// A contestant is a server and what its callers saw, by third of the time.
type contestant struct {
	name      string
	client    echov1.EchoServiceClient
	asked, in [3]atomic.Int64 // calls, and answers in time
	slowest   [3]atomic.Int64 // of the answers in time, in nanoseconds
	adaptive  *adaptive.Limit // nil of the others
}

// start starts the servers, and shows them on page if there is one.
func start(page *statusz.Page) (contestants []*contestant, stop func(), err error) {
	gate := adaptive.New(adaptive.Config{})
	var shown interceptors.Layer
	if page != nil {
		shown = page.Layer()
	}
	var stops []func()
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	for _, c := range []struct {
		name  string
		stack *interceptors.Stack
		gate  *adaptive.Limit
	}{
		{"nothing", interceptors.New(shown), nil},
		{"fixed limit of 100", interceptors.New(shown, interceptors.ConcurrencyLimit(100, limit.Queue{})), nil},
		{"AdaptiveLimit", interceptors.New(shown, interceptors.AdmitAdaptive(gate)), gate},
	} {
		if page != nil {
			page.Add(c.name, c.stack)
		}
		listener := bufconn.Listen(1 << 16)
		server := grpc.NewServer(append(c.stack.ServerOptions(), grpc.WaitForHandlers(true))...)
		echov1.RegisterEchoServiceServer(server, &busy{workers: make(chan struct{}, workers)})
		go func() { _ = server.Serve(listener) }()
		conn, err := grpc.NewClient("passthrough:///"+c.name,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		if err != nil {
			stop()
			return nil, nil, fmt.Errorf("dial %s: %w", c.name, err)
		}
		stops = append(stops, func() { _ = conn.Close(); server.Stop() })
		contestants = append(contestants, &contestant{name: c.name, client: echov1.NewEchoServiceClient(conn), adaptive: c.gate})
	}
	return contestants, stop, nil
}

// busy is a service with few workers.
type busy struct {
	echov1.UnimplementedEchoServiceServer

	workers chan struct{}
}

// Unary waits for a worker, and then takes its time whether the caller still waits
// for the answer or not, as most work does.
func (b *busy) Unary(ctx context.Context, _ *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	select {
	case b.workers <- struct{}{}:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	defer func() { <-b.workers }()
	timer := time.NewTimer(work)
	defer timer.Stop()
	<-timer.C
	return &echov1.UnaryResponse{}, nil
}

// send sends the same load to all contestants.
func send(ctx context.Context, lasts time.Duration, contestants []*contestant) {
	var calls sync.WaitGroup
	defer calls.Wait()
	began := time.Now()
	for due := time.Duration(0); due < lasts; {
		phase := int(3 * due / lasts)
		wait := time.NewTimer(due - time.Since(began))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
		for _, c := range contestants {
			calls.Go(func() { c.call(ctx, phase) })
		}
		rate := normal
		if phase == 1 {
			rate = surge
		}
		due += time.Second / time.Duration(rate)
	}
}

func (c *contestant) call(ctx context.Context, phase int) {
	c.asked[phase].Add(1)
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	began := time.Now()
	_, err := c.client.Unary(ctx, &echov1.UnaryRequest{})
	if err != nil {
		return
	}
	c.in[phase].Add(1)
	took := int64(time.Since(began))
	for {
		old := c.slowest[phase].Load()
		if old >= took || c.slowest[phase].CompareAndSwap(old, took) {
			return
		}
	}
}

// show draws the results over and over on a terminal, until the function that it
// returns is called.
func show(out io.Writer, live bool, contestants []*contestant) (hide func()) {
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
				picture := render(contestants)
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

var phases = [3]string{"before", "surge", "after"}

// render returns the results as a table.
func render(contestants []*contestant) string {
	t := table.NewWriter()
	header := table.Row{"server"}
	for _, phase := range phases {
		header = append(header, phase+": answered", "slowest")
	}
	t.AppendHeader(append(header, "limit"))
	for _, c := range contestants {
		row := table.Row{c.name}
		for i := range phases {
			asked, in := c.asked[i].Load(), c.in[i].Load()
			row = append(row, fmt.Sprintf("%d of %d", in, asked), time.Duration(c.slowest[i].Load()).Round(time.Millisecond))
		}
		limit := ""
		if c.adaptive != nil {
			limit = fmt.Sprint(c.adaptive.Stats().Limit)
		}
		t.AppendRow(append(row, limit))
	}
	return t.Render()
}
