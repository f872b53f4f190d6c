package interceptors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/timeout"
)

// DefaultReplayLimit is how many bytes of sent messages a stream keeps for its
// replay unless [ReplayLimit] says otherwise: what gRPC's own retry keeps.
const DefaultReplayLimit = 256 << 10

// A RetryOption says what [Retry] and [RetryPolicy] do beyond their configuration.
// What it sets belongs to RPCs, and not to retry.Config, which is the same for any
// kind of request; and a policy of one's own has no Config at all.
type RetryOption func(*retryService)

// ReplayLimit bounds the bytes of encoded messages that a stream keeps, so that
// they can be sent again on another attempt. A stream that has sent more goes
// on and is no longer retried; so does one whose messages cost more than bytes
// beside their own bytes, at 96 each: at the default, after some 2,700 messages
// however small they are. 0 keeps nothing. The default is
// [DefaultReplayLimit]. It panics if bytes is negative.
func ReplayLimit(bytes int) RetryOption {
	if bytes < 0 {
		misused("ReplayLimit", "bytes", bytes, "at least 0")
	}
	return func(s *retryService) { s.replayLimit = bytes }
}

// RetryCodes returns a Retryable for retry.Config that answers yes to errors
// with one of the given codes, and to two more that [Retry] is there for: an
// attempt that a [Timeout] inside the Retry ended, and RESOURCE_EXHAUSTED from
// a server that said when to come back. It may be used concurrently.
func RetryCodes(retryable ...codes.Code) func(ctx context.Context, err error) bool {
	retryable = slices.Clone(retryable)
	return func(_ context.Context, err error) bool {
		code := Code(err)
		if slices.Contains(retryable, code) || errors.Is(err, timeout.ErrTimeout) {
			return true
		}
		if code != codes.ResourceExhausted {
			return false
		}
		_, said := askedDelay(err)
		return said
	}
}

// Retry returns a [Layer] that tries RPCs of a client again, as c says; RPCs of
// a server pass through it, with one [EventWarning]. It panics with the error of c.Validate if there is
// one.
//
// Without c.Retryable, these are tried again: UNAVAILABLE, what a [Timeout]
// inside the Retry ended while the RPC's own deadline stands, and
// RESOURCE_EXHAUSTED where the server said when to come back ([RetryCodes]).
// What was refused before it was sent (turret.ErrNotReady) is always tried
// again. A server that says when to come back (grpc-retry-pushback-ms, or
// RetryInfo) is obeyed to the instant, at most a tenth later; if it says never,
// something that cannot be read, or longer than the deadline allows, there is
// no retry. A request that does more than once what it should do once is not
// safe to retry: see the package documentation of retry.
//
// Each attempt after the first carries grpc-previous-rpc-attempts. The reply
// and the destinations of grpc.Header, grpc.Trailer and grpc.Peer are those of
// the last attempt, and so is the status. If there is no further attempt because
// the RPC's context has ended, the status has the context's code, and the last
// attempt's in its text.
//
// A stream is tried again until something of it has reached the caller: a
// message or a header of the server, io.EOF or another error of SendMsg, what
// Context or Trailer return. Messages that were sent are kept until then, as
// encoded bytes up to [ReplayLimit], and sent again. A stream of which that is
// no longer possible goes on without it. No message is delivered twice.
//
// A Retry that gives up on an RPC which a gRPC handler makes, with the handler's
// context, tells the caller of the handler not to try again: it sets the trailer
// grpc-retry-pushback-ms to -1, which counts if the handler fails, with whatever
// error. Otherwise each hop would multiply the attempts of the hop below it. With
// MaxAttempts 1 there is nothing to multiply, and nothing is signalled.
//
// gRPC has a retry of its own, which multiplies with this one if a service
// config switches it on: dial with grpc.WithDisableRetry().
func Retry(c retry.Config, o ...RetryOption) Layer {
	misuse.Check("interceptors: Retry", c.Validate())
	if c.Retryable == nil {
		c.Retryable = RetryCodes(codes.Unavailable)
	}
	c.RetryAfter = firstAsked(c.RetryAfter)
	policy := retryPolicy{retry.NewPolicy[*RPC, any](c), c.Retryable, true, new(tally), new(vain)}
	if c.MaxAttempts == 1 {
		policy.vain = nil
	}
	return retryLayer("Retry", policy, o)
}

// RetryPolicy is [Retry] with a policy of one's own, which decides after each
// attempt whether there is another one: it may change the request, replace the
// result, or repeat a success. It is not asked once something of the RPC has
// reached the caller: see [RPC.Committed]. A pushback of the server is for p to
// read. It panics if p is nil.
//
// retry.LayerOf with such a policy works in a stack too; RetryPolicy takes options,
// counts attempts in [RPC].Attempt, and has events.
func RetryPolicy(p retry.Policy[*RPC, any], o ...RetryOption) Layer {
	if p == nil {
		misused("RetryPolicy", "policy", nil, "non-nil")
	}
	only, ok := p.(interface{ OnlyErrors() bool })
	never := func(context.Context, error) bool { return false }
	return retryLayer("RetryPolicy", retryPolicy{p, never, ok && only.OnlyErrors(), new(tally), nil}, o)
}

// retryLayer returns the layer of a policy.
func retryLayer(constructor string, policy retryPolicy, o []RetryOption) Layer {
	layer := retry.LayerOf[*RPC, any](policy)
	template := retryService{replayLimit: DefaultReplayLimit}
	for i, option := range o {
		if option == nil {
			misused(constructor, fmt.Sprintf("options[%d]", i), nil, "non-nil")
		}
		option(&template)
	}
	return func(inner Service) Service {
		return &retryService{Service: layer(inner), inner: inner, replayLimit: template.replayLimit, anySide: template.anySide}
	}
}

// firstAsked asks f, if there is one, and then the pushback of gRPC.
func firstAsked(f retryAfter) retryAfter {
	return func(ctx context.Context, err error) (delay time.Duration, said bool) {
		if f != nil {
			if delay, said = f(ctx, err); said {
				return delay, said
			}
		}
		return askedDelay(err)
	}
}

type retryAfter = func(ctx context.Context, err error) (delay time.Duration, said bool)

// retryService is the retry of RPCs: around the mechanism, it prepares the RPC
// for several attempts and gives an interrupted wait its status.
type retryService struct {
	Service // the mechanism, around inner

	inner       Service
	replayLimit int
	anySide     bool // RPCs of a server do not pass by
	wrongSide   warning
}

func (s *retryService) Call(ctx context.Context, rpc *RPC) (any, error) {
	if rpc.Side == SideServer && !s.anySide {
		s.wrongSide.warnOfSide(ctx, rpc, "retry", "a Retry")
		return s.inner.Call(ctx, rpc)
	}
	rpc.end().repeat(rpc, s.replayLimit)
	reply, err := s.Service.Call(ctx, rpc)
	if i, ok := err.(*retry.InterruptedError); ok { //nolint:errorlint // of this layer, not of one inside
		err = interrupted(i)
	}
	return reply, err
}

// A reportedError is around the error of an attempt, the refusal in which was
// reported when the next attempt was decided. It is the error of the RPC if there is
// no time for that attempt after all.
type reportedError struct{ error }

// Unwrap returns the error.
func (e reportedError) Unwrap() error { return e.error }

// A retrier is the service of retry.LayerOf.
type retrier interface{ Retries() }

// prepared returns s, or if it is that of retry.LayerOf, around inner, a service
// that prepares RPCs for more than one attempt.
func prepared(s, inner Service) Service {
	if _, ok := s.(retrier); ok {
		return &retryService{Service: s, inner: inner, replayLimit: DefaultReplayLimit, anySide: true}
	}
	return s
}

// RetryAsked returns a Retryable for retry.Config that answers yes to errors by
// which the server asks for another attempt, with grpc-retry-pushback-ms or a
// RetryInfo, and no to all others. With it [Retry] sends a request again only if
// it was not sent before or if the server wants it: for methods of which carrying
// out a request twice does harm. It may be used concurrently.
func RetryAsked() func(ctx context.Context, err error) bool {
	return func(_ context.Context, err error) bool {
		delay, said := askedDelay(err)
		return said && delay >= 0
	}
}

// interrupted returns the error of an RPC whose context ended while it waited to
// be tried again: with the context's code, and the last attempt's status in its
// text. If both have the same code, the last attempt's error says more.
func interrupted(e *retry.InterruptedError) error {
	code := Code(e.Err)
	if Code(e.Last) == code {
		return e.Last
	}
	return &statusError{status.New(code, fmt.Sprintf("%v; last attempt: %v", e.Err, e.Last)), e}
}

func (s *retryService) String() string { return describe(s.Service) }

// retryPolicy is the policy of RPCs: that of retry.Config, for RPCs of which
// nothing has reached the caller.
type retryPolicy struct {
	retry.Policy[*RPC, any]

	retryable  func(ctx context.Context, err error) bool
	onlyErrors bool
	retries    *tally
	vain       *vain // nil if only one attempt is allowed
}

// OnlyErrors reports whether a success needs no decision.
func (p retryPolicy) OnlyErrors() bool { return p.onlyErrors }

func (p retryPolicy) Next(ctx context.Context, a retry.Attempt[*RPC, any]) retry.Decision[*RPC, any] {
	if a.Req.Committed() {
		return a.Stop()
	}
	d := p.Policy.Next(ctx, a)
	if !d.Again {
		if p.worthIt(ctx, a.Err) {
			p.vain.tell(ctx)
			if ended := ended(ctx); ended != nil {
				d.Err = interrupted(&retry.InterruptedError{Err: ended, Last: d.Err})
			}
		}
		return d
	}
	a.Req.end().restore()
	next := *cmp.Or(d.Req, a.Req)
	next.Attempt = a.Req.Attempt + 1
	d.Req = &next
	if e, refused := refusedEvent(a.Err); refused {
		a.Req.tell(ctx, &e)
		if d.Err != nil { // a policy may end with a result in place of the refusal
			d.Err = reportedError{d.Err}
		}
	}
	reason := reasonOf(a.Err)
	p.retries.add(reason)
	a.Req.tell(ctx, &Event{
		Kind: EventRetry, Layer: "retry", Reason: reason, Attempt: next.Attempt, Delay: d.Delay, Err: a.Err,
	})
	return d
}

// worthIt reports whether err would have been tried again.
func (p retryPolicy) worthIt(ctx context.Context, err error) bool {
	return err != nil && (errors.Is(err, turret.ErrNotReady) || p.retryable(ctx, err))
}

// ended returns the error of ctx if that has ended. A deadline that has passed
// counts, though ctx may not have noticed yet.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= 0 {
		return context.DeadlineExceeded
	}
	return nil
}

func (p retryPolicy) String() string { return describePolicy(p.Policy) }

func describePolicy(p any) string {
	if d, ok := p.(fmt.Stringer); ok {
		return d.String()
	}
	return "retry"
}

// Describe says what the mechanism says, and how much a stream keeps.
func (s *retryService) Describe(d *turret.Description) {
	d.Forward(s.Service)
	d.Setting("replay_limit", "By", s.replayLimit)
}

// Describe says how often RPCs were tried again, and why.
func (p retryPolicy) Describe(d *turret.Description) {
	d.Forward(p.Policy)
	p.retries.describe(d, "retries", "{retry}")
}

// Inner returns what RPCs go on to.
func (s *retryService) Inner() any { return s.inner }
