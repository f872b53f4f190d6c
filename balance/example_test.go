package balance_test

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/turret-go/turret/balance"
)

// The zero Config is the default.
func ExampleWithP2C() {
	conn, err := grpc.NewClient("dns:///backend.example.com:443",
		balance.WithP2C(balance.Config{}),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(conn.Target())
	_ = conn.Close()
	// Output: dns:///backend.example.com:443
}

// A service config that chooses the policy.
func ExampleServiceConfig() {
	fmt.Println(balance.ServiceConfig(balance.Config{Limit: 100, SlowStart: 30 * time.Second}))
	// Output: {"loadBalancingConfig":[{"turret.P2C":{"limit":100,"slowStart":"30s"}}]}
}

// The policy in a service config that says other things too.
func ExamplePolicyConfig() {
	fmt.Printf(`{"loadBalancingConfig":[%s],"healthCheckConfig":{"serviceName":"shop"}}`, balance.PolicyConfig(balance.Config{}))
	// Output: {"loadBalancingConfig":[{"turret.P2C":{}}],"healthCheckConfig":{"serviceName":"shop"}}
}

// A misspelt name is an error, not a setting that does nothing.
func ExampleConfig_unknownName() {
	var c balance.Config
	fmt.Println(json.Unmarshal([]byte(`{"limits": 100}`), &c))
	// Output: balance: config: json: unknown field "limits"
}
