package turrettest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/turrettest"
)

func ExampleRecorder() {
	calls := turrettest.NewRecorder()
	service := turret.Gated[string, string](calls, nil)(
		turret.ServiceFunc(func(_ context.Context, name string) (string, error) {
			if name == "" {
				return "", errors.New("no name")
			}
			return "hello " + name, nil
		}))

	_, _ = service.Call(context.Background(), "gopher")
	_, _ = service.Call(context.Background(), "")
	fmt.Println(calls.Outcomes()) //nolint:staticcheck // outcomes are not bytes of text
	fmt.Println(calls)
	// Output:
	// [Success Failure]
	// recorder: 0 inside, 2 over
}

var _ turret.Gate = (*turrettest.Recorder)(nil)

func TestRecorderRefusesToRecordTwice(t *testing.T) {
	r := turrettest.NewRecorder()
	ticket, err := r.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.Leave(ticket, turret.Success)
	for name, ticket := range map[string]turret.Ticket{"left twice": ticket, "never entered": {}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Leave of a ticket that %s did not panic", name)
				}
			}()
			r.Leave(ticket, turret.Success)
		}()
	}
	if got := r.Outcomes(); !slices.Equal(got, []turret.Outcome{turret.Success}) {
		t.Errorf("outcomes %v, want one Success", got)
	}
}

func TestRecorderEnterWithEndedContext(t *testing.T) {
	r := turrettest.NewRecorder()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Enter(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, turret.ErrNotReady) {
		t.Errorf("Enter: %v, want an error that matches context.Canceled and ErrNotReady", err)
	}
	if r.Inside() != 0 {
		t.Errorf("%d inside, want 0", r.Inside())
	}
}

func TestRecorderAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := turrettest.NewRecorder()
		var tickets []turret.Ticket
		for range 3 {
			ticket, err := r.TryEnter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			tickets = append(tickets, ticket)
		}
		var got []turret.Outcome
		var wg sync.WaitGroup
		wg.Go(func() { got, _ = r.Await(t.Context(), 2) })
		for _, ticket := range tickets[:2] {
			synctest.Wait()
			if got != nil {
				t.Fatalf("Await came back with %v before two calls were over", got)
			}
			r.Leave(ticket, turret.Ignored)
		}
		wg.Wait()
		if len(got) != 2 {
			t.Errorf("Await returned %v, want two outcomes", got)
		}
		if r.Inside() != 1 {
			t.Errorf("%d inside, want 1", r.Inside())
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got, err := r.Await(ctx, 3); !errors.Is(err, context.Canceled) || len(got) != 2 {
			t.Errorf("Await with an ended context: %v, %v, want the two outcomes and context.Canceled", got, err)
		}
		r.Reset()
		if got := r.Outcomes(); len(got) != 0 || r.Inside() != 1 {
			t.Errorf("after Reset: outcomes %v and %d inside, want none and 1", got, r.Inside())
		}
	})
}
