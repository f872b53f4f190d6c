package balance

import (
	"encoding/json"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/serviceconfig"

	"github.com/turret-go/turret/internal/attempts"
	"github.com/turret-go/turret/internal/misuse"
)

func init() {
	balancer.Register(builder{})
	attempts.Expect() // Retry is to say which endpoints it has tried
}

// WithP2C makes a channel balance with this policy, as its default service
// config. It panics with the error of [Config.Validate] if c is not valid.
//
// A service config that the resolver supplies replaces the default one, and DNS
// is asked for one: dial with grpc.WithDisableServiceConfig too where that is
// not wanted. To combine the policy with other settings of a service config
// (method configs, health checks), use [PolicyConfig].
func WithP2C(c Config) grpc.DialOption {
	return grpc.WithDefaultServiceConfig(ServiceConfig(c))
}

// ServiceConfig returns a service config that says to balance with this policy,
// and nothing else: for grpc.WithDefaultServiceConfig, or for a resolver to
// supply. It panics with the error of [Config.Validate] if c is not valid.
func ServiceConfig(c Config) string {
	return `{"loadBalancingConfig":[` + PolicyConfig(c) + `]}`
}

// PolicyConfig returns the entry of this policy in the list
// loadBalancingConfig of a service config that says other things too, or in the
// list childPolicy of another policy. It panics with the error of
// [Config.Validate] if c is not valid.
func PolicyConfig(c Config) string {
	misuse.Check("balance: PolicyConfig", c.Validate())
	text, err := json.Marshal(map[string]Config{Name: c})
	if err != nil {
		panic(err) // a valid Config has nothing that JSON lacks
	}
	return string(text)
}

// builder makes policies for gRPC.
type builder struct{}

func (builder) Name() string { return Name }

func (builder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return newPolicy(cc, opts)
}

// ParseConfig parses the JSON of one configuration.
// ParseConfig is called by gRPC for each service config, and by policies that have this
// one as a child.
func (builder) ParseConfig(text json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	p := new(parsed)
	if err := p.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	return p, nil
}
