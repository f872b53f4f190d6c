package serviceconfig

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/policy/internal/render"
	"github.com/turret-go/turret/policy/internal/tree"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// grpcAttempts is how many attempts gRPC makes at most
// (https://github.com/grpc/proposal/blob/master/A6-client-retries.md).
const grpcAttempts = 5

// grpcJitter is the share of a backoff that gRPC leaves to chance below it; it
// leaves as much above it.
const grpcJitter = 0.2

// retry reads a retryPolicy.
func (i *importer) retry(f field) *policyv1.Retry {
	all := i.fields(f, "RetryPolicy", "maxAttempts", "initialBackoff", "maxBackoff", "backoffMultiplier", "retryableStatusCodes", "perAttemptRecvTimeout")
	r := &policyv1.Retry{Resend: policyv1.Resend_RESEND_ALWAYS, Budget: i.budget}
	r.MaxAttempts = new(i.attempts(f, all))
	if f, ok := all["perAttemptRecvTimeout"]; ok {
		i.note(f, "is not carried over: write attempt_timeout")
	}
	r.Codes = i.codes(all["retryableStatusCodes"])
	if len(r.GetCodes()) == 0 {
		i.note(f, "has no retryableStatusCodes that mean anything: nothing is tried again")
		return &policyv1.Retry{Off: true}
	}
	r.Backoff = i.backoff(f, all)
	return r
}

// attempts reads maxAttempts.
func (i *importer) attempts(policy field, all map[string]field) int32 {
	n, ok := i.number(all, "maxAttempts")
	f := all["maxAttempts"]
	switch {
	case !ok:
		i.note(policy, "has no maxAttempts: %d, as many as gRPC allows", grpcAttempts)
		return grpcAttempts
	case n != float64(int(n)) || n < 2:
		i.problem(f, "is %v, must be a whole number of at least 2", n)
	case n > grpcAttempts:
		i.note(f, "is %v: %d, as many as gRPC allows", n, grpcAttempts)
	default:
		return int32(n)
	}
	return grpcAttempts
}

// backoff reads what a retryPolicy says of waits.
func (i *importer) backoff(policy field, all map[string]field) *policyv1.Backoff {
	b := &policyv1.Backoff{Jitter: new(grpcJitter)}
	if f, ok := all["initialBackoff"]; ok {
		b.Base = i.duration(f)
	} else {
		i.note(policy, "has no initialBackoff: 50ms")
	}
	if f, ok := all["maxBackoff"]; ok {
		b.Max = i.duration(f)
	} else {
		i.note(policy, "has no maxBackoff: 5s, or initialBackoff if that is longer")
	}
	base, longest := b.GetBase(), b.GetMax()
	if base != nil && longest != nil && longest.AsDuration() < base.AsDuration() {
		i.note(all["initialBackoff"], "is above maxBackoff, which bounds it: %s", render.Duration(longest.AsDuration()))
		b.Base = longest
	}
	if base := b.GetBase(); base != nil && base.AsDuration() < time.Millisecond {
		i.note(all["initialBackoff"], "is %s: 1ms, the shortest that a policy has", render.Duration(base.AsDuration()))
		b.Base = durationpb.New(time.Millisecond)
		if longest != nil && longest.AsDuration() < time.Millisecond {
			b.Max = b.GetBase()
		}
	}
	b.Multiplier = i.multiplier(policy, all)
	if !i.jitter {
		i.jitter = true
		i.note(policy, "waits 0.8 to 1 of each backoff, where gRPC waits 0.8 to 1.2 of it (said once)")
		if i.budget == nil {
			i.note(policy, "gets a budget of 20 %% of the calls and 1 retry a second, where gRPC has none without retryThrottling (said once)")
		}
	}
	return b
}

func (i *importer) multiplier(policy field, all map[string]field) *float64 {
	m, ok := i.number(all, "backoffMultiplier")
	f := all["backoffMultiplier"]
	switch {
	case !ok:
		i.note(policy, "has no backoffMultiplier: 2")
		return nil
	case m <= 0:
		i.problem(f, "is %v, must be above 0", m)
		return nil
	case m < 1:
		i.note(f, "is %v, with which waits grow shorter: 1", m)
		return new(1.0)
	case m > 10:
		i.note(f, "is %v: 10, the largest that a policy has", m)
		return new(10.0)
	}
	return &m
}

// final are codes that another attempt does not change; a policy does not retry
// them.
var final = []string{
	"OK", "CANCELLED", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "FAILED_PRECONDITION",
	"OUT_OF_RANGE", "UNIMPLEMENTED", "UNAUTHENTICATED",
}

// codes reads a list of status codes, by name or by number.
func (i *importer) codes(list field) (codes []policyv1.Code) {
	for _, f := range i.items(list) {
		name := f.node.Value
		if n, err := strconv.Atoi(name); err == nil && f.node.Kind == tree.Number {
			name = codeName(n)
		} else if f.node.Kind != tree.Text {
			name = ""
		}
		n, known := policyv1.Code_value["CODE_"+strings.ToUpper(name)]
		switch code := policyv1.Code(n); {
		case slices.Contains(final, strings.ToUpper(name)):
			i.note(f, "is %v, which another attempt does not change: it is left out", f.node)
		case !known || n == 0:
			i.problem(f, "is %v, must be a code of gRPC, such as \"UNAVAILABLE\"", f.node)
		case slices.Contains(codes, code):
			i.note(f, "is %v, which is there twice", f.node)
		default:
			codes = append(codes, code)
		}
	}
	return codes
}

func codeName(n int) string {
	if n == 0 {
		return "OK"
	}
	return strings.TrimPrefix(policyv1.Code(n).String(), "CODE_") //nolint:gosec // an unknown one has no name
}

// hedge reads a hedgingPolicy.
func (i *importer) hedge(f field) *policyv1.Hedge {
	all := i.fields(f, "HedgingPolicy", "maxAttempts", "hedgingDelay", "nonFatalStatusCodes")
	h := &policyv1.Hedge{MaxHedges: new(i.attempts(f, all) - 1), Budget: i.budget}
	if f, ok := all["hedgingDelay"]; ok {
		h.Delay = i.duration(f)
	}
	if h.GetDelay().AsDuration() < time.Millisecond && h.GetDelay() != nil || h.GetDelay() == nil {
		i.note(f, "has no hedgingDelay, so that gRPC would send all attempts at once: 1ms")
		h.Delay = durationpb.New(time.Millisecond)
	}
	if f, ok := all["nonFatalStatusCodes"]; ok {
		i.codes(f)
		i.note(f, "is left out: here no error ends the other attempts")
	}
	if i.budget == nil {
		i.note(f, "gets a budget of 5 %% of the calls, where gRPC has none")
	}
	i.note(f, "says that carrying out these requests twice does no harm: the rule has idempotency: IDEMPOTENT. (gRPC for Go does not hedge.)")
	return h
}
