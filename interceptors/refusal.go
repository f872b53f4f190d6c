package interceptors

import (
	"maps"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
)

// Domain is the domain of the ErrorInfo in statuses that a stack makes.
const Domain = "turret"

// reasonTimeout is the reason in the ErrorInfo of an exceeded Timeout.
const reasonTimeout = "TIMEOUT"

func refusalCode(k turret.Kind) codes.Code {
	if k == turret.KindUnavailable {
		return codes.Unavailable
	}
	return codes.ResourceExhausted
}

// refusalStatus returns the status of r. Refusing is the hot path of an
// overload, so statuses in which nothing varies are made once.
func refusalStatus(r *turret.Refusal) *status.Status {
	if r.RetryAfter > 0 {
		return newRefusalStatus(r, &errdetails.RetryInfo{RetryDelay: durationpb.New(r.RetryAfter)})
	}
	return refusals.get(r)
}

func newRefusalStatus(r *turret.Refusal, more ...protoadapt.MessageV1) *status.Status {
	return newStatus(refusalCode(r.Kind), r.Error(), r.Reason, more...)
}

// newStatus returns a status with an ErrorInfo and more details.
func newStatus(code codes.Code, text, reason string, more ...protoadapt.MessageV1) *status.Status {
	details := append([]protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: Domain, Reason: reason}}, more...)
	st := status.New(code, text)
	if with, err := st.WithDetails(details...); err == nil {
		return with
	}
	return st // a reason that is not UTF-8 cannot be marshaled
}

func timeoutStatus(after time.Duration) *status.Status {
	return newStatus(codes.DeadlineExceeded, "turret: timeout of "+after.String()+" exceeded", reasonTimeout)
}

// refusals holds the statuses of refusals that are alike.
var refusals statusCache

// A statusCache holds statuses by the value of the refusal. It holds at most
// maxStatuses, so that refusals that are all different do not fill the memory.
type statusCache struct {
	mu      sync.Mutex
	byValue atomic.Pointer[map[turret.Refusal]*status.Status]
}

const maxStatuses = 128

func (c *statusCache) get(r *turret.Refusal) *status.Status {
	if !cacheable(r.Err) {
		return newRefusalStatus(r)
	}
	known := c.byValue.Load()
	if known != nil {
		if st, ok := (*known)[*r]; ok {
			return st
		}
	}
	return c.add(r)
}

func (c *statusCache) add(r *turret.Refusal) *status.Status {
	st := newRefusalStatus(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[turret.Refusal]*status.Status{}
	if known := c.byValue.Load(); known != nil {
		if len(*known) >= maxStatuses {
			return st
		}
		next = maps.Clone(*known)
	}
	next[*r] = st
	c.byValue.Store(&next)
	return st
}

// cacheable reports whether err, as the cause of a refusal, can be a part of a
// map's key: nil or a pointer, as sentinels are.
func cacheable(err error) bool {
	return err == nil || reflect.TypeOf(err).Kind() == reflect.Pointer
}
