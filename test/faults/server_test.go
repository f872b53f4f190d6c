//go:build unix

package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret/drain"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/test/faults/internal/traffic"
	"github.com/turret-go/turret/trace"
)

// asServer is set to a serverConfig, in JSON, in the processes of servers.
const asServer = "TURRET_FAULTS_SERVER"

// A serverConfig configures a server's process.
type serverConfig struct {
	Name    string
	Address string        // "": any
	MaxAge  time.Duration // of connections; 0: none
	// LameDuck, if not 0, makes the server one that signals drain.
	LameDuck time.Duration
}

// What a server writes to its standard output, one line each:
//
//	ready ADDRESS              it accepts connections
//	got RPC ATTEMPT MESSAGE    a handler is about to receive a message
//	stats INFLIGHT WAITING CONNECTIONS
//	phase NAME                 of its drain
//	drained CUT STUCK PAUSED   how many RPCs its drain reports; for how many milliseconds it stood still
//	stopped                    GracefulStop or the drain has returned; the process ends
//
// and what it reads from its standard input: "stats", "stop" (gracefully), and
// the end, at which it ends too, so that it does not outlive the test.
func serve(text string) {
	var config serverConfig
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		panic(err)
	}
	listener := listen(config.Address)
	places := limit.NewConcurrency(64, limit.Queue{Max: 64, Timeout: time.Second})
	drainer := drain.New(drain.Config{LameDuck: config.LameDuck, Notice: patience, Cut: patience, OnPhase: sayPhase})
	server := newServer(config, places, drainer)
	ready := func() { say("ready", listener.Addr()) }
	if config.LameDuck > 0 {
		go drainOnSignal(drainer, server, ready)
	} else {
		ready()
	}
	go func() {
		if err := server.Serve(listener); err != nil {
			panic(err)
		}
	}()
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		switch commands.Text() {
		case "stats":
			s := places.Stats()
			say("stats", s.InFlight, s.Waiting, listener.accepted.Load())
		case "stop":
			server.GracefulStop()
			say("stopped")
			return
		}
	}
}

// patience is how long a server waits for what a test brings about.
const patience = 10 * time.Minute

// drainOnSignal drains the server at SIGTERM, and ends the process. It calls ready
// when SIGTERM does not end the process any more.
func drainOnSignal(d *drain.Drainer, server *grpc.Server, ready func()) {
	began, pauses := time.Now(), traffic.WatchPauses()
	r := drain.OnSignal(waitedFor{context.Background(), sync.OnceFunc(ready)}, d, server)
	sum := func(l drain.Left) int { return l.Unary + l.Streams }
	say("drained", sum(r.Cut), sum(r.Stuck), pauses.Between(began, time.Now()).Milliseconds())
	say("stopped")
	os.Exit(0)
}

// A waitedFor is a context that calls waited when something waits for its end:
// OnSignal does so when it has subscribed to the signals.
type waitedFor struct {
	context.Context //nolint:containedctx // it is a context

	waited func()
}

// Done calls waited.
func (w waitedFor) Done() <-chan struct{} {
	w.waited()
	return w.Context.Done()
}

func sayPhase(p drain.Phase, _ drain.Left) { say("phase", p) }

// newServer returns a gRPC server with a full stack, and behind it what writes
// down what handlers receive.
func newServer(config serverConfig, places *limit.Concurrency, drainer *drain.Drainer) *grpc.Server {
	stack := interceptors.New(
		drainer.Layer(),
		interceptors.Recover(),
		interceptors.Trace(trace.Config{}),
		interceptors.LoadShed(),
		interceptors.Admit(places),
		interceptors.ForKind([]interceptors.Kind{interceptors.KindUnary}, interceptors.Timeout(5*time.Second)),
	)
	server := grpc.NewServer(append(stack.ServerOptions(),
		grpc.ChainUnaryInterceptor(noteUnary), grpc.ChainStreamInterceptor(noteStream),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: config.MaxAge}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second}),
	)...)
	echov1.RegisterEchoServiceServer(server, echo.New(config.Name))
	return server
}

// say writes a line. It is one write to a pipe: in order, whole, and the
// reader's even if this process is killed the next moment.
func say(words ...any) {
	if _, err := fmt.Fprintln(os.Stdout, words...); err != nil {
		os.Exit(1) // the test is gone
	}
}

func noteUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	note(ctx, req)
	return handler(ctx, req)
}

func noteStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, noted{stream})
}

// noted writes down what a handler receives of its stream.
type noted struct{ grpc.ServerStream }

func (n noted) RecvMsg(m any) error {
	err := n.ServerStream.RecvMsg(m)
	if err == nil {
		note(n.Context(), m)
	}
	return err
}

func note(ctx context.Context, m any) {
	attempt := 0
	if values := metadata.ValueFromIncomingContext(ctx, "grpc-previous-rpc-attempts"); len(values) > 0 {
		attempt, _ = strconv.Atoi(values[0])
	}
	request, ok := m.(interface{ GetPayload() []byte })
	if !ok {
		panic(fmt.Sprintf("a %T", m))
	}
	id, message := traffic.Parse(request.GetPayload())
	say("got", id, attempt, message)
}

// A countingListener counts the connections that it has accepted.
type countingListener struct {
	net.Listener

	accepted atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

// listen listens on an address, or on any. A free port is looked for below those
// that systems give to outgoing connections: else one of these could take the
// port while its server is away, or even connect to itself there.
func listen(address string) *countingListener {
	var lc net.ListenConfig
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		try := address
		if try == "" {
			try = net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(10_000)))
		}
		listener, err := lc.Listen(context.Background(), "tcp", try)
		if err == nil {
			return &countingListener{Listener: listener}
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			panic(err)
		}
	}
}
