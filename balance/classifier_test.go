package balance_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/internal/fakeconn"
)

func init() {
	balance.RegisterClassifier("test.not-found-is-a-failure", func(_ context.Context, err error) turret.Outcome {
		if status.Code(err) == codes.NotFound {
			return turret.Failure
		}
		return turret.Success
	})
}

func TestClassifierDecides(t *testing.T) {
	bubble(t, func(t *testing.T) {
		all := watch(t)
		f := newFleet(t, balance.Config{Classifier: "test.not-found-is-a-failure"}, fakeconn.Endpoints(4))
		f.serve(500, func(address string) (d balancer.DoneInfo) {
			d = answered
			d.Err = status.Error(codes.Internal, "an answer, for this classifier")
			if address == first {
				d.Err = status.Error(codes.NotFound, "")
			}
			return d
		})
		for _, tr := range *all {
			if tr.Endpoint != first {
				t.Errorf("%s was banned, though its errors are answers", tr.Endpoint)
			}
		}
		if len(*all) == 0 {
			t.Error("the endpoint with failures was not banned")
		}
	})
}

func TestUnknownClassifierIsRefused(t *testing.T) {
	var c balance.Config
	err := c.UnmarshalJSON([]byte(`{"classifier":"test.none"}`))
	if _, ok := errors.AsType[*turret.FieldError](err); !ok || !strings.Contains(err.Error(), `Classifier is "test.none"`) {
		t.Errorf("an unknown name: %v", err)
	}
	for name, register := range map[string]func(){
		"empty": func() { balance.RegisterClassifier("", func(context.Context, error) turret.Outcome { return 0 }) },
		"nil":   func() { balance.RegisterClassifier("test.nil", nil) },
		"a twice": func() {
			balance.RegisterClassifier("test.not-found-is-a-failure", func(context.Context, error) turret.Outcome { return 0 })
		},
	} {
		func() {
			defer func() {
				if err, ok := recover().(error); !ok || !strings.HasPrefix(err.Error(), "balance: RegisterClassifier: ") {
					t.Errorf("%s: panic %v, want an error of RegisterClassifier", name, err)
				}
			}()
			register()
		}()
	}
}

// TestQuotasBanNoEndpoint has an endpoint that refuses a noisy tenant: the quiet
// one's calls, and its share of the endpoint, stay.
func TestQuotasBanNoEndpoint(t *testing.T) {
	for name, detail := range map[string]protoadapt.MessageV1{
		"rate limit": &errdetails.ErrorInfo{Domain: "turret", Reason: turret.ReasonRateLimited},
		"quota":      &errdetails.QuotaFailure{},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(detail)
			if err != nil {
				t.Fatal(err)
			}
			refused := balancer.DoneInfo{Err: st.Err(), BytesSent: true, BytesReceived: true, Trailer: metadata.Pairs("grpc-retry-pushback-ms", "60000")}
			bubble(t, func(t *testing.T) {
				all := watch(t)
				f := newFleet(t, balance.Config{}, fakeconn.Endpoints(4))
				if n := f.serve(2000, sick(refused))[first]; n < 400 || n > 600 {
					t.Errorf("%d of 2000 calls at the endpoint with the quota, want a quarter", n)
				}
				if len(*all) != 0 {
					t.Errorf("transitions %+v, want none", *all)
				}
			})
		})
	}
}

// failingCredentials fail each call.
type failingCredentials struct{}

func (failingCredentials) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return nil, errors.New("no token")
}

func (failingCredentials) RequireTransportSecurity() bool { return false }

var _ credentials.PerRPCCredentials = failingCredentials{}

// localFaults are calls that gRPC refuses because of the caller.
var localFaults = map[string]struct {
	request *testpb.SimpleRequest
	options []grpc.CallOption
	context func(context.Context) context.Context
}{
	"invalid UTF-8": {request: &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Message: "\xff"}}},
	"too large": {
		request: &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, 100)}},
		options: []grpc.CallOption{grpc.MaxCallSendMsgSize(10)},
	},
	"compressor":  {options: []grpc.CallOption{grpc.UseCompressor("none such")}},
	"credentials": {options: []grpc.CallOption{grpc.PerRPCCredentials(failingCredentials{})}},
	"metadata": {context: func(ctx context.Context) context.Context {
		return metadata.NewOutgoingContext(ctx, metadata.MD{"not a key": {"x"}})
	}},
}

// TestLocalFaultsBanNoEndpoint makes 1,000 calls of each sort through the policy
// and through a ClientConn, over real connections.
func TestLocalFaultsBanNoEndpoint(t *testing.T) {
	inWorld(t, 4, balance.ServiceConfig(balance.Config{}), func(w *world) {
		all := watch(w.T)
		addresses := make(chan discover.Change[int, string], 4)
		for i := range w.backends {
			addresses <- discover.Insert(i, "passthrough:///b"+string(rune('0'+i)))
		}
		conn, err := balance.NewClientConn(discover.Channel(addresses), balance.ClientConfig{}, w.options...)
		if err != nil {
			w.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		for name, fault := range localFaults {
			for _, client := range []testpb.TestServiceClient{w.client, testpb.NewTestServiceClient(conn)} {
				ctx := w.Context()
				if fault.context != nil {
					ctx = fault.context(ctx)
				}
				request := fault.request
				if request == nil {
					request = &testpb.SimpleRequest{}
				}
				for range 1000 {
					if _, err := client.UnaryCall(ctx, request, fault.options...); err == nil {
						w.Fatalf("%s: no error", name)
					}
				}
				if len(*all) != 0 {
					w.Fatalf("%s: %+v", name, *all)
				}
			}
		}
	})
}
