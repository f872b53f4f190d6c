package policy

import (
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/turret-go/turret"
)

// Once returns an option of a call that a client's policy neither retries nor
// hedges. Its timeouts and limits stand.
func Once() grpc.CallOption { return onceOption{} }

// Within returns an option of a call that is bounded by d, in place of the
// timeout or stream_timeout of a client's policy: shorter or longer. A deadline of
// the call's context stands if it is earlier. Of several, the last one holds. It
// panics if d is not positive.
func Within(d time.Duration) grpc.CallOption {
	if d <= 0 {
		panic(fmt.Errorf("policy: Within: %w", &turret.FieldError{Field: "d", Value: d, Bound: "positive"}))
	}
	return withinOption{within: d}
}

type onceOption struct{ grpc.EmptyCallOption }

type withinOption struct {
	grpc.EmptyCallOption

	within time.Duration
}

// perCall is what the options of a call ask of the policy.
type perCall struct {
	once   bool
	within time.Duration // 0: as the policy says
}

func perCallOf(options []grpc.CallOption) (p perCall) {
	for _, o := range options {
		switch o := o.(type) {
		case onceOption:
			p.once = true
		case withinOption:
			p.within = o.within
		}
	}
	return p
}
