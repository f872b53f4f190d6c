package sim

import (
	"google.golang.org/grpc"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/load/alarm"
)

// Alarmed is our own policy with its zero configuration, and servers that say on
// real streams when they are sick.
func Alarmed() *Policy {
	p := turret("turret.P2C/alarm", "")
	p.Install = func() ([]grpc.ServerOption, func(grpc.ServiceRegistrar)) {
		a := alarm.New(alarm.Config{})
		return interceptors.New(a.Layer()).ServerOptions(), a.Register
	}
	return p
}
