package shed_test

import (
	"testing"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/shed"
)

func TestShedDescribesWhatItRefuses(t *testing.T) {
	service := turret.Stack(shed.Layer[int, int](), turret.Gated[int, int](limit.NewConcurrency(0, limit.Queue{}), nil))(turret.Func[int, int](nil))
	_, _ = service.Call(t.Context(), 0)
	n := turret.Describe(service, 0)
	if f := n.Children[0].Figures[0]; n.Children[0].Kind != "load_shed" || f.Name != "refused" || f.Reason != "OVERLOADED" || f.Value != 1 {
		t.Errorf("%+v", n)
	}
	if n.Children[1].Kind != "concurrency_limit" {
		t.Errorf("%+v", n)
	}
}
