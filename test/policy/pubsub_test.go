package policytest

import (
	"context"
	_ "embed"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/serviceconfig"
)

//go:embed pubsub.json
var config []byte

// publisher fails twice, and then answers.
type publisher struct {
	pubsubpb.UnimplementedPublisherServer

	calls atomic.Int64
}

func (p *publisher) fail() error {
	if p.calls.Add(1) <= 2 {
		return status.Error(codes.Unavailable, "not yet")
	}
	return nil
}

func (p *publisher) GetTopic(_ context.Context, req *pubsubpb.GetTopicRequest) (*pubsubpb.Topic, error) {
	return &pubsubpb.Topic{Name: req.GetTopic()}, p.fail()
}

func (p *publisher) DeleteTopic(context.Context, *pubsubpb.DeleteTopicRequest) (*emptypb.Empty, error) {
	return new(emptypb.Empty), p.fail()
}

// start starts a server and a client with stack, which end with the test.
func start(t *testing.T, p *publisher, stack *interceptors.Stack) pubsubpb.PublisherClient {
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	pubsubpb.RegisterPublisherServer(server, p)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///pubsub", append(stack.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-served //nolint:errcheck // the server was stopped
	})
	return pubsubpb.NewPublisherClient(conn)
}

// A service config in the form in which Google publishes them is imported, checked
// against the methods of the generated code, and carried out.
func TestImportedConfigOfPubSub(t *testing.T) {
	document, notes, err := serviceconfig.Import("pubsub.json", config)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, n := range notes {
		text.WriteString(n.String() + "\n")
	}
	for _, want := range []string{"has no maxAttempts", `"/google.pubsub.v1.Publisher/ UpdateTopic"`, "maxRequestMessageBytes is not part of a policy"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no note says %q:\n%s", want, text.String())
		}
	}
	p, err := policy.New(document, policy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		call  func(context.Context, pubsubpb.PublisherClient) error
		want  codes.Code
		calls int64
	}{
		{"GetTopic is tried again", func(ctx context.Context, c pubsubpb.PublisherClient) error {
			_, err := c.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: "t"})
			return err
		}, codes.OK, 3},
		{"DeleteTopic is not", func(ctx context.Context, c pubsubpb.PublisherClient) error {
			_, err := c.DeleteTopic(ctx, &pubsubpb.DeleteTopicRequest{Topic: "t"})
			return err
		}, codes.Unavailable, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := new(publisher)
				client := start(t, server, interceptors.New(p.Client()))
				if got := status.Code(tt.call(t.Context(), client)); got != tt.want || server.calls.Load() != tt.calls {
					t.Errorf("%v after %d calls, want %v after %d", got, server.calls.Load(), tt.want, tt.calls)
				}
			})
		})
	}
}

// A method that the generated code does not have is an error with its place.
func TestMethodThatIsNotThere(t *testing.T) {
	document, _, err := serviceconfig.Import("pubsub.json", []byte(strings.Replace(string(config), "ListTopics", "ListTopic", 1)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = policy.New(document, policy.Config{})
	if err == nil || !strings.Contains(err.Error(), "pubsub.json:6:9: rules[0].methods[1]") || !strings.Contains(err.Error(), "did you mean /google.pubsub.v1.Publisher/ListTopics?") {
		t.Errorf("the error is %v", err)
	}
}
