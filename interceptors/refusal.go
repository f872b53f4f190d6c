package interceptors

import (
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/boundedmap"
)

// Domain is the domain of the ErrorInfo in statuses that a stack makes.
const Domain = "turret"

// reasonTimeout is the reason in the ErrorInfo of an exceeded Timeout.
const reasonTimeout = "TIMEOUT"

// refusalCode returns the code of refusals of kind k: UNAVAILABLE, which Retry answers
// by default, or RESOURCE_EXHAUSTED, which it answers only where the server says when
// to come back.
func refusalCode(k turret.Kind) codes.Code {
	if k == turret.KindUnavailable {
		return codes.Unavailable
	}
	return codes.ResourceExhausted
}

// refusalStatus returns the status of r. Refusing is the hot path of an
// overload, so a status is made once for all refusals that are alike; only the
// delay, which varies, is added each time. It is not in the text: texts that
// are all different cannot be counted.
func refusalStatus(r *turret.Refusal) *status.Status {
	st := refusals.get(r)
	if r.RetryAfter <= 0 {
		return st
	}
	return withRetryInfo(st, r.RetryAfter)
}

// withRetryInfo returns st with a RetryInfo more.
// The message is marshaled here and not kept, so that it can be used again. A status
// that cannot take a detail, one that says OK, stays as it is.
func withRetryInfo(st *status.Status, after time.Duration) *status.Status {
	info := retryInfos.Get().(*retryInfo)
	defer retryInfos.Put(info)
	// As durationpb.New, which allocates.
	info.delay.Seconds, info.delay.Nanos = int64(after/time.Second), int32(after%time.Second)
	info.message.RetryDelay = &info.delay
	if with, err := st.WithDetails(&info.message); err == nil {
		return with
	}
	return st
}

// A retryInfo is a message to be marshaled, and used again.
type retryInfo struct {
	message errdetails.RetryInfo
	delay   durationpb.Duration
}

var retryInfos = sync.Pool{New: func() any { return new(retryInfo) }}

// newStatus returns a status with an ErrorInfo.
func newStatus(code codes.Code, text, reason string) *status.Status {
	st := status.New(code, text)
	if with, err := st.WithDetails(&errdetails.ErrorInfo{Domain: Domain, Reason: presentable(reason)}); err == nil {
		return with
	}
	return st
}

// presentable returns text as it may stand in a status: what is not UTF-8 cannot
// be marshaled, and the other side bounds the size of headers, to 8 KiB in many
// implementations, in which a status with details has its text twice.
func presentable(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// maxText is how many bytes of a refusal's text and reason a status takes.
const maxText = 1024

// timeoutStatus returns the status of a Timeout of after that has ended an RPC.
func timeoutStatus(after time.Duration) *status.Status {
	return newStatus(codes.DeadlineExceeded, "turret: timeout of "+after.String()+" exceeded", reasonTimeout)
}

// refusals holds the statuses of refusals that are alike.
var refusals = newStatusCache()

// A statusCache holds statuses of refusals, without their delays: one for each
// kind, layer and reason. It holds at most maxStatuses, so that refusals that
// are all different do not fill the memory.
type statusCache struct {
	known boundedmap.Map[refusalKey, cachedStatus]
}

const maxStatuses = 128

func newStatusCache() *statusCache {
	return &statusCache{known: boundedmap.Map[refusalKey, cachedStatus]{Max: maxStatuses}}
}

// refusalKey is what statuses differ in, but for their text.
type refusalKey struct {
	kind          turret.Kind
	layer, reason string
}

// cachedStatus is the status of refusals with this Err, or with one that says
// the same.
type cachedStatus struct {
	status *status.Status
	err    error
}

// get returns the status of r. The first refusal with a key decides which text is
// kept: of those with another text each gets a status of its own.
func (c *statusCache) get(r *turret.Refusal) *status.Status {
	key := refusalKey{r.Kind, r.Layer, r.Reason}
	cached, known := c.known.Load(key)
	if known && (r.Err == nil && cached.err == nil || samePointer(cached.err, r.Err)) {
		return cached.status
	}
	text := presentable(plainText(r))
	if known && cached.status.Message() == text {
		return cached.status
	}
	made := newStatus(refusalCode(r.Kind), text, r.Reason)
	if !known && len(r.Layer)+len(r.Reason) <= maxText {
		c.known.Get(key, func(refusalKey) cachedStatus { return cachedStatus{made, r.Err} })
	}
	return made
}

// plainText returns the text of r without its delay.
func plainText(r *turret.Refusal) string {
	plain := *r
	plain.RetryAfter = 0
	return plain.Error()
}
