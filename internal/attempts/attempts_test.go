package attempts_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/turret-go/turret/internal/attempts"
)

func TestNoRecord(t *testing.T) {
	r := attempts.FromContext(t.Context())
	if r != nil {
		t.Fatalf("FromContext = %v, want nil", r)
	}
	r.Add(1)
	r.End(nil)
	if r.Has(1) || r.Len() != 0 || r.Kind() != attempts.Unary {
		t.Fatal("a nil Record knows something")
	}
}

// expectedAtFirst is read before any test runs: Expect cannot be undone.
var expectedAtFirst = attempts.Expected()

func TestExpect(t *testing.T) {
	if expectedAtFirst {
		t.Error("Records are expected where no picker is")
	}
	attempts.Expect()
	if !attempts.Expected() {
		t.Error("Expect is forgotten")
	}
}

func TestRecordIsTheContext(t *testing.T) {
	type name struct{}
	outer := context.WithValue(t.Context(), name{}, "outer")
	ctx, r := attempts.NewContext(outer, attempts.Stream)
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	if got := attempts.FromContext(ctx); got != r {
		t.Fatalf("FromContext = %p, want %p", got, r)
	}
	if ctx.Value(name{}) != "outer" {
		t.Error("values of the outer context are out of reach")
	}
	if r.Kind() != attempts.Stream {
		t.Error("the kind is lost")
	}
	inner, other := attempts.NewContext(ctx, attempts.Unary)
	if attempts.FromContext(inner) != other {
		t.Error("the innermost Record does not win")
	}
}

func TestHas(t *testing.T) {
	_, r := attempts.NewContext(t.Context(), attempts.Unary)
	for id := range uint64(20) {
		if r.Has(id + 1) {
			t.Fatalf("Has(%d) before Add", id+1)
		}
		r.Add(id + 1)
		for back := range min(id+1, 8) {
			if !r.Has(id + 1 - back) {
				t.Fatalf("after Add(%d), Has(%d) = false", id+1, id+1-back)
			}
		}
	}
	if r.Len() != 20 {
		t.Fatalf("Len = %d, want 20", r.Len())
	}
}

func TestEnd(t *testing.T) {
	_, r := attempts.NewContext(t.Context(), attempts.Stream)
	broken := errors.New("broken")
	var heard []error
	hear := func(err error) { heard = append(heard, err) }
	r.End(broken) // nothing waits
	r.Await(hear)
	r.Await(hear) // gRPC replaced the first attempt
	r.End(broken)
	r.End(nil) // nothing waits any more
	if len(heard) != 2 || !errors.Is(heard[0], attempts.ErrReplaced) || !errors.Is(heard[1], broken) {
		t.Fatalf("heard %v, want ErrReplaced and broken", heard)
	}
}

// A callback may start the next attempt, which awaits again.
func TestAwaitInsideEnd(t *testing.T) {
	_, r := attempts.NewContext(t.Context(), attempts.Stream)
	done := false
	r.Await(func(error) { r.Await(func(error) { done = true }) })
	r.End(nil)
	r.End(nil)
	if !done {
		t.Fatal("the second Await did not hear")
	}
}

func TestConcurrent(t *testing.T) {
	ctx, r := attempts.NewContext(t.Context(), attempts.Unary)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			id := attempts.NewID()
			attempts.FromContext(ctx).Add(id)
			if !r.Has(id) {
				t.Errorf("Has(%d) = false after Add", id)
			}
		})
	}
	all.Wait()
}

func TestAllocations(t *testing.T) {
	var kept *attempts.Record
	if n := testing.AllocsPerRun(100, func() { _, kept = attempts.NewContext(t.Context(), attempts.Unary) }); n > 1 {
		t.Errorf("NewContext allocates %v times, want 1", n)
	}
	ctx, cancel := context.WithCancel(kept)
	defer cancel()
	if n := testing.AllocsPerRun(100, func() {
		r := attempts.FromContext(ctx)
		r.Add(1)
		if !r.Has(1) {
			t.Error("Has(1) = false")
		}
	}); n > 0 {
		t.Errorf("FromContext, Add and Has allocate %v times, want 0", n)
	}
}
