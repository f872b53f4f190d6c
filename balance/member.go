package balance

import (
	"context"
	"sync/atomic"

	"github.com/turret-go/turret/ready"
)

// A member is an endpoint that is a service: the service, what is known of it,
// and who is using it. It stands for this service, not for whatever is under its
// key.
type member[S ready.Readier] struct {
	*endpoint

	service S
	// uses is twice the number of calls that hold the member, and one more when
	// it has gone: a call either holds it before that or does not get it.
	uses    atomic.Int64
	retired atomic.Bool
	seen    bool // in a lineup; guarded by group.building
}

const (
	memberGone = 1
	memberCall = 2
)

// Ready asks the service.
func (m *member[S]) Ready(ctx context.Context) error { return m.service.Ready(ctx) }

// hold keeps the service from being retired until an unhold, unless it has gone.
func (m *member[S]) hold() bool { return m.uses.Add(memberCall)&memberGone == 0 }

// unhold ends a hold, one that failed too, and reports whether m is to be
// retired.
func (m *member[S]) unhold() bool {
	return m.uses.Add(-memberCall) == memberGone && m.retired.CompareAndSwap(false, true)
}

// quit notes that m has gone, and reports whether it is to be retired.
func (m *member[S]) quit() bool {
	return m.uses.Or(memberGone) == 0 && m.retired.CompareAndSwap(false, true)
}
