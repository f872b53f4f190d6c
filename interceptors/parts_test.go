package interceptors

import (
	"testing"

	"github.com/turret-go/turret/limit"
)

func TestPartsOfAStack(t *testing.T) {
	gate := limit.NewConcurrency(1, limit.Queue{})
	parts := partsOf(New(
		LoadShed(),
		For("/a/*", Named("outer", Named("inner", Admit(gate))), Buffer(1)),
		Recover(),
	).layers)
	if len(parts) != 3 || parts[0].kind != "load_shed" || parts[1].kind != "for" || parts[2].kind != "recover" {
		t.Fatalf("%+v", parts)
	}
	branch := parts[1]
	if branch.branch == nil || len(branch.inside) != 2 || branch.inside[1].kind != "buffer" {
		t.Fatalf("%+v", branch)
	}
	if limit := branch.inside[0]; limit.gate != gate || limit.name != "outer" || limit.kind != "concurrency_limit" {
		t.Errorf("%+v", limit)
	}
	if parts[0].gate != nil || parts[0].branch != nil {
		t.Errorf("%+v", parts[0])
	}
}
