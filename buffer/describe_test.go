package buffer_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/buffer"
	"github.com/turret-go/turret/limit"
)

func TestBufferDescribesWhatItCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := turret.Gated[int, int](limit.NewConcurrency(1, limit.Queue{}), nil)(
			turret.ServiceFunc(func(context.Context, int) (int, error) { time.Sleep(time.Second); return 0, nil }))
		b := buffer.New(busy, 2)
		for range 3 {
			go func() { _, _ = b.Call(t.Context(), 0) }()
			synctest.Wait()
		}
		if _, err := b.Call(t.Context(), 0); err == nil {
			t.Error("the line takes more than it may")
		}
		time.Sleep(time.Second + time.Millisecond) // one is over, one runs, one waits
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = b.Call(ctx, 0) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		b.Close()
		if _, err := b.Call(t.Context(), 0); err == nil {
			t.Error("a closed buffer takes a call")
		}
		time.Sleep(time.Second)
		got := map[string]float64{}
		n := turret.Describe(b, 0).Children[0] // the limit behind it is the other
		for _, f := range n.Figures {
			got[f.Name+f.Reason] = f.Value
		}
		want := map[string]float64{
			"max": 2, "in_flight": 0, "waiting": 0, "entered": 2, "cancelled": 1,
			"refusedBUFFER_FULL": 1, "refusedBUFFER_CLOSED": 2, "wait": 1 + 1.001,
		}
		for name, v := range want {
			if got[name] != v {
				t.Errorf("%s is %v, want %v", name, got[name], v)
			}
		}
	})
}
