package interceptors_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

// Panics and runtime.Goexit, wherever in an RPC: everything that was taken is
// given back, and they end where they would without a stack.

// secret is what a panic is about. It is not for the other side.
const secret = "password=hunter2"

// An abruptEnd ends what calls it otherwise than by a return.
type abruptEnd struct {
	name   string
	happen func()
}

var (
	panics = abruptEnd{"panic", func() { panic(secret) }}
	exits  = abruptEnd{"Goexit", runtime.Goexit}
	faults = []abruptEnd{panics, exits}
)

// A faultyPlace is where a fault happens.
type faultyPlace struct {
	name  string
	layer func(happen func()) interceptors.Layer // a layer with the fault in it; or one of the following
	world func(of *worldOf, happen func())
	call  func(happen func()) grpc.CallOption
	inner func(w *world, happen func())

	side    []interceptors.Side // where it can be; nil: on both
	kinds   []interceptors.Kind // nil: all
	plan    *echov1.Plan
	outcome turret.Outcome // of the RPC, as it is seen outside of the place; zero: Failure
}

var (
	onClient = []interceptors.Side{interceptors.SideClient}
	onServer = []interceptors.Side{interceptors.SideServer}
	unwell   = &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.Unavailable)}}
)

var faultyPlaces = []faultyPlace{
	{name: "layer, before the call", layer: func(happen func()) interceptors.Layer {
		return turret.Wrap(func(context.Context, *interceptors.RPC, interceptors.Service) (any, error) {
			happen()
			return nil, nil
		})
	}},
	{name: "layer, after the call", layer: func(happen func()) interceptors.Layer {
		return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			defer happen()
			return inner.Call(ctx, rpc)
		})
	}},
	{name: "Filter", layer: func(happen func()) interceptors.Layer {
		return interceptors.Filter(func(context.Context, *interceptors.RPC) (context.Context, error) {
			happen()
			return nil, nil
		})
	}},
	{name: "Observe", layer: func(happen func()) interceptors.Layer {
		return turret.Stack(
			interceptors.Observe(func(context.Context, interceptors.Event) { happen() }),
			interceptors.ConcurrencyLimit(0, limit.Queue{}))
	}},
	{name: "Observe, told of a panic", layer: func(happen func()) interceptors.Layer {
		return turret.Stack(
			interceptors.Observe(func(context.Context, interceptors.Event) { happen() }),
			panicking("another fault"))
	}},
	{name: "function of Recover", layer: func(happen func()) interceptors.Layer {
		return turret.Stack(
			interceptors.Recover(func(context.Context, *interceptors.RPC, any, []byte) { happen() }),
			panicking("another fault"))
	}},
	{name: "classify", layer: func(happen func()) interceptors.Layer {
		classify := func(context.Context, *interceptors.RPC, any, error) turret.Outcome {
			happen()
			return turret.Success
		}
		return turret.Gated(limit.NewConcurrency(1, limit.Queue{}), classify)
	}},
	{name: "matcher", layer: func(happen func()) interceptors.Layer {
		return interceptors.ForMatch(selector.MatchFunc(func(context.Context, middleware.CallMeta) bool {
			happen()
			return true
		}))
	}},
	{name: "Retryable", side: onClient, plan: unwell, layer: func(happen func()) interceptors.Layer {
		return interceptors.Retry(retry.Config{Retryable: func(context.Context, error) bool {
			happen()
			return true
		}})
	}},
	{name: "OnRetry", side: onClient, plan: unwell, layer: func(happen func()) interceptors.Layer {
		return interceptors.Retry(retry.Config{OnRetry: func(context.Context, int, error, time.Duration) { happen() }})
	}},
	// The caller's own goroutine; its context is cancelled on the way.
	{name: "message hook", side: onClient, kinds: streamKinds, layer: hooked, outcome: turret.Ignored},
	{name: "message hook", side: onServer, kinds: streamKinds, layer: hooked},
	{name: "handler", side: onServer, inner: func(w *world, happen func()) { w.server.before = func(context.Context) { happen() } }},
	{name: "interceptor behind the stack", side: onClient, world: func(of *worldOf, happen func()) {
		of.behindClient = behind(happen)
	}},
	// Retry waits, and the caller's context is cancelled meanwhile, or is not yet.
	{name: "interceptor behind a Retry", side: onClient, outcome: anyOutcome, layer: func(func()) interceptors.Layer {
		return interceptors.Retry(retry.Config{Retryable: func(context.Context, error) bool { return true }})
	}, world: func(of *worldOf, happen func()) {
		of.behindClient = behind(happen)
	}},
	// The RPC is over by then, and was a success.
	{name: "OnFinish", side: onClient, outcome: turret.Success, call: func(happen func()) grpc.CallOption {
		return grpc.OnFinish(func(error) { happen() })
	}},
}

func panicking(value any) interceptors.Layer {
	return turret.Wrap(func(context.Context, *interceptors.RPC, interceptors.Service) (any, error) { panic(value) })
}

// hooked is a layer whose streams have a fault in RecvMsg.
func hooked(happen func()) interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		return inner.Call(ctx, rpc.WrapStream(func(s interceptors.MessageStream) interceptors.MessageStream {
			return faultyMessages{s, happen}
		}))
	})
}

type faultyMessages struct {
	interceptors.MessageStream

	happen func()
}

func (s faultyMessages) RecvMsg(any) error {
	s.happen()
	return nil
}

// behind returns client interceptors that do this in place of a call.
func behind(happen func()) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
			happen()
			return nil
		}),
		grpc.WithChainStreamInterceptor(func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption) (grpc.ClientStream, error) {
			happen()
			return nil, nil
		}),
	}
}

// eachFaultyPlace runs f for each place on each side and for each kind of RPC, in
// a bubble.
func eachFaultyPlace(t *testing.T, f func(t *testing.T, p *faultyPlace, k interceptors.Kind, s interceptors.Side)) {
	for _, p := range faultyPlaces {
		sides := p.side
		if sides == nil {
			sides = []interceptors.Side{interceptors.SideClient, interceptors.SideServer}
		}
		only := p.kinds
		if only == nil {
			only = kinds
		}
		for _, s := range sides {
			for _, k := range only {
				inBubble(t, fmt.Sprintf("%s/%v/%v", p.name, s, k), func(t *testing.T) { f(t, &p, k, s) })
			}
		}
	}
}

// run makes an RPC in which the fault happens at p; see prepare.
func (p *faultyPlace) run(t *testing.T, happen func(), k interceptors.Kind, s interceptors.Side, r *room, outer ...interceptors.Layer) (*world, *rpc) {
	t.Helper()
	w, run := p.prepare(t, happen, k, s, r, outer...)
	return w, run()
}

// prepare makes a world in whose RPCs the fault happens at p. On side s the place
// is inside r, and r inside outer. run makes an RPC.
func (p *faultyPlace) prepare(t *testing.T, happen func(), k interceptors.Kind, s interceptors.Side, r *room, outer ...interceptors.Layer) (w *world, run func() *rpc) {
	t.Helper()
	if p.layer != nil {
		r.inner = p.layer(happen)
	}
	var of worldOf
	if s == interceptors.SideClient {
		of.client = r.stack(outer...)
	} else {
		of.server = r.stack(outer...)
	}
	if p.world != nil {
		p.world(&of, happen)
	}
	w = newWorld(t, of)
	if p.inner != nil {
		p.inner(w, happen)
	}
	var opts []grpc.CallOption
	if p.call != nil {
		opts = append(opts, p.call(happen))
	}
	return w, func() *rpc { return w.do(t.Context(), k, p.plan, opts...) }
}

func TestFaultsGiveEverythingBack(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			eachFaultyPlace(t, func(t *testing.T, p *faultyPlace, k interceptors.Kind, s interceptors.Side) {
				in := newRoom()
				w, run := p.prepare(t, f.happen, k, s, in)
				for range 2 { // the second one finds the place as the first one did
					if s == interceptors.SideClient {
						wantFaultAtCaller(t, f, run())
					} else {
						wantFaultOutside(t, f, w, run())
					}
					synctest.Wait()
					if err := errors.Join(in.wants(cmp.Or(p.outcome, turret.Failure)), w.settle()); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// wantFaultAtCaller checks that the fault reached the goroutine of the client's
// caller.
func wantFaultAtCaller(t *testing.T, f abruptEnd, r *rpc) {
	t.Helper()
	switch {
	case f.name == panics.name && r.panicked != secret:
		t.Errorf("the caller saw the panic %v and the error %v, want the panic", r.panicked, r.err)
	case f.name == exits.name && (!r.exited || r.panicked != nil):
		t.Errorf("the caller's goroutine exited: %t, panic %v, error %v", r.exited, r.panicked, r.err)
	}
}

// wantFaultOutside checks that the fault went through the stack of the server to
// the goroutine that called it.
func wantFaultOutside(t *testing.T, f abruptEnd, w *world, r *rpc) {
	t.Helper()
	if f.name == exits.name {
		// No goroutine is left that could answer.
		if err := r.wants(codes.DeadlineExceeded, ""); err != nil {
			t.Error(err)
		}
		return
	}
	if err := r.wants(status.Code(errPanicked), ""); err != nil {
		t.Fatal(err)
	}
	if p := <-w.server.panics; p != secret {
		t.Errorf("the panic was %v", p)
	}
}

// Nothing of a panic leaves the server that recovers from it, wherever it was.
func TestNothingOfAPanicReachesTheWire(t *testing.T) {
	eachFaultyPlace(t, func(t *testing.T, p *faultyPlace, k interceptors.Kind, s interceptors.Side) {
		if s == interceptors.SideClient {
			t.Skip("what a client sends is over before")
		}
		var told []string
		tell := func(_ context.Context, rpc *interceptors.RPC, p any, stack []byte) {
			told = append(told, fmt.Sprint(rpc.Method, " ", p, " ", string(stack)))
		}
		_, r := p.run(t, panics.happen, k, s, newRoom(), interceptors.Recover(tell))
		if err := r.wants(codes.Internal, ""); err != nil {
			t.Error(err)
		}
		if len(told) != 1 || !strings.Contains(told[0], method(k)+" "+secret) || !strings.Contains(told[0], "panics_test.go") {
			t.Errorf("Recover told %q, want once the method, the panic and where it was", told)
		}
		wire := fmt.Sprint(prototext.Format(status.Convert(r.err).Proto()), r.header, r.trailer)
		for _, word := range []string{"hunter2", ".go", "goroutine", "panic"} {
			if strings.Contains(wire, word) {
				t.Errorf("the client got %q with %q in it", wire, word)
			}
		}
	})
}

// logged runs f and returns what slog's default logger wrote.
func logged(f func()) string {
	var out bytes.Buffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	f()
	return out.String()
}

func TestRecoverLogsByDefault(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			w := newWorld(t, worldOf{server: interceptors.New(interceptors.Recover())})
			w.server.before = func(context.Context) { panics.happen() }
			log := logged(func() {
				if err := w.do(t.Context(), k, nil).wants(codes.Internal, ""); err != nil {
					t.Error(err)
				}
			})
			for _, want := range []string{secret, method(k), "server", "panics_test.go"} {
				if !strings.Contains(log, want) {
					t.Errorf("%q is not in the log: %s", want, log)
				}
			}
		})
	}
}

// A fault in the stack of a stream while no method of the caller runs is not
// lost: it is logged, and the stream ends with INTERNAL and nothing more.
func TestFaultWhileNobodyWaits(t *testing.T) {
	for _, f := range faults {
		for _, k := range streamKinds {
			inBubble(t, f.name+"/"+k.String(), func(t *testing.T) {
				in := newRoom()
				in.after = f.happen
				w := newWorld(t, worldOf{client: in.stack()})
				ctx, cancel := context.WithCancel(holding(t.Context()))
				defer cancel()
				s, err := w.open(ctx, k)
				if err != nil {
					t.Fatal(err)
				}
				<-w.server.held
				log := logged(func() {
					cancel()
					synctest.Wait()
				})
				if !strings.Contains(log, method(k)) || f.name == panics.name && !strings.Contains(log, secret) {
					t.Errorf("the log is %q", log)
				}
				for range 2 {
					if err := s.RecvMsg(new(response)); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "hunter2") {
						t.Errorf("RecvMsg: %v, want INTERNAL with nothing of the panic", err)
					}
				}
				if err := s.SendMsg(new(request)); !errors.Is(err, sendEnded(k)) {
					t.Errorf("SendMsg: %v, want %v", err, sendEnded(k))
				}
				_, _ = s.Header()
				_ = s.Trailer()
				if err := s.CloseSend(); err != nil {
					t.Errorf("CloseSend: %v", err)
				}
				if err := errors.Join(in.wants(turret.Failure), w.settle()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
