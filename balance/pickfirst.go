package balance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/serviceconfig"

	"github.com/turret-go/turret"
)

// reportingName is the policy of the connections of a ClientConn, in their
// default service config. It is gRPC's pick_first, which they would have anyway,
// and does two things more. It tells the connection why it could not be made: gRPC
// says so to the policy of a channel, and to RPCs that fail for it, but not with
// the channel's state. And it hands RPCs back that find the connection lost, where
// pick_first lets them wait for a new one: another endpoint may have one.
//
// Service configs of the dial options, and of resolvers, replace it, and there is no
// policy before a resolver has first found the name. The reason is not known then,
// and RPCs wait.
const reportingName = "turret.reporting_pick_first"

func init() { balancer.Register(reportingBuilder{}) }

// A service config is text, in which a connection is a number. It is known by that
// until its grpc.ClientConn has been made, which reads the text.
var (
	numbered sync.Map // to *connection
	number   atomic.Uint64
)

// reporting returns the option that makes failures known to c; forget is to be
// called once it was used.
func reporting(c *connection) (option grpc.DialOption, forget func()) {
	n := number.Add(1)
	numbered.Store(n, c)
	text := fmt.Sprintf(`{"loadBalancingConfig":[{%q:{"connection":%d}}]}`, reportingName, n)
	return grpc.WithDefaultServiceConfig(text), func() { numbered.Delete(n) }
}

// reportTo is the configuration of the policy.
type reportTo struct {
	serviceconfig.LoadBalancingConfig

	connection *connection // nil for an unknown number
}

type reportingBuilder struct{}

func (reportingBuilder) Name() string { return reportingName }

func (reportingBuilder) ParseConfig(text json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	var c struct{ Connection uint64 }
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("balance: %s: %w", reportingName, err)
	}
	of, _ := numbered.Load(c.Connection)
	to, _ := of.(*connection)
	return &reportTo{connection: to}, nil
}

func (reportingBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	r := &reporter{ClientConn: cc}
	r.Balancer = balancer.Get(pickfirst.Name).Build(r, opts)
	return r
}

// A reporter is between gRPC and pick_first.
// To pick_first it is gRPC, and to gRPC it is pick_first. It changes nothing in what
// connections are made.
type reporter struct {
	balancer.Balancer   // pick_first
	balancer.ClientConn // gRPC

	to atomic.Pointer[connection]
}

// UpdateClientConnState comes from gRPC.
func (r *reporter) UpdateClientConnState(s balancer.ClientConnState) error {
	if c, ok := s.BalancerConfig.(*reportTo); ok {
		r.to.Store(c.connection)
	}
	s.BalancerConfig = nil // pick_first's own is the default
	return r.Balancer.UpdateClientConnState(s)
}

// UpdateState comes from pick_first, whose pickers say why there is no connection.
func (r *reporter) UpdateState(s balancer.State) {
	if c := r.to.Load(); c != nil && s.ConnectivityState != connectivity.Ready {
		if s.ConnectivityState == connectivity.TransientFailure {
			if _, err := s.Picker.Pick(balancer.PickInfo{Ctx: context.Background()}); err != nil {
				c.report(err.Error())
			}
		}
		// Without this they would be handed back to the same connection.
		c.setUp(false) // before the RPCs that are handed back choose again
		s.Picker = handBack{}
	}
	r.ClientConn.UpdateState(s)
}

// handBack is the picker of a connection that is lost, or has never been there.
type handBack struct{}

// Pick ends an RPC, which was not sent. It is a status: one that waits for
// readiness would be kept waiting otherwise.
func (handBack) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, errLost
}

var errLost = refuse(turret.KindUnavailable, turret.ReasonNoEndpoint, errors.New("the endpoint's connection was lost before the call was sent"))
