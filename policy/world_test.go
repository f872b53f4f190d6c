package policy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/criticality"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/policyfile"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

const echoService = "/turret.echo.v1.EchoService"

var kinds = []interceptors.Kind{
	interceptors.KindUnary, interceptors.KindClientStream, interceptors.KindServerStream, interceptors.KindBidiStream,
}

// parse returns a document of YAML.
func parse(t testing.TB, text string) policy.Document {
	t.Helper()
	doc, err := policyfile.Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatalf("parse: %v\n%s", err, text)
	}
	return doc
}

func compile(t testing.TB, text string, c policy.Config) *policy.Policy {
	t.Helper()
	p, err := policy.New(parse(t, text), c)
	if err != nil {
		t.Fatalf("new: %v\n%s", err, text)
	}
	return p
}

func load(t testing.TB, p *policy.Policy, text string) policy.Changes {
	t.Helper()
	changes, err := p.Load(parse(t, text))
	if err != nil {
		t.Fatalf("load: %v\n%s", err, text)
	}
	return changes
}

// A world is an Echo server and a client, in memory. ran counts handlers.
type world struct {
	pair   *wire.Pair
	client echov1.EchoServiceClient
	ran    atomic.Int64
	inside atomic.Int64
	most   atomic.Int64

	mu   sync.Mutex
	seen []string // levels that handlers saw, on the wire and in their context
}

func (w *world) levels() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// newWorld starts a world in which the stacks may be nil. It ends with the test.
func newWorld(t testing.TB, client, server *interceptors.Stack) *world {
	t.Helper()
	w := new(world)
	var c wire.Config
	c.Register = func(s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, echo.New("echo")) }
	if client != nil {
		c.Dial = client.DialOptions()
	}
	if server != nil {
		c.Server = server.ServerOptions()
	}
	c.Server = append(c.Server,
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			defer w.enter(ctx)()
			return next(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			defer w.enter(s.Context())()
			return next(srv, s)
		}))
	w.pair = wire.Start(t, c)
	w.client = echov1.NewEchoServiceClient(w.pair.Conn)
	return w
}

// enter counts a handler, until what it returns is called.
func (w *world) enter(ctx context.Context) (leave func()) {
	md, _ := metadata.FromIncomingContext(ctx)
	w.mu.Lock()
	w.seen = append(w.seen, fmt.Sprint(md.Get(criticality.Key), criticality.From(ctx)))
	w.mu.Unlock()
	w.ran.Add(1)
	n := w.inside.Add(1)
	for most := w.most.Load(); n > most && !w.most.CompareAndSwap(most, n); most = w.most.Load() {
	}
	return func() { w.inside.Add(-1) }
}

// call makes an RPC of a kind, to its end.
func (w *world) call(ctx context.Context, k interceptors.Kind, plan *echov1.Plan, o ...grpc.CallOption) error {
	switch k {
	case interceptors.KindClientStream:
		s, err := w.client.ClientStream(ctx, o...)
		if err != nil {
			return err
		}
		if err := s.Send(&echov1.ClientStreamRequest{Plan: plan}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		_, err = s.CloseAndRecv()
		return err
	case interceptors.KindServerStream:
		s, err := w.client.ServerStream(ctx, &echov1.ServerStreamRequest{Plan: plan}, o...)
		if err != nil {
			return err
		}
		return drain(func() error { _, err := s.Recv(); return err })
	case interceptors.KindBidiStream:
		s, err := w.client.BidiStream(ctx, o...)
		if err != nil {
			return err
		}
		if err := s.Send(&echov1.BidiStreamRequest{Plan: plan}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		_ = s.CloseSend()
		return drain(func() error { _, err := s.Recv(); return err })
	default:
		_, err := w.client.Unary(ctx, &echov1.UnaryRequest{Plan: plan}, o...)
		return err
	}
}

func drain(recv func() error) error {
	for {
		if err := recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// hold makes an RPC that stays inside until release is called. It works inside a
// bubble.
func (w *world) hold(ctx context.Context, k interceptors.Kind) (release func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.call(ctx, k, slow(24*365*time.Hour)) }()
	synctest.Wait()
	return func() error {
		cancel()
		err := <-done
		synctest.Wait()
		return err
	}
}

func slow(d time.Duration) *echov1.Plan { return &echov1.Plan{Delay: durationpb.New(d)} }

// endOf names in one word how an RPC ended: its code, and the reason of Turret.
func endOf(err error) string {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return st.Code().String() + "/" + info.GetReason()
		}
	}
	return st.Code().String()
}

// A transcript is what a script saw, line by line.
type transcript struct{ strings.Builder }

func (t *transcript) say(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }
