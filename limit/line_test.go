package limit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
)

// wait starts an Enter that waits in line, and returns how it ended once it has.
func wait(ctx context.Context, g turret.Gate) <-chan error {
	got := make(chan error, 1)
	go func() {
		_, err := g.Enter(ctx)
		got <- err
	}()
	synctest.Wait()
	return got
}

// A Leave is two steps. Between them there is room, and it is the line's.
func TestRoomBetweenTheStepsOfLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		c := NewConcurrency(1, Queue{Max: Unbounded})
		_, _ = c.TryEnter(t.Context())
		head := wait(t.Context(), c)

		c.left.Add(1)
		if err := c.Ready(ended); !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("Ready: %v, want ErrNotReady: the room is the line's", err)
		}
		if err := <-head; err != nil {
			t.Errorf("the head of the line: %v, want it to be in", err)
		}

		head = wait(t.Context(), c)
		c.left.Add(1)
		if _, err := c.TryEnter(t.Context()); !errors.Is(err, ErrFull) {
			t.Errorf("TryEnter: %v, want ErrFull: the room is the line's", err)
		}
		if err := <-head; err != nil {
			t.Errorf("the head of the line: %v, want it to be in", err)
		}
	})
}

// When no call waits any more, the gate has no timer left and no slow path.
func TestWaitersLeaveNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewTokenBucket(Rate{N: 1, Per: time.Hour}, Queue{Max: Unbounded})
		c := NewConcurrency(0, Queue{Max: Unbounded})
		_, _ = b.TryEnter(t.Context())
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			inLine := []<-chan error{wait(ctx, b), wait(ctx, b), wait(ctx, c), wait(ctx, c)}
			if !b.armed || c.entered.Load()&guarded == 0 {
				t.Fatalf("timer armed %t, fast path shut %t, want both while somebody waits",
					b.armed, c.entered.Load()&guarded != 0)
			}
			cancel()
			for _, got := range inLine {
				if err := <-got; !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, want context.Canceled", err)
				}
			}
			if b.armed || c.entered.Load()&guarded != 0 || b.line.waiting.first != nil || c.line.waiting.last != nil {
				t.Fatal("those who waited have left a timer, a mark or a place in line")
			}
		}
	})
}
