// Command metrics runs a server and a client with stacks, under a load that the
// server cannot always bear, and serves what they count to Prometheus:
//
//	go run ./examples/metrics -http localhost:9464
//	curl localhost:9464/metrics
//
// dashboard.json is a Grafana dashboard over these metrics, and alerts.yaml has
// five alerts as Prometheus rules. It ends on Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/metrics"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "metrics:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("metrics", flag.ContinueOnError)
	flags.SetOutput(out)
	address := flags.String("http", "localhost:9464", "where to serve /metrics")
	clients := flags.Int("clients", 20, "how many clients send at a time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *clients < 1 || *clients > 1000:
		return fmt.Errorf("-clients is %d, must be between 1 and 1000", *clients)
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q; -h explains the flags", flags.Arg(0))
	}
	w, err := start()
	if err != nil {
		return err
	}
	defer w.stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *address)
	if err != nil {
		return err
	}
	web := &http.Server{Handler: w.handler(), ReadHeaderTimeout: time.Second}
	go func() { _ = web.Serve(listener) }()
	defer func() { _ = web.Close() }()
	fmt.Fprintf(out, "metrics are at http://%v/metrics\n", listener.Addr())
	w.load(ctx, *clients)
	return nil
}

// A world is a server and a client of it, with what they count.
type world struct {
	registry *prometheus.Registry
	provider *sdk.MeterProvider
	server   *grpc.Server
	conn     *grpc.ClientConn
}

// start starts a server and a client, on a connection in memory. One Meter has the
// metrics of both.
func start() (*world, error) {
	w := &world{registry: prometheus.NewRegistry()}
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(w.registry))
	if err != nil {
		return nil, err
	}
	w.provider = sdk.NewMeterProvider(sdk.WithReader(exporter))
	meter := metrics.New(metrics.Config{MeterProvider: w.provider})

	server := interceptors.New(
		interceptors.Recover(),
		interceptors.Metrics(meter),
		interceptors.Named("capacity", interceptors.ConcurrencyLimit(8, limit.Queue{Max: 8, Timeout: 50 * time.Millisecond})),
	)
	client := interceptors.New(
		interceptors.Metrics(meter), // each RPC
		interceptors.Timeout(time.Second),
		interceptors.Retry(retry.Config{MaxAttempts: 3, Retryable: interceptors.RetryCodes(codes.Unavailable, codes.ResourceExhausted)}),
		interceptors.Metrics(meter), // each attempt
		interceptors.Timeout(200*time.Millisecond),
		interceptors.Breaker(breaker.Config{}),
	)
	meter.Watch("server", server)
	meter.Watch("client", client)

	w.server = grpc.NewServer(server.ServerOptions()...)
	echov1.RegisterEchoServiceServer(w.server, &echoes{})
	listener := bufconn.Listen(1 << 20)
	go func() { _ = w.server.Serve(listener) }()
	w.conn, err = grpc.NewClient("passthrough:///echo.example:443", append(client.DialOptions(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
	)...)
	if err != nil {
		w.server.Stop()
		return nil, err
	}
	return w, nil
}

func (w *world) stop() {
	_ = w.conn.Close()
	w.server.Stop()
	_ = w.provider.Shutdown(context.Background())
}

// handler serves the metrics in Prometheus' format, and in that of OpenMetrics,
// which has exemplars, to clients that ask for it.
func (w *world) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(w.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	return mux
}

// load sends RPCs from that many clients until ctx is done.
func (w *world) load(ctx context.Context, clients int) {
	stub := echov1.NewEchoServiceClient(w.conn)
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			for ctx.Err() == nil {
				_, _ = stub.Unary(ctx, &echov1.UnaryRequest{})
			}
		})
	}
	running.Wait()
}

// echoes answers slowly, and fails now and then.
type echoes struct {
	echov1.UnimplementedEchoServiceServer
}

// Unary answers after 5 to 25 ms, now and then much later, and fails one in 50.
func (*echoes) Unary(ctx context.Context, _ *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	delay := 5*time.Millisecond + rand.N(20*time.Millisecond)
	if rand.N(100) == 0 {
		delay = 300 * time.Millisecond
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if rand.N(50) == 0 {
		return nil, status.Error(codes.Unavailable, "one in fifty")
	}
	return &echov1.UnaryResponse{}, nil
}
