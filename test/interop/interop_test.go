package interop

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

// A testCase is one of gRPC's. It ends the process if it fails.
type testCase struct {
	name string
	do   func(ctx context.Context, c testgrpc.TestServiceClient, conn *grpc.ClientConn)
}

func of(do func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context, testgrpc.TestServiceClient, *grpc.ClientConn) {
	return func(ctx context.Context, c testgrpc.TestServiceClient, _ *grpc.ClientConn) { do(ctx, c) }
}

var testCases = []testCase{
	{"empty_unary", of(interop.DoEmptyUnaryCall)},
	{"large_unary", of(interop.DoLargeUnaryCall)},
	{"client_streaming", of(interop.DoClientStreaming)},
	{"server_streaming", of(interop.DoServerStreaming)},
	{"ping_pong", of(interop.DoPingPong)},
	{"empty_stream", of(interop.DoEmptyStream)},
	{"timeout_on_sleeping_server", of(interop.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", of(interop.DoCancelAfterBegin)},
	{"cancel_after_first_response", of(interop.DoCancelAfterFirstResponse)},
	{"custom_metadata", of(interop.DoCustomMetadata)},
	{"status_code_and_message", of(interop.DoStatusCodeAndMessage)},
	{"special_status_message", of(interop.DoSpecialStatusMessage)},
	{"unimplemented_method", func(ctx context.Context, _ testgrpc.TestServiceClient, conn *grpc.ClientConn) {
		interop.DoUnimplementedMethod(ctx, conn)
	}},
	{"unimplemented_service", func(ctx context.Context, _ testgrpc.TestServiceClient, conn *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
	}},
	{"rpc_soak", func(ctx context.Context, _ testgrpc.TestServiceClient, conn *grpc.ClientConn) {
		interop.DoSoakTest(ctx, interop.SoakTestConfig{
			RequestSize: 271828, ResponseSize: 314159,
			Iterations: 2, NumWorkers: 1,
			PerIterationMaxAcceptableLatency: time.Minute, OverallTimeout: time.Minute,
			ChannelForTest: func() (*grpc.ClientConn, func()) { return conn, func() {} },
		})
	}},
}

// A weakness is how a server fails two of three attempts.
type weakness struct {
	name string
	// attempt is what an attempt that fails does before it fails.
	attempt func(stream grpc.ServerStream, kind *grpc.StreamServerInfo) error
	healthy bool
	without []string // test cases that no retry can save
}

var weaknesses = []weakness{
	{name: "healthy", healthy: true},
	{name: "before anything", attempt: func(grpc.ServerStream, *grpc.StreamServerInfo) error { return nil }},
	{name: "after a message", attempt: readOne},
	{
		// A header that has arrived does not commit a stream; that the caller asks
		// for it does, and so does SendMsg's seeing the end of a stream that has
		// one. custom_metadata asks. client_streaming goes on sending: it can be
		// saved only if the server reads all before it fails.
		name: "after headers",
		attempt: func(stream grpc.ServerStream, info *grpc.StreamServerInfo) error {
			read := readOne
			if !info.IsServerStream {
				read = readAll
			}
			if err := read(stream, info); err != nil {
				return err
			}
			return stream.SendHeader(metadata.Pairs("x-attempt", "failed"))
		},
		without: []string{"custom_metadata"},
	},
}

func readOne(stream grpc.ServerStream, _ *grpc.StreamServerInfo) error {
	err := stream.RecvMsg(new(testgrpc.StreamingOutputCallRequest))
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func readAll(stream grpc.ServerStream, _ *grpc.StreamServerInfo) error {
	for {
		err := stream.RecvMsg(new(testgrpc.StreamingInputCallRequest))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

var errWeak = status.Error(codes.Unavailable, "two of three fail")

// stream is an interceptor of the server.
func (w *weakness) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if w.healthy || previousAttempts(stream.Context())%3 == 2 {
		return handler(srv, stream)
	}
	if err := w.attempt(stream, info); err != nil {
		return err
	}
	return errWeak
}

// unary is an interceptor of the server.
func (w *weakness) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if w.healthy || previousAttempts(ctx)%3 == 2 {
		return handler(ctx, req)
	}
	return nil, errWeak
}

func previousAttempts(ctx context.Context) int {
	values := metadata.ValueFromIncomingContext(ctx, "grpc-previous-rpc-attempts")
	if len(values) != 1 {
		return 0
	}
	n, _ := strconv.Atoi(values[0])
	return n
}

// inChild is set in a process that the test starts to run one subtest.
const inChild = "TURRET_INTEROP_CHILD"

// allPassed is the child's last line.
const allPassed = "all of gRPC's test cases have passed"

// rounds is how often each test case runs.
const rounds = 5

func TestInterop(t *testing.T) {
	for _, w := range weaknesses {
		for _, s := range []setting{{}, {builtIn: true}, {adopted: true}} {
			t.Run(w.name+"/"+s.String(), func(t *testing.T) {
				if os.Getenv(inChild) == "" {
					runInChild(t)
					return
				}
				run(t, &w, s)
			})
		}
	}
}

// A setting is what else there is around the layers.
type setting struct {
	builtIn bool // gRPC's own retry is on
	adopted bool // there are adopted interceptors between the layers
}

func (s setting) String() string {
	switch {
	case s.builtIn:
		return "grpc's own retry on"
	case s.adopted:
		return "adopted interceptors"
	default:
		return "grpc's own retry off"
	}
}

// runInChild runs this subtest in a process of its own: a test case that fails
// ends its process.
func runInChild(t *testing.T) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), inChild+"=1", "GRPC_GO_LOG_SEVERITY_LEVEL=error", "GORACE=atexit_sleep_ms=0")
	if out, err := child.CombinedOutput(); err != nil || !bytes.Contains(out, []byte(allPassed)) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func run(t *testing.T, w *weakness, s setting) {
	t.Helper()
	var adoptedClient, adoptedServer interceptors.Layer
	if s.adopted {
		adoptedClient = interceptors.FromClient(passUnaryClient, passStreamClient)
		adoptedServer = interceptors.FromServer(passUnaryServer, passStreamServer)
	}
	place := limit.NewConcurrency(1, limit.Queue{})
	client := interceptors.New(
		interceptors.Timeout(time.Minute),
		interceptors.Admit(place), // one RPC at a time: its place is free when its caller has seen the end
		adoptedClient,
		interceptors.Retry(retry.Config{Backoff: retry.Backoff{Base: -1}, Budget: retry.Unlimited}),
		adoptedClient,
	)
	server := interceptors.New(
		interceptors.Recover(),
		adoptedServer,
		interceptors.ConcurrencyLimit(100, limit.Queue{}),
		adoptedServer,
		interceptors.Timeout(time.Minute),
	)
	pair := wire.Start(t, wire.Config{
		Register: func(s grpc.ServiceRegistrar) { testgrpc.RegisterTestServiceServer(s, interop.NewTestServer()) },
		Server: append(server.ServerOptions(),
			grpc.ChainUnaryInterceptor(w.unary), grpc.ChainStreamInterceptor(w.stream)),
		Dial:  append(client.DialOptions(), grpc.WithDefaultServiceConfig(ownRetry)),
		Retry: s.builtIn,
	})
	for range rounds {
		for _, c := range testCases {
			if slices.Contains(w.without, c.name) {
				continue
			}
			t.Log(c.name)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			c.do(ctx, testgrpc.NewTestServiceClient(pair.Conn), pair.Conn)
			cancel()
		}
	}
	t.Log(allPassed)
}

// ownRetry switches gRPC's own retry on, for a status that no case sends: it then
// keeps messages, and may replace attempts by itself.
const ownRetry = `{"methodConfig": [{"name": [{}], "retryPolicy": {
	"maxAttempts": 2, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1,
	"retryableStatusCodes": ["DATA_LOSS"]}}]}`
