package balance

import (
	"context"
	"errors"
	"fmt"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/internal/background"
	"github.com/turret-go/turret/internal/misuse"
)

// A Balancer is a [turret.Service] made of many: each call goes to the best of the
// services that are there. It is Tower's Balance, with the choice of the gRPC
// policy (see the package) instead of Tower's: latency and what is in flight,
// bans for failures and for latency, slow start, a limit for each endpoint.
//
// # Endpoints
//
// They come and go as a [discover.Source] says, and each is a service with layers
// of its own: discover.Map puts them around it, also around what it makes of the
// addresses of [Resolve]. One that was inserted is asked for
// readiness until it is ready; only those that are ready are chosen, and each is
// asked again before a call is sent to it. One that is not ready any more is left
// out until it is; one whose readiness fails for good is dropped. Errors of calls
// drop no endpoint, but they count, and may ban it.
//
// Inserting under a key that is taken replaces the service there, when the new one
// is ready; nothing that was learned about the old one is kept. A service that has
// left gets no further call, and those in flight go on. When the last of them is
// over the service is closed, if it has a method Close() or Close() error; so a
// service that has one is inserted once, and belongs to the Balancer from then on.
//
// # Calls
//
// Call waits while no endpoint is ready, in line, until ctx ends; its error says
// why there was none and matches ctx's error and turret.ErrNotReady. When the
// source has ended and every endpoint has failed, it is refused at once: a
// [*turret.Refusal] with the reason NO_ENDPOINT. So it is after Close. Where all
// that are ready are full or banned, [Config] says what becomes of the call.
//
// If an endpoint refuses a call all the same, unsent (turret.ErrNotReady), because
// another call was quicker, the call goes to another endpoint, three times at
// most. All other errors are the caller's. A call that belongs to a retried or
// hedged RPC of package interceptors avoids the endpoints that the RPC has tried.
//
// Ready waits until a call would find an endpoint. It fails for good after Close,
// and when there is no endpoint and the source has ended.
//
// Use [New]; the methods may be called concurrently. A call costs no allocation.
type Balancer[K comparable, Req, Res any] struct {
	group    group[K, turret.Service[Req, Res]]
	classify func(ctx context.Context, req Req, res Res, err error) turret.Outcome
}

// New returns a [Balancer] over the services of source, which it reads until the
// source ends or the Balancer is closed.
//
// classify says how a call went, as for turret.Gated: nil means [turret.Classify],
// an error that matches turret.ErrNotReady is Unused without asking it, and a
// panic or a runtime.Goexit in a call is a Failure, and goes on. It may be called
// concurrently.
//
// If source fails, the endpoints that there are stay, and the errors of calls that
// wait for one say so. New panics if source is nil, or with the error of
// [Config.Validate].
func New[K comparable, Req, Res any](source discover.Source[K, turret.Service[Req, Res]], c Config, classify func(ctx context.Context, req Req, res Res, err error) turret.Outcome) *Balancer[K, Req, Res] {
	if source == nil {
		misuse.Check("balance: New", invalid("source", nil, "non-nil"))
	}
	misuse.Check("balance: New", c.Validate())
	if classify == nil {
		classify = func(ctx context.Context, _ Req, _ Res, err error) turret.Outcome { return turret.Classify(ctx, err) }
	}
	b := &Balancer[K, Req, Res]{classify: classify}
	b.group.init(c, func(turret.Service[Req, Res]) {}, closeService[Req, Res])
	b.group.read(discover.Map(source, func(key K, s turret.Service[Req, Res]) *member[turret.Service[Req, Res]] {
		return b.group.newMember(s, fmt.Sprint(key))
	}))
	return b
}

// closeService closes s if it can be. It runs on the goroutine of a call, or on
// that of the source: a panic must not become theirs.
func closeService[Req, Res any](s turret.Service[Req, Res]) { background.Close("balance", s) }

// sends is how many endpoints a call is sent to, at most, while they refuse it.
// Each time it refuses at another moment: four are enough unless all are full, when the
// call waits in line anyway.
const sends = 4

// Ready waits until there is an endpoint for a call.
func (b *Balancer[K, Req, Res]) Ready(ctx context.Context) error { return b.group.Ready(ctx) }

// Call calls the best of the endpoints that are ready.
func (b *Balancer[K, Req, Res]) Call(ctx context.Context, req Req) (res Res, err error) {
	for range sends {
		m, v, entered := b.group.enter(ctx, nil, false)
		if entered != nil {
			return res, entered
		}
		res, err = b.send(ctx, m, v, req)
		if err == nil || !maySendAgain(ctx, err) {
			break
		}
	}
	return res, err
}

func (b *Balancer[K, Req, Res]) send(ctx context.Context, m *member[turret.Service[Req, Res]], v visit, req Req) (res Res, err error) {
	outcome := turret.Failure // unless the call and classify return
	defer func() { b.group.exit(m, v, outcome, 0) }()
	res, err = m.service.Call(ctx, req)
	if err != nil && errors.Is(err, turret.ErrNotReady) {
		outcome = turret.Unused
		return res, err
	}
	outcome = b.classify(ctx, req, res, err)
	return res, err
}

// maySendAgain reports whether a call that failed with err at one endpoint may be
// sent to another.
func maySendAgain(ctx context.Context, err error) bool {
	return errors.Is(err, turret.ErrNotReady) && ctx.Err() == nil
}

// Stats returns what the Balancer knows of its endpoints at this moment.
func (b *Balancer[K, Req, Res]) Stats() Stats { return b.group.stats() }

// String returns the [Stats] in words.
func (b *Balancer[K, Req, Res]) String() string { return b.group.String() }

// Close ends the reading of the source and drops all endpoints, as if they had
// been removed, and waits until its goroutines have ended. Calls in flight go on;
// calls that wait for an endpoint, and later ones, get an error that matches
// ready.ErrClosed. Closing again does nothing.
func (b *Balancer[K, Req, Res]) Close() { b.group.close() }

// Describe describes the Balancer and its endpoints, with the layers of each.
func (b *Balancer[K, Req, Res]) Describe(d *turret.Description) {
	d.Is("balancer", "balancer")
	b.group.describe(d, func(s turret.Service[Req, Res]) any { return layersOf{s} })
}
