package ready_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/ready"
)

func spawn(t *testing.T, d *door) *ready.Spawned[string, string] {
	s := ready.Spawn[string, string](d)
	t.Cleanup(s.Close)
	return s
}

// The inner service is driven without a caller that waits.
func TestSpawnAsksByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{}
		s := spawn(t, d)
		synctest.Wait()
		if d.asking() != 1 {
			t.Fatalf("%d questions after it was made, want 1", d.asking())
		}
		if err := turret.ReadyNow(s); !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("not ready: %v, want ErrNotReady", err)
		}
		d.set(true, nil)
		synctest.Wait()
		if err := turret.ReadyNow(s); err != nil || d.asking() != 0 {
			t.Errorf("ready: %v and %d questions, want nil and none", err, d.asking())
		}
		d.set(false, nil)
		if _, err := s.Call(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if d.asking() != 1 {
			t.Errorf("%d questions after a call that left it not ready, want 1", d.asking())
		}
	})
}

// All callers share one wait inside, and it goes on when they give up.
func TestSpawnSharesTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{}
		s := spawn(t, d)
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		answers := map[string]int{}
		wait := func(ctx context.Context) {
			err := s.Ready(ctx)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				answers["ready"]++
			case errors.Is(err, context.Canceled) && errors.Is(err, turret.ErrNotReady):
				answers["gave up"]++
			}
		}
		for range 3 {
			go wait(ctx)
			go wait(t.Context())
		}
		synctest.Wait()
		if d.asking() != 1 {
			t.Errorf("%d questions, want 1 for all", d.asking())
		}
		cancel()
		synctest.Wait()
		if d.asking() != 1 || answers["gave up"] != 3 || answers["ready"] != 0 {
			t.Errorf("%d questions and %v, want 1 and that 3 gave up", d.asking(), answers)
		}
		d.set(true, nil)
		synctest.Wait()
		if answers["ready"] != 3 {
			t.Errorf("%v, want that 3 are ready", answers)
		}
	})
}

// Tower's panics when it is asked again after an error.
func TestSpawnKeepsTheFinalError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{}
		s := spawn(t, d)
		var err error
		go func() { err = s.Ready(t.Context()) }()
		synctest.Wait()
		d.set(false, errBroken)
		synctest.Wait()
		if !errors.Is(err, errBroken) || !turret.IsFinal(err) {
			t.Errorf("who waits gets %v, want the final error", err)
		}
		d.set(true, nil) // too late
		for range 2 {
			if err := s.Ready(t.Context()); !errors.Is(err, errBroken) {
				t.Errorf("asked again: %v, want the final error", err)
			}
		}
		s.Close()
		if err := s.Ready(t.Context()); !errors.Is(err, errBroken) {
			t.Errorf("closed: %v, want the error that came before", err)
		}
	})
}

func TestSpawnNoticesFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := opened()
		s := spawn(t, d)
		synctest.Wait()
		d.set(true, errBroken)
		if err := turret.ReadyNow(s); !errors.Is(err, errBroken) {
			t.Errorf("got %v, want the final error", err)
		}
	})
}

func TestSpawnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &door{}
		s := spawn(t, d)
		var err error
		go func() { err = s.Ready(t.Context()) }()
		synctest.Wait()
		s.Close()
		s.Close()
		synctest.Wait()
		if !errors.Is(err, ready.ErrClosed) || !turret.IsFinal(err) || d.asking() != 0 {
			t.Errorf("who waits gets %v, want ErrClosed; %d questions go on", err, d.asking())
		}
		if err := s.Ready(t.Context()); !errors.Is(err, ready.ErrClosed) {
			t.Errorf("Ready: %v, want ErrClosed", err)
		}
		if _, err := s.Call(t.Context(), "a"); !errors.Is(err, ready.ErrClosed) || !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("Call: %v, want an error that matches ErrClosed and ErrNotReady", err)
		}
	})
}

// Close waits for what is slow to see that it is not wanted any more.
func TestCloseWaits(t *testing.T) {
	makers := map[string]func(s *slow) interface{ Close() }{
		"Spawn": func(s *slow) interface{ Close() } { return ready.Spawn[string, string](s) },
		"Cache": func(s *slow) interface{ Close() } {
			c := ready.NewCache[int, *slow](nil)
			c.Insert(1, s)
			return c
		},
	}
	for name, made := range makers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &slow{door: &door{}}
				c := made(s)
				synctest.Wait()
				began := time.Now()
				c.Close()
				if !s.back.Load() || time.Since(began) != time.Second {
					t.Errorf("closed after %v, back: %t, want that it waits for 1s", time.Since(began), s.back.Load())
				}
			})
		})
	}
}

// slow needs a second to return from Ready.
type slow struct {
	*door

	back atomic.Bool
}

func (s *slow) Ready(ctx context.Context) error {
	err := s.door.Ready(ctx)
	time.Sleep(time.Second)
	s.back.Store(true)
	return err
}

// A Call that panics or exits leaves the question as one that returns.
func TestSpawnWaysOut(t *testing.T) {
	for name, f := range map[string]func(){"panic": func() { panic("inner") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &door{}
				d.set(true, nil)
				s := ready.Spawn[string, string](&breaking{d, f})
				defer s.Close()
				synctest.Wait()
				go func() {
					defer func() { _ = recover() }()
					_, _ = s.Call(t.Context(), "a")
				}()
				synctest.Wait()
				if d.asking() != 1 {
					t.Errorf("%d questions, want 1", d.asking())
				}
			})
		})
	}
}

// breaking shuts its door and does not return from Call.
type breaking struct {
	*door

	f func()
}

func (b *breaking) Call(context.Context, string) (string, error) {
	b.set(false, nil)
	b.f()
	return "", nil
}

func TestSpawnDoesNotAllocate(t *testing.T) {
	s := ready.Spawn[string, string](opened())
	defer s.Close()
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if got := testing.AllocsPerRun(100, func() { _, _ = s.Call(ctx, "a"); _ = s.Ready(ctx) }); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

func TestSpawnNeedsAService(t *testing.T) {
	defer func() {
		if got, want := fmt.Sprint(recover()), "ready: Spawn: service is nil, must be non-nil"; got != want {
			t.Errorf("panic %v, want %q", got, want)
		}
	}()
	ready.Spawn[string, string](nil)
}
