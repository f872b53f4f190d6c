package balance

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
)

// The errors of the refusals of this package.
var (
	ErrFull       = errors.New("every endpoint has as many calls in flight as it may")
	ErrBanned     = errors.New("every endpoint is banned")
	ErrNoEndpoint = errors.New("there is no endpoint")
	// ErrUnreachable ends a call of a [ClientConn] that does not wait for readiness
	// when the last attempt to connect has failed at every endpoint. The text of the
	// call's error goes on with an address and the failure there.
	ErrUnreachable = errors.New("no endpoint can be reached")
)

// A refusal is the error of a pick: a status, so that gRPC hands it to the
// caller as it is, which unwraps to the Refusal.
type refusal struct {
	error

	status *status.Status
}

// GRPCStatus returns the status that the caller gets.
func (r *refusal) GRPCStatus() *status.Status { return r.status }

// Unwrap returns the Refusal.
func (r *refusal) Unwrap() error { return r.error }

// withStatus returns err, that of a call which was not sent, with its status.
// The balancer's own refusals have one; those of an endpoint's stack, and of contexts
// that have ended, do not.
func withStatus(err error) error {
	if _, ok := err.(*refusal); ok { //nolint:errorlint // it has one outermost
		return err
	}
	return &refusal{err, interceptors.Status(err)}
}

// refuse returns a refusal of this package with its status. Making one costs several
// allocations, so that those which do not vary are made once.
func refuse(kind turret.Kind, reason string, err error) error {
	r := &turret.Refusal{Kind: kind, Layer: "balance", Reason: reason, Err: err}
	return &refusal{r, interceptors.Status(r)}
}

// Refusals are made once: they say the same every time.
var (
	errFull   = refuse(turret.KindOverloaded, turret.ReasonLimitFull, ErrFull)
	errBanned = refuse(turret.KindUnavailable, turret.ReasonCircuitOpen, ErrBanned)
	// errNoEndpoint has no status on purpose: gRPC makes it UNAVAILABLE, and lets
	// a call that waits for readiness wait for an endpoint.
	errNoEndpoint = error(&turret.Refusal{
		Kind: turret.KindUnavailable, Layer: "balance", Reason: turret.ReasonNoEndpoint, Err: fmt.Errorf("%w: the resolver names none", ErrNoEndpoint),
	})
)
