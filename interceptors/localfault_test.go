package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/localfault"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/turrettest"
)

// A localFault is an RPC that gRPC refuses because of the caller.
type localFault struct {
	name    string
	request *request // nil: an empty one
	ctx     func(context.Context) context.Context
	options []grpc.CallOption
	code    codes.Code
	kind    localfault.Kind
}

var localFaults = []localFault{
	{name: "request that is not UTF-8", request: &request{Plan: &echov1.Plan{Headers: []*echov1.MetadataEntry{{Key: "\xff"}}}}, code: codes.Internal, kind: localfault.Unsent},
	{name: "request above the client's bound", request: &request{Payload: make([]byte, 1000)}, options: []grpc.CallOption{grpc.MaxCallSendMsgSize(100)}, code: codes.ResourceExhausted, kind: localfault.Unsent},
	{name: "request above the server's bound", request: &request{Payload: make([]byte, 20_000)}, code: codes.ResourceExhausted, kind: localfault.Sent},
	{name: "reply above the client's bound", request: &request{Payload: make([]byte, 1000)}, options: []grpc.CallOption{grpc.MaxCallRecvMsgSize(100)}, code: codes.ResourceExhausted, kind: localfault.Sent},
	{name: "unknown compressor", options: []grpc.CallOption{grpc.UseCompressor("unknown")}, code: codes.Internal, kind: localfault.Unsent},
	{name: "failing credentials", options: []grpc.CallOption{grpc.PerRPCCredentials(failingCredentials{})}, code: codes.Internal, kind: localfault.Unsent},
	{name: "credentials that need a secure connection", options: []grpc.CallOption{grpc.PerRPCCredentials(failingCredentials{secure: true})}, code: codes.Unauthenticated, kind: localfault.Unsent},
	{name: "metadata that may not be sent", ctx: unsendable, code: codes.Internal, kind: localfault.Unsent},
}

type failingCredentials struct{ secure bool }

func (c failingCredentials) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return nil, errors.New("no token")
}

func (c failingCredentials) RequireTransportSecurity() bool { return c.secure }

// make makes the RPC as one of kind k, and returns its error.
func (f *localFault) make(ctx context.Context, w *world, k interceptors.Kind) error {
	if f.ctx != nil {
		ctx = f.ctx(ctx)
	}
	req := f.request
	if req == nil {
		req = new(request)
	}
	if k == interceptors.KindUnary {
		return w.Conn.Invoke(ctx, method(k), req, new(response), f.options...)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := w.open(ctx, k, f.options...)
	if err != nil {
		return err
	}
	if err := s.SendMsg(req); err != nil && status.Code(err) != codes.Unknown { // not io.EOF
		return err
	}
	_ = s.CloseSend()
	_, err = receive(s, k)
	return err
}

// newFaultWorld has a server with a bound for requests.
func newFaultWorld(t *testing.T, layers ...interceptors.Layer) *world {
	w := &world{t: t, bubble: true}
	w.Pair = wire.Start(t, wire.Config{
		Register: func(s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, echo.New("one")) },
		Server:   []grpc.ServerOption{grpc.MaxRecvMsgSize(10_000)},
		Dial:     interceptors.New(layers...).DialOptions(),
	})
	return w
}

// What gRPC refuses because of the caller says nothing of the server: it opens no
// breaker, keeps no place, and is neither retried nor hedged.
func TestLocalFaults(t *testing.T) {
	for _, f := range localFaults {
		for _, k := range kinds {
			inBubble(t, fmt.Sprintf("%s/%v", f.name, k), func(t *testing.T) { testLocalFault(t, &f, k) })
		}
	}
}

func testLocalFault(t *testing.T, f *localFault, k interceptors.Kind) {
	b := breaker.New(breaker.Config{})
	places := limit.NewConcurrency(1, limit.Queue{})
	seen := turrettest.NewRecorder()
	attempts := 0
	w := newFaultWorld(t,
		interceptors.Admit(b), interceptors.Admit(places), interceptors.Admit(seen),
		interceptors.Retry(retry.Config{}), interceptors.Hedge(hedge.Config{Delay: time.Hour}),
		wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			attempts++
			return inner.Call(ctx, rpc)
		}))
	const rpcs = 1000
	for i := range rpcs {
		err := f.make(t.Context(), w, k)
		if i > 0 {
			continue
		}
		if st := status.Convert(err); st.Code() != f.code || localfault.Of(st) != f.kind {
			t.Fatalf("the error is %v, of local kind %d; want %v and kind %d", err, localfault.Of(st), f.code, f.kind)
		}
	}
	synctest.Wait()
	for i, o := range seen.Outcomes() {
		if o != turret.Ignored {
			t.Fatalf("outcome %d is %v", i, o)
		}
	}
	if attempts != rpcs || places.Stats().InFlight > 0 || b.Stats().State != breaker.Closed {
		t.Errorf("%d attempts of %d RPCs, %d places held, the breaker is %v", attempts, rpcs, places.Stats().InFlight, b.Stats().State)
	}
	if err := w.do(t.Context(), k, nil).wants(codes.OK, ""); err != nil {
		t.Error(err)
	}
}

// A tenant that is beyond its rate does not open the breaker of a client that it
// shares with another one.
func TestQuietTenantPassesBreaker(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			// The server has a limit for each tenant.
			limits := map[string]interceptors.Layer{
				"noisy": interceptors.RateLimit(limit.PerSecond(1), limit.Queue{}),
				"quiet": interceptors.RateLimit(limit.PerSecond(100), limit.Queue{}),
			}
			perTenant := func(inner interceptors.Service) interceptors.Service {
				services := map[string]interceptors.Service{}
				for tenant, l := range limits {
					services[tenant] = l(inner)
				}
				return wrap(func(ctx context.Context, rpc *interceptors.RPC, _ interceptors.Service) (any, error) {
					return services[metadata.ValueFromIncomingContext(ctx, "tenant")[0]].Call(ctx, rpc)
				})(inner)
			}
			w := newWorld(t, worldOf{
				server: interceptors.New(perTenant),
				client: interceptors.New(interceptors.Breaker(breaker.Config{})),
			})
			as := func(tenant string) *rpc {
				return w.do(metadata.AppendToOutgoingContext(t.Context(), "tenant", tenant), k, nil)
			}
			const want = 180
			passed := 0
			for range want {
				for range 10 {
					as("noisy")
				}
				if as("quiet").err == nil {
					passed++
				}
				time.Sleep(100 * time.Millisecond)
			}
			if passed != want {
				t.Errorf("%d of %d RPCs of the quiet tenant passed", passed, want)
			}
		})
	}
}

// A refusal that is about the caller is an answer; any other RESOURCE_EXHAUSTED is
// an overload.
func TestClassifyQuotas(t *testing.T) {
	withDetail := func(d *errdetails.ErrorInfo, q *errdetails.QuotaFailure) error {
		st := status.New(codes.ResourceExhausted, "refused")
		var err error
		if q != nil {
			st, err = st.WithDetails(q)
		} else {
			st, err = st.WithDetails(d)
		}
		if err != nil {
			t.Fatal(err)
		}
		return st.Err()
	}
	for _, tt := range []struct {
		name string
		err  error
		want turret.Outcome
	}{
		{"rate limit", withDetail(&errdetails.ErrorInfo{Domain: "turret", Reason: turret.ReasonRateLimited}, nil), turret.Success},
		{"rate limit of another domain", withDetail(&errdetails.ErrorInfo{Domain: "example.com", Reason: turret.ReasonRateLimited}, nil), turret.Overload},
		{"full limit", withDetail(&errdetails.ErrorInfo{Domain: "turret", Reason: turret.ReasonLimitFull}, nil), turret.Overload},
		{"quota", withDetail(nil, &errdetails.QuotaFailure{}), turret.Success},
		{"no detail", status.Error(codes.ResourceExhausted, "full"), turret.Overload},
		{"rate limit here, after an attempt was sent", turret.Sent(&turret.Refusal{Kind: turret.KindRateLimited, Reason: turret.ReasonRateLimited}), turret.Success},
	} {
		if got := interceptors.Classify(t.Context(), nil, nil, tt.err); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// The layers of gates take another classifier.
func TestClassifiedBy(t *testing.T) {
	var asked []error
	healthy := interceptors.ClassifiedBy(func(_ context.Context, rpc *interceptors.RPC, _ any, err error) turret.Outcome {
		if rpc == nil {
			t.Error("no RPC")
		}
		asked = append(asked, err)
		return turret.Success
	})
	synctest.Test(t, func(t *testing.T) {
		b := breaker.Config{Consecutive: 1}
		w := newWorld(t, worldOf{client: interceptors.New(interceptors.Breaker(b, healthy))})
		for range 3 {
			failed := w.do(t.Context(), interceptors.KindUnary, &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.Internal)}})
			if err := failed.wants(codes.Internal, ""); err != nil {
				t.Error(err)
			}
		}
	})
	if len(asked) != 3 {
		t.Errorf("the classifier was asked %d times", len(asked))
	}
	recorder := turrettest.NewRecorder()
	service := interceptors.Admit(recorder, healthy)(turret.ServiceFunc(func(context.Context, *interceptors.RPC) (any, error) {
		return nil, errors.New("a failure")
	}))
	if _, err := service.Call(t.Context(), new(interceptors.RPC)); err == nil || recorder.Outcomes()[0] != turret.Success {
		t.Errorf("error %v, outcomes %v", err, recorder.Outcomes())
	}
	for name, f := range map[string]func(){
		"interceptors: ClassifiedBy: classifier is nil, must be non-nil": func() { interceptors.ClassifiedBy(nil) },
		"interceptors: Admit: option 0 is nil, must be non-nil":          func() { interceptors.Admit(recorder, nil) },
	} {
		if got := panicText(f); got != name {
			t.Errorf("panic %q, want %q", got, name)
		}
	}
}

func panicText(f func()) (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	f()
	return ""
}
