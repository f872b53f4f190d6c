package interceptors_test

import (
	"context"
	"testing"
	"time"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/retry"
)

// What a Retry adds to the cost of a stream. Messages are kept until the stream
// is committed, in a slice that grows; after that they cost nothing.
func TestRetryStreamAllocations(t *testing.T) {
	for _, k := range streamKinds {
		t.Run(k.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			without, with := newWorld(t, worldOf{client: interceptors.New(embedded)}), newRetryWorld(t)
			for _, messages := range []int{1, 20} {
				was := allocations(func() { without.talk(ctx, t, k, messages) })
				is := allocations(func() { with.talk(ctx, t, k, messages) })
				wantAllocations(t, 10, is-was)
			}
		})
	}
}

func newRetryWorld(t *testing.T) *world {
	t.Helper()
	return newWorld(t, worldOf{client: interceptors.New(embedded, interceptors.Retry(retry.Config{}))})
}

// On a committed stream a message there and back costs what it costs on a bare
// connection.
func TestCommittedMessageAllocations(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	perMessage := func(w *world) float64 {
		s, err := w.open(ctx, bidi)
		if err != nil {
			t.Fatal(err)
		}
		req, res := new(request), new(response)
		message := func() {
			if err := s.SendMsg(req); err != nil {
				t.Fatal(err)
			}
			if err := s.RecvMsg(res); err != nil {
				t.Fatal(err)
			}
		}
		message() // commits
		return allocations(message)
	}
	wantAllocations(t, perMessage(newWorld(t, worldOf{})), perMessage(newRetryWorld(t)))
}
