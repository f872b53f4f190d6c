package turret_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/turrettest"
)

// classifier is the classify function of Gated.
type classifier func(ctx context.Context, req, res string, err error) turret.Outcome

// TestGatedLeavesOnEveryWayOut runs a call that ends in each possible way and
// checks what the gate got: one outcome, and no call left inside.
func TestGatedLeavesOnEveryWayOut(t *testing.T) {
	overload := func(context.Context, string, string, error) turret.Outcome { return turret.Overload }
	tests := map[string]struct {
		call     func(ctx context.Context) (string, error)
		classify classifier
		want     turret.Outcome
	}{
		"success":            {func(context.Context) (string, error) { return "", nil }, nil, turret.Success},
		"error":              {func(context.Context) (string, error) { return "", errBoom }, nil, turret.Failure},
		"classified":         {func(context.Context) (string, error) { return "", errBoom }, overload, turret.Overload},
		"classified success": {func(context.Context) (string, error) { return "", nil }, overload, turret.Overload},
		"panic":              {func(context.Context) (string, error) { panic("boom") }, overload, turret.Failure},
		"goexit": {
			func(context.Context) (string, error) { runtime.Goexit(); return "", nil },
			overload, turret.Failure,
		},
		"panic in classify": {
			func(context.Context) (string, error) { return "", nil },
			func(context.Context, string, string, error) turret.Outcome { panic("boom") }, turret.Failure,
		},
		"goexit in classify": {
			func(context.Context) (string, error) { return "", nil },
			func(context.Context, string, string, error) turret.Outcome { runtime.Goexit(); return 0 }, turret.Failure,
		},
		"not sent": {
			func(context.Context) (string, error) { return "", turret.ErrNotReady },
			overload, turret.Unused,
		},
		"refused below": {func(context.Context) (string, error) {
			return "", fmt.Errorf("below: %w", &turret.Refusal{Reason: turret.ReasonLimitFull})
		}, overload, turret.Unused},
		"gave up in a line below": {func(ctx context.Context) (string, error) {
			return "", turret.NotReady(context.Canceled)
		}, overload, turret.Unused},
		"sent, then refused": {func(context.Context) (string, error) {
			return "", turret.Sent(&turret.Refusal{Reason: turret.ReasonLimitFull})
		}, nil, turret.Failure},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			calls := turrettest.NewRecorder()
			service := turret.Gated[string, string](calls, tt.classify)(turret.ServiceFunc(
				func(ctx context.Context, _ string) (string, error) {
					if calls.Inside() != 1 {
						t.Errorf("%d inside during the call, want 1", calls.Inside())
					}
					return tt.call(ctx)
				}))
			aside(func() { _, _ = service.Call(t.Context(), "") })
			if got := calls.Outcomes(); !slices.Equal(got, []turret.Outcome{tt.want}) || calls.Inside() != 0 {
				t.Errorf("outcomes %v and %d inside, want one %v and nobody", got, calls.Inside(), tt.want)
			}
		})
	}
}

// aside runs f on a goroutine that it may end, or panic on.
func aside(f func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = recover() }()
		f()
	})
	wg.Wait()
}

func TestGatedDoesNotSwallowPanics(t *testing.T) {
	service := turret.Gated[string, string](turrettest.NewRecorder(), nil)(turret.ServiceFunc(
		func(context.Context, string) (string, error) { panic("boom") }))
	wantPanic(t, "boom", func() { _, _ = service.Call(t.Context(), "") })
}

func TestGatedPassesResultsOn(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	var classified []any
	service := turret.Gated(turrettest.NewRecorder(), func(ctx context.Context, req, res string, err error) turret.Outcome {
		classified = []any{ctx.Value(key{}), req, res, err}
		return turret.Success
	})(turret.ServiceFunc(func(ctx context.Context, req string) (string, error) {
		return fmt.Sprint(req, ctx.Value(key{})), errBoom
	}))
	res, err := service.Call(ctx, "request with ")
	if res != "request with value" || !errors.Is(err, errBoom) {
		t.Errorf("got %q, %v, want what the inner service returned", res, err)
	}
	if want := []any{"value", "request with ", "request with value", errBoom}; !slices.Equal(classified, want) {
		t.Errorf("classify saw %v, want %v", classified, want)
	}
}

// shut is a gate that lets no call in.
type shut struct {
	open

	err error
}

func (g shut) Ready(context.Context) error { return g.err }

func (g shut) Enter(context.Context) (turret.Ticket, error) { return turret.Ticket{}, g.err }

func (g shut) Leave(turret.Ticket, turret.Outcome) { panic("left without having entered") }

func TestGatedWhoIsRefusedDoesNotCall(t *testing.T) {
	inner := turret.ServiceFunc(func(context.Context, string) (string, error) {
		t.Error("the inner service was called")
		return "", nil
	})
	refusal := &turret.Refusal{Reason: "SHUT"}
	service := turret.Gated[string, string](shut{err: refusal}, nil)(inner)
	if _, err := service.Call(t.Context(), ""); err != error(refusal) { //nolint:errorlint // the error itself is promised
		t.Errorf("Call: %v, want the gate's error itself", err)
	}
	if err := service.Ready(t.Context()); err != error(refusal) { //nolint:errorlint // the error itself is promised
		t.Errorf("Ready: %v, want the gate's error itself", err)
	}
}

func TestGatedAsksGateThenService(t *testing.T) {
	inner := turrettest.NewMock[string, string](t)
	inner.Fail(errBoom)
	service := turret.Gated[string, string](open{}, nil)(inner)
	if err := service.Ready(t.Context()); !errors.Is(err, errBoom) {
		t.Errorf("Ready: %v, want the inner service's error after the gate said yes", err)
	}
	outermost := errors.New("outermost")
	service = turret.Gated[string, string](shut{err: outermost}, nil)(inner)
	if err := service.Ready(t.Context()); !errors.Is(err, outermost) {
		t.Errorf("Ready: %v, want the gate's error, which is asked first", err)
	}
}

// ticketed is a gate that keeps the tickets that come back.
type ticketed struct {
	open

	left []turret.Ticket
}

var ticket = turret.Ticket{Start: 1, Data: 2, Ref: "ref"}

func (g *ticketed) Enter(context.Context) (turret.Ticket, error) { return ticket, nil }

func (g *ticketed) Leave(got turret.Ticket, _ turret.Outcome) { g.left = append(g.left, got) }

func TestGatedKeepsTheTicket(t *testing.T) {
	g := &ticketed{}
	_, _ = turret.Gated[string, string](g, nil)(echo).Call(t.Context(), "")
	if !slices.Equal(g.left, []turret.Ticket{ticket}) {
		t.Errorf("Leave got %v, want the ticket of Enter once", g.left)
	}
}

func TestGatedNeedsAGate(t *testing.T) {
	wantPanic(t, "turret: Gated: gate is nil, must be non-nil", func() { turret.Gated[string, string](nil, nil) })
	for want, nothing := range map[string]turret.Gate{
		"*turrettest.Recorder": (*turrettest.Recorder)(nil), "turret_test.doorman": doorman(nil),
	} {
		wantPanic(t, "turret: Gated: gate is a nil "+want+", must be non-nil", func() { turret.Gated[string, string](nothing, nil) })
	}
	// No gates at all are a gate.
	if _, err := turret.Gated[string, string](inTurn(nil), nil)(echo).Call(t.Context(), ""); err != nil {
		t.Errorf("a nil slice: %v, want it to admit", err)
	}
}

// Gates of kinds that may be nil: one that asks another, and many in turn.
type (
	doorman func() turret.Gate
	inTurn  []turret.Gate
)

func (d doorman) Ready(ctx context.Context) error                     { return d().Ready(ctx) }
func (d doorman) Enter(ctx context.Context) (turret.Ticket, error)    { return d().Enter(ctx) }
func (d doorman) TryEnter(ctx context.Context) (turret.Ticket, error) { return d().TryEnter(ctx) }
func (d doorman) Leave(t turret.Ticket, o turret.Outcome)             { d().Leave(t, o) }

func (g inTurn) Ready(ctx context.Context) error {
	for _, gate := range g {
		if err := gate.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (g inTurn) Enter(ctx context.Context) (turret.Ticket, error) {
	return turret.Ticket{}, g.Ready(ctx)
}
func (g inTurn) TryEnter(ctx context.Context) (turret.Ticket, error) { return g.Enter(ctx) }
func (inTurn) Leave(turret.Ticket, turret.Outcome)                   {}

func TestGatedPrintsItsGate(t *testing.T) {
	if got, want := fmt.Sprint(turret.Gated[string, string](turrettest.NewRecorder(), nil)(echo)),
		"recorder: 0 inside, 0 over"; got != want {
		t.Errorf("printed %q, want the gate's String %q", got, want)
	}
	// A gate without a String is not read field by field: it is in use.
	if got, want := fmt.Sprint(turret.Gated[string, string](shut{err: errBoom}, nil)(echo)),
		"turret_test.shut"; got != want {
		t.Errorf("printed %q, want the gate's type %q", got, want)
	}
}
