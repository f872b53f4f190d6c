package onfinish_test

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/grpc"

	"github.com/turret-go/turret/internal/onfinish"
)

func TestTake(t *testing.T) {
	var told []string
	note := func(name string) grpc.CallOption {
		return grpc.OnFinish(func(err error) { told = append(told, name+": "+err.Error()) })
	}
	waits, fast := grpc.WaitForReady(true), grpc.WaitForReady(false)
	opts := []grpc.CallOption{waits, note("a"), fast, note("b")}
	rest, taken := onfinish.Take(opts)
	if !slices.Equal(rest, []grpc.CallOption{waits, fast}) || cap(rest) != len(rest) {
		t.Errorf("left %v with room for %d, want the other two", rest, cap(rest))
	}
	onfinish.Tell(taken, errors.New("broken"))
	if !slices.Equal(told, []string{"a: broken", "b: broken"}) {
		t.Errorf("told %q, want both, in order", told)
	}
	if _, ok := opts[1].(grpc.OnFinishCallOption); !ok {
		t.Error("the caller's options have changed")
	}
}

func TestTakeNothing(t *testing.T) {
	opts := make([]grpc.CallOption, 1, 8)
	opts[0] = grpc.WaitForReady(true)
	if n := testing.AllocsPerRun(100, func() {
		if rest, taken := onfinish.Take(opts); len(rest) != 1 || cap(rest) != 1 || taken != nil {
			t.Errorf("left %v with room for %d and took %d", rest, cap(rest), len(taken))
		}
	}); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
