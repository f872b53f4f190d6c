// The xds command shows turret.P2C and stacks under an xDS control plane, in one
// process: go-control-plane's ADS server, four servers in two zones, and a client.
// The control plane changes the policy's configuration and then sends a wrong one;
// the first zone becomes sick and well again.
//
//	go run .               # ends by itself
//	go run . -http :8080   # also serves the status page while it runs
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/xds"

	"github.com/turret-go/turret/interceptors"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/statusz"
)

// patience bounds what takes milliseconds here, also on a machine that stands still.
const patience = 30 * time.Second

func main() {
	address := flag.String("http", "", "the address of the status page; none if empty")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	if err := run(ctx, os.Stdout, *address, time.Second); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A fleet is all that runs.
type fleet struct {
	out     io.Writer
	each    time.Duration // that each part of the story takes
	page    *statusz.Page
	plane   *plane
	servers []*server
	client  echov1.EchoServiceClient
	closers []func()
}

// run tells the whole story, each part of which takes so long.
func run(ctx context.Context, out io.Writer, address string, each time.Duration) error {
	f := newFleet(out, each)
	defer f.close()
	if err := f.start(ctx, address); err != nil {
		return err
	}
	return f.story(ctx)
}

func newFleet(out io.Writer, each time.Duration) *fleet {
	page := statusz.New(statusz.Config{Title: "xds"})
	return &fleet{out: out, each: each, page: page, closers: []func(){page.Close}}
}

func (f *fleet) close() {
	for _, closer := range slices.Backward(f.closers) {
		closer()
	}
}

// start starts the control plane, the servers, the client and the status page.
func (f *fleet) start(ctx context.Context, address string) (err error) {
	if f.plane, err = startPlane(ctx); err != nil {
		return err
	}
	f.closers = append(f.closers, f.plane.stop)
	for _, s := range []struct {
		name   string
		weight uint32
	}{{"a1", 3}, {"a2", 1}, {"b1", 1}, {"b2", 1}} {
		started, err := startServer(ctx, f.plane, f.page, s.name, s.weight)
		if err != nil {
			return err
		}
		f.servers = append(f.servers, started)
		f.closers = append(f.closers, started.stop)
	}
	if err := f.dial(); err != nil {
		return err
	}
	return f.servePage(ctx, address)
}

// dial makes the client. Its target is a name of the control plane, and its policy
// is what that one sends.
func (f *fleet) dial() error {
	resolver, err := xds.NewXDSResolverWithConfigForTesting(bootstrap(f.plane.address, "client"))
	if err != nil {
		return err
	}
	stack := interceptors.New(f.page.Layer(), interceptors.ForUnary(interceptors.Timeout(patience)))
	f.page.Add("client", stack)
	// The retries of routes would multiply with those of a stack.
	options := append(stack.DialOptions(), grpc.WithDisableRetry(), grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient("xds:///"+service, options...)
	if err != nil {
		return err
	}
	f.closers = append(f.closers, func() { _ = conn.Close() })
	conn.Connect() // the control plane waits for its answers
	f.client = echov1.NewEchoServiceClient(conn)
	return nil
}

// servePage serves the status page; nothing if address is empty.
func (f *fleet) servePage(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	h := &http.Server{Handler: f.page, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(f.out, "the status page ended:", err)
		}
	}()
	f.closers = append(f.closers, func() { _ = h.Close() })
	fmt.Fprintf(f.out, "status page: http://%v/\n\n", l.Addr())
	return nil
}

// base is the configuration of the policy as it begins, in the JSON of
// balance.Config.
func base() map[string]any {
	return map[string]any{
		"onBanned": "fail_over",
		"failures": map[string]any{"banFor": "0.5s", "maxBanFor": "1s"},
	}
}

// send publishes a configuration of the policy and waits for the client's answer.
func (f *fleet) send(ctx context.Context, config map[string]any) (refused string, err error) {
	version, err := f.plane.publish("client", clientResources(config, [][]*server{f.servers[:2], f.servers[2:]}))
	if err != nil {
		return "", err
	}
	return f.plane.outcome(ctx, version)
}

// accept sends a configuration that the client must take.
func (f *fleet) accept(ctx context.Context, config map[string]any) error {
	refused, err := f.send(ctx, config)
	if err == nil && refused != "" {
		err = fmt.Errorf("the client has refused: %s", refused)
	}
	return err
}

// A sample is what became of some calls: how many each server has answered, and how
// many failed.
type sample struct {
	of     []int64
	failed int64
}

func (s sample) zone(first int) int64 { return s.of[first] + s.of[first+1] }

func (s sample) all() int64 { return s.zone(0) + s.zone(2) + s.failed }

// call makes calls for a time, some at once, and prints what became of them.
func (f *fleet) call(ctx context.Context, what string) sample {
	before := f.answered()
	var failed atomic.Int64
	end := time.Now().Add(f.each)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for { // at least one call each
				if _, err := f.client.Unary(ctx, &echov1.UnaryRequest{}, grpc.WaitForReady(true)); err != nil {
					failed.Add(1)
				}
				if time.Now().After(end) || !wait(ctx, 5*time.Millisecond) {
					return
				}
			}
		})
	}
	all.Wait()
	s := sample{f.answered(), failed.Load()}
	for i := range s.of {
		s.of[i] -= before[i]
	}
	fmt.Fprintf(f.out, "%-34s %6d %6d %6d %6d %6d\n", what, s.of[0], s.of[1], s.of[2], s.of[3], s.failed)
	return s
}

// wait waits for d, and reports whether ctx has not ended before.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (f *fleet) answered() (all []int64) {
	for _, s := range f.servers {
		all = append(all, s.calls.Load())
	}
	return all
}

// findings prints what the status page says is wrong, once it says that a server is.
func (f *fleet) findings(ctx context.Context) {
	for {
		found := f.page.View().Findings
		if slices.ContainsFunc(found, f.ofZoneA) || !wait(ctx, 50*time.Millisecond) {
			for _, one := range found {
				fmt.Fprintf(f.out, "    the page: %s %s\n", one.Where, one.What)
			}
			return
		}
	}
}

func (f *fleet) ofZoneA(one statusz.Finding) bool {
	return strings.Contains(one.Where, f.servers[0].address) || strings.Contains(one.Where, f.servers[1].address)
}
