package interceptors_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
)

// A tenant that holds its only place does not keep another out, on either side and
// for every kind of RPC.
func TestPerKeyKeepsTenantsApart(t *testing.T) {
	tenant := func(ctx context.Context, rpc *interceptors.RPC) string {
		md, _ := metadata.FromIncomingContext(ctx)
		if rpc.Side == interceptors.SideClient {
			md, _ = metadata.FromOutgoingContext(ctx)
		}
		if values := md.Get("tenant"); len(values) == 1 {
			return values[0]
		}
		return ""
	}
	one := limit.KeyedConfig{New: func(string) turret.Gate { return limit.NewConcurrency(1, limit.Queue{}) }}
	for _, k := range kinds {
		for _, side := range []string{"client", "server"} {
			inBubble(t, k.String()+" "+side, func(t *testing.T) {
				stack := interceptors.New(interceptors.PerKey(tenant, one))
				c := worldOf{client: stack}
				if side == "server" {
					c = worldOf{server: stack}
				}
				w := newWorld(t, c)
				as := func(tenant string) context.Context {
					return metadata.AppendToOutgoingContext(t.Context(), "tenant", tenant)
				}
				release, err := w.hold(as("a"), k)
				if err != nil {
					t.Fatal(err)
				}
				if err := w.do(as("a"), k, nil).wants(codes.ResourceExhausted, turret.ReasonLimitFull); err != nil {
					t.Error(err)
				}
				if err := w.do(as("b"), k, nil).wants(codes.OK, ""); err != nil {
					t.Error(err)
				}
				if err := release(); err != nil {
					t.Error(err)
				}
				if err := w.do(as("a"), k, nil).wants(codes.OK, ""); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
